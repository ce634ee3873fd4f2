"""Recordings that are unlike training are warned of, those of the same kind are not, however short and of any model."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lpgnet.model import LPGNetConfig
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.training.dialogues import Dialogue
from lpgnet.pipeline.training.distances import Distances, measure_distances, read_distances, unlike_training
from lpgnet.pipeline.training.runs import make_model
from tests.pipeline.tensors import make_config, make_corpus, make_split

KINDS = ("lpgnet", "sdt", "concat", "text", "audio")


def excerpt(dialogue: Dialogue, turns: int) -> Dialogue:
    return replace(
        dialogue,
        utterances=dialogue.utterances[:turns],
        inputs={name: values[:turns] for name, values in dialogue.inputs.items()},
        present={name: has[:turns] for name, has in dialogue.present.items()},
        labels=dialogue.labels[:turns],
        speakers=dialogue.speakers[:turns],
    )


def moved(dialogue: Dialogue, *modalities: str) -> Dialogue:
    """The same dialogue from elsewhere."""
    inputs = {name: 3.0 * x + 4.0 if name in modalities else x for name, x in dialogue.inputs.items()}
    return replace(dialogue, inputs=inputs)


def without(dialogue: Dialogue, modality: str) -> Dialogue:
    lost = torch.zeros(len(dialogue), dtype=torch.bool)
    return replace(dialogue, present={**dialogue.present, modality: lost})


@pytest.mark.parametrize("turns", [1, 2, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_other_dialogues_of_the_corpus_are_like_it_and_those_from_elsewhere_are_not(kind: str, turns: int) -> None:
    corpus, config = make_corpus("text"), make_config(kind)
    split = make_split(corpus)
    model = make_model(config, corpus, split)
    known = measure_distances(model, split.dev)
    assert list(known) == model.config.modality_names
    for dialogue in split.test:
        assert unlike_training(model, excerpt(dialogue, turns), known) == []
        (line,) = unlike_training(model, moved(excerpt(dialogue, turns), "text", "audio"), known)
        assert line.startswith("warning: unlike anything this model was trained on (")
        assert all(f"{name} at distance" in line for name in known)


def test_one_modality_from_elsewhere_is_enough_and_one_that_is_missing_tells_nothing() -> None:
    corpus = make_corpus("text")
    split = make_split(corpus)
    model = make_model(make_config(), corpus, split)
    known = measure_distances(model, split.dev)
    strange = moved(split.test[0], "audio")
    (line,) = unlike_training(model, strange, known)
    assert "audio" in line and "text" not in line
    assert unlike_training(model, without(strange, "audio"), known) == []
    assert len(unlike_training(model, without(strange, "text"), known)) == 1
    nothing = without(without(strange, "audio"), "text")
    assert unlike_training(model, nothing, known) == []
    assert measure_distances(model, [nothing]) == {}
    assert unlike_training(model, strange, {}) == [], "a model that keeps no distances, as old ones"
    assert unlike_training(model, strange, {"video": known["audio"]}) == []


def test_the_limit_by_hand() -> None:
    # Both deviations are above their least: 1 + 5 * sqrt(0.3^2 + 0.8^2 / n).
    measured = Distances(mean=1.0, dialogue_deviation=0.3, turn_deviation=0.8)
    assert measured.limit(1) == pytest.approx(1 + 5 * 0.73**0.5)
    assert measured.limit(4) == pytest.approx(1 + 5 * 0.5)
    # Below it: 2 + 5 * 2 * sqrt(0.2^2 + 0.5^2 / n).
    assert Distances(2.0, 0.0, 0.0).limit(1) == pytest.approx(2 + 10 * 0.29**0.5)


@given(st.floats(0.01, 100), st.floats(0, 100), st.floats(0, 100), st.integers(1, 10_000))
def test_fewer_turns_may_lie_farther(mean: float, dialogue: float, turn: float, turns: int) -> None:
    measured = Distances(mean, dialogue, turn)
    assert measured.limit(turns) >= measured.limit(turns + 1) >= 1.99 * mean


def test_deviations_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = make_corpus("text")
    split = make_split(corpus)
    model = make_model(make_config(), corpus, split)
    # Of two dialogues of two turns: within 2 and 2, between means of 1 and 5.
    found = iter([torch.tensor([0.0, 2.0]), torch.tensor([4.0, 6.0])])
    monkeypatch.setattr(type(model), "distances", lambda *_: next(found))
    monkeypatch.setattr(type(model.config), "modality_names", ["text"])
    measured = measure_distances(model, [excerpt(dialogue, 2) for dialogue in split.dev[:2]])["text"]
    assert measured == Distances(mean=3.0, dialogue_deviation=round(7**0.5, 4), turn_deviation=round(2**0.5, 4))


def test_a_single_development_turn_is_enough() -> None:
    corpus = make_corpus("text")
    split = make_split(corpus)
    model = make_model(make_config(), corpus, split)
    measured = measure_distances(model, [excerpt(split.dev[0], 1)])
    assert all(one.dialogue_deviation == one.turn_deviation == 0 for one in measured.values())
    assert len(unlike_training(model, moved(split.test[0], "text"), measured)) == 1


@pytest.mark.parametrize("values", [{"text": {}}, {"text": {"mean": 1.0}}, {"text": {"mean": 1.0, "more": 1.0}}])
def test_distances_that_are_none_are_named(values: dict[str, dict[str, float]]) -> None:
    with pytest.raises(PipelineError, match=r"x/config\.json: key 'distances': ") as caught:
        read_distances(LPGNetConfig(distances=values), Path("x"))
    assert "\n" not in str(caught.value)
