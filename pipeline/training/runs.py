"""A run: its data, its model before training, and its folder."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from reprlib import repr as shown
from statistics import median
from typing import Any

import torch
import yaml

from lpgnet.cache.files import sync_folder
from lpgnet.feature_extractors import EncoderError, EncoderSpec
from lpgnet.feature_extractors.spec import check_settings
from lpgnet.model import EmotionConfig, EmotionModel, ModelError, build_model, load_model
from lpgnet.pipeline.common.console import say
from lpgnet.pipeline.common.files import from_json, parse_object, read_text, set_aside, to_json, write_atomically
from lpgnet.pipeline.common.processes import current_launch
from lpgnet.pipeline.common.shared_names import portable, rename_all
from lpgnet.pipeline.common.stamps import is_fresh, write_stamp
from lpgnet.pipeline.config import Config, TrainingConfig
from lpgnet.pipeline.corpora.about import About
from lpgnet.pipeline.corpora.audio import Segment
from lpgnet.pipeline.corpora.ratings import Ranges
from lpgnet.pipeline.embeddings.plan import stored_embeddings
from lpgnet.pipeline.embeddings.silence import Silence, silences, summarize
from lpgnet.pipeline.errors import PipelineError, UsageError, shorten
from lpgnet.pipeline.training.checkpoints import EpochLog, drop_checkpoints, has_checkpoint, set_damaged_aside
from lpgnet.pipeline.training.described import DescribedCorpus, about_manifest, describe_corpus
from lpgnet.pipeline.training.dialogues import Dialogue, make_dialogues, standardization
from lpgnet.pipeline.training.freshness import (
    ADDED_SETTINGS,
    BEST_FOLDER,
    CHECKPOINT_FOLDER,
    DONE_FILE,
    INPUTS_FILE,
    LOG_FILE,
    RESULTS,
    Refit,
    digests_of_results,
    rated_ranges,
)
from lpgnet.pipeline.training.shared_inputs import SharedInputs
from lpgnet.pipeline.training.splits import Split
from lpgnet.pipeline.training.standardization import within_groups
from lpgnet.pipeline.training.targets import inverse_frequency
from lpgnet.pipeline.training.trained_on import describe_training
from lpgnet.pipeline.training.tuned import Tuned, find_tuned

ENVIRONMENT_FILE = "environment.json"
# What is measured of a model, not chosen: its last digits may differ between machines.
MEASURED_FIELDS = ("audio_silence", "calibration_temperature", "trained_on", "distances")
# It came with a weight decay of the matrices alone, so that no earlier run is what is trained by now.
EARLIER_SETTINGS = {"layer_rate": 1.0, **ADDED_SETTINGS}


@dataclass(frozen=True)
class LoadedCorpus:
    """Dialogues of embedded utterances, and where they are from.

    Attributes:
        specs: the encoders that embedded them, by modality.
        digest: of what went in.
        name: of the corpus.
        about: what kind of speech it holds.
        lengths: of the utterances whose sound was embedded, by id (seconds).
        silence: what is not speech, by utterance; only of those where that is known.
        ranges: the lowest and the highest rating of each dimension that its raters rated.
        tuned: what those of the encoders that were tuned have seen.
        inputs: where the inputs of all dialogues are; None where each dialogue holds its own.
    """

    dialogues: tuple[Dialogue, ...]
    specs: dict[str, EncoderSpec]
    digest: str
    name: str = "unknown"
    about: About = field(default_factory=About)
    lengths: dict[str, float] = field(default_factory=dict)
    silence: dict[str, Silence] = field(default_factory=dict)
    ranges: Ranges = field(default_factory=dict)
    tuned: Tuned = field(default_factory=Tuned)
    inputs: SharedInputs | None = None


def load_corpus(config: Config, described: DescribedCorpus | None = None) -> LoadedCorpus:
    """Join the manifest with its cached embeddings, in a file that is mapped.

    Args:
        config: of the experiment.
        described: the corpus, where that is known.

    Raises:
        PipelineError: an embedding is not cached, or a label code is neither mapped nor ignored.
    """
    found = described or describe_corpus(config)
    manifest, embeddings = found.manifest, {}
    lengths: dict[str, float] = {}
    silence: dict[str, Silence] = {}
    for modality, prepared in found.prepared.items():
        if served := prepared.served():
            say(f"{modality} by {prepared.spec.name}: {served.line}")
        plan = prepared.plan
        embeddings[modality] = stored_embeddings(plan, prepared.spec, prepared.stored)
        silence |= silences(plan, prepared.speech)
        lengths |= {one.utterance_id: one.source.seconds for one in plan.requests if isinstance(one.source, Segment)}
    numbers = len(manifest.utterances) * sum(math.prod(source.shape) for source in embeddings.values())
    inputs, drop = SharedInputs.make(config.folder, numbers), config.training.drop_unlabelled
    with about_manifest(config):
        dialogues = make_dialogues(manifest, embeddings, config.labels, drop_unlabelled=drop, keep=inputs.add)
    corpus, tuned = manifest.corpus, find_tuned(config, manifest, found.specs)
    about = (corpus.name, corpus.about, lengths, silence, corpus.ranges, tuned, inputs)
    return LoadedCorpus(tuple(dialogues), found.specs, found.digest, *about)


def model_modalities(config: Config) -> list[str]:
    """Return the modalities that the model takes; the types text and audio are LPGNet on that one only."""
    return [config.model.type] if config.model.type in ("text", "audio") else list(config.model.modalities)


def make_model(config: Config, corpus: LoadedCorpus, split: Split) -> EmotionModel:
    """Build the configured model, its inputs standardized on the training dialogues.

    Raises:
        UsageError: a modality has no encoder.
        PipelineError: no training utterance has a modality.
    """
    sizes = {}
    for name in model_modalities(config):
        if name not in corpus.specs:
            raise UsageError(f"model.modalities has {name}, but encoders.{name}.name is null; set it to an encoder")
        sizes[name] = list(corpus.dialogues[0].inputs[name].shape[1:])
    torch.manual_seed(config.training.seed)
    origin = _origin(config, corpus, split)
    model = build_model(config.model.kind, input_sizes=sizes, **origin, **_settings(config, corpus, split))
    for name in sizes:
        mean, deviation = standardization(split.train, name)
        if (by := model.config.standardise) != "corpus":
            deviation = within_groups(split.train, name, by)
        model.standardize_(name, mean, deviation)
    return model


def _settings(config: Config, corpus: LoadedCorpus, split: Split) -> dict[str, Any]:
    if config.model.kind == "sdt" and getattr(config.model, "causal", False):
        raise UsageError("key 'model.causal': sdt reads future turns; remove it from a table of causal models")
    recipe = config.training
    values = config.model.settings() | {"label_smoothing": recipe.label_smoothing, "contrast_weight": recipe.contrast}
    if recipe.class_weights == "inverse":
        values["class_weights"] = inverse_frequency(split.train, len(config.classes), recipe)
    return values | {"ranges": rated_ranges(config, corpus)}


def _origin(config: Config, corpus: LoadedCorpus, split: Split) -> dict[str, Any]:
    """Describe for a checkpoint how it was made: `predict` needs the encoders, people need the rest."""
    names = model_modalities(config)
    return {
        "id2label": dict(enumerate(config.classes)),
        "label_map": config.labels,
        "encoders": {name: _named_for_others(corpus.specs[name]).to_dict() for name in names},
        "text_context_turns": config.encoders.text.context_turns if "text" in names else 0,
        "trained_on": to_json(describe_training(corpus, split, config.training, config.dimensions)),
        **(_heard(config, corpus, split) if "audio" in names else {}),
    }


def _named_for_others(spec: EncoderSpec) -> EncoderSpec:
    return replace(spec, name=portable(spec.name))


def _heard(config: Config, corpus: LoadedCorpus, split: Split) -> dict[str, Any]:
    """Describe how much silence there is in the sound that the model learns from."""
    ids = (utterance.utterance_id for dialogue in split.train for utterance in dialogue.utterances)
    measured = [corpus.silence[name] for name in ids if name in corpus.silence]
    return {"audio_trim": config.encoders.audio.trim, "audio_silence": summarize(measured)}


def model_encoders(model: EmotionModel, folder: Path) -> dict[str, EncoderSpec]:
    """Return what made the embeddings of each modality of a model, as its `config.json` says.

    Raises:
        PipelineError: an encoder is missing, or has a field that is none; names the file and the key.
    """
    return described_encoders(model.config, folder)


def described_encoders(config: EmotionConfig, folder: Path) -> dict[str, EncoderSpec]:
    """Return what `model_encoders` does, by the model's configuration alone."""
    return {
        name: _read_spec(config.encoders.get(name), where=f"{folder / 'config.json'}: key 'encoders.{name}'")
        for name in config.modality_names
    }


