"""The epoch whose model a run kept, and what that scored on development and on test utterances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, cast

from lpgnet.pipeline.common.ranges import Correlation, Count
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.training.checkpoints import EpochLog
from lpgnet.pipeline.training.freshness import LOG_FILE
from lpgnet.pipeline.training.refit import first_folder
from lpgnet.pipeline.training.runs import read_log, recipe_of, refit_of
from lpgnet.pipeline.training.selection import Selection

Score: TypeAlias = Literal["weighted_f1", "macro_f1", "ua", "ccc"]


@dataclass(frozen=True)
class ChosenEpoch:
    """The epoch that training chose.

    Attributes:
        epoch: its number, from 1.
        trained: how many epochs the run was trained for.
        score: name of the two scores: what the epoch was chosen by or, where nothing was (`last`) or that is not
            measured on test utterances (`loss`), weighted F1.
        development: on the development dialogues; of a model that learned from these too, that of its first run.
        test: on the test split; None where it has nothing to measure that by.
    """

    epoch: Count
    trained: Count
    score: Score
    development: Correlation
    test: Correlation | None


def chosen_epoch(folder: Path, test: Mapping[str, float]) -> ChosenEpoch | None:
    """Read which epoch a run chose; None if its folder does not tell.

    Args:
        folder: of the run.
        test: scores of its best model on the test split, by the names of the development scores.

    Raises:
        PipelineError: a file that tells it is damaged.
    """
    if not (folder / LOG_FILE).exists():
        return None
    log, best, selection = read_choice(folder if refit_of(folder) is None else first_folder(folder))
    score = selection.key if selection.key in test and selection.key in best.dev else "weighted_f1"
    if score not in best.dev:
        raise _lacks(folder, score)
    return ChosenEpoch(best.epoch, len(log), cast(Score, score), best.dev[score], test.get(score))


def read_choice(folder: Path) -> tuple[Sequence[EpochLog], EpochLog, Selection]:
    """Read the log of a run, the entry of the epoch that was chosen, and how it was.

    Raises:
        PipelineError: the log is missing or damaged, or lacks the score.
    """
    log, selection = read_log(folder), Selection.by(recipe_of(folder))
    if selection.name != "last" and any(selection.key not in entry.dev for entry in log):
        raise _lacks(folder, selection.key)
    return log, selection.best(log), selection


def _lacks(folder: Path, score: str) -> PipelineError:
    return PipelineError(f"{folder / LOG_FILE}: an epoch has no dev.{score}; delete the folder and train again")
