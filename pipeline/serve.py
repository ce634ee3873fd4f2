"""Serve: a web page for labelling recordings, which only this machine can reach by default."""

from __future__ import annotations

from collections.abc import Sequence

from lpgnet.pipeline.cli import module_main
from lpgnet.pipeline.common.console import say
from lpgnet.pipeline.config import ServeConfig, check_prediction, parse_config
from lpgnet.pipeline.errors import UsageError
from lpgnet.pipeline.labelling.page_files import page_files
from lpgnet.pipeline.labelling.page_process import labelling_process
from lpgnet.pipeline.labelling.page_server import PageServer
from lpgnet.pipeline.reports.timeline import PARQUET, check_formats


def main(arguments: Sequence[str]) -> int:
    """Run the command and return the exit code."""
    config = parse_config("serve", arguments, ServeConfig)
    if config.model is None:
        raise UsageError("give --model RUN_OR_FOLDER")
    check_prediction(config.prediction)
    if PARQUET in check_formats(config.prediction.formats):
        raise UsageError("key 'prediction.formats': parquet is a table of many recordings, and the page labels one")
    with page_files() as files, labelling_process(config, files.scratch) as process:
        server = PageServer(config, files, process)
        say(f"serving at {server.address} (press Ctrl-C to stop)")
        server.run()
    return 0


if __name__ == "__main__":
    module_main("serve")
