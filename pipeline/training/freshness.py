"""Whether a run was trained to its end from exactly these inputs: asked, and answered, without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lpgnet.feature_extractors import digest_file
from lpgnet.pipeline.common.console import say
from lpgnet.pipeline.common.files import parse_object, read_text
from lpgnet.pipeline.common.ranges import Count, PositiveFloat
from lpgnet.pipeline.common.stamps import is_fresh, write_stamp
from lpgnet.pipeline.config import Config, Select
from lpgnet.pipeline.corpora.ratings import Ranges
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.training.described import DescribedCorpus, about_manifest
from lpgnet.pipeline.training.folds import fold_name
from lpgnet.pipeline.training.labels import labelled_turns

if TYPE_CHECKING:
    from lpgnet.feature_extractors import EncoderSpec

INPUTS_FILE = "inputs.json"
LOG_FILE = "metrics.jsonl"
DONE_FILE = "done.json"
BEST_FOLDER = "best"
CHECKPOINT_FOLDER = "checkpoints"
# Drawn once a run is done, and no part of it.
PLOT_FILE = "training.png"
# Settings that came later, with the values by which runs were trained before: those are not trained again.
ADDED_SETTINGS = {
    "target": "majority",
    "vote_smoothing": 0.0,
    "unagreed": "drop",
    "label_smoothing": 0.0,
    "select": "weighted_f1",
    "contrast": 0.0,
}
ADDED_SPLIT_SETTINGS = {"dev": "dialogues"}
# They change nothing in what a run ends in.
NO_INPUTS = ("device", "tracker", "keep_checkpoints")
# What a finished run is for: none of it may have changed since.
RESULTS = (f"{BEST_FOLDER}/config.json", f"{BEST_FOLDER}/model.safetensors", LOG_FILE)


class Described(Protocol):
    """What a run's outcome follows from of a corpus, described or loaded."""

    @property
    def specs(self) -> Mapping[str, EncoderSpec]:
        """The encoders, by modality."""
        ...

    @property
    def digest(self) -> str:
        """That of what went in."""
        ...

    @property
    def ranges(self) -> Ranges:
        """The lowest and the highest rating of each dimension that its raters rated."""
        ...


@dataclass(frozen=True)
class Refit:
    """What a run that learns from the development dialogues too takes from the run that was developed on them.

    Attributes:
        select: as in `training.select`, by which that run chose.
        epochs: how many it was trained for when its model was the best.
        temperature: that calibrates it.
        distances: of the development dialogues from its training, which this run has none of its own to measure by.
    """

    select: Select
    epochs: Count
    temperature: PositiveFloat
    distances: dict[str, Any] = field(default_factory=dict)


def is_trained(config: Config, corpus: DescribedCorpus) -> bool:
    """Tell whether the configured run is done, its plot drawn, and nothing of it left to be tidied up.

    Raises:
        PipelineError: a label code is neither mapped nor ignored, or the split does not fit the corpus.
    """
    folder = config.run_folder
    left = checkpoint_files(folder / CHECKPOINT_FOLDER) and not config.training.keep_checkpoints
    if left or not all((folder / name).exists() for name in (DONE_FILE, PLOT_FILE)):
        return False
    with about_manifest(config):
        drop = config.training.drop_unlabelled
        turns = [*labelled_turns(corpus.manifest, config.labels, drop_unlabelled=drop)]
    return is_done(folder, run_inputs(config, corpus, fold_name(turns, config.splits)))


def checkpoint_files(folder: Path) -> list[Path]:
    """List the checkpoints in a folder, sound or not, the newest last; without those that were set aside."""
    return sorted(folder.glob("epoch-*.safetensors"))


def tell_done(folder: Path) -> None:
    """Say that there is nothing to train."""
    say(f"train: up to date ({folder})")


def run_inputs(config: Config, corpus: Described, fold: str, refit: Refit | None = None) -> dict[str, object]:
    """Return all that decides a run's outcome: a run with the same inputs is the same run."""
    values = asdict(config)
    training = {name: value for name, value in values["training"].items() if name not in NO_INPUTS}
    return {
        "labels": values["labels"],
        "splits": _without(ADDED_SPLIT_SETTINGS, values["splits"]),
        "model": {name: value for name, value in values["model"].items() if value is not None},
        "training": _without(ADDED_SETTINGS, training),
        "fold": fold,
        "fingerprints": {name: spec.fingerprint for name, spec in corpus.specs.items()},
        "data": corpus.digest,
        # A rating means what it does by its range.
        **({"ranges": rated_ranges(config, corpus)} if config.dimensions else {}),
        # Its keys are in the digest; but where there was nothing to cut, they are those of no trimming.
        **({"trim": "speech"} if "audio" in corpus.specs and config.encoders.audio.trim == "speech" else {}),
        **({"refit": asdict(refit)} if refit is not None else {}),
    }


def _without(added: Mapping[str, object], values: Mapping[str, object]) -> dict[str, object]:
    """Leave out settings that came later, where they have the values of before."""
    return {name: value for name, value in values.items() if name not in added or value != added[name]}


def is_done(folder: Path, inputs: Mapping[str, object]) -> bool:
    """Tell whether the run in this folder was trained to its end from exactly these inputs, and is as it was then."""
    return is_fresh(folder / DONE_FILE, _finished(folder, inputs))


def mark_done(folder: Path, inputs: Mapping[str, object]) -> None:
    """Note that the run was trained to its end."""
    write_stamp(folder / DONE_FILE, _finished(folder, inputs))


def _finished(folder: Path, inputs: Mapping[str, object]) -> dict[str, object]:
    return {**inputs, "results": digests_of_results(folder)}


def digests_of_results(folder: Path) -> dict[str, str | None]:
    """Digest what a finished run is for; None for what is not there."""
    paths = {name: folder / name for name in RESULTS}
    return {name: _digest_of(path) if path.is_file() else None for name, path in paths.items()}


def _digest_of(path: Path) -> str:
    """Digest a file; of a model's configuration all but what `evaluate` adds to a finished run."""
    if path.name != "config.json":
        return digest_file(path)
    with suppress(PipelineError):
        values = parse_object(read_text(path), where=str(path))
        rest = {name: value for name, value in values.items() if name != "trained_on"}
        return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
    return digest_file(path)


def rated_ranges(config: Config, corpus: Described) -> dict[str, list[float]]:
    """Return the ranges of the dimensions that the configured model predicts."""
    return {name: list(corpus.ranges[name]) for name in config.dimensions if name in corpus.ranges}
