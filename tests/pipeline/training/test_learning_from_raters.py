"""Votes and ratings of raters: what learning them is worth, and that every model can, however the steps are cut."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lpgnet.pipeline.config import Config
from lpgnet.pipeline.corpora.ratings import DIMENSIONS
from lpgnet.pipeline.training.runs import LOG_FILE, make_model
from tests.pipeline.raters import (
    LABELS,
    RANGES,
    gain_of_distributions,
    gain_of_ratings,
    make_voted_corpus,
    predict_after,
)
from tests.pipeline.tensors import make_config, make_split
from tests.pipeline.training.test_training import gradients_of_a_step, last_checkpoint, log_of, resume_and_compare

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


def rated_config(kind: str = "lpgnet", *, model: dict[str, Any] | None = None, **training: Any) -> Config:
    """A configuration for the four classes of the corpora with raters, whose turns are independent of each other."""
    own = {"kernel_size": 1} if kind in ("lpgnet", "text", "audio") else {}
    return replace(make_config(kind, model=own | (model or {}), **training), labels=LABELS)


def test_votes_come_nearer_to_the_distributions_that_they_are_drawn_from(tmp_path: Path) -> None:
    gain = gain_of_distributions(tmp_path, rated_config(epochs=12), seeds=2, dialogues=60)
    print(gain)
    assert gain.difference.interval[1] < 0, "the divergence is smaller"


def test_ratings_make_up_for_labels_that_are_gone(tmp_path: Path) -> None:
    gain = gain_of_ratings(tmp_path, rated_config(epochs=12), seeds=2, dialogues=60)
    print(gain)
    assert gain.difference.interval[0] > 0


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", MODELS)
def test_every_model_learns_from_every_target(kind: str, target: str, tmp_path: Path) -> None:
    training, model = TARGETS[target]
    corpus = make_voted_corpus(0, dialogues=18)
    config = rated_config(kind, model=model, epochs=3, batch_size=4, schedule="constant", **training)
    found = predict_after(config, corpus, make_split(corpus), tmp_path)
    losses = [json.loads(line)["loss"] for line in (tmp_path / LOG_FILE).read_text().splitlines()]
    assert all(map(math.isfinite, losses)) and losses[-1] < losses[0]
    for one in found:
        assert all(sum(values) == pytest.approx(1, abs=1e-5) for values in one.probabilities.values())
        assert set(one.dimensions) == set(model.get("dimensions", ()))
        assert all(RANGES[name][0] <= value <= RANGES[name][1] for name, value in one.dimensions.items())
