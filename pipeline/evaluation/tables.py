"""The runs of a table: rows x folds x seeds, each with its configuration, fold and folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Protocol

from lpgnet.pipeline.common.stamps import is_fresh
from lpgnet.pipeline.config import (
    Config,
    CrossvalConfig,
    EvaluationConfig,
    SearchConfig,
    SplitsConfig,
    TrainingConfig,
    TuneConfig,
    config_from,
    parse_config,
)
from lpgnet.pipeline.errors import UsageError, did_you_mean, shorten
from lpgnet.pipeline.evaluation.predictions import PREDICTIONS_FILE
from lpgnet.pipeline.evaluation.run_results import METRICS_FILE
from lpgnet.pipeline.model_config import ModelConfig, ModelType
from lpgnet.pipeline.presets import preset_file
from lpgnet.pipeline.training.freshness import run_inputs
from lpgnet.pipeline.training.refit import refit_folder
from lpgnet.pipeline.training.runs import LoadedCorpus, load_corpus, model_modalities
from lpgnet.pipeline.training.shared_inputs import SharedCorpus
from lpgnet.pipeline.training.splits import Split, make_folds, make_split
from lpgnet.pipeline.training.tuned import check_unseen
from lpgnet.pipeline.tuning.tuner import tuned_folder

MEASURED_FILE = "measured.json"
# Raised whenever the files of a measured run change: the run is then measured again, but not trained again.
FORMAT = 4


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        tuned: modalities of which each fold has a tuned encoder of its own.
    """

    name: str
    config: Config
    tuned: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """One run of the table; its folder is `<row>/<fold>/seed<k>`, or `seed<k>-refit` of what is refitted."""

    row: str
    fold: str
    config: Config
    folder: Path

    @property
    def name(self) -> str:
        """Row, fold and seed."""
        return f"{self.row} {self.fold} seed {self.config.training.seed}"


class HasConfig(Protocol):
    """What is worked on in another process, by its configuration."""

    @property
    def config(self) -> Config:
        """What decides which corpus it needs."""
        ...


def make_rows(config: Config, arguments: Sequence[str]) -> list[Row]:
    """Make a row for each model, then for each preset, with one beside it by tuned encoders, then for each overlay.

    The preset of the configuration is beneath none of the others: rows of models and overlays are made as if it named
    none. An overlay is added to the command as one more `--config`, so it may name a preset for itself.

    Args:
        config: the configuration without overlays.
        arguments: the command line that it came from.

    Raises:
        UsageError: an overlay is not a config file, there is no such preset, two rows have the same name, there are no
            rows, or none has the name of the baseline.
    """
    if config.evaluation.modalities is not None:
        raise UsageError("evaluation.modalities is for the evaluate stage; in a table every model gets all its inputs")
    without = [*arguments, "--preset", "null"]
    bare = parse_config("crossval", without, Config) if config.preset else config
    own = [config.preset] if config.preset else []
    presets = own if config.crossval.presets is None else config.crossval.presets
    rows = [Row(name, _of_type(bare, name)) for name in config.crossval.models]
    rows += [_preset_row(name, arguments) for name in presets]
    rows = [one for row in rows for one in (row, *_tuned_row(row, config.crossval))]
    rows += [
        Row(path.stem, parse_config("crossval", [*without, "--config", str(path)], Config))
        for path in _overlay_files(config.crossval.overlays)
    ]
    _check_rows(rows, config)
    return rows


def _of_type(config: Config, name: ModelType) -> Config:
    return replace(config, model=replace(config.model, type=name))


def _preset_row(name: str, arguments: Sequence[str]) -> Row:
    """Make the row of a preset: its network, as a row of a model is that model, and its values beneath all others."""
    try:
        preset_file(name)
    except UsageError as error:
        raise UsageError(f"key 'crossval.presets': {error}") from None
    own = parse_config("crossval", ["--preset", name], Config)
    return Row(name, _of_type(parse_config("crossval", [*arguments, "--preset", name], Config), own.model.type))


def _tuned_row(row: Row, crossval: CrossvalConfig) -> list[Row]:
    """Make the row by tuned encoders, of a model that takes what they embed."""
    taken = tuple(name for name in model_modalities(row.config) if name in crossval.tune)
    return [replace(row, name=f"{row.name}-tuned", tuned=taken)] if taken else []


def _check_rows(rows: Sequence[Row], config: Config) -> None:
    for row in rows:
        if row.config.training.device != config.training.device:
            raise UsageError(
                f"{row.name} changes training.device, which must be the same for a whole table; make two tables"
            )
    names = [row.name for row in rows]
    for key, given in (("models", config.crossval.models), ("presets", config.crossval.presets or [])):
        if twice := _twice(given):
            raise UsageError(f"key 'crossval.{key}': names {twice} twice; name each once")
    if twice := _twice(names):
        raise UsageError(f"two rows of the table are called {twice}; rename the overlay's file")
    if not rows:
        raise UsageError("the table has no rows; name a model in crossval.models")
    if (baseline := config.crossval.baseline) is not None and baseline not in names:
        hint = did_you_mean(baseline, names) or f"; its rows are {shorten(names, most=12)}"
        raise UsageError(f"key 'crossval.baseline': the table has no row {baseline!r:.60}{hint}")


