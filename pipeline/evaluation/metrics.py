"""Metrics of a set of predictions, and their bootstrap intervals over dialogues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lpgnet.pipeline.evaluation.inference import Prediction

NAMES = {"wa": "WA", "ua": "UA", "weighted_f1": "weighted F1", "macro_f1": "macro F1"}


@dataclass(frozen=True)
class Metrics:
    """Scores between 0 and 1.

    Attributes:
        wa: accuracy, which the field calls weighted accuracy.
        ua: unweighted average recall, over the classes that occur.
        weighted_f1: F1 per class, weighted by the class's utterances.
        macro_f1: mean of F1 over the classes that occur or are predicted.
        f1: F1 of each class.
        confusion: (C, C) counts, rows true, columns predicted.
        n: number of utterances.
    """

    wa: float
    ua: float
    weighted_f1: float
    macro_f1: float
    f1: dict[str, float]
    confusion: list[list[int]]
    n: int


def dialogue_confusions(
    predictions: Sequence[Prediction], classes: Sequence[str], *, head: str = "fused"
) -> np.ndarray:
    """Count labelled predictions in a confusion matrix per dialogue, sorted by id: (dialogues, C, C)."""
    ids = sorted({prediction.dialogue_id for prediction in predictions})
    indices = {name: index for index, name in enumerate(ids)}
    matrices = np.zeros((len(ids), len(classes), len(classes)), dtype=np.int64)
    for prediction in predictions:
        if prediction.label >= 0:
            matrices[indices[prediction.dialogue_id], prediction.label, prediction.guess(head)] += 1
    return matrices


def total_confusion(predictions: Sequence[Prediction], classes: Sequence[str], *, head: str = "fused") -> np.ndarray:
    """Count all labelled predictions in one confusion matrix (C, C)."""
    return np.asarray(dialogue_confusions(predictions, classes, head=head).sum(0))


def scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Compute WA, UA, weighted, macro and per-class F1 of confusion matrices (..., C, C), defined as in scikit-learn.

    These metrics need nothing but counts, so a thousand bootstrap samples are one call.

    Returns:
        Arrays (...) by metric, and `f1` (..., C).
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(float)
    truth, guess = confusion.sum(-1), confusion.sum(-2)
    total = np.maximum(truth.sum(-1), 1)
    f1 = 2 * hits / np.maximum(truth + guess, 1)
    recall = hits / np.maximum(truth, 1)
    return {
        "wa": hits.sum(-1) / total,
        "ua": recall.sum(-1) / np.maximum((truth > 0).sum(-1), 1),
        "weighted_f1": (f1 * truth).sum(-1) / total,
        "macro_f1": f1.sum(-1) / np.maximum((truth + guess > 0).sum(-1), 1),
        "f1": f1,
    }


def measure(confusion: np.ndarray, classes: Sequence[str]) -> Metrics:
    """Compute all metrics of one confusion matrix (C, C)."""
    values = scores(confusion)
    return Metrics(
        **{name: float(values[name]) for name in NAMES},
        f1=dict(zip(classes, values["f1"].tolist(), strict=True)),
        confusion=confusion.tolist(),
        n=int(confusion.sum()),
    )


def bootstrap_intervals(
    per_dialogue: np.ndarray, *, resamples: int, confidence: float, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Compute a percentile interval of each metric by drawing dialogues with replacement.

    Dialogues are drawn, not utterances, because the utterances of a dialogue depend on each other.

    Args:
        per_dialogue: confusion matrices (dialogues, C, C), or (runs, dialogues, C, C) for the mean over runs.
        resamples: number of draws.
        confidence: confidence level of the intervals.
        seed: random seed of the draws.

    Returns:
        The low and the high end by metric; empty without resamples.
    """
    if resamples < 1:
        return {}
    values = mean_scores(draw_dialogues(per_dialogue, resamples=resamples, seed=seed))
    return {name: _quantiles(values[name], confidence) for name in NAMES}


@dataclass(frozen=True)
class Difference:
    """How much better one set of predictions is than another on the same dialogues.

    Attributes:
        value: first score − second score.
        interval: of the value, by drawing dialogues with replacement.
        p: two-sided: twice the share of draws in which the sign is different, at most 1.
    """

    value: float
    interval: tuple[float, float]
    p: float


def bootstrap_differences(
    first: np.ndarray, second: np.ndarray, *, resamples: int, confidence: float, seed: int = 0
) -> dict[str, Difference]:
    """Compute first − second of each metric on the same draws of dialogues (a paired bootstrap).

    Args:
        first: confusion matrices (runs, dialogues, C, C).
        second: confusion matrices of the same dialogues in the same order.
        resamples: number of draws.
        confidence: confidence level of the intervals.
        seed: random seed of the draws.

    Returns:
        The difference by metric; empty without resamples.
    """
    if resamples < 1:
        return {}
    measured = _subtract(*(side.sum(-3)[None] for side in (first, second)))
    drawn = _subtract(*(draw_dialogues(side, resamples=resamples, seed=seed) for side in (first, second)))
    return {
        name: Difference(float(measured[name][0]), _quantiles(drawn[name], confidence), _two_sided(drawn[name]))
        for name in NAMES
    }


def _subtract(first: np.ndarray, second: np.ndarray) -> dict[str, np.ndarray]:
    ours, theirs = mean_scores(first), mean_scores(second)
    return {name: ours[name] - theirs[name] for name in NAMES}


def _two_sided(differences: np.ndarray) -> float:
    rarer = min((differences <= 0).sum(), (differences >= 0).sum())
    # The measured value counts as one more draw: no number of draws can show a probability of 0.
    return float(min(1.0, 2 * (rarer + 1) / (len(differences) + 1)))


def _quantiles(values: np.ndarray, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2]).tolist()
    return low, high


def mean_scores(confusions: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the scores (n,) of confusion matrices (n, C, C), or their means over the runs of (n, runs, C, C)."""
    values = scores(confusions)
    return {name: values[name].reshape(len(confusions), -1).mean(-1) for name in NAMES}


def draw_dialogues(per_dialogue: np.ndarray, *, resamples: int, seed: int) -> np.ndarray:
    """Draw as many dialogues as there are, with replacement, and sum their confusion matrices.

    Args:
        per_dialogue: confusion matrices (..., dialogues, C, C).
        resamples: number of draws.
        seed: random seed of the draws.

    Returns:
        Confusion matrices (resamples, ..., C, C).
    """
    count = per_dialogue.shape[-3]
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return np.asarray(np.einsum("rd,...dij->r...ij", drawn, per_dialogue))
