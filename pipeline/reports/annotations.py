"""Timelines for annotation tools: Praat's TextGrid by praatio, ELAN's EAF by pympi-ling, RTTM, Audacity's labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.reports.rows import NO_NAME, Names, Timeline, TimelineRow, cut_to, printable, tiers

EMOTION = "emotion"
# Nobody looks at more, and the libraries go through all tiers for each.
MOST_TIERS = 1000
# pympi-ling raises a KeyError for a suffix that it does not know, mp3 and m4a among them.
_MEDIA_TYPES = {".wav": "audio/x-wav", ".mp3": "audio/mpeg", ".mp4": "video/mp4", ".m4a": "audio/mp4"}


def to_text_grid(timeline: Timeline) -> str:
    """Write a tier of words, one of emotions and one of each dimension for every speaker, by praatio."""
    from praatio import textgrid

    grid = textgrid.Textgrid(0.0, timeline.seconds)
    # praatio refuses a second tier of a name: one speaker may be called `Ann`, and another `Ann emotion`.
    names, told = Names(), _told_beside(timeline)
    for name, rows in _speaker_tiers(timeline.name, cut_to(timeline.rows, timeline.seconds)):
        spoken = [row for row in rows if printable(row.text or "")]
        if spoken:
            grid.addTier(textgrid.IntervalTier(names.unused(name), _entries(spoken, _text), 0.0, timeline.seconds))
        for end, value in told.items():
            title = names.unused(f"{name} {end}")
            grid.addTier(textgrid.IntervalTier(title, _entries(rows, value), 0.0, timeline.seconds))
    with TemporaryDirectory(prefix="lpgnet-") as folder:
        path = Path(folder) / "a.TextGrid"
        grid.save(str(path), format="long_textgrid", includeBlankSpaces=True, reportingMode="silence")
        return path.read_text(encoding="utf-8")


def _entries(rows: Sequence[TimelineRow], value: Callable[[TimelineRow], str]) -> list[tuple[float, float, str]]:
    return [(row.start, row.end, value(row)) for row in rows]


def _text(row: TimelineRow) -> str:
    return printable(row.text or "")


def _label(row: TimelineRow) -> str:
    return printable(row.label)


def _rating(row: TimelineRow, dimension: str) -> str:
    return f"{row.dimensions[dimension]:.2f}"


def _told_beside(timeline: Timeline) -> dict[str, Callable[[TimelineRow], str]]:
    """What a speaker's further tiers tell, beside the words, by the ends of their names."""
    return {EMOTION: _label, **{name: partial(_rating, dimension=name) for name in timeline.dimensions}}


def _speaker_tiers(recording: str, rows: Sequence[TimelineRow]) -> Iterator[tuple[str, list[TimelineRow]]]:
    """A name that can be printed, and the turns, of each tier of a speaker."""
    found = tiers(rows)
    if len(found) > MOST_TIERS:
        raise PipelineError(
            f"{recording}: needs {len(found)} tiers, one a speaker and more for overlaps; at most {MOST_TIERS} are"
            " written; check the transcript, or leave textgrid and eaf out of --formats"
        )
    for name, own in found.items():
        yield printable(name) or NO_NAME, own


def to_eaf(timeline: Timeline, folder: Path = Path()) -> str:
    """Write an EAF with the recording linked, a tier of words, one of emotions and one of each dimension for a speaker.

    Its property `notes` says what the model is good for, and `valence range` (or another dimension's) between which
    numbers the model's are.

    Args:
        timeline: what is written.
        folder: of the file, which the link to the recording starts from.
    """
    from pympi.Elan import Eaf, to_string

    document = Eaf(author="lpgnet")
    document.remove_tier("default")
    names, told = Names(), _told_beside(timeline)
    # In zones that are not whole hours from UTC pympi-ling writes 1800 for the minutes of the zone.
    document.adocument["DATE"] = datetime.now(UTC).isoformat(timespec="seconds")
    if timeline.notes:
        document.add_property("notes", printable(" ".join(timeline.notes)))
    for name in timeline.dimensions:
        document.add_property(f"{name} range", timeline.range_text(name))
    if timeline.recording is not None:
        kind = _MEDIA_TYPES.get(timeline.recording.suffix.lower(), "unknown")
        relative = f"./{timeline.recording.name}" if timeline.beside else _path_from(folder, timeline.recording)
        address = relative if timeline.beside else timeline.recording.resolve().as_uri()
        document.add_linked_file(address, relative, kind)
    for name, rows in _speaker_tiers(timeline.name, timeline.rows):
        for title, value in {name: _text, **{f"{name} {end}": value for end, value in told.items()}}.items():
            # pympi-ling puts a second tier of a name in the first one's place.
            tier = names.unused(title)
            document.add_tier(tier)
            for start, end, words in _entries(rows, value):
                first = round(start * 1000)
                # pympi-ling refuses an annotation without length, which rounding makes of a very short one.
                document.add_annotation(tier, first, max(round(end * 1000), first + 1), words)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{to_string(document)}\n'


def _path_from(folder: Path, recording: Path) -> str:
    path = Path(os.path.relpath(recording.resolve(), folder.resolve())).as_posix()
    return path if path.startswith("../") else f"./{path}"


def to_rttm(timeline: Timeline) -> str:
    """Write a SPEAKER line a turn, with the emotion as its subtype and the probability as its confidence."""
    recording = _field(Path(timeline.name).name)
    lines = [
        f"SPEAKER {recording} 1 {row.start:.3f} {row.end - row.start:.3f} <NA> {_field(row.label)} "
        f"{_field(row.speaker)} {row.probability:.4f} <NA>\n"
        for row in timeline.rows
    ]
    return "".join(lines)


def to_audacity(timeline: Timeline) -> str:
    """Write Audacity's label track, a line a turn: `start TAB end TAB Ann: [happy 83%] words`."""
    return "".join(f"{row.start:.6f}\t{row.end:.6f}\t{_told(row)}\n" for row in timeline.rows)


def _told(row: TimelineRow) -> str:
    speaker = printable(row.speaker or "")
    name = f"{speaker}: " if speaker else ""
    return f"{name}[{_label(row)} {row.probability:.0%}] {_text(row)}".rstrip()


def _field(text: str | None) -> str:
    """RTTM has spaces between its fields, so none inside of them."""
    return "_".join(printable(text or "").split()) or "<NA>"
