"""How close predicted probabilities are to the shares of the raters' votes.

Jensen-Shannon divergence: Lin, "Divergence measures based on the Shannon entropy" (IEEE Transactions on Information
Theory 37, 1991). Macro F1 where every class above an equal share counts: Riera et al., "No sample left behind" (SMM
2019), taken over by EMO-SUPERB (arXiv 2402.13018).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import rel_entr

from lpgnet.pipeline.config import EvaluationConfig
from lpgnet.pipeline.evaluation.calibration import log_probabilities
from lpgnet.pipeline.evaluation.inference import FUSED, Prediction
from lpgnet.pipeline.evaluation.metrics import sum_by_dialogue, summarize

# Shares in single precision may be this far above an equal share without being more.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class DistributionScores:
    """Mean scores over several runs, of all utterances that raters voted on, with and without a majority.

    Attributes:
        jsd: Jensen-Shannon divergence of probabilities and shares to base 2, from 0 (equal) to 1; lower is better.
        cross_entropy: of the shares against the probabilities (nats); lower is better.
        macro_f1: mean of F1 over the classes that occur or are predicted; a class counts where its share, or its
            probability, exceeds 1 / C, so that an utterance may have several or none.
        n: number of utterances of one run.
        deviations: standard deviations over the runs; empty for a single run.
        intervals: bootstrap intervals of the means over dialogues; empty without resamples.
    """

    jsd: float
    cross_entropy: float
    macro_f1: float
    n: int
    deviations: dict[str, float]
    intervals: dict[str, tuple[float, float]]


def has_votes(prediction: Prediction) -> bool:
    """Tell whether raters voted for a class."""
    return bool(prediction.shares)


def dialogue_distributions(predictions: Sequence[Prediction]) -> np.ndarray:
    """Sum what the scores need over each dialogue, sorted by id; every prediction has votes.

    Returns:
        (dialogues, C, 6): of each class the utterances where it is right, wrong and missed; its parts of the divergence
        and of the cross-entropy; its share, which over all classes adds up to the number of utterances.
    """
    shares = _normalized([prediction.shares for prediction in predictions])
    guesses = _normalized([prediction.probabilities[FUSED] for prediction in predictions])
    middle = (shares + guesses) / 2
    divergence = (rel_entr(shares, middle) + rel_entr(guesses, middle)) / (2 * np.log(2))
    surprise = -shares * log_probabilities(predictions)
    true, guessed = (values > 1 / shares.shape[1] + _ROUNDING for values in (shares, guesses))
    parts = (true & guessed, ~true & guessed, true & ~guessed, np.maximum(divergence, 0), surprise, shares)
    return sum_by_dialogue(predictions, np.stack(parts, axis=-1).astype(float))


def _normalized(rows: Sequence[Sequence[float]]) -> np.ndarray:
    values = np.array(rows, dtype=float)
    return np.asarray(values / np.maximum(values.sum(-1, keepdims=True), 1e-30))


def distribution_scores(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the scores (...) from sums (..., C, 6) over dialogues."""
    right, wrong, missed, divergence, surprise, share = np.moveaxis(sums, -1, 0)  # (..., C)
    count = np.maximum(share.sum(-1), 1)
    f1 = 2 * right / np.maximum(2 * right + wrong + missed, 1)
    return {
        "jsd": np.minimum(divergence.sum(-1) / count, 1),
        "cross_entropy": surprise.sum(-1) / count,
        "macro_f1": f1.sum(-1) / np.maximum((right + wrong + missed > 0).sum(-1), 1),
    }


def score_distribution(runs: Sequence[Sequence[Prediction]], config: EvaluationConfig) -> DistributionScores | None:
    """Return the mean scores over runs on the same utterances; None where nobody voted."""
    voted = [[one for one in run if has_votes(one)] for run in runs]
    if not voted[0]:
        return None
    per_dialogue = np.stack([dialogue_distributions(run) for run in voted])
    found = summarize(
        per_dialogue, resamples=config.bootstrap, confidence=config.confidence, scoring=distribution_scores
    )
    return DistributionScores(**found.means, n=len(voted[0]), deviations=found.deviations, intervals=found.intervals)
