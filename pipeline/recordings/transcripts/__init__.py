"""Transcripts of recordings: any of the formats that people have becomes turns with times, speakers and words."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from lpgnet.pipeline.corpora.text import read_any_text
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.recordings.transcripts.base import Cue, Source, TimedTurn, Transcript, Turn, Word, usable_turns
from lpgnet.pipeline.recordings.transcripts.columns import read_ctm, read_rttm, read_stm, read_uem, recording_names
from lpgnet.pipeline.recordings.transcripts.subtitles import read_srt, read_vtt
from lpgnet.pipeline.recordings.transcripts.tables import read_json, read_lines, read_table
from lpgnet.pipeline.recordings.transcripts.tiers import read_eaf, read_textgrid

__all__ = [
    "FORMATS",
    "TimedTurn",
    "Transcript",
    "Turn",
    "Word",
    "find_transcript",
    "first_transcript",
    "is_shared",
    "read_transcript",
    "recordings_of",
]

# A day of talk has a third of these turns and words; a file with the words of a whole corpus has fewer bytes.
MOST_TURNS, MOST_WORDS, MOST_BYTES = 100_000, 1_000_000, 200_000_000
_CAPITALS = {".textgrid": ".TextGrid"}


@dataclass(frozen=True)
class Format:
    """A format's name for people, and its reader."""

    name: str
    read: Callable[[Source], list[Cue]]


# By suffix; of several transcripts beside a recording the first in this order is taken: words with times, words, turns.
FORMATS = {
    ".srt": Format("SubRip", read_srt),
    ".vtt": Format("WebVTT", read_vtt),
    ".textgrid": Format("TextGrid", read_textgrid),
    ".eaf": Format("EAF", read_eaf),
    ".stm": Format("STM", read_stm),
    ".ctm": Format("CTM", read_ctm),
    ".json": Format("JSON", read_json),
    ".jsonl": Format("JSON Lines", read_table),
    ".csv": Format("CSV", read_table),
    ".tsv": Format("TSV", read_table),
    ".txt": Format("plain text", read_lines),
    ".rttm": Format("RTTM", read_rttm),
    ".uem": Format("UEM", read_uem),
}
# The formats that may hold several recordings, which their lines name, and the field that does.
_SHARED = {".stm": 0, ".ctm": 0, ".rttm": 1, ".uem": 0}
# Looking up spellings costs the same in a folder of ten recordings and of ten thousand; listing it for each does not.
_SPELLINGS = tuple(spelling for suffix in FORMATS for spelling in (suffix, _CAPITALS.get(suffix, suffix.upper())))


def read_transcript(path: Path, *, recording: str | None = None) -> Transcript:
    """Read a transcript, in the format that its suffix tells and whichever encoding it has.

    Wrong cues (negative or reversed times, no words) are left out with a warning. Times after the recording's end are
    not looked at: the file does not know the recording.

    Args:
        path: the transcript.
        recording: name of the recording, without its suffix; needed where the file (STM, CTM, RTTM, UEM) holds several.

    Returns:
        Its turns in the order of their starts, and the warnings.

    Raises:
        PipelineError: the file is missing, too large, of an unknown format or wrong; names the file and the cue or
            line.
    """
    form = FORMATS.get(path.suffix.lower())
    if form is None:
        raise PipelineError(f"{path}: is no known transcript format; known: {', '.join(FORMATS)}")
    text, warnings = read_any_text(path, most=MOST_BYTES)
    source = Source(path=path, text=text, recording=recording, warnings=warnings)
    cues = form.read(source)
    _check_counts(cues, source)
    turns = usable_turns(cues, source)
    return Transcript(turns=turns, warnings=tuple(source.warnings), path=path, format=form.name)


def _check_counts(cues: Sequence[Cue], source: Source) -> None:
    """Refuse what no recording has, before models and reports are given it."""
    n_words = sum(len(cue.turn.words) for cue in cues)
    for what, count, most in (("turns", len(cues), MOST_TURNS), ("words with times", n_words, MOST_WORDS)):
        if count > most:
            raise PipelineError(
                f"{source.path}: has {count} {what} for one recording; at most {most} are read; split the recording"
            )


def find_transcript(recording: Path) -> Path | None:
    """Find the transcript beside a recording: `call.srt` or `call.wav.srt` for `call.wav`, in the order of `FORMATS`.

    Args:
        recording: the recording, which need not exist.

    Returns:
        The first of them that exists; None where none does.
    """
    found = first_transcript(recording.name, lambda name: os.path.isfile(recording.with_name(name)))
    return recording.with_name(found) if found else None


def first_transcript(recording: str, is_there: Callable[[str], bool]) -> str | None:
    """Find the name of the transcript of a recording among the files of its folder.

    Args:
        recording: the name of the recording's file.
        is_there: tells whether the folder has a file of a name.
    """
    stem = PurePath(recording).stem
    names = (f"{name}{suffix}" for suffix in _SPELLINGS for name in (stem, recording))
    return next((name for name in names if is_there(name)), None)


def is_shared(path: Path) -> bool:
    """Tell whether a transcript is of a format that may hold several recordings: STM, CTM, RTTM or UEM."""
    return path.suffix.lower() in _SHARED


def recordings_of(path: Path) -> set[str]:
    """Return the names of the recordings, without their suffixes, that a transcript `is_shared` by.

    Raises:
        PipelineError: the file cannot be read.
    """
    text, warnings = read_any_text(path, most=MOST_BYTES)
    source = Source(path=path, text=text, recording=None, warnings=warnings)
    return recording_names(source, _SHARED[path.suffix.lower()])
