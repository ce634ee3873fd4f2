"""What every transcript format shares: turns and words, times as people write them, and what is left out."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lpgnet.pipeline.corpora.text import split_lines
from lpgnet.pipeline.errors import PipelineError, shorten

# A pause of this many seconds between two words of one speaker ends a turn, where a format has words alone.
TURN_GAP_SECONDS = 0.5
# A year; the time of a cue beyond it is a mistake, and as a number of samples it may be none.
MOST_SECONDS = 366 * 86_400
_CLOCK = re.compile(r"(?P<sign>-?)(?:(?P<hours>\d{1,9}):)?(?P<minutes>\d{1,9}):(?P<seconds>\d{1,9}(?:[.,]\d+)?)")


@dataclass(frozen=True)
class Word:
    """One word; `start` and `end` in seconds of the recording, or None where the transcript has no time for it."""

    text: str
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class Turn:
    """What one speaker says in one go.

    Attributes:
        start, end: seconds of the recording; both None where the transcript has no times.
        text: the words; None where the format has turns without words (RTTM, UEM).
        speaker: as the transcript names it, or None.
        words: with their own times, where the transcript has them.
    """

    start: float | None
    end: float | None
    text: str | None
    speaker: str | None = None
    words: tuple[Word, ...] = ()


@dataclass(frozen=True)
class TimedTurn:
    """A turn whose place in the recording is known.

    Attributes:
        start, end: seconds of the recording.
        text: the words; None where nobody has told them.
        speaker: as the transcript names it, or None.
        words: with their own times, where the transcript has them.
        channel: the only one that has the turn; None for all channels mixed down.
    """

    start: float
    end: float
    text: str | None
    speaker: str | None = None
    words: tuple[Word, ...] = ()
    channel: int | None = None

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.start

    @classmethod
    def of(cls, turn: Turn) -> TimedTurn:
        """Take over a turn of a transcript that has times.

        Raises:
            ValueError: it has none.
        """
        if turn.start is None or turn.end is None:
            raise ValueError(f"{turn}: has no times")
        return cls(turn.start, turn.end, turn.text, turn.speaker, turn.words)


@dataclass(frozen=True)
class TimedWord:
    """A word whose place in the recording is known, in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Transcript:
    """The turns of one recording in the order of their starts, which may overlap."""

    turns: tuple[Turn, ...]
    warnings: tuple[str, ...]
    path: Path
    format: str

    @property
    def has_times(self) -> bool:
        """Whether the turns have times (all of them do, or none)."""
        return all(turn.start is not None for turn in self.turns)

    @property
    def has_words(self) -> bool:
        """Whether any turn has a text."""
        return any(turn.text is not None for turn in self.turns)


@dataclass(frozen=True)
class Cue:
    """A turn as it stands in a file, before wrong ones are left out; `name` (`cue 3, line 9`) tells where."""

    turn: Turn
    name: str


@dataclass(frozen=True)
class Source:
    """The text of a transcript file, and the warnings that its reader adds.

    Attributes:
        recording: name of the recording, without its suffix, for formats that hold several; or None.
    """

    path: Path
    text: str
    recording: str | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """The lines of the text, whichever system wrote them."""
        return split_lines(self.text)

    def error(self, where: str, message: str) -> PipelineError:
        """An error that names the file and the place in it."""
        return PipelineError(f"{self.path}, {where}: {message}")


def parse_time(text: str) -> float | None:
    """Read seconds from `83.5`, `01:23.5`, `00:01:23,500` (each may be negative); None where it is no time.

    Args:
        text: in any of these forms.

    Returns:
        Seconds, or None.
    """
    clock = _CLOCK.fullmatch(text.strip())
    if clock is None:
        return _plain_seconds(text)
    seconds = float(clock["seconds"].replace(",", "."))
    seconds += 60 * int(clock["minutes"]) + 3600 * int(clock["hours"] or 0)
    return round(-seconds if clock["sign"] else seconds, 6)


def _plain_seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) else None


def time_at(text: str, source: Source, where: str) -> float:
    """Read a time that must be there.

    Args:
        text: seconds or a clock time.
        source: the file that has it.
        where: the place in the file, for the error.

    Returns:
        Seconds.

    Raises:
        PipelineError: it is no time; names the file and the place.
    """
    seconds = parse_time(text)
    if seconds is None:
        shown = text if len(text) <= 40 else f"{text[:40]}..."
        raise source.error(where, f"'{shown}' is not a time (83.5 or 00:01:23.500)")
    return seconds