def _read_spec(values: dict[str, Any] | None, *, where: str) -> EncoderSpec:
    if values is None:
        raise PipelineError(f"{where} is missing: nothing says what embeds the model's inputs; train it again")
    # A full window is not written.
    if differing := sorted({entry.name for entry in fields(EncoderSpec)} ^ (values.keys() | {"window"})):
        raise PipelineError(f"{where}: {shown(differing[0])} is missing or not known; train the model again")
    kinds = {"name": str, "fingerprint": str, "max_seconds": int | float | None, "trust_remote_code": bool}
    for name, kind in kinds.items():
        if not isinstance(values[name], kind):
            raise PipelineError(f"{where}: {name} is {shown(values[name])}; train the model again")
    try:
        spec = EncoderSpec.from_dict(values)
        check_settings(spec.settings)
    except EncoderError as error:
        raise PipelineError(f"{where}: {error}; train the model again") from None
    return spec


def drop_needless(folder: Path, also: Sequence[str] = ()) -> None:
    """Delete the checkpoints of a finished run, once what it is for, and `also` files, would outlive a power loss."""
    for path in [folder / name for name in (*RESULTS, *also, DONE_FILE)]:
        with path.open("r+b") as file:
            os.fsync(file.fileno())
        sync_folder(path.parent)
    drop_checkpoints(folder / CHECKPOINT_FOLDER)


