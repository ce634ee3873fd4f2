"""How well predicted valence, arousal and dominance agree with the raters'.

Concordance correlation coefficient: Lin, "A concordance correlation coefficient to evaluate reproducibility"
(Biometrics 45, 1989), with variances divided by n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lpgnet.pipeline.config import EvaluationConfig
from lpgnet.pipeline.corpora.ratings import Ranges
from lpgnet.pipeline.evaluation.inference import Prediction
from lpgnet.pipeline.evaluation.metrics import sum_by_dialogue, summarize

# A variance that is a smaller part of the mean square is rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class DimensionScores:
    """Mean scores of one dimension over several runs, of all rated utterances.

    Attributes:
        ccc: concordance correlation coefficient, from -1 to 1, which only equal values reach; never above Pearson's.
        pearson: correlation coefficient, from -1 to 1.
        rmse: root of the mean squared error, in the corpus's own units; lower is better.
        n: number of utterances of one run.
        low, high: the lowest and the highest rating that the corpus's raters could give.
        deviations: standard deviations over the runs; empty for a single run.
        intervals: bootstrap intervals of the means over dialogues; empty without resamples.
    """

    ccc: float
    pearson: float
    rmse: float
    n: int
    low: float
    high: float
    deviations: dict[str, float]
    intervals: dict[str, tuple[float, float]]


def is_rated(prediction: Prediction, dimension: str) -> bool:
    """Tell whether a prediction of the dimension can be scored."""
    return dimension in prediction.ratings and dimension in prediction.dimensions


def dialogue_moments(predictions: Sequence[Prediction], dimension: str) -> np.ndarray:
    """Sum up each dialogue, sorted by id; every prediction is rated.

    Returns:
        (dialogues, 3, 3): the sums of all products of 1, rating and prediction, both less the mean rating, which
        changes no score but leaves less to rounding.
    """
    pairs = np.array([(one.ratings[dimension], one.dimensions[dimension]) for one in predictions])
    columns = np.column_stack([np.ones(len(pairs)), pairs - pairs[:, 0].mean()])
    return sum_by_dialogue(predictions, columns[:, :, None] * columns[:, None, :])


def agreement_scores(moments: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the scores (...) from moments (..., 3, 3) summed over dialogues.

    CCC and Pearson's coefficient are 0 where the ratings or the predictions do not vary, as of a single utterance.
    """
    means = moments / np.maximum(moments[..., :1, :1], 1)
    square, guess_square = means[..., 1, 1], means[..., 2, 2]
    variance, guess_variance = square - means[..., 0, 1] ** 2, guess_square - means[..., 0, 2] ** 2
    varies = (variance > _ROUNDING * square) & (guess_variance > _ROUNDING * guess_square)
    covariance = np.where(varies, means[..., 1, 2] - means[..., 0, 1] * means[..., 0, 2], 0)
    spread = variance + guess_variance + (means[..., 0, 1] - means[..., 0, 2]) ** 2
    pearson = covariance / np.sqrt(np.where(varies, variance * guess_variance, 1))
    return {
        "ccc": 2 * covariance / np.where(varies, spread, 1),
        "pearson": np.clip(pearson, -1, 1),
        "rmse": np.sqrt(np.maximum(square + guess_square - 2 * means[..., 1, 2], 0)),
    }


def score_dimensions(
    runs: Sequence[Sequence[Prediction]], ranges: Ranges, config: EvaluationConfig
) -> dict[str, DimensionScores]:
    """Return the mean scores over runs on the same utterances, of each dimension that is predicted and rated."""
    rated = {name: [[one for one in run if is_rated(one, name)] for run in runs] for name in ranges}
    return {name: _score(found, name, ranges[name], config) for name, found in rated.items() if found[0]}


def _score(
    runs: Sequence[Sequence[Prediction]], name: str, ends: tuple[float, float], config: EvaluationConfig
) -> DimensionScores:
    per_dialogue = np.stack([dialogue_moments(run, name) for run in runs])
    found = summarize(per_dialogue, resamples=config.bootstrap, confidence=config.confidence, scoring=agreement_scores)
    return DimensionScores(
        **found.means,
        n=len(runs[0]),
        low=ends[0],
        high=ends[1],
        deviations=found.deviations,
        intervals=found.intervals,
    )
