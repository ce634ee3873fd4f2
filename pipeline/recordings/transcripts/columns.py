"""The column formats of speech evaluations: STM (turns), CTM (words), RTTM (turns without words), UEM (stretches)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from lpgnet.pipeline.errors import PipelineError, shorten
from lpgnet.pipeline.recordings.transcripts.base import (
    Cue,
    Source,
    TimedWord,
    Turn,
    start_of,
    time_at,
    turns_from_words,
)

_NO_VALUE = "<NA>"
# RTTM's kind of line that is a turn.
_SPEAKER = "SPEAKER"
# STM's ways to say that nobody is to be scored here.
_STM_GAPS = ("inter_segment_gap", "ignore_time_segment_in_scoring")


@dataclass(frozen=True)
class _Line:
    """The fields of one line, and where it stands."""

    fields: list[str]
    where: str


def _lines(
    source: Source, *, least: int, file_field: int, keep: Callable[[list[str]], bool] = lambda _: True
) -> list[_Line]:
    """The lines of the recording that is asked for, comments left out; `least` is the least number of fields.

    Raises:
        PipelineError: a line is too short, or the file holds several recordings and none of them is the one asked for.
    """
    lines = []
    for number, line in enumerate(source.lines, start=1):
        fields = line.split()
        if not fields or fields[0].startswith(";;") or not keep(fields):
            continue
        if len(fields) < least:
            raise source.error(f"line {number}", f"has {len(fields)} fields and needs {least}")
        lines.append(_Line(fields, f"line {number}"))
    return _of_recording(lines, source, file_field)


def _of_recording(lines: list[_Line], source: Source, file_field: int) -> list[_Line]:
    names = list(dict.fromkeys(line.fields[file_field] for line in lines))
    if len(names) < 2:
        return lines
    if source.recording not in names:
        wanted = f"none is '{source.recording}'" if source.recording else "it is not known which is meant"
        raise PipelineError(f"{source.path}: holds several recordings ({shorten(names)}) and {wanted}")
    return [line for line in lines if line.fields[file_field] == source.recording]


def recording_names(source: Source, file_field: int) -> set[str]:
    """Return the names of the recordings that the lines are of: those of turns alone, where there are others too.

    Args:
        source: the text of the file.
        file_field: which field of a line names it, counted from 0.
    """
    lines = (line.split() for line in source.lines)
    named = [fields for fields in lines if len(fields) > file_field and not fields[0].startswith(";;")]
    return {fields[file_field] for fields in named if file_field == 0 or fields[0] == _SPEAKER}


def read_stm(source: Source) -> list[Cue]:
    """Read STM: recording, channel, speaker, start, end, perhaps `<labels>`, words.

    Args:
        source: the text of the file.

    Returns:
        A cue for every turn.

    Raises:
        PipelineError: it holds several recordings and not the one that is meant, or a line is wrong; names the line.
    """
    lines = _lines(source, least=5, file_field=0)
    return [_stm_cue(line, source) for line in lines if not _is_gap(line.fields)]


def _is_gap(fields: list[str]) -> bool:
    return fields[2] in _STM_GAPS or (len(fields) > 5 and fields[-1].lower() in _STM_GAPS)


def _stm_cue(line: _Line, source: Source) -> Cue:
    start, end = (time_at(field, source, line.where) for field in line.fields[3:5])
    words = line.fields[5:]
    if words and words[0].startswith("<") and words[0].endswith(">"):
        words = words[1:]
    return Cue(Turn(start, end, " ".join(words), line.fields[2]), line.where)


def read_rttm(source: Source) -> list[Cue]:
    """Read RTTM: `SPEAKER recording channel start duration <NA> <NA> speaker ...`; other types of line are no turns.

    Args:
        source: the text of the file.

    Returns:
        A cue for every turn.

    Raises:
        PipelineError: it holds several recordings and not the one that is meant, or a line is wrong; names the line.
    """
    lines = _lines(source, least=8, file_field=1, keep=lambda fields: fields[0] == _SPEAKER)
    return [_rttm_cue(line, source) for line in lines]


def _rttm_cue(line: _Line, source: Source) -> Cue:
    start, duration = (time_at(field, source, line.where) for field in line.fields[3:5])
    name = line.fields[7]
    return Cue(Turn(start, round(start + duration, 6), None, None if name == _NO_VALUE else name), line.where)


def read_uem(source: Source) -> list[Cue]:
    """Read UEM: recording, channel, start, end of a stretch in which anybody may speak.

    Args:
        source: the text of the file.

    Returns:
        A cue for every turn.

    Raises:
        PipelineError: it holds several recordings and not the one that is meant, or a line is wrong; names the line.
    """
    lines = _lines(source, least=4, file_field=0)
    times = [[time_at(field, source, line.where) for field in line.fields[2:4]] for line in lines]
    return [Cue(Turn(start, end, None), line.where) for line, (start, end) in zip(lines, times, strict=True)]


def read_ctm(source: Source) -> list[Cue]:
    """Read CTM: recording, channel, start, duration, word, perhaps confidence, type and speaker.

    Words are joined to turns. Without a speaker in the eighth field, each channel is one where there are several. Of
    alternatives the first is taken.

    Args:
        source: the text of the file.

    Returns:
        A cue for every turn.

    Raises:
        PipelineError: it holds several recordings and not the one that is meant, or a line is wrong; names the line.
    """
    lines = _first_alternatives(_lines(source, least=5, file_field=0))
    several = len({line.fields[1] for line in lines}) > 1
    words: dict[str | None, list[TimedWord]] = defaultdict(list)
    for line in lines:
        words[_ctm_speaker(line.fields, several=several)].append(_ctm_word(line, source))
    turns = [turn for speaker, said in words.items() for turn in turns_from_words(said, speaker)]
    ordered = sorted(turns, key=start_of)
    return [Cue(turn, f"turn {number}") for number, turn in enumerate(ordered, start=1)]


def _first_alternatives(lines: list[_Line]) -> list[_Line]:
    kept = []
    skipping = False
    for line in lines:
        mark = line.fields[4]
        if mark.startswith("<ALT"):
            skipping = mark == "<ALT>"
        elif not skipping:
            kept.append(line)
    return kept


def _ctm_speaker(fields: list[str], *, several: bool) -> str | None:
    if len(fields) > 7 and fields[7] != _NO_VALUE:
        return fields[7]
    return fields[1] if several else None


def _ctm_word(line: _Line, source: Source) -> TimedWord:
    start, duration = (time_at(field, source, line.where) for field in line.fields[2:4])
    return TimedWord(line.fields[4], start, round(start + duration, 6))
