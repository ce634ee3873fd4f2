"""Training on a CUDA GPU in every precision: it learns, it resumes; skipped where there is none."""

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from lpgnet.model import load_model
from lpgnet.pipeline.evaluation.inference import predict_dialogues
from lpgnet.pipeline.training.runs import BEST_FOLDER, LOG_FILE
from tests.pipeline.tensors import make_config, make_corpus, make_split, train, train_and_test
from tests.pipeline.training.test_training import StoppedTrainer, make_trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

Precision = Literal["no", "bf16", "fp16"]


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
@pytest.mark.parametrize("kind", ["lpgnet", "sdt"])
def test_training_learns_in_every_precision(kind: str, precision: Precision, tmp_path: Path) -> None:
    config = make_config(kind, device="cuda", mixed_precision=precision)
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


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_resumed_is_uninterrupted_in_every_precision(precision: Precision, tmp_path: Path) -> None:
    config = make_config(device="cuda", mixed_precision=precision, epochs=5, modality_dropout=0.3)
    make_trainer(config, tmp_path / "whole").fit()
    with pytest.raises(KeyboardInterrupt):
        make_trainer(config, tmp_path / "stopped", StoppedTrainer).fit()
    make_trainer(config, tmp_path / "stopped").fit()
    logs = [[json.loads(line) for line in (tmp_path / name / LOG_FILE).open()] for name in ("whole", "stopped")]
    for one, other in zip(*logs, strict=True):
        assert one["learning_rate"] == other["learning_rate"], "a skipped step counts in both"
        # A GPU adds in an order of its own, so the runs agree but for rounding.
        assert one["loss"] == pytest.approx(other["loss"], rel=0.02)
