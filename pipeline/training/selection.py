"""The development score that an epoch is chosen by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lpgnet.pipeline.config import TrainingConfig
from lpgnet.pipeline.errors import UsageError
from lpgnet.pipeline.training.checkpoints import EpochLog

if TYPE_CHECKING:
    from lpgnet.pipeline.training.dialogues import Dialogue


@dataclass(frozen=True)
class Selection:
    """How an epoch is chosen.

    Attributes:
        name: as in `training.select`.
    """

    name: str = TrainingConfig.select

    @property
    def key(self) -> str:
        """The name of the score among those of the development dialogues."""
        return "ua" if self.name == "uar" else self.name

    def of(self, scores: Mapping[str, float]) -> float:
        """Return the score.

        Raises:
            UsageError: the development dialogues lack what it is measured by.
        """
        if self.key not in scores:
            raise UsageError(
                f"key 'training.select': the development split has nothing to measure {self.name} by; "
                "choose another score, or other development dialogues"
            )
        return scores[self.key]

    def is_better(self, score: float, than: float) -> bool:
        """Tell whether a score is better than another: a loss is the better the lower it is."""
        return score < than if self.name == "loss" else score > than

    def best(self, log: Sequence[EpochLog]) -> EpochLog:
        """Return the first of the epochs with the best score, which training has chosen."""
        sign = -1 if self.name == "loss" else 1
        return max(log, key=lambda entry: sign * self.of(entry.dev))


def check_selection(name: str, dimensions: Sequence[str], dev: Sequence[Dialogue]) -> None:
    """Refuse to choose epochs by the concordance of ratings that nobody predicts or made.

    Args:
        name: as in `training.select`.
        dimensions: that the model predicts.
        dev: the development dialogues.

    Raises:
        UsageError: names the key.
    """
    if name != "ccc":
        return
    if not dimensions:
        raise UsageError("key 'training.select': ccc needs dimensions; give model.dimensions, such as [valence]")
    rated = (dialogue.ratings[one] for dialogue in dev for one in dimensions if one in dialogue.ratings)
    if not any(ratings.isfinite().any() for ratings in rated):
        raise UsageError(
            f"key 'training.select': ccc needs ratings of {', '.join(dimensions)} in the development split"
        )
