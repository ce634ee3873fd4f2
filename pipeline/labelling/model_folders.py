"""Folders of trained models: find a model, load its encoders, and export a copy to share."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from lpgnet.model.configuration import read_config
from lpgnet.pipeline.common.files import name_near
from lpgnet.pipeline.errors import PipelineError, failed_file
from lpgnet.pipeline.training.freshness import BEST_FOLDER
from lpgnet.pipeline.training.trained_on import about_model

if TYPE_CHECKING:
    from lpgnet.feature_extractors import Encoder, EncoderSpec
    from lpgnet.model import EmotionModel
    from lpgnet.pipeline.config import PredictionConfig

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
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


def about_folder(folder: Path) -> tuple[str, ...]:
    """Say what a run's best model, or the model of a folder, is good for: a sentence, and perhaps a warning.

    Raises:
        PipelineError: there is no model, or what its configuration says of it is wrong.
    """
    source = model_folder(folder)
    return about_model(read_config(source / CONFIG_FILE), source)


def load_model_encoder(
    spec: EncoderSpec, bundled: Path, elsewhere: str | None, device: str, *, trust_remote_code: bool
) -> Encoder:
    """Load an encoder of a model.

    Args:
        spec: the encoder, as the model's configuration describes it.
        bundled: the folder of its copy, which need not exist.
        elsewhere: where the user says it is; takes precedence over the copy, and the copy over its name.
        device: the device to load it on.
        trust_remote_code: whether the user lets it run code that it comes with; what the model's folder says of that
            is no permission.

    Raises:
        PipelineError: its fingerprint is not the one that the model was trained with, or it needs that permission.
    """
    from lpgnet.feature_extractors import EncoderError, digest_file, load_encoder, resolve_spec

    # Weights are digested once, to be compared and then to be loaded.
    digest = cache(digest_file)
    name = _encoder_name(spec.name, bundled, elsewhere)
    if spec.trust_remote_code and not trust_remote_code:
        raise PipelineError(
            f"{name}: this {spec.modality} encoder runs code that it comes with; read that code, "
            "then allow it with --trust_remote_code true"
        )
    try:
        found = resolve_spec(name, digest_file=digest, **asdict(spec.settings))
    except EncoderError as error:
        raise PipelineError(
            f"{error} (if the {spec.modality} encoder is elsewhere, say where with --{spec.modality}_encoder hf:FOLDER)"
        ) from None
    if found.fingerprint != spec.fingerprint:
        raise PipelineError(
            f"{name}: is not the {spec.modality} encoder that the model was trained with ({spec.name}): its "
            f"fingerprint is {found.fingerprint[:12]}, not {spec.fingerprint[:12]}; name the right one with "
            f"--{spec.modality}_encoder"
        )
    return load_encoder(found, device=device, digest_file=digest)


def _encoder_name(name: str, bundled: Path, elsewhere: str | None) -> str:
    return elsewhere or (f"hf:{bundled}" if bundled.is_dir() else name_near(name, beside=bundled))


def local_parts(config: PredictionConfig) -> list[Path]:
    """Return the files of the model, and the folders of its encoders and of further models, that are on this machine.

    Raises:
        PipelineError: there is no model, or what its configuration says of it is wrong.
    """
    folder = model_folder(Path(config.model or ""))
    elsewhere = {"audio": config.audio_encoder, "text": config.text_encoder}
    names = [
        _encoder_name(str(encoder.get("name")), folder / BUNDLED_ENCODERS / modality, elsewhere.get(modality))
        for modality, encoder in read_config(folder / CONFIG_FILE).encoders.items()
        if config.modalities in ("all", modality)
    ]
    paths = [Path(name.partition(":")[2]).expanduser() for name in (*names, config.asr, config.aligner) if name]
    return [folder / CONFIG_FILE, folder / WEIGHTS_FILE, *(path for path in paths if path.exists())]


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
    from lpgnet.feature_extractors.adapters import ADAPTER_FILES, BASE_FOLDER
    from lpgnet.feature_extractors.checkpoint import find_checkpoint
    from lpgnet.model import load_model
    from lpgnet.pipeline.training.runs import model_encoders

    for modality, spec in model_encoders(load_model(source), source).items():
        family, _, name = spec.name.partition(":")
        if family == "hf":
            found, copy = find_checkpoint(name, spec.name), folder / modality
            if found.adapter:
                copy.mkdir(parents=True)
                for file in ADAPTER_FILES:
                    shutil.copy2(found.adapter.folder / file, copy)
            shutil.copytree(found.folder, copy / BASE_FOLDER if found.adapter else copy, dirs_exist_ok=True)
