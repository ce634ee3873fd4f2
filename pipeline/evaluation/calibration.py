"""Calibration: the temperature that makes confidence match accuracy, and how far probabilities are off without it.

A temperature (Guo et al., arXiv 1706.04599) is fitted on a few development dialogues, whose turns depend on each
other. So it is the most probable one, given that temperatures lie around 1, by a likelihood that counts the turns of a
dialogue for as much as they say that others do not (Chandler and Bate, "Inference for clustered data using the
independence loglikelihood", Biometrika 94, 2007); and it is taken only where it helps dialogues that it was not fitted
on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from lpgnet.pipeline.config import EvaluationConfig
from lpgnet.pipeline.evaluation.inference import FUSED, Prediction
from lpgnet.pipeline.evaluation.metrics import sum_by_dialogue, summarize

BINS = 15
# A temperature beyond these comes from too little development data, not from a model.
LOWEST, HIGHEST = 0.1, 10.0
# Of the logarithm: those of models of real speech lie between 0.6 and 3.1, about two deviations around 1.
PRIOR_DEVIATION = 0.5
# Parts of the development dialogues, each judged by a temperature that was fitted on the others.
FOLDS = 5
# The scores of probabilities, all of them better when lower.
SCORES = {"ece": "ECE", "classwise_ece": "classwise ECE", "brier": "Brier", "nll": "NLL"}


def fit_temperature(predictions: Sequence[Prediction], targets: np.ndarray | None = None) -> float:
    """Return the temperature for predictions made at temperature 1, or 1 unless another is better beyond doubt.

    It is better where the likelihood of dialogues, each by the temperature of others, gains by more than the gain's
    standard error over dialogues.

    Args:
        predictions: of N utterances.
        targets: what was to be learned of them, (N, C), each row of a sum of 1 or, without a target, of 0; None for
            the labels. Confidence is then the share of such raters who agree, where the raters' votes were learned.

    Returns:
        A value between 0.1 and 10; 1 of fewer than five dialogues that have a target.
    """
    known = _known(predictions, targets)
    if known is None or known.count < FOLDS or not _helps_others(known):
        return 1.0
    return round(float(np.exp(_fit(known))), 6)


@dataclass(frozen=True)
class _Known:
    """N utterances that have a target.

    Attributes:
        logits, targets: (N, C).
        dialogues: (N,), numbered from 0.
    """

    logits: np.ndarray
    targets: np.ndarray
    dialogues: np.ndarray

    @property
    def count(self) -> int:
        return int(self.dialogues.max()) + 1

    def where(self, kept: np.ndarray) -> _Known:
        numbers = np.unique(self.dialogues[kept], return_inverse=True)[1]
        return _Known(self.logits[kept], self.targets[kept], numbers)

    def losses(self, log_temperature: float) -> np.ndarray:
        """Return the cross-entropy of each target (N,)."""
        return -np.asarray((self.targets * log_softmax(self.logits * np.exp(-log_temperature), axis=-1)).sum(-1))

    def by_dialogue(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self.dialogues, values, minlength=self.count)


def _known(predictions: Sequence[Prediction], targets: np.ndarray | None) -> _Known | None:
    logits = log_probabilities(predictions)  # (N, C)
    targets = _one_hot(predictions, logits.shape[-1]) if targets is None else targets
    known = np.asarray(targets.sum(-1) > 0)
    if not known.any():
        return None
    numbers: dict[str, int] = {}
    dialogues = [numbers.setdefault(one.dialogue_id, len(numbers)) for one in predictions]
    return _Known(logits, targets, np.array(dialogues)).where(known)


def _helps_others(data: _Known) -> bool:
    gains = np.empty(len(data.logits))
    for fold in range(FOLDS):
        left_out = data.dialogues % FOLDS == fold
        fitted = _fit(data.where(~left_out))
        gains[left_out] = (data.losses(0.0) - data.losses(fitted))[left_out]
    mean = float(gains.mean())
    return mean > _standard_error(data.by_dialogue(gains - mean), len(gains))


def _standard_error(sums: np.ndarray, n: int) -> float:
    """Return that of a mean over n utterances, from the sums of their deviations by dialogue, which depend on nothing.

    As of a ratio of two totals over clusters (Cochran, Sampling Techniques, 1977, chapter 9A).
    """
    return float(np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1)) / n)


def _fit(data: _Known) -> float:
    """Return the logarithm of the most probable temperature."""
    return _most_probable(data, _information_ratio(data, _most_probable(data, 1.0)))


def _most_probable(data: _Known, weight: float) -> float:
    def improbability(log_temperature: float) -> float:
        return weight * float(data.losses(log_temperature).sum()) + (log_temperature / PRIOR_DEVIATION) ** 2 / 2

    bounds = (np.log(LOWEST), np.log(HIGHEST))
    return float(minimize_scalar(improbability, bounds=bounds, method="bounded", options={"xatol": 1e-5}).x)


def _information_ratio(data: _Known, log_temperature: float) -> float:
    """Return what an utterance counts for, beside one whose dialogue holds no other: at most 1.

    The information that the likelihood claims, as if all utterances were independent, over the variance of its slope
    over dialogues: where the claim is right, the two are equal.
    """
    logits = data.logits * np.exp(-log_temperature)
    p = softmax(logits, axis=-1)
    expected = (p * logits).sum(-1)
    claimed = ((p * logits**2).sum(-1) - expected**2).sum()
    slopes = data.by_dialogue((data.targets * logits).sum(-1) - expected)
    measured = ((slopes - slopes.mean()) ** 2).sum() * len(slopes) / max(len(slopes) - 1, 1)
    return float(claimed / max(claimed, measured, 1e-30))


def _one_hot(predictions: Sequence[Prediction], classes: int) -> np.ndarray:
    """Return the labels as (N, C), zeros where there is none."""
    return np.asarray(np.arange(classes) == np.array([prediction.label for prediction in predictions])[:, None], float)


def log_probabilities(predictions: Sequence[Prediction]) -> np.ndarray:
    """Return the fused head's log-probabilities (N, C): logits up to a constant per utterance."""
    probabilities = np.array([prediction.probabilities[FUSED] for prediction in predictions])
    return np.asarray(np.log(np.maximum(probabilities, 1e-30)))