def open_run(folder: Path, inputs: Mapping[str, object], config: Config) -> None:
    """Prepare the run's folder: keep what the same run left there, and rename the folder of another run."""
    if folder.exists() and not is_fresh(folder / INPUTS_FILE, inputs):
        moved = set_aside(folder)
        say(f"{folder} held a run with another configuration or other data; it is now {moved}")
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / DONE_FILE).exists():
        _reopen(folder)
    # Whole as it is: a preset that it named would fill in, beneath it, what a later version adds.
    whole = rename_all(asdict(replace(config, preset=None)), portable) | {"labels": config.labels}
    write_atomically(folder / "config.yaml", yaml.safe_dump(whole, sort_keys=False, allow_unicode=True))
    write_atomically(folder / ENVIRONMENT_FILE, json.dumps(environment(), indent=2) + "\n")
    write_stamp(folder / INPUTS_FILE, inputs)


def _reopen(folder: Path) -> None:
    """Take a run up again that was done, but whose results are not what training wrote."""
    try:
        noted = parse_object(read_text(folder / DONE_FILE), where=str(folder / DONE_FILE))["results"]
        changed = [name for name, digest in digests_of_results(folder).items() if digest != noted[name]]
    except (PipelineError, KeyError, TypeError):
        changed = [DONE_FILE]
    say(f"train: {folder} was done, but since then {shorten(changed)} went away or changed; it is trained again")
    if any(name.startswith(BEST_FOLDER) for name in changed) or not has_checkpoint(folder / CHECKPOINT_FOLDER):
        _start_anew(folder)
    (folder / DONE_FILE).unlink()


def _start_anew(folder: Path) -> None:
    # The best weights are in their folder alone, and no epoch after the checkpoint need be better. Without a checkpoint
    # they are those of an end that the training is far from again.
    for name in (CHECKPOINT_FOLDER, BEST_FOLDER):
        if (folder / name).exists():
            say(f"train: {folder / name} is now {set_aside(folder / name).name}")


def is_resumable(folder: Path, model: EmotionConfig) -> bool:
    """Tell whether the run can go on from a checkpoint, and say why not; what is damaged is renamed.

    Args:
        folder: of the run.
        model: the configuration of the model that is trained.
    """
    if not set_damaged_aside(folder / CHECKPOINT_FOLDER):
        return False
    if problem := _problem(folder / BEST_FOLDER, model):
        say(f"train: {problem}; training starts anew")
        _start_anew(folder)
        return False
    return True


def _problem(best: Path, model: EmotionConfig) -> str | None:
    try:
        found = load_model(best).config
    except ModelError as error:
        return str(error)
    known = {name: getattr(model, name) for name in MEASURED_FIELDS}
    if _fingerprints(found) == _fingerprints(model):  # an encoder has another name from another folder
        known["encoders"] = model.encoders
    same = replace(found, **known) == model
    return None if same else f"{best / 'config.json'}: is not that of this run's model"


def _fingerprints(model: EmotionConfig) -> dict[str, object]:
    return {modality: spec.get("fingerprint") for modality, spec in model.encoders.items()}


