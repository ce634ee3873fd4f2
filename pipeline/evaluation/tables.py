"""The runs of a table: rows x folds x seeds, each with its configuration, fold and folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

from lpgnet.pipeline.common.stamps import is_fresh
from lpgnet.pipeline.config import (
    Config,
    CrossvalConfig,
    EvaluationConfig,
    SplitsConfig,
    TrainingConfig,
    config_from,
    parse_config,
)
from lpgnet.pipeline.errors import UsageError
from lpgnet.pipeline.evaluation.predictions import PREDICTIONS_FILE
from lpgnet.pipeline.evaluation.run_results import METRICS_FILE
from lpgnet.pipeline.model_config import ModelConfig
from lpgnet.pipeline.training.runs import LoadedCorpus, load_corpus, run_inputs
from lpgnet.pipeline.training.splits import Split, make_folds, make_split

MEASURED_FILE = "measured.json"
# Raised whenever the files of a measured run change: the run is then measured again, but not trained again.
FORMAT = 4


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    name: str
    config: Config


@dataclass(frozen=True)
class Job:
    """One run of the table; its folder is `<row>/<fold>/seed<k>`."""

    row: str
    fold: str
    config: Config
    folder: Path


def make_rows(config: Config, arguments: Sequence[str]) -> list[Row]:
    """Make a row for each model, then one for each overlay, which is added to the command as one more `--config`.

    Args:
        config: the configuration without overlays.
        arguments: the command line that it came from.

    Raises:
        UsageError: an overlay is not a config file, two rows have the same name, or there are no rows.
    """
    if config.evaluation.modalities is not None:
        raise UsageError("evaluation.modalities is for the evaluate stage; in a table every model gets all its inputs")
    models = [replace(config, model=replace(config.model, type=name)) for name in config.crossval.models]
    rows = [Row(variant.model.type, variant) for variant in models]
    rows += [
        Row(path.stem, parse_config("crossval", [*arguments, "--config", str(path)], Config))
        for path in _overlay_files(config.crossval.overlays)
    ]
    _check_rows(rows, config)
    return rows


def _check_rows(rows: Sequence[Row], config: Config) -> None:
    for row in rows:
        if row.config.training.device != config.training.device:
            raise UsageError(
                f"{row.name} changes training.device, which must be the same for a whole table; make two tables"
            )
    names = [row.name for row in rows]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"two rows of the table are called {twice}; rename the overlay's file")
    if not rows:
        raise UsageError("the table has no rows; name a model in crossval.models")


def _overlay_files(paths: Sequence[str]) -> list[Path]:
    found = []
    for path in map(Path, paths):
        found += sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    return found


def runs_folder(config: Config) -> Path:
    """Return the folder of the runs of all the experiment's tables."""
    return config.folder / "crossval"


def make_jobs(rows: Sequence[Row], folder: Path) -> list[Job]:
    """Make a job for every run of the table."""
    return [
        Job(row.name, split.name, _seeded(row.config, seed), folder / row.name / split.name / f"seed{seed}")
        for row in rows
        for split in splits_of(row.config)
        for seed in range(row.config.crossval.seeds)
    ]


def _seeded(config: Config, seed: int) -> Config:
    return replace(config, training=replace(config.training, seed=seed))


def splits_of(config: Config) -> list[Split]:
    """Return the folds of a row."""
    dialogues = corpus_of(config).dialogues
    one = config.crossval.folds == "one"
    return [make_split(dialogues, config.splits)] if one else make_folds(dialogues, config.splits)


def corpus_of(config: Config) -> LoadedCorpus:
    """Return a row's corpus, which a process loads only once for successive rows with the same corpus."""
    read = replace(
        config,
        run="default",
        splits=SplitsConfig(),
        model=ModelConfig(),
        training=TrainingConfig(drop_unlabelled=config.training.drop_unlabelled),
        evaluation=EvaluationConfig(),
        crossval=CrossvalConfig(),
    )
    return _load(json.dumps(asdict(read)))


@lru_cache(maxsize=1)
def _load(config: str) -> LoadedCorpus:
    return load_corpus(config_from(json.loads(config)))


def is_measured(job: Job) -> bool:
    """Return whether the run was trained and measured with exactly this configuration and data."""
    files = (job.folder / METRICS_FILE, job.folder / PREDICTIONS_FILE)
    return is_fresh(job.folder / MEASURED_FILE, stamp_of(job)) and all(file.exists() for file in files)


def stamp_of(job: Job) -> dict[str, object]:
    """Return everything that a measured run was made from."""
    return {
        "format": FORMAT,
        "missing_shares": job.config.evaluation.missing_shares,
        **run_inputs(job.config, corpus_of(job.config), split_of(job)),
    }


def split_of(job: Job) -> Split:
    """Return the split of a run's fold."""
    return next(split for split in splits_of(job.config) if split.name == job.fold)


def table_folder(config: Config) -> Path:
    """Return the folder of the table's files.

    Raises:
        UsageError: the table's name is a path.
    """
    name = Path(config.crossval.table)
    if name.is_absolute() or len(name.parts) != 1 or ".." in name.parts:
        raise UsageError(f"key 'crossval.table': '{name}' must be a name, not a path")
    return config.folder / name
