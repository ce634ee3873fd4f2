"""Export: a run's best model -> a folder to share."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from lpgnet.pipeline.cli import module_main
from lpgnet.pipeline.common.console import show
from lpgnet.pipeline.config import ExportConfig, parse_config
from lpgnet.pipeline.errors import PipelineError, UsageError
from lpgnet.pipeline.predict import BUNDLED_ENCODERS, model_folder


def main(arguments: Sequence[str]) -> int:
    """Run the stage from the command line; returns the exit code."""
    config = parse_config("export", arguments, ExportConfig)
    if config.model is None or config.out is None:
        raise UsageError("give --model RUN and --out FOLDER")
    export(Path(config.model), Path(config.out), bundle_encoders=config.bundle_encoders)
    show(f"exported: {config.out}")
    return 0


def export(model: Path, out: Path, *, bundle_encoders: bool) -> None:
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
    from lpgnet.model import load_model

    for modality, spec in load_model(source).config.encoders.items():
        family, _, name = spec["name"].partition(":")
        if family == "hf":
            shutil.copytree(find_checkpoint(name, spec["name"]).folder, folder / modality, dirs_exist_ok=True)


if __name__ == "__main__":
    module_main("export")
