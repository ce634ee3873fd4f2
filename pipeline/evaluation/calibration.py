"""Calibration: one temperature that makes probabilities mean what they say, and how far they are from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from lpgnet.pipeline.evaluation.inference import FUSED, Prediction, labelled

BINS = 15
# A temperature beyond these comes from too little development data, not from a model.
LOWEST, HIGHEST = 0.1, 10.0


def fit_temperature(predictions: Sequence[Prediction]) -> float:
    """The temperature that minimises the negative log-likelihood of labelled predictions made at temperature 1.

    The targets are smoothed by one utterance's worth of doubt, as Platt did for his sigmoid ("Probabilistic Outputs
    for Support Vector Machines", 1999): on few utterances that are all right the best temperature would be 0.

    Returns:
        Between 0.1 and 10; 1 where no prediction has a label.
    """
    known = labelled(predictions)
    if not known:
        return 1.0
    logits = log_probabilities(known)  # (N, C)
    count, classes = logits.shape
    doubt = 1 / (count + 1)
    targets = (1 - doubt) * np.eye(classes)[[prediction.label for prediction in known]] + doubt / classes

    def loss(log_temperature: float) -> float:
        return -float((targets * _log_softmax(logits / np.exp(log_temperature))).sum(-1).mean())

    found = minimize_scalar(loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded", options={"xatol": 1e-5})
    return round(float(np.exp(found.x)), 6)


def log_probabilities(predictions: Sequence[Prediction]) -> np.ndarray:
    """(N, C) of the fused head; they serve as logits, which differ from them by a constant per utterance."""
    return np.log(np.maximum([prediction.probabilities[FUSED] for prediction in predictions], 1e-30))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy, in bins of equal width over 0 to 1; two of them add up.

    Attributes:
        counts: (BINS,) utterances.
        confidences: (BINS,) sum of the likeliest class's probability.
        hits: (BINS,) utterances whose likeliest class is right.
    """

    counts: np.ndarray
    confidences: np.ndarray
    hits: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error: the mean distance of accuracy and confidence, weighted by utterances."""
        return round(float(np.abs(self.hits - self.confidences).sum() / max(self.counts.sum(), 1)), 6)

    def to_dict(self) -> dict[str, list[float]]:
        """As JSON types."""
        return {
            "counts": self.counts.tolist(),
            "confidences": np.round(self.confidences, 4).tolist(),
            "hits": self.hits.tolist(),
        }

    @classmethod
    def from_dicts(cls, values: Sequence[dict[str, list[float]]]) -> Reliability:
        """The sum of what `to_dict` gave."""
        return cls(*(np.sum([value[name] for value in values], axis=0) for name in ("counts", "confidences", "hits")))


def reliability(predictions: Sequence[Prediction], *, temperature: float = 1.0) -> Reliability:
    """Measure labelled predictions, their logits divided by a temperature first."""
    known = labelled(predictions)
    probabilities = np.exp(_log_softmax(log_probabilities(known) / temperature))  # (N, C)
    confidence, guess = probabilities.max(-1), probabilities.argmax(-1)
    right = guess == np.array([prediction.label for prediction in known])
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    counts, confidences, hits = (
        np.bincount(bins, weights, minlength=BINS) for weights in (np.ones(len(known)), confidence, right)
    )
    return Reliability(counts, confidences, hits)


def describe_calibration(predictions: Sequence[Prediction], temperature: float) -> dict[str, Any]:
    """The expected calibration error before and after calibration, with what it is computed from."""
    # Undoes the calibration: dividing by the temperature's inverse multiplies by it.
    found = {"before": reliability(predictions, temperature=1 / temperature), "after": reliability(predictions)}
    return {
        "temperature": temperature,
        **{when: {"error": measured.error, **measured.to_dict()} for when, measured in found.items()},
    }
