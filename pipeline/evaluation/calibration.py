"""Calibration: the temperature that makes confidence match accuracy, and the error before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from lpgnet.pipeline.evaluation.inference import FUSED, Prediction, labelled

BINS = 15
# A temperature beyond these comes from too little development data, not from a model.
LOWEST, HIGHEST = 0.1, 10.0


def fit_temperature(predictions: Sequence[Prediction], targets: np.ndarray | None = None) -> float:
    """Return the temperature that minimizes the cross-entropy of the targets, of predictions made at temperature 1.

    The targets are smoothed by the weight of one utterance, as Platt did for his sigmoid ("Probabilistic Outputs for
    Support Vector Machines", 1999): on few utterances that are all correct, the best temperature would be 0.

    Args:
        predictions: of N utterances.
        targets: what was to be learned of them, (N, C), each row of a sum of 1 or, without a target, of 0; None for
            the labels. Confidence is then the share of such raters who agree, where the raters' votes were learned.

    Returns:
        A value between 0.1 and 10; 1 if no prediction has a target.
    """
    if not predictions:
        return 1.0
    logits = log_probabilities(predictions)  # (N, C)
    targets = _one_hot(predictions, logits.shape[-1]) if targets is None else targets
    known = targets.sum(-1) > 0
    if not known.any():
        return 1.0
    doubt = 1 / (known.sum() + 1)
    logits, smoothed = logits[known], (1 - doubt) * targets[known] + doubt / logits.shape[-1]

    def loss(log_temperature: float) -> float:
        return -float((smoothed * log_softmax(logits / np.exp(log_temperature), axis=-1)).sum(-1).mean())

    found = minimize_scalar(loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded", options={"xatol": 1e-5})
    return round(float(np.exp(found.x)), 6)


def _one_hot(predictions: Sequence[Prediction], classes: int) -> np.ndarray:
    """Return the labels as (N, C), zeros where there is none."""
    return np.asarray(np.arange(classes) == np.array([prediction.label for prediction in predictions])[:, None], float)


def log_probabilities(predictions: Sequence[Prediction]) -> np.ndarray:
    """Return the fused head's log-probabilities (N, C): logits up to a constant per utterance."""
    probabilities = np.array([prediction.probabilities[FUSED] for prediction in predictions])
    return np.asarray(np.log(np.maximum(probabilities, 1e-30)))


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy, in bins of equal width from 0 to 1.

    Attributes:
        error: the expected calibration error: the mean distance of accuracy and confidence, weighted by utterances.
        counts: number of utterances (BINS,).
        confidences: sum of the highest class probabilities (BINS,).
        hits: number of utterances whose most likely class is correct (BINS,).
    """

    error: float
    counts: list[float]
    confidences: list[float]
    hits: list[float]


@dataclass(frozen=True)
class Calibration:
    """A temperature, and the reliability before and after dividing the logits by it."""

    temperature: float
    before: Reliability
    after: Reliability


def _reliability(counts: np.ndarray, confidences: np.ndarray, hits: np.ndarray) -> Reliability:
    error = round(float(np.abs(hits - confidences).sum() / max(counts.sum(), 1)), 6)
    return Reliability(error, counts.tolist(), np.round(confidences, 4).tolist(), hits.tolist())


def add_up(measured: Sequence[Reliability]) -> Reliability:
    """Return the reliability over the utterances of all measurements."""
    return _reliability(*(np.sum([getattr(one, n) for one in measured], 0) for n in ("counts", "confidences", "hits")))


def reliability(predictions: Sequence[Prediction], *, temperature: float = 1.0) -> Reliability:
    """Measure labelled predictions after dividing their logits by a temperature."""
    known = labelled(predictions)
    probabilities = softmax(log_probabilities(known) / temperature, axis=-1)  # (N, C)
    confidence, guess = probabilities.max(-1), probabilities.argmax(-1)
    correct = guess == np.array([prediction.label for prediction in known])
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    counts, confidences, hits = (
        np.bincount(bins, weights, minlength=BINS) for weights in (np.ones(len(known)), confidence, correct)
    )
    return _reliability(counts, confidences, hits)


def measure_calibration(predictions: Sequence[Prediction], temperature: float) -> Calibration:
    """Measure predictions that were calibrated by a temperature, both with and without it.

    Accuracy is that of the labels, also where the temperature was fitted to the raters' votes.
    """
    # Undoes the calibration: dividing by the temperature's inverse multiplies by it.
    before = reliability(predictions, temperature=1 / temperature)
    return Calibration(temperature, before=before, after=reliability(predictions))
