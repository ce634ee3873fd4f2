"""The space of a search: what is refused before anything runs, and what a trial's values make of a configuration."""

import json
from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lpgnet.pipeline.config import Config, TrainingConfig, check_experiment, config_from, known_keys, parse_config
from lpgnet.pipeline.errors import UsageError
from lpgnet.pipeline.model_config import ModelConfig
from lpgnet.pipeline.searching.space import (
    FIXED,
    Choices,
    Interval,
    combinations,
    describe_space,
    identity,
    nested,
    own_settings,
    parse_space,
    with_settings,
)

LABELS = ["--labels", "{a: a, b: b}"]


def model(**values: Any) -> Any:
    return replace(ModelConfig(), **values)


def test_values_and_ranges_take_the_type_of_their_field() -> None:
    space = parse_space(
        {
            "training.learning_rate": {"low": 1e-4, "high": 1, "log": True},
            "training.epochs": {"low": 10, "high": 40, "step": 10},
            "training.label_smoothing": [0, 0.1],
            "model.hidden_size": [64, None],
            "model.distance_bias": [False, True],
            "model.modalities": [["text"], ["text", "audio"]],
        },
        "weighted_f1",
    )
    assert space["training.learning_rate"] == Interval(1e-4, 1.0, log=True)
    assert space["training.epochs"] == Interval(10, 40, whole=True, step=10)
    assert space["training.label_smoothing"] == Choices((0.0, 0.1))
    assert type(space["training.label_smoothing"].values[0]) is float
    assert space["model.hidden_size"] == Choices((64, None))
    assert dict(describe_space(space)) == {
        "training.learning_rate": "0.0001 to 1 on a logarithmic scale",
        "training.epochs": "10 to 40 in steps of 10",
        "training.label_smoothing": "0, 0.1",
        "model.hidden_size": "64, null",
        "model.distance_bias": "false, true",
        "model.modalities": "[text], [text, audio]",
    }


def test_the_order_in_which_fields_are_written_changes_nothing() -> None:
    fields = {"training.epochs": [1, 2], "model.hidden_size": [8, 16]}
    turned = dict(reversed(fields.items()))
    assert list(parse_space(fields, "uar")) == list(parse_space(turned, "uar"))