def environment() -> dict[str, object]:
    """Return the versions, the commit and the device that a run is made with."""
    packages = ("torch", "transformers", "accelerate", "datasets", "numpy", "lpgnet")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in packages},
        "commit": _commit(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "processes": current_launch().size,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


@dataclass(frozen=True)
class TrainingCost:
    """How long a run trained (`seconds_per_epoch` is the median), and on which machine."""

    epochs: int
    seconds_per_epoch: float
    device: str
    threads: int
    processes: int


def training_cost(folder: Path) -> TrainingCost | None:
    """Read how long a run trained; None if its folder does not tell.

    Raises:
        PipelineError: a file that tells it is damaged; names file and field.
    """
    log, made_with = folder / LOG_FILE, folder / ENVIRONMENT_FILE
    if not (log.exists() and made_with.exists()):
        return None
    seconds = [entry.train_seconds for entry in read_log(folder)]
    described = parse_object(read_text(made_with), where=str(made_with))
    cost: dict[str, object] = {"epochs": len(seconds), "seconds_per_epoch": median(seconds)}
    cost |= {name: described[name] for name in ("device", "threads", "processes") if name in described}
    return from_json(cost, TrainingCost, where=str(made_with))


def count_epochs(folder: Path) -> int:
    """Count the epochs that a run has logged by now; 0 where it has not begun."""
    try:
        return (folder / LOG_FILE).read_bytes().count(b"\n")
    except OSError:
        return 0


def read_log(folder: Path) -> list[EpochLog]:
    """Read `metrics.jsonl`, an entry an epoch.

    Raises:
        PipelineError: it is missing or damaged; names the line.
    """
    path = folder / LOG_FILE
    lines = read_text(path).splitlines()
    if not lines:
        raise PipelineError(f"{path}: is empty; delete the run's folder and train again")
    return [_entry(line, where=f"{path}, line {line_number}") for line_number, line in enumerate(lines, start=1)]


def _entry(line: str, *, where: str) -> EpochLog:
    return from_json(parse_object(line, where=where), EpochLog, where=where)


def best_folder(folder: Path) -> Path:
    """Return the folder of the run's best model.

    Raises:
        PipelineError: there is none yet.
    """
    if not (folder / BEST_FOLDER / "config.json").exists():
        raise PipelineError(f"{folder}: has no trained model yet; run the train stage first")
    return folder / BEST_FOLDER


def read_inputs(path: Path) -> dict[str, Any]:
    """Read what a run, or the measuring of one, was made from.

    Raises:
        PipelineError: the file is missing or damaged; names the key.
    """
    inputs = parse_object(read_text(path), where=str(path))
    if not isinstance(inputs.get("training"), dict):
        raise PipelineError(
            f"{path}: key 'training' must be an object, not {inputs.get('training')!r:.60}; train again"
        )
    return inputs


def recipe_of(folder: Path) -> TrainingConfig:
    """Return how a run was trained, whatever the configuration that it is evaluated with.

    Raises:
        PipelineError: its inputs are missing or damaged; names the key.
    """
    path = folder / INPUTS_FILE
    values = EARLIER_SETTINGS | read_inputs(path)["training"]
    known = {entry.name: values[entry.name] for entry in fields(TrainingConfig) if entry.name in values}
    return from_json(known, TrainingConfig, where=f"{path}: key 'training'")


def refit_of(folder: Path) -> Refit | None:
    """Return what a run took from an earlier one, if it learned from the development dialogues too.

    Raises:
        PipelineError: its inputs are missing or damaged; names the key.
    """
    path = folder / INPUTS_FILE
    values = read_inputs(path).get("refit")
    return None if values is None else from_json(values, Refit, where=f"{path}: key 'refit'")


def check_same_protocol(folder: Path, inputs: Mapping[str, object]) -> None:
    """Refuse to measure a run with another split, other labels or other data than it was trained with.

    Raises:
        PipelineError: names what differs.
    """
    trained = read_inputs(folder / INPUTS_FILE)
    asked = json.loads(json.dumps(inputs))
    differing = [name for name in ("labels", "splits", "fold", "data") if trained.get(name) != asked[name]]
    if trained["training"].get("drop_unlabelled") != asked["training"]["drop_unlabelled"]:
        differing.append("training.drop_unlabelled")
    if differing:
        raise PipelineError(
            f"{folder}: was trained with other {' and '.join(differing)}, so it may have seen the test split; "
            f"evaluate it with its own configuration ({folder / 'config.yaml'}), or train it again"
        )
    if not (folder / DONE_FILE).exists():
        say(f"{folder}: training is not finished; this is the best model so far")
