"""Missing modalities: a model's accuracy when utterances lack text or audio."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from lpgnet.model import EmotionModel
from lpgnet.pipeline.config import EvaluationConfig
from lpgnet.pipeline.errors import UsageError
from lpgnet.pipeline.evaluation.inference import predict_dialogues
from lpgnet.pipeline.evaluation.metrics import scores, total_confusion
from lpgnet.pipeline.training.dialogues import Dialogue, hide_modality

if TYPE_CHECKING:
    from accelerate import Accelerator

# By modality: pairs of the share of utterances that lack it and the accuracy.
Curves = dict[str, list[tuple[float, float]]]


@dataclass(frozen=True)
class MissingPoint:
    """A model's predictions when some utterances lack a modality.

    Attributes:
        share: share of utterances that lack the modality.
        confusion: (C, C) counts, rows true, columns predicted.
    """

    share: float
    confusion: list[list[int]]


# By modality, a point for each share.
Missing = dict[str, list[MissingPoint]]


def kept_modalities(model: EmotionModel, config: EvaluationConfig) -> list[str]:
    """Return the modalities that the model gets.

    Raises:
        UsageError: none of them is one that it was trained on.
    """
    names = model.config.modality_names
    kept = [name for name in names if config.modalities is None or name in config.modalities]
    if not kept:
        raise UsageError(
            f"evaluation.modalities leaves the model no input; it was trained on {' and '.join(names)}, "
            "so name one of them"
        )
    return kept


def hide_all_but(dialogues: Sequence[Dialogue], kept: Sequence[str], model: EmotionModel) -> Sequence[Dialogue]:
    """Hide the model's other modalities in the dialogues."""
    for name in model.config.modality_names:
        if name not in kept:
            dialogues = hide_modality(dialogues, name, 1.0)
    return dialogues


def measure_missing(
    model: EmotionModel,
    dialogues: Sequence[Dialogue],
    modalities: Sequence[str],
    *,
    read: Callable[[Sequence[Dialogue]], Sequence[Dialogue]],
    classes: Sequence[str],
    shares: Sequence[float],
    accelerator: Accelerator,
) -> Missing:
    """Predict with each modality hidden from each share of utterances; `read` gives dialogues as the model reads them.

    Returns:
        Confusion matrices by modality; empty for fewer than two modalities.
    """
    if len(modalities) < 2:
        return {}

    @cache
    def confusion(hidden: str | None, share: float) -> list[list[int]]:
        lacking = dialogues if hidden is None else hide_modality(dialogues, hidden, share)
        predictions = predict_dialogues(model, read(lacking), accelerator=accelerator)
        matrix: list[list[int]] = total_confusion(predictions, classes).tolist()
        return matrix

    # With nothing hidden, all modalities have the same one.
    return {
        name: [MissingPoint(share, confusion(name if share else None, share)) for share in shares]
        for name in modalities
    }


def add_missing(measured: Sequence[Missing]) -> Missing:
    """Sum the confusion matrices of several runs."""
    return {
        name: [_sum(points) for points in zip(*(run[name] for run in measured), strict=True)] for name in measured[0]
    }


def _sum(points: Sequence[MissingPoint]) -> MissingPoint:
    return MissingPoint(points[0].share, np.sum([point.confusion for point in points], axis=0).tolist())


def missing_curves(missing: Missing, confusion: Sequence[Sequence[int]]) -> Curves:
    """Return the accuracy by the share of utterances that lack each modality, starting at none.

    Args:
        missing: result of `measure_missing`.
        confusion: confusion matrix (C, C) with nothing missing.
    """
    return {
        name: [(0.0, _accuracy(confusion)), *((point.share, _accuracy(point.confusion)) for point in points)]
        for name, points in missing.items()
    }


def _accuracy(confusion: Sequence[Sequence[int]]) -> float:
    return float(scores(np.array(confusion))["wa"])