@dataclass(frozen=True)
class Reliability:
    """How far probabilities are off the labels: mean scores over several runs, all of them better when lower.

    Attributes:
        ece: expected calibration error: the distance of accuracy and confidence, the highest probability, in bins of
            equal width from 0 to 1, weighted by utterances.
        classwise_ece: the same of each class's own share and probability, averaged over the classes.
        brier: the squared distance of the probabilities from 1 for the label and 0 for the other classes, from 0 to 2.
        nll: negative logarithm of the label's likelihood (nats).
        n: number of labelled utterances of one run.
        deviations: standard deviations over the runs; empty for a single run.
        intervals: bootstrap intervals of the means over dialogues; empty without resamples.
        counts, confidences, hits: of each of `BINS` bins, over all runs: the utterances, the sum of their highest
            probabilities, and those whose most likely class is right.
    """

    ece: float
    classwise_ece: float
    brier: float
    nll: float
    n: int
    deviations: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    counts: list[float]
    confidences: list[float]
    hits: list[float]


def reliability(runs: Sequence[Sequence[Prediction]], config: EvaluationConfig) -> Reliability:
    """Return the scores of the fused head's probabilities, over runs on the same utterances."""
    per_dialogue = np.stack([dialogue_errors(run) for run in runs])
    found = summarize(
        per_dialogue, resamples=config.bootstrap, confidence=config.confidence, scoring=reliability_scores
    )
    counts, confidences, hits = np.sum([_bins(run) for run in runs], axis=0).tolist()
    return Reliability(
        **found.means,
        n=int(per_dialogue[0, :, -1, 0].sum()),
        deviations=found.deviations,
        intervals=found.intervals,
        counts=counts,
        confidences=confidences,
        hits=hits,
    )


