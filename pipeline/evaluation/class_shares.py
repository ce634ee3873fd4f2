"""How often each class is true, and how often it is predicted: a model may leave a class out, or see it everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lpgnet.pipeline.common.ranges import Fraction
from lpgnet.pipeline.config import EvaluationConfig
from lpgnet.pipeline.evaluation.analysis import Runs, confusions
from lpgnet.pipeline.evaluation.metrics import bootstrap_intervals

# F1 is 2 hits / (true + predicted), and hits are no more than the smaller of the two: where that is less than this part
# of the larger, F1 is below 0.8 however well the model chooses its turns.
LEAST_RATIO = 2 / 3


@dataclass(frozen=True)
class ClassShare:
    """The shares of the labelled utterances that are of a class, and that are predicted to be; means over the runs.

    Attributes:
        interval: of predicted − true, by drawing dialogues; None without resamples.
    """

    true: Fraction
    predicted: Fraction
    interval: tuple[float, float] | None

    @property
    def is_far(self) -> bool:
        """Whether the predicted share alone keeps F1 below 0.8, and is not what other dialogues might have turned."""
        by_chance = self.interval is not None and self.interval[0] <= 0 <= self.interval[1]
        return min(self.true, self.predicted) < LEAST_RATIO * max(self.true, self.predicted) and not by_chance


def class_shares(runs: Runs, classes: Sequence[str], config: EvaluationConfig) -> dict[str, ClassShare]:
    """Return the shares of each class in the predictions of the fused head; empty without a labelled utterance."""
    per_dialogue = confusions(runs, classes)
    if not per_dialogue.sum():
        return {}
    true, predicted = (_shares(per_dialogue.sum((0, 1)), axis=axis) for axis in (-1, -2))

    def gaps(sums: np.ndarray) -> dict[str, np.ndarray]:
        values = _shares(sums, axis=-2) - _shares(sums, axis=-1)
        return {name: values[..., index] for index, name in enumerate(classes)}

    resamples, confidence = config.bootstrap, config.confidence
    intervals = bootstrap_intervals(per_dialogue, resamples=resamples, confidence=confidence, scoring=gaps)
    return {
        name: ClassShare(float(true[index]), float(predicted[index]), intervals.get(name))
        for index, name in enumerate(classes)
    }


def _shares(confusion: np.ndarray, *, axis: int) -> np.ndarray:
    """Sum confusion matrices (..., C, C), rows true, along an axis, and divide by their totals: (..., C)."""
    return np.asarray(confusion.sum(axis) / np.maximum(confusion.sum((-2, -1)), 1)[..., None])
