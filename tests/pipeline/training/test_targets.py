"""What is learned of an utterance: worked out by hand for every setting."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lpgnet.pipeline.config import Config, TrainingConfig, parse_config
from lpgnet.pipeline.corpora.manifest import Corpus, Manifest, Utterance
from lpgnet.pipeline.errors import PipelineError, UsageError
from lpgnet.pipeline.training.dialogues import Dialogue, class_votes, make_dialogues
from lpgnet.pipeline.training.freshness import run_inputs
from lpgnet.pipeline.training.runs import make_model
from lpgnet.pipeline.training.targets import check_targets, inverse_frequency, is_learned, vote_shares
from tests.pipeline.tensors import RATED_MODEL, make_config, make_corpus, make_split, train

LABELS = {"ang": "angry", "hap": "happy", "exc": "happy", "fru": None, "xxx": None}
TURNS = (
    Utterance("d", "agreed", label="hap", votes={"hap": 1, "exc": 1, "ang": 1}, valence=4.0),
    Utterance("d", "unvoted", label="ang", arousal=2.0),
    Utterance("d", "unagreed", label="xxx", votes={"ang": 1, "hap": 1, "fru": 1}),
    Utterance("d", "ignored", label="fru", votes={"fru": 2, "ang": 1}),
    Utterance("d", "all left", label="xxx", votes={"fru": 1, "xxx": 1}),
    Utterance("d", "nothing"),
)


def dialogue() -> Dialogue:
    corpus = Corpus("x", ".", "table", 1, ranges={"valence": (1, 5), "arousal": (1, 5)})
    return make_dialogues(Manifest(corpus, TURNS), {}, LABELS, drop_unlabelled=False)[0]


def shares(**recipe: Any) -> list[list[float]]:
    return [[round(x, 4) for x in row] for row in vote_shares(dialogue(), TrainingConfig(**recipe)).tolist()]


def test_votes_of_ignored_codes_leave_and_those_of_one_class_add_up() -> None:
    # Where the raters agreed on an ignored code, the votes that are left are a minority's.
    assert dialogue().votes.tolist() == [[1, 2], [0, 0], [1, 1], [0, 0], [0, 0], [0, 0]]


def test_ratings_are_the_corpus_own_and_missing_where_there_is_none() -> None:
    ratings = dialogue().ratings
    assert ratings["valence"][0] == 4 and ratings["arousal"][1] == 2
    assert ratings["valence"].isfinite().sum() == ratings["arousal"].isfinite().sum() == 1


def test_shares_by_hand() -> None:
    none = [0, 0]
    assert shares() == [none] * 6
    agreed = [0.3333, 0.6667]
    assert shares(target="distribution") == [agreed, none, none, none, none, none]
    assert shares(target="distribution", unagreed="use") == [agreed, none, [0.5, 0.5], none, none, none]
    smoothed = shares(target="distribution", vote_smoothing=0.5)
    assert smoothed == [[round(1.5 / 4, 4), round(2.5 / 4, 4)], none, none, none, none, none]


def test_classes_weigh_by_what_is_learned() -> None:
    # Of 2 labels, or 1 label and shares of 1/3 and 2/3: angry has 1 and 4/3, happy 1 and 2/3.
    assert inverse_frequency([dialogue()], 2, TrainingConfig()) == pytest.approx([1, 1])
    weights = inverse_frequency([dialogue()], 2, TrainingConfig(target="distribution"))
    assert weights == pytest.approx([2 / (2 * 4 / 3), 2 / (2 * 2 / 3)])


def test_a_vote_for_an_unknown_code_names_the_utterance() -> None:
    with pytest.raises(PipelineError, match=r"utterance u7: has votes for 'hapy', which is .*did you mean 'hap'"):
        class_votes([Utterance("d", "u7", votes={"hapy": 1})], LABELS)


@pytest.mark.parametrize(
    ("recipe", "key"),
    [
        ({"unagreed": "use"}, "training.unagreed"),
        ({"unagreed": "use", "target": "distribution", "drop_unlabelled": True}, "training.drop_unlabelled"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(recipe: dict[str, Any], key: str) -> None:
    options = [word for name, value in recipe.items() for word in (f"--training.{name}", str(value).lower())]
    with pytest.raises(UsageError, match=key):
        parse_config("train", options, Config)


def test_votes_that_nobody_cast_are_refused() -> None:
    dialogues = [replace(one, votes=torch.zeros_like(one.votes)) for one in make_corpus("text", dialogues=4).dialogues]
    with pytest.raises(UsageError, match=r"training\.target': no training utterance has votes for the classes"):
        check_targets(make_config(target="distribution"), {}, dialogues)


def test_a_run_that_cannot_learn_leaves_what_is_there_alone(tmp_path: Path) -> None:
    corpus = make_corpus("text", dialogues=24)
    train(corpus, make_config(epochs=1), tmp_path / "run")
    with pytest.raises(UsageError, match="mood"):
        train(corpus, make_config(epochs=1, model={"dimensions": ["mood"]}), tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"] and (tmp_path / "run" / "best").is_dir()


def test_another_range_is_another_run() -> None:
    corpus, config = make_corpus("text", dialogues=24), make_config(model=RATED_MODEL)
    wider = replace(corpus, ranges=dict.fromkeys(corpus.ranges, (0.0, 10.0)))
    inputs = [run_inputs(config, one, make_split(one).name) for one in (corpus, wider)]
    assert inputs[0] != inputs[1]
    plain = [run_inputs(make_config(), one, make_split(one).name) for one in (corpus, wider)]
    assert plain[0] == plain[1] and "ranges" not in plain[0]


def test_what_is_learned_by_hand() -> None:
    recipe = TrainingConfig(target="distribution", unagreed="use")
    assert is_learned(dialogue(), TrainingConfig(), []).tolist() == [True, True, False, False, False, False]
    assert is_learned(dialogue(), recipe, []).tolist() == [True, True, True, False, False, False]
    alone = replace(dialogue(), labels=torch.full((6,), -100))
    assert is_learned(alone, TrainingConfig(), ["arousal"]).tolist() == [False, True, False, False, False, False]


def test_a_dimension_that_nobody_rated_is_refused() -> None:
    corpus = make_corpus("text", dialogues=24)
    with pytest.raises(
        UsageError, match="no training utterance has a rating of mood; the corpus rates valence, arousal"
    ):
        check_targets(make_config(model={"dimensions": ["mood"]}), corpus.ranges, corpus.dialogues)
    model = make_model(make_config(model=RATED_MODEL), corpus, make_split(corpus))
    assert model.config.rated == {"valence": (1, 5), "arousal": (1, 5)} and torch.is_tensor(
        model.rating_heads.fused.weight
    )
