"""Votes and ratings of raters: what learning them is worth, and that every model can, in every precision."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from lpgnet.pipeline.corpora.ratings import DIMENSIONS
from lpgnet.pipeline.training.freshness import LOG_FILE
from tests.pipeline.raters import (
    RANGES,
    gain_of_distributions,
    gain_of_ratings,
    make_rater_config,
    make_voted_corpus,
    predict_after,
)
from tests.pipeline.tensors import make_split

MODELS = ("lpgnet", "sdt", "concat", "text", "audio")
VOTES = {"target": "distribution", "unagreed": "use"}
RATED: dict[str, Any] = {"dimensions": list(DIMENSIONS)}
# Settings of training and of the model.
TARGETS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "majority": ({}, {}),
    "agreed votes": ({"target": "distribution"}, {}),
    "all votes": (VOTES, {}),
    "ratings by ccc": ({}, RATED),
    "ratings by mse": ({}, RATED | {"dimension_loss": "mse"}),
    "all of it": (VOTES | {"vote_smoothing": 0.5, "label_smoothing": 0.1, "class_weights": "inverse"}, RATED),
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_votes_come_nearer_to_the_distributions_that_they_are_drawn_from(tmp_path: Path) -> None:
    gain = gain_of_distributions(tmp_path, make_rater_config(epochs=20), seeds=2, dialogues=60)
    print(gain)
    assert gain.difference.interval[1] < 0, "the divergence is smaller"


def test_ratings_make_up_for_labels_that_are_gone(tmp_path: Path) -> None:
    gain = gain_of_ratings(tmp_path, make_rater_config(epochs=20), seeds=3, dialogues=60)
    print(gain)
    assert gain.difference.interval[0] > 0


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", MODELS)
def test_every_model_learns_from_every_target(kind: str, target: str, tmp_path: Path) -> None:
    training, model = TARGETS[target]
    corpus = make_voted_corpus(0, dialogues=18)
    config = make_rater_config(kind, model=model, epochs=3, batch_size=4, schedule="constant", **training)
    found = predict_after(config, corpus, make_split(corpus), tmp_path)
    losses = losses_of(tmp_path)
    assert all(map(math.isfinite, losses)) and losses[-1] < losses[0]
    for one in found:
        assert all(sum(values) == pytest.approx(1, abs=1e-5) for values in one.probabilities.values())
        assert set(one.dimensions) == set(model.get("dimensions", ()))
        assert all(RANGES[name][0] <= value <= RANGES[name][1] for name, value in one.dimensions.items())


def test_half_precision_learns_what_single_does(tmp_path: Path) -> None:
    training, model = TARGETS["all of it"]
    corpus = make_voted_corpus(0, dialogues=18)
    found, losses = [], []
    for precision in ("no", "bf16"):
        config = make_rater_config(model=model | {"dropout": 0.0}, epochs=2, mixed_precision=precision, **training)
        found.append(predict_after(config, corpus, make_split(corpus), tmp_path / precision))
        losses.append(losses_of(tmp_path / precision))
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    for exact, half in zip(*found, strict=True):
        assert half.dimensions == pytest.approx(exact.dimensions, abs=0.1)
        assert half.probabilities["fused"] == pytest.approx(exact.probabilities["fused"], abs=0.05)


def losses_of(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / LOG_FILE).read_text().splitlines()]
