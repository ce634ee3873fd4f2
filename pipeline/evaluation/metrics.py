"""Metrics of a set of predictions, and their bootstrap intervals over dialogues."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lpgnet.pipeline.evaluation.inference import Prediction

NAMES = {"wa": "WA", "ua": "UA", "weighted_f1": "weighted F1", "macro_f1": "macro F1"}
# Computes scores (...) by name from matrices (..., I, J) that are sums over dialogues, such as confusion matrices.
Scoring = Callable[[np.ndarray], Mapping[str, np.ndarray]]


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
    indices = _number_dialogues(predictions)
    matrices = np.zeros((len(indices), len(classes), len(classes)), dtype=np.int64)
    for prediction in predictions:
        if prediction.label >= 0:
            matrices[indices[prediction.dialogue_id], prediction.label, prediction.guess(head)] += 1
    return matrices


def _number_dialogues(predictions: Sequence[Prediction]) -> dict[str, int]:
    return {name: index for index, name in enumerate(sorted({prediction.dialogue_id for prediction in predictions}))}


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


def overall_scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the scores in `NAMES` of confusion matrices (..., C, C)."""
    values = scores(confusion)
    return {name: values[name] for name in NAMES}


@dataclass(frozen=True)
class Summary:
    """Scores over several runs on the same dialogues.

    Attributes:
        means: over the runs.
        deviations: standard deviations over the runs; empty for a single run.
        intervals: bootstrap intervals of the means over dialogues; empty without resamples.
    """

    means: dict[str, float]
    deviations: dict[str, float]
    intervals: dict[str, tuple[float, float]]


def summarize(
    per_dialogue: np.ndarray, *, resamples: int, confidence: float, scoring: Scoring = overall_scores
) -> Summary:
    """Compute the scores of matrices (runs, dialogues, I, J), their deviations and their intervals."""
    values = scoring(per_dialogue.sum(1))
    several = len(per_dialogue) > 1
    return Summary(
        means={name: float(value.mean()) for name, value in values.items()},
        deviations={name: float(value.std(ddof=1)) for name, value in values.items()} if several else {},
        intervals=bootstrap_intervals(per_dialogue, resamples=resamples, confidence=confidence, scoring=scoring),
    )


def bootstrap_intervals(
    per_dialogue: np.ndarray, *, resamples: int, confidence: float, seed: int = 0, scoring: Scoring = overall_scores
) -> dict[str, tuple[float, float]]:
    """Compute a percentile interval of each score by drawing dialogues with replacement.

    Dialogues are drawn, not utterances, because the utterances of a dialogue depend on each other.

    Args:
        per_dialogue: matrices (dialogues, I, J), or (runs, dialogues, I, J) for the mean over runs.
        resamples: number of draws.
        confidence: confidence level of the intervals.
        seed: random seed of the draws.
        scoring: of the matrices' sums; by default they are confusion matrices.

    Returns:
        The low and the high end by name; empty without resamples.
    """
    if resamples < 1:
        return {}
    values = mean_scores(draw_dialogues(per_dialogue, resamples=resamples, seed=seed), scoring=scoring)
    return {name: _quantiles(value, confidence) for name, value in values.items()}


@dataclass(frozen=True)
class Difference:
    """How one set of predictions differs from another on the same dialogues.

    Attributes:
        value: first score − second score.
        interval: of the value, by drawing dialogues with replacement.
        p: two-sided: twice the share of draws in which the sign is different, at most 1.
    """

    value: float
    interval: tuple[float, float]
    p: float


def bootstrap_differences(
    first: np.ndarray,
    second: np.ndarray,
    *,
    resamples: int,
    confidence: float,
    seed: int = 0,
    scoring: Scoring = overall_scores,
) -> dict[str, Difference]:
    """Compute first − second of each score on the same draws of dialogues (a paired bootstrap).

    Args:
        first: matrices (runs, dialogues, I, J).
        second: matrices of the same dialogues in the same order.
        resamples: number of draws.
        confidence: confidence level of the intervals.
        seed: random seed of the draws.
        scoring: of the matrices' sums; by default they are confusion matrices.

    Returns:
        The difference by name; empty without resamples.
    """
    if resamples < 1:
        return {}
    sides = (first, second)
    measured = _subtract(*(mean_scores(side.sum(-3)[None], scoring=scoring) for side in sides))
    draws = (draw_dialogues(side, resamples=resamples, seed=seed) for side in sides)
    drawn = _subtract(*(mean_scores(draw, scoring=scoring) for draw in draws))
    return {
        name: Difference(float(value[0]), _quantiles(drawn[name], confidence), _two_sided(drawn[name]))
        for name, value in measured.items()
    }


def _subtract(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value - second[name] for name, value in first.items()}


def _two_sided(differences: np.ndarray) -> float:
    rarer = min((differences <= 0).sum(), (differences >= 0).sum())
    # The measured value counts as one more draw: no number of draws can show a probability of 0.
    return float(min(1.0, 2 * (rarer + 1) / (len(differences) + 1)))


def _quantiles(values: np.ndarray, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2]).tolist()
    return low, high


def mean_scores(sums: np.ndarray, *, scoring: Scoring = overall_scores) -> dict[str, np.ndarray]:
    """Compute the scores (n,) of matrices (n, I, J), or their means over the runs of (n, runs, I, J)."""
    return {name: value.reshape(len(sums), -1).mean(-1) for name, value in scoring(sums).items()}


def draw_dialogues(per_dialogue: np.ndarray, *, resamples: int, seed: int) -> np.ndarray:
    """Draw as many dialogues as there are, with replacement, and sum their matrices.

    Args:
        per_dialogue: matrices (..., dialogues, I, J).
        resamples: number of draws.
        seed: random seed of the draws.

    Returns:
        Matrices (resamples, ..., I, J).
    """
    count = per_dialogue.shape[-3]
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return np.asarray(np.einsum("rd,...dij->r...ij", drawn, per_dialogue))


def sum_by_dialogue(predictions: Sequence[Prediction], matrices: np.ndarray) -> np.ndarray:
    """Sum a matrix per prediction, (n, I, J), over each dialogue, sorted by id: (dialogues, I, J)."""
    indices = _number_dialogues(predictions)
    sums = np.zeros((len(indices), *matrices.shape[1:]), matrices.dtype)
    np.add.at(sums, [indices[prediction.dialogue_id] for prediction in predictions], matrices)
    return sums
