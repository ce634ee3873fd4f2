"""The development scores, one of which the epoch is chosen by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from lpgnet.model import EmotionConfig, EmotionModel
from lpgnet.pipeline.config import TrainingConfig
from lpgnet.pipeline.evaluation.analysis import score_known
from lpgnet.pipeline.evaluation.calibration import fit_temperature, log_probabilities
from lpgnet.pipeline.evaluation.inference import Prediction, predict_dialogues
from lpgnet.pipeline.evaluation.metrics import NAMES
from lpgnet.pipeline.training.dialogues import Dialogue
from lpgnet.pipeline.training.targets import learned_shares
from lpgnet.pipeline.training.trainer import Development

if TYPE_CHECKING:
    from accelerate import Accelerator


def measure_development(
    model: EmotionModel,
    dialogues: Sequence[Dialogue],
    classes: Sequence[str],
    recipe: TrainingConfig,
    accelerator: Accelerator,
) -> Development:
    """Measure a model on the development dialogues, which the processes divide among themselves.

    Returns:
        The scores, and a function that fits the calibration temperature to what is learned of these dialogues. The
        scores are those of the labels (0 without labels) and of the votes and ratings that there are; `ccc`, the mean
        over the model's dimensions that are rated; and `loss`, see `development_loss`.
    """
    predictions = predict_dialogues(model, dialogues, accelerator=accelerator, batch_size=recipe.batch_size)
    scores = dict.fromkeys(NAMES, 0.0) | score_known(predictions, classes)
    targets = _targets(dialogues, recipe, len(classes))
    if (loss := development_loss(predictions, targets, scores.get("ccc"), model.config)) is not None:
        scores["loss"] = loss
    return Development(scores, partial(_calibrate, predictions, dialogues, recipe, len(classes)))


def _calibrate(
    predictions: Sequence[Prediction], dialogues: Sequence[Dialogue], recipe: TrainingConfig, n_classes: int
) -> float:
    """Fit the temperature to what raters said: no rater made the further votes of `vote_smoothing`."""
    return fit_temperature(predictions, _targets(dialogues, replace(recipe, vote_smoothing=0.0), n_classes))


def _targets(dialogues: Sequence[Dialogue], recipe: TrainingConfig, n_classes: int) -> np.ndarray:
    return np.concatenate([learned_shares(dialogue, recipe, n_classes).numpy() for dialogue in dialogues])


def development_loss(
    predictions: Sequence[Prediction], targets: np.ndarray, ccc: float | None, model: EmotionConfig
) -> float | None:
    """Return what the fused head would learn from, without class weights and label smoothing.

    That is the cross-entropy (nats) of the targets (N, C), which are zeros where there is nothing to learn, plus
    `dimension_weight` x (1 - CCC), whatever `dimension_loss` is; None where there is neither.
    """
    known = targets.sum(-1) > 0
    surprise = -(targets * log_probabilities(predictions)).sum(-1)[known]
    parts = [float(surprise.mean())] if known.any() else []
    parts += [] if ccc is None else [model.dimension_weight * (1 - ccc)]
    return sum(parts) if parts else None
