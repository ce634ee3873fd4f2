"""Export: copy a run's best model to a folder to share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lpgnet.pipeline.cli import module_main
from lpgnet.pipeline.common.console import show
from lpgnet.pipeline.config import ExportConfig, parse_config
from lpgnet.pipeline.errors import UsageError
from lpgnet.pipeline.labelling.model_folders import about_folder, export_model


def main(arguments: Sequence[str]) -> int:
    """Run the stage from the command line and return the exit code."""
    config = parse_config("export", arguments, ExportConfig)
    if config.model is None or config.out is None:
        raise UsageError("give --model RUN and --out FOLDER")
    about = about_folder(Path(config.model))
    export_model(Path(config.model), Path(config.out), bundle_encoders=config.bundle_encoders)
    for line in (f"exported: {config.out}", *about):
        show(line)
    return 0


if __name__ == "__main__":
    module_main("export")
