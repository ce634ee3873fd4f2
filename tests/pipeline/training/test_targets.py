"""What is learned of an utterance: worked out by hand for every setting."""

from typing import Any

import pytest
import torch

from lpgnet.pipeline.config import TrainingConfig
from lpgnet.pipeline.corpora.manifest import Corpus, Manifest, Utterance
from lpgnet.pipeline.errors import PipelineError, UsageError
from lpgnet.pipeline.training.dialogues import Dialogue, class_votes, make_dialogues
from lpgnet.pipeline.training.runs import make_model
from lpgnet.pipeline.training.targets import check_targets, inverse_frequency, vote_shares
from tests.pipeline.tensors import RATED_MODEL, make_config, make_corpus, make_split

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
    assert dialogue().votes.tolist() == [[1, 2], [0, 0], [1, 1], [1, 0], [0, 0], [0, 0]]


def test_ratings_are_the_corpus_own_and_missing_where_there_is_none() -> None:
    ratings = dialogue().ratings
    assert ratings["valence"][0] == 4 and ratings["arousal"][1] == 2
    assert ratings["valence"].isfinite().sum() == ratings["arousal"].isfinite().sum() == 1


def test_shares_by_hand() -> None:
    none = [0, 0]
    assert shares() == [none] * 6
    agreed = [0.3333, 0.6667]
    assert shares(target="distribution") == [agreed, none, none, none, none, none]
    # What the raters agreed on is ignored: the votes that are left are no more than a minority's.
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
    with pytest.raises(UsageError, match=key):
        check_targets(TrainingConfig(**recipe))


def test_a_dimension_that_nobody_rated_is_refused() -> None:
    corpus = make_corpus("text", dialogues=24)
    with pytest.raises(
        UsageError, match="no training utterance has a rating of mood; the corpus rates valence, arousal"
    ):
        make_model(make_config(model={"dimensions": ["mood"]}), corpus, make_split(corpus))
    model = make_model(make_config(model=RATED_MODEL), corpus, make_split(corpus))
    assert model.config.rated == {"valence": (1, 5), "arousal": (1, 5)} and torch.is_tensor(
        model.rating_heads.fused.weight
    )
