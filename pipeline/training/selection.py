"""The epoch that is kept: chosen by a development score, or the last."""

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
        first: the first epoch of those that one is chosen of; earlier ones stand in until it is reached.
    """

    name: str = TrainingConfig.select
    first: int = 1

    @classmethod
    def by(cls, recipe: TrainingConfig) -> Selection:
        """Return how a recipe chooses.

        A schedule that ends has its best weights where the rate has fallen, and a high score of earlier epochs is luck:
        there it is the last quarter (rounded up) that is chosen of. A patience with such a schedule is of the time
        when any epoch could be chosen, and training stopped with the rate still high.
        """
        any_epoch = recipe.schedule == "constant" or recipe.patience is not None
        return cls(recipe.select, first=1 if any_epoch else recipe.epochs - -(-recipe.epochs // 4) + 1)

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

    def best(self, log: Sequence[EpochLog]) -> EpochLog:
        """Return the epoch that training has chosen.

        It is the first of equals: with a constant rate the others may have learned more by heart, and where the rate
        has fallen they are nearly the same.
        """
        if self.name == "last":
            return log[-1]
        # A loss is the better the lower it is.
        sign = -1 if self.name == "loss" else 1
        return max(log, key=lambda entry: (entry.epoch >= self.first, sign * self.of(entry.dev)))

    def describe(self, entry: EpochLog) -> str:
        """Say what an epoch scored, as in `dev loss 0.512`; nothing where no score is looked at."""
        return "" if self.name == "last" else f"dev {self.name} {self.of(entry.dev):.3f}"


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
