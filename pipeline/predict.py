"""Stage 4, predict: new recordings -> emotion timelines."""

from __future__ import annotations

from collections.abc import Sequence

from lpgnet.pipeline.cli import module_main
from lpgnet.pipeline.common.console import show, show_table
from lpgnet.pipeline.config import PredictionConfig, parse_config
from lpgnet.pipeline.errors import PipelineError, UsageError, counted, shorten
from lpgnet.pipeline.labelling.batch import Labelled, label_sources
from lpgnet.pipeline.recordings.sources import find_sources
from lpgnet.pipeline.reports.speakers import summaries
from lpgnet.pipeline.reports.timeline import Timeline, TimelineRow, check_formats

# Longer timelines are cut off when printed (turns).
PRINTED_TURNS = 60
# So are their speakers.
PRINTED_SPEAKERS = 20


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
    """Print a timeline, what its dimensions are on average, and where its files are."""
    print_timeline(labelled.timeline.rows, title=labelled.title)
    if labelled.timeline.dimensions:
        print_speakers(labelled.timeline)
    if labelled.paths:
        show(f"timeline: {shorten(labelled.paths, most=12)}")


def print_timeline(rows: Sequence[TimelineRow], *, title: str) -> None:
    """Print a timeline as a table."""
    cells = [
        (
            f"{row.start:7.1f}",
            row.speaker or "-",
            row.label,
            f"{row.probability:.2f}",
            *(f"{value:.2f}" for value in row.dimensions.values()),
            row.weights_text,
            row.text or "-",
        )
        for row in rows[:PRINTED_TURNS]
    ]
    columns = ("start (s)", "speaker", "emotion", "probability", *rows[0].dimensions, "modality weights", "text")
    show_table(title, columns, cells)
    if len(rows) > PRINTED_TURNS:
        show(f"... and {counted(len(rows) - PRINTED_TURNS, 'more turn')}")


def print_speakers(timeline: Timeline) -> None:
    """Print each speaker's means over the speaking time as a table."""
    means = [f"{name} ({timeline.range_text(name)})" for name in timeline.dimensions]
    cells = [
        (
            person.speaker or "-",
            person.turns,
            f"{person.seconds:.1f}",
            *(f"{value:.2f}" for value in person.dimensions.values()),
        )
        for person in summaries(timeline)[:PRINTED_SPEAKERS]
    ]
    show_table("means over the speaking time", ("speaker", "turns", "seconds", *means), cells)
    if len(timeline.speakers()) > PRINTED_SPEAKERS:
        show(f"... and {counted(len(timeline.speakers()) - PRINTED_SPEAKERS, 'more speaker')}")


if __name__ == "__main__":
    module_main("predict")
