"""The folder of a trained model: finding it, its classes, the encoders that it names, and a copy to share."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpgnet.model import EmotionModel, load_model
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.training.runs import BEST_FOLDER

if TYPE_CHECKING:
    from lpgnet.feature_extractors import Encoder

# Where `export --bundle-encoders` puts them, in the model's folder.
BUNDLED_ENCODERS = "encoders"


def class_names(model: EmotionModel) -> list[str]:
    """The model's classes, in the order of their numbers."""
    return list(model.config.id2label.values())


def model_folder(folder: Path) -> Path:
    """A run folder's best model, or the folder itself."""
    for candidate in (folder / BEST_FOLDER, folder):
        if (candidate / "config.json").exists():
            return candidate
    raise PipelineError(
        f"{folder}: holds no trained model; name a run folder (work/NAME/runs/RUN) or an exported model"
    )


def load_model_encoder(spec: dict[str, Any], bundled: Path, elsewhere: str | None, device: str) -> Encoder:
    """The encoder of a checkpoint: where the user points, else in the model's folder, else by its name."""
    from lpgnet.feature_extractors import load_encoder, resolve_spec

    name = elsewhere or (f"hf:{bundled}" if bundled.is_dir() else spec["name"])
    settings = {key: spec[key] for key in ("modality", "layers", "pooling", "precision", "trust_remote_code")}
    if spec["max_seconds"] is not None:
        settings["max_seconds"] = spec["max_seconds"]
    found = resolve_spec(name, **settings)
    if found.fingerprint != spec["fingerprint"]:
        raise PipelineError(
            f"{name}: is not the {spec['modality']} encoder that the model was trained with ({spec['name']}): its "
            f"fingerprint is {found.fingerprint[:12]}, not {spec['fingerprint'][:12]}; point to the right one by "
            f"--{spec['modality']}_encoder"
        )
    return load_encoder(found, device=device)


def export_model(model: Path, out: Path, *, bundle_encoders: bool) -> None:
    """Copy a run's best model into a folder of its own, with copies of its encoders where that is asked for.

    Raises:
        PipelineError: there is no model, the folder is not empty, or an encoder is not on this disk.
    """
    source = model_folder(model)
    if out.exists() and any(out.iterdir()):
        raise PipelineError(f"{out}: is not empty; name a new folder")
    out.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.is_file():
            shutil.copy2(path, out)
    if bundle_encoders:
        _bundle(source, out / BUNDLED_ENCODERS)


def _bundle(source: Path, folder: Path) -> None:
    from lpgnet.feature_extractors.checkpoint import find_checkpoint

    for modality, spec in load_model(source).config.encoders.items():
        family, _, name = spec["name"].partition(":")
        if family == "hf":
            shutil.copytree(find_checkpoint(name, spec["name"]).folder, folder / modality, dirs_exist_ok=True)
