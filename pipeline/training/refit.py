"""Training once more, on the development dialogues too, for as many epochs as they chose in a first run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpgnet.model.configuration import read_config
from lpgnet.pipeline.config import Config
from lpgnet.pipeline.training.dialogues import Dialogue
from lpgnet.pipeline.training.freshness import Refit
from lpgnet.pipeline.training.runs import best_folder, read_log, recipe_of
from lpgnet.pipeline.training.selection import Selection
from lpgnet.pipeline.training.splits import Split
from lpgnet.pipeline.training.trainer import Development, train_run

if TYPE_CHECKING:
    from accelerate import Accelerator

    from lpgnet.pipeline.training.runs import LoadedCorpus

_REFITTED = "-refit"


@dataclass(frozen=True)
class _Known:
    """Measures nothing: no dialogue is left to develop on, and the temperature is that of the first run."""

    temperature: float

    def __call__(self, *_: Any, **__: Any) -> Development:
        return Development({}, lambda: self.temperature)


def refit_run(
    config: Config, corpus: LoadedCorpus, split: Split, first: Path, folder: Path, accelerator: Accelerator
) -> None:
    """Train a run on training and development dialogues, resuming where it stopped, and keep its last epoch.

    The schedule is that of so many epochs, so that the rate falls to its end.

    Args:
        config: of the first run.
        corpus: what both are trained on.
        split: of the first run.
        first: folder of the first run, which is finished.
        folder: of the second one.
        accelerator: of this process.

    Raises:
        PipelineError: the first run's folder is damaged; names the file.
    """
    found = read_first(first)
    recipe = replace(config.training, epochs=found.epochs, select="last", patience=None)
    measure = _Known(found.temperature)
    train_run(
        replace(config, training=recipe),
        corpus,
        with_development(split, corpus.dialogues),
        folder,
        accelerator,
        measure,
        refit=found,
    )


def refit_folder(first: Path) -> Path:
    """Return the folder of the second run, beside that of the first."""
    return first.with_name(first.name + _REFITTED)


def first_folder(folder: Path) -> Path:
    """Return the folder of the first run of a refitted one."""
    return folder.with_name(folder.name.removesuffix(_REFITTED))


def read_first(folder: Path) -> Refit:
    """Read what the first run found.

    Raises:
        PipelineError: its folder is damaged; names the file.
    """
    recipe, model = recipe_of(folder), read_config(best_folder(folder) / "config.json")
    epochs = Selection.by(recipe).best(read_log(folder)).epoch
    return Refit(recipe.select, epochs, model.calibration_temperature, model.distances)


def with_development(split: Split, dialogues: Sequence[Dialogue]) -> Split:
    """Return the split whose development dialogues are trained on, with all that is known of them.

    Args:
        split: of the first run; of a development dialogue it may keep only what is known of some speakers.
        dialogues: of the corpus, as they were before they were split.
    """
    names = {dialogue.dialogue_id for dialogue in split.dev}
    whole = (dialogue for dialogue in dialogues if dialogue.dialogue_id in names)
    return replace(split, train=(*split.train, *whole), dev=())
