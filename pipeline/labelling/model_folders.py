"""Folders of trained models: find a model, load its encoders, and export a copy to share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any

from lpgnet.model import EmotionModel, load_model
from lpgnet.pipeline.errors import PipelineError, failed_file
from lpgnet.pipeline.training.runs import BEST_FOLDER

if TYPE_CHECKING:
    from lpgnet.feature_extractors import Encoder

CONFIG_FILE = "config.json"
_SPEC_TYPES: dict[str, type | UnionType] = {
    **dict.fromkeys(("name", "modality", "pooling", "precision", "fingerprint"), str),
    "layers": str | list,
    "max_seconds": int | float | None,
    "sampling_rate": int | None,
    "trust_remote_code": bool,
}
# Subfolder of the model's folder for the encoders that `export --bundle_encoders` copies.
BUNDLED_ENCODERS = "encoders"


def class_names(model: EmotionModel) -> list[str]:
    """Return the model's classes in order of their index."""
    return list(model.config.id2label.values())


def model_folder(folder: Path) -> Path:
    """Return the folder of a run's best model, or the folder itself if it is a model's.

    Raises:
        PipelineError: the folder has no trained model.
    """
    for candidate in (folder / BEST_FOLDER, folder):
        if (candidate / CONFIG_FILE).exists():
            return candidate
    raise PipelineError(f"{folder}: has no trained model; name a run folder (work/NAME/runs/RUN) or an exported model")


def load_model_encoder(spec: dict[str, Any], bundled: Path, elsewhere: str | None, device: str) -> Encoder:
    """Load an encoder of a model.

    Args:
        spec: the encoder in the model's configuration.
        bundled: the folder of its copy, which need not exist.
        elsewhere: where the user says it is; takes precedence over the copy, and the copy over its name.
        device: the device to load it on.

    Raises:
        PipelineError: its fingerprint is not the one that the model was trained with, or the specification is damaged.
    """
    from lpgnet.feature_extractors import load_encoder, resolve_spec

    check_encoder_spec(spec, bundled.parents[1] / CONFIG_FILE, bundled.name)
    name = elsewhere or (f"hf:{bundled}" if bundled.is_dir() else spec["name"])
    settings = {key: spec[key] for key in ("modality", "layers", "pooling", "precision", "trust_remote_code")}
    if spec["max_seconds"] is not None:
        settings["max_seconds"] = spec["max_seconds"]
    found = resolve_spec(name, **settings)
    if found.fingerprint != spec["fingerprint"]:
        raise PipelineError(
            f"{name}: is not the {spec['modality']} encoder that the model was trained with ({spec['name']}): its "
            f"fingerprint is {found.fingerprint[:12]}, not {spec['fingerprint'][:12]}; name the right one with "
            f"--{spec['modality']}_encoder"
        )
    return load_encoder(found, device=device)


def check_encoder_spec(spec: dict[str, Any], file: Path, modality: str) -> None:
    """Check what a model's configuration says of an encoder.

    Args:
        spec: the encoder in the configuration.
        file: the configuration, for the error.
        modality: the encoder's.

    Raises:
        PipelineError: a field is missing, unknown or of another type; names file and field.
    """
    from lpgnet.feature_extractors import EncoderError, EncoderSpec
    from lpgnet.feature_extractors.spec import check_settings

    where = f"{file}: encoders.{modality}"
    for key, kinds in _SPEC_TYPES.items():
        if not isinstance(value := spec.get(key), kinds):
            raise PipelineError(f"{where}.{key} is {value!r:.60}; export or train the model again")
    try:
        check_settings(EncoderSpec.from_dict(spec).settings)
    except (EncoderError, TypeError) as error:
        raise PipelineError(f"{where}: {error}; export or train the model again") from None


def export_model(model: Path, out: Path, *, bundle_encoders: bool) -> None:
    """Copy a run's best model to a new folder, which appears whole or not at all.

    Args:
        model: run folder, or folder of a trained model.
        out: the new folder.
        bundle_encoders: copy the encoders as well.

    Raises:
        PipelineError: there is no model, the folder is not empty or cannot be written, or an encoder is not on this
            disk.
    """
    source = model_folder(model)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise PipelineError(f"{out}: is not empty; choose a new folder")
    part = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        part.mkdir(parents=True)
        for path in source.iterdir():
            if path.is_file():
                shutil.copy2(path, part)
        if bundle_encoders:
            _bundle(source, part / BUNDLED_ENCODERS)
        if out.exists():
            out.rmdir()
        part.rename(out)
    except OSError as error:
        raise failed_file(error, out) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _bundle(source: Path, folder: Path) -> None:
    from lpgnet.feature_extractors.checkpoint import find_checkpoint

    for modality, spec in load_model(source).config.encoders.items():
        check_encoder_spec(spec, source / CONFIG_FILE, modality)
        family, _, name = spec["name"].partition(":")
        if family == "hf":
            shutil.copytree(find_checkpoint(name, spec["name"]).folder, folder / modality, dirs_exist_ok=True)