@pytest.mark.parametrize(
    ("space", "fragments"),
    [
        ({}, ["name what to search"]),
        (
            {"training.learning_rat": [1.0]},
            ["no field 'training.learning_rat'", "did you mean 'training.learning_rate'"],
        ),
        ({"learning_rate": [1.0]}, ["no field 'learning_rate'"]),
        ({"training": {"epochs": [1]}}, ["training is a section", "with dots"]),
        ({"splits.test": [["1"], ["2"]]}, ["splits.test cannot be searched", "model and training"]),
        ({"splits.seed": [1, 2]}, ["splits.seed cannot be searched"]),
        ({"labels": [{"a": "b"}]}, ["labels cannot be searched"]),
        ({"corpus.root": ["a"]}, ["corpus.root cannot be searched"]),
        ({"encoders.audio.layers": ["all"]}, ["encoders.audio.layers cannot be searched"]),
        ({"training.seed": [1, 2]}, ["training.seed", "search.seeds"]),
        ({"training.select": ["uar"]}, ["training.select", "compared by"]),
        ({"training.drop_unlabelled": [True]}, ["changes the data"]),
        ({"training.epochs": 3}, ["training.epochs is 3", "give a list"]),
        ({"training.epochs": "many"}, ["give a list"]),
        ({"training.epochs": None}, ["give a list"]),
        ({"training.epochs": []}, ["has 0 values"]),
        ({"training.epochs": [1, "2"]}, ["'2' is not a whole number"]),
        ({"training.epochs": [1.5]}, ["1.5 is not a whole number"]),
        ({"training.epochs": [True]}, ["True is not a whole number"]),
        ({"training.epochs": [0]}, ["0 must be at least 1"]),
        ({"training.warmup_share": [2.0]}, ["'search.space': training.warmup_share: 2.0 must be"]),
        ({"training.epochs": [None]}, ["None is not a whole number"]),
        ({"training.epochs": [3, 3]}, ["has 3 twice"]),
        ({"training.epochs": [10**400]}, ["too large"]),
        ({"training.learning_rate": ["fast"]}, ["'fast' is not a number"]),
        ({"training.learning_rate": [float("nan")]}, ["or none"]),
        ({"training.learning_rate": {"low": 1e-4, "high": float("inf")}}, ["too large a number"]),
        ({"training.learning_rate": {"low": 0, "high": 1}}, ["must be above 0"]),
        ({"training.learning_rate": {"low": 1e-3}}, ["has no high"]),
        ({"training.learning_rate": {"low": 1, "high": 1}}, ["must be below high"]),
        ({"training.learning_rate": {"low": 0.1, "high": 1, "logg": True}}, ["unknown 'logg'", "did you mean 'log'"]),
        ({"training.learning_rate": {"low": 0.1, "high": 1, "step": 0.1}}, ["unknown 'step'"]),
        ({"training.learning_rate": {"low": 0.1, "high": 1, "log": "yes"}}, ["'yes' is not true or false"]),
        ({"training.weight_decay": {"low": 0, "high": 1, "log": True}}, ["with log it must be above 0"]),
        ({"training.epochs": {"low": 1, "high": 10, "step": 4}}, ["step is 4"]),
        ({"training.epochs": {"low": 1, "high": 10, "step": 0}}, ["step is 0"]),
        ({"training.schedule": ["one_cycle", "linear"]}, ["'linear' is not one of one_cycle, cosine, constant"]),
        ({"training.schedule": {"low": 1, "high": 2}}, ["is no number"]),
        ({"model.distance_bias": [1]}, ["1 is not true or false"]),
        ({"model.hidden_size": [0]}, ["0 is not a whole number of at least 1"]),
        ({"model.hidden_size": {"low": 64, "high": 10**6}}, ["1000000 is not a whole number"]),
        ({"model.dropout": [1.0]}, ["1.0 is not a number from 0"]),
        ({"model.modalities": ["text"]}, ["'text' is not a list"]),
        ({"model.modalities": [["video"]]}, ["['video'] is not a list"]),
        ({"model.type": ["lpgnat"]}, ["'lpgnat' is not one of lpgnet"]),
    ],
)
def test_what_no_search_can_run_is_refused_with_its_key(space: dict[str, Any], fragments: list[str]) -> None:
    with pytest.raises(UsageError) as refused:
        parse_space(space, "weighted_f1")
    message = str(refused.value)
    assert message.startswith("key 'search.space': ") and "\n" not in message
    for fragment in fragments:
        assert fragment in message


def test_what_decides_the_score_is_not_searched() -> None:
    for select, key, value in (
        ("loss", "training.target", "distribution"),
        ("loss", "model.dimension_weight", 0.1),
        ("ccc", "model.dimensions", ["valence"]),
    ):
        with pytest.raises(UsageError, match=f"decides what {select} measures"):
            parse_space({key: [value]}, select)
        assert parse_space({key: [value]}, "uar")


def test_all_that_is_fixed_is_named_as_it_is() -> None:
    """A field of that name, or one that a later version has."""
    assert set(FIXED) - set(known_keys(Config)) <= {"training.keep_checkpoints"}


def test_values_are_what_the_command_line_would_make_of_them() -> None:
    """Equivalence: a trial's configuration is that of the command with the same values."""
    config = parse_config("train", LABELS, Config)
    values = {"training.learning_rate": 0.002, "model.hidden_size": 64, "model.modalities": ["text"]}
    options = [f"--{key}={json.dumps(value)}" for key, value in values.items()]
    assert with_settings(config, values) == parse_config("train", [*LABELS, *options], Config)
    overlay = config_from(yaml.safe_load(yaml.safe_dump(nested(values))))
    assert overlay.training.learning_rate == 0.002 and overlay.model.modalities == ["text"]


