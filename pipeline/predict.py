"""Stage 4, predict: new recordings -> emotion timelines."""

from __future__ import annotations

from collections.abc import Sequence

from lpgnet.pipeline.cli import module_main
from lpgnet.pipeline.common.console import show, show_table
from lpgnet.pipeline.config import PredictionConfig, parse_config
from lpgnet.pipeline.errors import PipelineError, UsageError, counted, shorten
from lpgnet.pipeline.labelling.batch import Labelled, label_sources
from lpgnet.pipeline.recordings.sources import find_sources
from lpgnet.pipeline.reports.timeline import TimelineRow, check_formats

# Longer timelines are cut off when printed (turns).
PRINTED_TURNS = 60


def main(arguments: Sequence[str]) -> int:
    """Run the stage from the command line and return the exit code."""
    config = parse_config("predict", arguments, PredictionConfig)
    if not config.recordings or config.model is None:
        raise UsageError("give at least one recording and --model RUN_OR_FOLDER")
    check_formats(config.formats)
    sources = find_sources(config.recordings, config.transcript)
    if not sources:
        raise PipelineError(f"{shorten(config.recordings)}: no recordings found")
    label_sources(sources, config, on_labelled=print_labelled, debug="--debug" in arguments)
    return 0


def print_labelled(labelled: Labelled) -> None:
    """Print a timeline and where its files are."""
    print_timeline(labelled.timeline.rows, title=labelled.title)
    show(f"timeline: {shorten(labelled.paths, most=12)}")


def print_timeline(rows: Sequence[TimelineRow], *, title: str) -> None:
    """Print a timeline as a table."""
    cells = [
        (
            f"{row.start:7.1f}",
            row.speaker or "-",
            row.label,
            f"{row.probability:.2f}",
            row.weights_text,
            row.text or "-",
        )
        for row in rows[:PRINTED_TURNS]
    ]
    show_table(title, ("start (s)", "speaker", "emotion", "probability", "modality weights", "text"), cells)
    if len(rows) > PRINTED_TURNS:
        show(f"... and {counted(len(rows) - PRINTED_TURNS, 'more turn')}")


if __name__ == "__main__":
    module_main("predict")
