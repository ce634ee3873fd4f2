"""Training on a CUDA GPU in every precision: it learns, it resumes; skipped where there is none."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from lpgnet.model import load_model
from lpgnet.pipeline.evaluation.inference import predict_dialogues
from lpgnet.pipeline.training.freshness import BEST_FOLDER, LOG_FILE
from tests.pipeline.tensors import (
    RATED_MODEL,
    RATED_RECIPE,
    make_config,
    make_corpus,
    make_split,
    train,
    train_and_test,
)
from tests.pipeline.training.test_training import StoppedTrainer, gradients_of_a_step, make_trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

Precision = Literal["no", "bf16", "fp16"]


# Labels alone, and all that raters said in two micro-batches a step.
RECIPES: dict[str, dict[str, Any]] = {
    "labels": {},
    "raters": {"micro_batches": 2, "model": RATED_MODEL, **RATED_RECIPE},
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
@pytest.mark.parametrize("kind", ["lpgnet", "sdt"])
def test_training_learns_in_every_precision(
    kind: str, precision: Precision, recipe: dict[str, Any], tmp_path: Path
) -> None:
    config = make_config(kind, device="cuda", mixed_precision=precision, **recipe)
    low, _ = train_and_test(make_corpus("text"), config, tmp_path).fused.intervals["wa"]
    assert low > 0.8


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_what_a_gpu_trained_predicts_the_same_on_a_cpu(precision: Precision, tmp_path: Path) -> None:
    corpus = make_corpus("text")
    train(corpus, make_config(device="cuda", mixed_precision=precision), tmp_path)
    dialogues = make_split(corpus).test
    found = [
        predict_dialogues(load_model(tmp_path / BEST_FOLDER).to(device).eval(), dialogues) for device in ("cpu", "cuda")
    ]
    for here, there in zip(*found, strict=True):
        for head, probabilities in here.probabilities.items():
            np.testing.assert_allclose(probabilities, there.probabilities[head], atol=1e-4)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_resumed_is_uninterrupted_in_every_precision(
    precision: Precision, recipe: dict[str, Any], tmp_path: Path
) -> None:
    config = make_config(device="cuda", mixed_precision=precision, epochs=5, modality_dropout=0.3, **recipe)
    make_trainer(config, tmp_path / "whole").fit()
    with pytest.raises(KeyboardInterrupt):
        make_trainer(config, tmp_path / "stopped", StoppedTrainer).fit()
    make_trainer(config, tmp_path / "stopped").fit()
    logs = [[json.loads(line) for line in (tmp_path / name / LOG_FILE).open()] for name in ("whole", "stopped")]
    for one, other in zip(*logs, strict=True):
        assert one["learning_rate"] == other["learning_rate"], "a skipped step counts in both"
        # A GPU adds in an order of its own, so the runs agree but for rounding.
        assert one["loss"] == pytest.approx(other["loss"], rel=0.02)


def test_a_step_of_two_batches_draws_the_same_dropout_in_both_looks(tmp_path: Path) -> None:
    unrated = {"dropout": 0.5, "hidden_size": 16}
    weightless = unrated | RATED_MODEL | {"dimension_weight": 0.0}
    found = [
        gradients_of_a_step(make_config(device="cuda", micro_batches=2, model=model), tmp_path / str(number))
        for number, model in enumerate((unrated, weightless))
    ]
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-5)
    for name, gradient in found[0][0].items():
        torch.testing.assert_close(found[1][0][name], gradient, rtol=1e-4, atol=1e-6)