def test_all_combinations_where_they_are_few() -> None:
    space = parse_space({"training.epochs": {"low": 1, "high": 5, "step": 2}, "model.causal": [False, True]}, "uar")
    found = combinations(space)
    assert found is not None and len(found) == 6
    assert found[0] == {"model.causal": False, "training.epochs": 1}
    assert {tuple(one.values()) for one in found} == {(c, e) for c in (False, True) for e in (1, 3, 5)}
    assert combinations(parse_space({"training.learning_rate": {"low": 0.1, "high": 1}}, "uar")) is None
    assert combinations(parse_space({"training.epochs": {"low": 1, "high": 2000}}, "uar")) is None


def test_the_configuration_s_own_values_where_the_space_has_them() -> None:
    config = Config(model=model(hidden_size=64))
    space = parse_space({"model.hidden_size": [32, 64], "model.kernel_size": [1, 3]}, "uar")
    assert own_settings(config, space) == {"model.hidden_size": 64, "model.kernel_size": 3}
    assert own_settings(Config(model=model(hidden_size=48)), space) is None
    assert own_settings(Config(model=model(type="concat", hidden_size=64)), space) is None
    null = parse_space({"model.kernel_size": [None, 1]}, "uar")
    assert own_settings(config, null) == {"model.kernel_size": None}
    epochs = parse_space({"training.epochs": {"low": 1, "high": 30}}, "uar")
    assert own_settings(Config(training=TrainingConfig(epochs=31)), epochs) is None
    assert own_settings(Config(training=TrainingConfig(epochs=30)), epochs) == {"training.epochs": 30}


def test_two_ways_to_write_one_model_are_one() -> None:
    assert identity(Config()) == identity(Config(model=model(hidden_size=256)))
    assert identity(Config(model=model(type="concat"))) == identity(Config(model=model(type="concat", causal=True)))
    assert identity(Config()) != identity(Config(model=model(causal=True)))
    assert identity(Config()) != identity(Config(training=TrainingConfig(epochs=3)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from([*known_keys(Config), "x", "training.", ".", "training.epochs.x"]) | st.text(max_size=10)
ENDS = st.fixed_dictionaries({"low": JSON, "high": JSON}, optional={"log": JSON, "step": JSON})


@given(st.dictionaries(KEYS, JSON | ENDS | st.lists(st.integers() | st.floats(), max_size=4), max_size=3))
def test_any_space_is_taken_or_refused_in_one_line(given_space: dict[str, Any]) -> None:
    try:
        space = parse_space(given_space, "weighted_f1")
    except UsageError as error:
        message = str(error)
        assert message.startswith("key 'search.space'")
        return
    assert space.keys() == given_space.keys()
    for allowed in space.values():
        known = allowed.values if isinstance(allowed, Choices) else (allowed.low, allowed.high)
        assert all(value in allowed for value in known)


@given(
    st.sampled_from(["training.epochs", "training.batch_size", "model.hidden_size", "model.kernel_size"]),
    st.integers(1, 200),
    st.integers(1, 150),
    st.integers(1, 5),
)
def test_what_an_interval_holds_is_what_its_steps_reach(key: str, low: int, times: int, step: int) -> None:
    space = parse_space({key: {"low": low, "high": low + times * step, "step": step}}, "uar")
    found = combinations(space)
    assert found is not None and [one[key] for one in found] == list(range(low, low + times * step + 1, step))
    assert all(one[key] in space[key] for one in found)
    assert (low + times * step + 1) not in space[key] and float(low) not in space[key]


def test_every_value_that_is_taken_alone_can_be_configured() -> None:
    """What the types let through, the networks take too, but for what depends on two fields."""
    space = parse_space({"model.dropout": [0, 0.5], "training.ema_decay": [0, 0.9], "model.kernel_size": [1, 7]}, "uar")
    for settings in combinations(space) or []:
        check_experiment(with_settings(Config(labels={"a": "a", "b": "b"}), settings))
