"""Subtitles as transcripts: SubRip (SRT) and WebVTT with its voices.

Cues are told apart here, and not by a subtitle library, because pysubs2 drops the sign of negative times, takes a line
with two word times for the next cue, and adds the comments and names of WebVTT to the words of the cue before. It also
loses hours from 100 on, times without hours and numbers that end a cue. test_transcript_libraries.py shows each.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from lpgnet.pipeline.recordings.transcripts.base import Cue, Source, Turn, split_names, squeeze, time_at

_TIMING = re.compile(r"\s*(?P<start>[-\d]\S*)\s*-->\s*(?P<end>\S+)(?:\s.*)?")
# A tag has no bracket inside of it: with any, each of many tags that nothing closes would be read to the end.
_VOICE = re.compile(r"<v(?:\.[^\s<>]*+)?\s([^<>]++)>")
# HTML tags, the word times of WebVTT (<00:01.500>) and the overrides of SubStation that stray into SRT ({\an8}).
_MARKUP = re.compile(r"</?[A-Za-z][^<>]*>|<\d[\d:.]*>|\{\\[^{}]*+\}")
_REFERENCE = re.compile(r"&#([0-9]{8,}+);?")


def read_srt(source: Source) -> list[Cue]:
    """Read SubRip: the text of a cue reaches to the number of the next one.

    Args:
        source: the text of the file.

    Returns:
        A cue for every turn.

    Raises:
        PipelineError: a time is wrong; names the cue.
    """
    return _read(source, blank_ends_cue=False)


def read_vtt(source: Source) -> list[Cue]:
    """Read WebVTT: the text of a cue reaches to the next blank line, and each of its voices gives a turn.

    Args:
        source: the text of the file.

    Returns:
        A cue for every turn.

    Raises:
        PipelineError: a time is wrong; names the cue.
    """
    return _read(source, blank_ends_cue=True)


def _read(source: Source, *, blank_ends_cue: bool) -> list[Cue]:
    lines = source.lines
    timings = [(number, match) for number, line in enumerate(lines) if (match := _TIMING.fullmatch(line))]
    cues: list[Cue] = []
    for place, (number, match) in enumerate(timings, start=1):
        last = place == len(timings)
        body = lines[number + 1 : None if last else timings[place][0]]
        words = _until_blank(body) if blank_ends_cue else _without_number(body, last=last)
        name = f"cue {place} (line {number + 1})"
        start, end = (time_at(match[side], source, name) for side in ("start", "end"))
        cues += [Cue(Turn(start, end, text, speaker), name) for speaker, text in _voices("\n".join(words))]
    return split_names(cues)


def _until_blank(lines: list[str]) -> list[str]:
    blank = next((place for place, line in enumerate(lines) if not line.strip()), len(lines))
    return lines[:blank]


def _without_number(lines: list[str], *, last: bool) -> list[str]:
    numbered = not last and lines and lines[-1].strip().isdigit()
    return lines[:-1] if numbered else lines


def _voices(text: str) -> Iterator[tuple[str | None, str]]:
    """Speaker and words of each voice of a cue; one without a speaker where there is no voice tag."""
    before, *voices = _VOICE.split(text)
    if _plain(before) or not voices:
        yield None, _plain(before)
    for name, words in zip(voices[::2], voices[1::2], strict=True):
        yield _plain(name), _plain(words)


def _plain(text: str) -> str:
    # No character has a number of eight digits, and Python reads none of over 4,300.
    short = _REFERENCE.sub(lambda match: f"&#{match[1].lstrip('0')[:8]};", _MARKUP.sub("", text))
    return squeeze(html.unescape(short))
