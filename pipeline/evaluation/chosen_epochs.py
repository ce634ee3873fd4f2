"""The epoch whose model a run kept, and what that scored on development and on test utterances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.training.checkpoints import EpochLog
from lpgnet.pipeline.training.runs import LOG_FILE, read_log, recipe_of
from lpgnet.pipeline.training.selection import Selection


@dataclass(frozen=True)
class ChosenEpoch:
    """The epoch that training chose.

    Attributes:
        epoch: its number, from 1.
        trained: how many epochs the run was trained for.
        score: name of the two scores: what the epoch was chosen by or, where that is not measured on test utterances
            (`loss`), weighted F1.
        development: on the development dialogues.
        test: on the test split; None where it has nothing to measure that by.
    """

    epoch: int
    trained: int
    score: str
    development: float
    test: float | None


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
    log, best, selection = read_choice(folder)
    score = "weighted_f1" if selection.name == "loss" else selection.key
    return ChosenEpoch(best.epoch, len(log), score, best.dev[score], test.get(score))


def read_choice(folder: Path) -> tuple[Sequence[EpochLog], EpochLog, Selection]:
    """Read the log of a run, the entry of the epoch that was chosen, and how it was.

    Raises:
        PipelineError: the log is missing or damaged, or lacks the score.
    """
    log, selection = read_log(folder), Selection(recipe_of(folder).select)
    needed = {selection.key, "weighted_f1"}
    if lacking := sorted(needed - set.intersection(*(set(entry.dev) for entry in log))):
        raise PipelineError(f"{folder / LOG_FILE}: an epoch has no dev.{lacking[0]}; delete the folder and train again")
    return log, selection.best(log), selection
