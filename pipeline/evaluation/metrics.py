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
        wa: accuracy (weighted accuracy in the field's words).
        ua: unweighted average recall, over the classes that occur.
        weighted_f1: F1 per class, weighted by the class's utterances.
        macro_f1: mean of F1 over the classes that occur or are predicted.
        f1: per class.
        confusion: (C, C) counts, rows true, columns predicted.
        n: utterances.
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
    """One confusion matrix a dialogue, in the order of ids, over predictions that have a class: (dialogues, C, C)."""
    ids = sorted({prediction.dialogue_id for prediction in predictions})
    numbers = {name: number for number, name in enumerate(ids)}
    matrices = np.zeros((len(ids), len(classes), len(classes)), dtype=np.int64)
    for prediction in predictions:
        if prediction.label >= 0:
            matrices[numbers[prediction.dialogue_id], prediction.label, prediction.guess(head)] += 1
    return matrices


def total_confusion(predictions: Sequence[Prediction], classes: Sequence[str], *, head: str = "fused") -> np.ndarray:
    """Counts (C, C) over all predictions that have a class."""
    return dialogue_confusions(predictions, classes, head=head).sum(0)


def scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """WA, UA, weighted and macro F1 of confusion matrices (..., C, C): the definitions of scikit-learn.

    Counts are all that these metrics need, so a thousand bootstrap samples are one call.
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
    """All metrics of one confusion matrix (C, C)."""
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
    """Percentile intervals of each metric by drawing dialogues with replacement.

    Utterances of a dialogue depend on each other, so dialogues are drawn, not utterances.

    Args:
        per_dialogue: confusion matrices (dialogues, C, C), or (runs, dialogues, C, C) for the mean over runs.
    """
    if resamples < 1:
        return {}
    values = mean_scores(draw_dialogues(per_dialogue, resamples=resamples, seed=seed))
    return {name: _quantiles(values[name], confidence) for name in NAMES}


@dataclass(frozen=True)
class Difference:
    """How much better one set of predictions is than another on the same dialogues.

    Attributes:
        value: the first's score less the second's.
        interval: of the value, by drawing dialogues with replacement.
        p: two-sided: twice the share of draws in which the sign is another, at most 1.
    """

    value: float
    interval: tuple[float, float]
    p: float


def bootstrap_differences(
    first: np.ndarray, second: np.ndarray, *, resamples: int, confidence: float, seed: int = 0
) -> dict[str, Difference]:
    """The difference of each metric, both sides measured on the same draws of dialogues (a paired bootstrap).

    Args:
        first, second: as in `bootstrap_intervals`, of the same dialogues in the same order.
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
    # What was seen counts as one more draw: no number of draws shows a probability of 0.
    return float(min(1.0, 2 * (rarer + 1) / (len(differences) + 1)))


def _quantiles(values: np.ndarray, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2]).tolist()
    return low, high


def mean_scores(confusions: np.ndarray) -> dict[str, np.ndarray]:
    """Scores (n,) of confusion matrices (n, C, C), or their means over runs of (n, runs, C, C)."""
    values = scores(confusions)
    return {name: values[name].reshape(len(confusions), -1).mean(-1) for name in NAMES}


def draw_dialogues(per_dialogue: np.ndarray, *, resamples: int, seed: int) -> np.ndarray:
    """Confusion matrices (resamples, ..., C, C), each of as many dialogues drawn with replacement as there are.

    Args:
        per_dialogue: (..., dialogues, C, C).
    """
    count = per_dialogue.shape[-3]
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return np.einsum("rd,...dij->r...ij", drawn, per_dialogue)
