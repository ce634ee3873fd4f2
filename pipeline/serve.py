"""Serve: a web page for labelling recordings, which only this machine can reach by default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lpgnet.pipeline.cli import module_main
from lpgnet.pipeline.common.console import say
from lpgnet.pipeline.config import ServeConfig, check_prediction, parse_config
from lpgnet.pipeline.errors import UsageError
from lpgnet.pipeline.labelling.emotion_pipeline import EmotionPipeline
from lpgnet.pipeline.labelling.web_page import Labeller, launch, make_page, temporary_files
from lpgnet.pipeline.reports.timeline import check_formats


def main(arguments: Sequence[str]) -> int:
    """Run the command and return the exit code."""
    config = parse_config("serve", arguments, ServeConfig)
    if config.model is None:
        raise UsageError("give --model RUN_OR_FOLDER")
    check_prediction(config.prediction)
    check_formats(config.prediction.formats)
    with temporary_files() as folder:
        labeller = Labeller(EmotionPipeline.from_config(replace(config.prediction, model=config.model)), config, folder)
        page = make_page(labeller)
        say(f"serving at {launch(page, config)} (press Ctrl-C to stop)")
        page.block_thread()
    return 0


if __name__ == "__main__":
    module_main("serve")
