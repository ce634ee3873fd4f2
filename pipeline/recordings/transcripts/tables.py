"""Transcripts in tables and text: CSV, TSV, JSON Lines, the JSON of Whisper and whisperX, and lines without times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from lpgnet.pipeline.common.files import parse_json
from lpgnet.pipeline.corpora.text import named_rows
from lpgnet.pipeline.errors import PipelineError, did_you_mean, shorten
from lpgnet.pipeline.recordings.transcripts.base import Cue, Source, Turn, Word, split_names, squeeze, time_at

# No turn lasts so many seconds as a rule, and hardly one so few milliseconds: between them the unit is plain.
_LONG_TURN = 100


def read_table(source: Source) -> list[Cue]:
    """Read CSV, TSV or JSON Lines with the columns text and, where there are any, start, end and speaker.

    Times are seconds or clock times; whole numbers that would make most turns last minutes are milliseconds, which
    Whisper's TSV has.

    Args:
        source: the text of the file.

    Returns:
        A cue for every turn.

    Raises:
        PipelineError: a column is missing, or a row is wrong; names the line.
    """
    rows = [(line, _lowered(row)) for line, row in named_rows(source.text, source.path)]
    known = {name: None for _, row in rows for name in row}
    _check_columns(list(known), source)
    timed = "start" in known
    cues = [_cue(row, source, timed=timed, name=f"line {line}") for line, row in rows]
    if timed and _in_milliseconds([row for _, row in rows]):
        source.warnings.append(f"{source.path}: times are taken as milliseconds")
        return [_scaled(cue) for cue in cues]
    return cues


def _lowered(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name.strip().lower(): cell for name, cell in row.items()}


def _check_columns(known: Sequence[str], source: Source) -> None:
    needed = ("text", "start", "end") if {"start", "end"} & set(known) else ("text",)
    for name in needed:
        if name not in known:
            raise PipelineError(
                f"{source.path}: has no column '{name}'{did_you_mean(name, known)};"
                f" its columns: {shorten(known, most=20) or 'none'}"
            )


def _cue(row: Mapping[str, Any], source: Source, *, timed: bool, name: str) -> Cue:
    start, end = (_time(row.get(side), source, name) if timed else None for side in ("start", "end"))
    return Cue(Turn(start, end, squeeze(str(row.get("text") or "")), _speaker(row)), name)


def _time(value: Any, source: Source, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise source.error(where, f"{value!r} is not a time in seconds")
    return time_at(str(value), source, where)


def _speaker(values: Mapping[str, Any]) -> str | None:
    speaker = values.get("speaker")
    return None if speaker is None else str(speaker).strip() or None


def _in_milliseconds(rows: Sequence[Mapping[str, Any]]) -> bool:
    cells = [(str(row.get("start")), str(row.get("end"))) for row in rows]
    if not cells or not all(cell.strip().isdigit() for pair in cells for cell in pair):
        return False
    return median(int(end) - int(start) for start, end in cells) >= _LONG_TURN


def _scaled(cue: Cue) -> Cue:
    turn = cue.turn
    start, end = (None if time is None else time / 1000 for time in (turn.start, turn.end))
    return Cue(Turn(start, end, turn.text, turn.speaker, turn.words), cue.name)


def read_json(source: Source) -> list[Cue]:
    """Read Whisper's or whisperX's `segments`, the `chunks` of a transformers pipeline, or a list of either.

    Args:
        source: the text of the file.

    Returns:
        A cue for every turn.

    Raises:
        PipelineError: it is not JSON, or a segment is wrong; names the segment.
    """
    content = parse_json(source.text, where=str(source.path), several_lines=True)
    segments = content
    if isinstance(content, dict):
        segments = content.get("segments", content.get("chunks"))
    if not isinstance(segments, list):
        raise PipelineError(f"{source.path}: has no list of segments ({{'segments': [{{'start', 'end', 'text'}}]}})")
    return [_segment(value, source, f"segment {number}") for number, value in enumerate(segments, start=1)]


def _segment(value: Any, source: Source, where: str) -> Cue:
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        raise source.error(where, "is not an object with a text")
    start, end = (_time(time, source, where) for time in _bounds(value))
    words = value.get("words") or []
    if not isinstance(words, list):
        raise source.error(where, "words is not a list")
    named = tuple(_word(word, source, where) for word in words)
    return Cue(Turn(start, end, squeeze(value["text"]), _speaker(value), named), where)


def _bounds(values: Mapping[str, Any]) -> tuple[Any, Any]:
    stamps = values.get("timestamp")
    if isinstance(stamps, list) and len(stamps) == 2:
        return stamps[0], stamps[1]
    return values.get("start"), values.get("end")


def _word(value: Any, source: Source, where: str) -> Word:
    """A word of a segment; whisperX gives no times for those it could not align (numbers, mostly)."""
    if not isinstance(value, dict):
        raise source.error(where, f"word {value!r} is not an object")
    start, end = (None if time is None else _time(time, source, where) for time in _bounds(value))
    return Word(squeeze(str(value.get("word", value.get("text", "")))), start, end)


def read_lines(source: Source) -> list[Cue]:
    """Read plain text without times: a turn a line, with `Name:` before it or not.

    Args:
        source: the text of the file.

    Returns:
        A cue for every turn.
    """
    lines = enumerate(source.lines, start=1)
    return split_names(
        [Cue(Turn(None, None, squeeze(line)), f"line {number}") for number, line in lines if line.strip()]
    )