def usable_turns(cues: Iterable[Cue], source: Source) -> tuple[Turn, ...]:
    """Give the turns in the order of their starts, without those that cannot be right; warnings go to the source.

    Left out are cues with a time that is negative or over `MOST_SECONDS`, cues that do not end after they start, and
    cues without words in a format that has words. Overlapping ones stay.

    Args:
        cues: as they stand in the file.
        source: the file, which takes the warnings.

    Returns:
        At least one turn.

    Raises:
        PipelineError: no turn is left, or only some have times.
    """
    turns: list[Turn] = []
    left_out: dict[str, list[str]] = {}
    for cue in cues:
        complaint = _complaint(cue.turn)
        if complaint is None:
            turns.append(cue.turn)
        else:
            left_out.setdefault(complaint, []).append(cue.name)
    reasons = [f"left out, {complaint}: {shorten(names)}" for complaint, names in left_out.items()]
    if not turns:
        found = "; ".join(reasons) or "check that it is the transcript and not empty"
        raise PipelineError(f"{source.path}: has no turns that can be used; {found}")
    source.warnings.extend(f"{source.path}: {reason}" for reason in reasons)
    return _in_order(turns, source)


def _complaint(turn: Turn) -> str | None:
    """What is wrong with a turn, or None."""
    if turn.start is not None and turn.end is not None:
        if min(turn.start, turn.end) < 0:
            return "negative time"
        if max(turn.start, turn.end) > MOST_SECONDS:
            return "a time beyond any recording"
        if turn.end <= turn.start:
            return "end is not after start"
    if turn.text is not None and not turn.text.strip():
        return "no words"
    return None


def _in_order(turns: Sequence[Turn], source: Source) -> tuple[Turn, ...]:
    untimed = [turn.start is None or turn.end is None for turn in turns]
    if all(untimed):
        return tuple(turns)
    if any(untimed):
        raise PipelineError(
            f"{source.path}: only {untimed.count(False)} of {len(turns)} turns have times; give all or none"
        )
    ordered = sorted(turns, key=start_of)
    if ordered != list(turns):
        source.warnings.append(f"{source.path}: cues are not in the order of their times; sorted by start")
    return tuple(ordered)


def start_of(turn: Turn) -> float:
    """Give the start of a turn that has times, to sort by.

    Args:
        turn: with times.

    Returns:
        Seconds.

    Raises:
        ValueError: it has none.
    """
    return TimedTurn.of(turn).start


def squeeze(text: str) -> str:
    """Give the text with every run of spaces and line breaks as one space."""
    return " ".join(text.split())


def turns_from_words(words: Sequence[TimedWord], speaker: str | None) -> list[Turn]:
    """Join the words of one speaker, in their order, to turns that a pause of `TURN_GAP_SECONDS` ends.

    Args:
        words: in the order of their starts.
        speaker: who says them, or None.

    Returns:
        The turns in their order.
    """
    groups: list[list[TimedWord]] = []
    for word in words:
        if groups and word.start - groups[-1][-1].end < TURN_GAP_SECONDS:
            groups[-1].append(word)
        else:
            groups.append([word])
    return [
        Turn(
            start=group[0].start,
            end=group[-1].end,
            text=" ".join(word.text for word in group),
            speaker=speaker,
            words=tuple(Word(word.text, word.start, word.end) for word in group),
        )
        for group in groups
    ]


# A name is one to three words before a colon and a space (or a full-width colon), in brackets or not.
_NAMED = re.compile(
    r"\s*+(?:-\s*+)?(?P<open>\[)?(?P<name>[^\W\d_][\w.'’-]*+(?: [\w.'’-]++){0,2}+)"
    r"(?(open)\])\s*+(?::(?=\s|$)|：)(?P<words>.*)",
    re.DOTALL,
)


def split_names(cues: Sequence[Cue]) -> list[Cue]:
    """Take speakers from `Ann: words` where at least half of the texts begin so and no speaker is known otherwise.

    A cue without a name goes on with the speaker of the one before.

    Args:
        cues: of one file.

    Returns:
        As many cues, in the same order.
    """
    matches = [_NAMED.fullmatch(cue.turn.text or "") for cue in cues]
    named = sum(match is not None for match in matches)
    if any(cue.turn.speaker for cue in cues) or named * 2 < sum(bool((cue.turn.text or "").strip()) for cue in cues):
        return list(cues)
    result: list[Cue] = []
    speaker = None
    for cue, match in zip(cues, matches, strict=True):
        speaker = match["name"] if match else speaker
        text = match["words"].strip() if match else cue.turn.text
        result.append(Cue(Turn(cue.turn.start, cue.turn.end, text, speaker, cue.turn.words), cue.name))
    return result