def dialogue_errors(predictions: Sequence[Prediction]) -> np.ndarray:
    """Sum what the scores need over each dialogue, sorted by id.

    Returns:
        (dialogues, 1 + C + 1, BINS): of confidence, then of each class, the difference of truth and probability in each
        bin; last the number of labelled utterances, their Brier scores and their surprise, in the first three places.
    """
    logs = log_probabilities(predictions)
    p, truth = softmax(logs, axis=-1), _one_hot(predictions, logs.shape[-1])
    confidence, hit = _confidence(p, truth)
    claims, facts = np.column_stack([confidence, p]), np.column_stack([hit, truth])  # (N, 1 + C)
    known = truth.sum(-1)
    errors = np.zeros((len(p), p.shape[1] + 2, BINS))
    np.put_along_axis(errors[:, :-1], _bin_of(claims)[..., None], ((facts - claims) * known[:, None])[..., None], -1)
    errors[:, -1, :3] = np.stack([known, known * ((p - truth) ** 2).sum(-1), -(truth * logs).sum(-1)], axis=-1)
    return sum_by_dialogue(predictions, errors)


def reliability_scores(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the scores (...) from sums (..., 1 + C + 1, BINS) over dialogues."""
    errors = np.abs(sums[..., :-1, :]).sum(-1)  # (..., 1 + C)
    count, brier, surprise = np.moveaxis(sums[..., -1, :3], -1, 0)
    scores = {"ece": errors[..., 0], "classwise_ece": errors[..., 1:].mean(-1), "brier": brier, "nll": surprise}
    return {name: values / np.maximum(count, 1) for name, values in scores.items()}


def _bins(predictions: Sequence[Prediction]) -> np.ndarray:
    """Return the counts, confidences and hits, (3, BINS), of the labelled predictions."""
    p = softmax(log_probabilities(predictions), axis=-1)
    truth = _one_hot(predictions, p.shape[-1])
    confidence, hit = _confidence(p, truth)
    known = truth.sum(-1)
    bins = _bin_of(confidence)
    return np.stack([np.bincount(bins, weights, BINS) for weights in (known, confidence * known, hit)])


def _confidence(p: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the highest probability (N,), and 1 where it is that of the label."""
    return p.max(-1), np.take_along_axis(truth, p.argmax(-1)[:, None], -1)[:, 0]


def _bin_of(probabilities: np.ndarray) -> np.ndarray:
    return np.asarray(np.minimum((probabilities * BINS).astype(int), BINS - 1))


@dataclass(frozen=True)
class Calibration:
    """The temperature of each model, and the reliability without dividing the logits by it and with that."""

    temperatures: list[float]
    before: Reliability
    after: Reliability


# The predictions of a model, and the temperature that they were calibrated by.
Calibrated = tuple[Sequence[Prediction], float]


def measure_calibration(runs: Sequence[Sequence[Calibrated]], config: EvaluationConfig) -> Calibration:
    """Measure runs, each of one or several models on parts of the test, both with and without their temperatures.

    Accuracy is that of the labels, also where the temperature was fitted to the raters' votes.
    """
    calibrated = [[one for predictions, _ in run for one in predictions] for run in runs]
    raw = [[one for predictions, temperature in run for one in rescale(predictions, 1 / temperature)] for run in runs]
    temperatures = [temperature for run in runs for _, temperature in run]
    return Calibration(temperatures, before=reliability(raw, config), after=reliability(calibrated, config))


def rescale(predictions: Sequence[Prediction], temperature: float) -> list[Prediction]:
    """Divide the fused head's logits by a temperature; its inverse undoes that."""
    p = softmax(log_probabilities(predictions) / temperature, axis=-1).tolist()
    pairs = zip(predictions, p, strict=True)
    return [replace(one, probabilities={**one.probabilities, FUSED: values}) for one, values in pairs]
