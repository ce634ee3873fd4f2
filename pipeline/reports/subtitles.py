"""Timelines as subtitles: the words with their emotion, by pysubs2."""

from __future__ import annotations

import html
from collections.abc import Callable

from lpgnet.pipeline.reports.rows import Timeline, TimelineRow, printable


def to_srt(timeline: Timeline) -> str:
    """Write SubRip: `Ann: [happy] words`; players read its tags, and there is no escape for them but to be no tag."""
    return _subtitles(timeline, "srt", lambda row: f"{_name(row)}{_said(row, str)}")


def to_vtt(timeline: Timeline) -> str:
    """Write WebVTT with a voice for every speaker, and its notes as a comment."""
    text = _subtitles(timeline, "vtt", _voiced)
    if not timeline.notes:
        return text
    # pysubs2 writes no comments.
    note = "\n".join(_one_line(line) for line in timeline.notes)
    head, _, cues = text.partition("\n")
    return f"{head}\n\nNOTE\n{note}\n{cues}"


def _voiced(row: TimelineRow) -> str:
    # pysubs2 escapes nothing, and a player takes "<now>" in the words for a tag.
    said = _said(row, lambda text: html.escape(text, quote=False))
    # An angle bracket ends the tag, and no escape is known inside of it.
    name = _one_line(row.speaker).replace(">", "").replace("<", "").replace("&", "and").rstrip("- ")
    return f"<v {name}>{said}" if name else said


def _name(row: TimelineRow) -> str:
    return f"{_one_line(row.speaker)}: " if row.speaker else ""


def _said(row: TimelineRow, escape: Callable[[str], str]) -> str:
    return f"[{escape(_one_line(row.label))}] {escape(_one_line(row.text))}".rstrip()


def _one_line(text: str | None) -> str:
    """The text without what ends a cue (an arrow, which pysubs2 writes as it is) or a line.

    pysubs2 takes a backslash before N, n or h for a break; a letter of no width keeps the two apart.
    """
    return printable(text or "").replace("\\", "\\\u200b").replace("-->", "->")


def _subtitles(timeline: Timeline, form: str, write: Callable[[TimelineRow], str]) -> str:
    import pysubs2

    events = [
        pysubs2.SSAEvent(start=round(row.start * 1000), end=round(row.end * 1000), text=write(row))
        for row in timeline.rows
    ]
    subtitles = pysubs2.SSAFile()
    subtitles.events = events
    # Braces in the words are words, not SubStation's overrides.
    return subtitles.to_string(form, keep_ssa_tags=True)