def _twice(names: Sequence[str]) -> str | None:
    return next((name for name in names if names.count(name) > 1), None)


def baseline_of(config: Config, names: Sequence[str]) -> str:
    """Return the name of the row that all others are compared with."""
    return names[0] if config.crossval.baseline is None else config.crossval.baseline


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
        Job(
            row.name,
            split.name,
            seeded(_of_fold(row, split), seed),
            _run_folder(row, folder / row.name / split.name, seed),
        )
        for row in rows
        for split in splits_of(row.config)
        for seed in range(row.config.crossval.seeds)
    ]


def _run_folder(row: Row, fold: Path, seed: int) -> Path:
    first = fold / f"seed{seed}"
    return refit_folder(first) if row.config.crossval.refit else first


def _of_fold(row: Row, split: Split) -> Config:
    config = row.config
    for modality in row.tuned:
        config = with_tuned(config, modality, split.name)
    return config


def with_tuned(config: Config, modality: str, fold: str) -> Config:
    """Return a configuration with the encoder that was tuned for a fold."""
    name = f"hf:{tuned_folder(config, modality, fold)}"
    encoder = {modality: replace(getattr(config.encoders, modality), name=name)}
    return replace(config, encoders=replace(config.encoders, **encoder))


def seeded(config: Config, seed: int) -> Config:
    """Return a configuration with that seed of training."""
    return replace(config, training=replace(config.training, seed=seed))


def splits_of(config: Config) -> list[Split]:
    """Return the folds of a row, which a process makes only once for all runs with the same ones."""
    return _splits(_corpus_key(config), json.dumps(asdict(config.splits)), config.crossval.folds == "one")


def fold_of(config: Config, name: str) -> Split:
    """Return the fold of a row by its name."""
    return next(split for split in splits_of(config) if split.name == name)


@cache
def _splits(corpus: str, splits: str, one: bool) -> list[Split]:
    dialogues, settings = _load(corpus).dialogues, SplitsConfig(**json.loads(splits))
    return [make_split(dialogues, settings)] if one else make_folds(dialogues, settings)


def corpus_of(config: Config) -> LoadedCorpus:
    """Return a row's corpus, which a process loads only once for all rows with the same corpus."""
    return _load(_corpus_key(config))


def _corpus_key(config: Config) -> str:
    """Return all that a corpus follows from."""
    read = replace(
        config,
        run="default",
        preset=None,
        splits=SplitsConfig(),
        model=ModelConfig(),
        tune=TuneConfig(),
        training=TrainingConfig(drop_unlabelled=config.training.drop_unlabelled),
        evaluation=EvaluationConfig(),
        crossval=CrossvalConfig(),
        search=SearchConfig(),
    )
    return json.dumps(asdict(read))


@cache
def _load(key: str) -> LoadedCorpus:
    if given := _given.pop(key, None):
        return given.load()
    return load_corpus(config_from(json.loads(key)))


def forget_corpora() -> None:
    """Load corpora anew, which other stages may have changed since this process loaded them."""
    _load.cache_clear()
    _splits.cache_clear()


# What this process was given by the one that started it, by what each follows from.
_given: dict[str, SharedCorpus] = {}


def corpora_to_give(jobs: Sequence[HasConfig]) -> dict[str, SharedCorpus]:
    """Return the corpora of jobs for `take_corpora` in other processes, which then load none of them themselves."""
    # Windows opens no file again that has no name.
    keys = dict.fromkeys(_corpus_key(job.config) for job in jobs if sys.platform != "win32")
    loaded = {key: _load(key) for key in keys}
    return {key: SharedCorpus.of(one, one.inputs) for key, one in loaded.items() if one.inputs is not None}


def take_corpora(given: dict[str, SharedCorpus]) -> None:
    """Use what `corpora_to_give` returned in the process that started this one."""
    _given.update(given)


def is_measured(job: Job) -> bool:
    """Return whether the run was trained and measured with exactly this configuration and data."""
    files = (job.folder / METRICS_FILE, job.folder / PREDICTIONS_FILE)
    return is_fresh(job.folder / MEASURED_FILE, stamp_of(job)) and all(file.exists() for file in files)


def stamp_of(job: Job) -> dict[str, object]:
    """Return everything that a measured run was made from."""
    return {
        "format": FORMAT,
        "missing_shares": job.config.evaluation.missing_shares,
        **run_inputs(job.config, corpus_of(job.config), split_of(job).name),
        **({"refit": True} if job.config.crossval.refit else {}),
    }


def split_of(job: Job) -> Split:
    """Return the split of a run's fold.

    Raises:
        PipelineError: an encoder was tuned on what it tests on.
    """
    split = fold_of(job.config, job.fold)
    check_unseen(corpus_of(job.config).tuned, split)
    return split


def table_folder(config: Config) -> Path:
    """Return the folder of the table's files.

    Raises:
        UsageError: the table's name is a path.
    """
    name = Path(config.crossval.table)
    if name.is_absolute() or len(name.parts) != 1 or ".." in name.parts:
        raise UsageError(f"key 'crossval.table': '{name}' must be a name, not a path")
    return config.folder / name
