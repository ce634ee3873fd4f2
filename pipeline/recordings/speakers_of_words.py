"""Words to the speakers who say them: from timed words and who speaks when to turns with words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from lpgnet.pipeline.recordings.transcripts.base import TimedTurn, TimedWord, Word


@dataclass(frozen=True)
class _Said:
    """A word, the turn that it was given to, and its part of this turn: the first word's begins with the turn."""

    word: TimedWord
    turn: TimedTurn
    start: float
    end: float


def turns_of_words(words: Sequence[TimedWord], turns: Sequence[TimedTurn], *, max_pause: float) -> list[TimedTurn]:
    """Give every word to the speaker whose turns it overlaps most, or who is nearest, and make turns of the words.

    A speaker's words make one turn as long as the pauses between them are at most `max_pause`, also while somebody else
    says a word. It reaches from its first word to its last, and takes in what comes before the first word and after the
    last one of the turns that were given, so that no laugh or breath is lost. Turns without a word, and those of an
    unknown speaker, keep their borders.

    Args:
        words: in any order.
        turns: who speaks when, on one channel; at least one where there are words. They may overlap.
        max_pause: the longest pause between two words of one turn (seconds).

    Returns:
        Turns in the order of their starts; every word is in one of them, in the order of the words' starts.
    """
    given = sorted(turns, key=lambda turn: (turn.start, turn.end))
    said: list[list[TimedWord]] = [[] for _ in given]
    for word, number in _owners(sorted(words, key=lambda word: (word.start, word.end)), given):
        said[number].append(word)
    found: list[TimedTurn] = []
    by_speaker: dict[str, list[_Said]] = {}
    for turn, own in zip(given, said, strict=True):
        if turn.speaker is None or not own:
            found.append(_with_words(turn, own))
        else:
            by_speaker.setdefault(turn.speaker, []).extend(_placed(turn, own))
    for of_one in by_speaker.values():
        found += _regrouped(of_one, max_pause)
    return sorted(found, key=lambda turn: (turn.start, turn.end))


def _owners(words: Sequence[TimedWord], turns: Sequence[TimedTurn]) -> Iterator[tuple[TimedWord, int]]:
    """Each word with the number of its turn; both are in the order of their starts."""
    current: list[int] = []
    last: int | None = None  # of the turns that ended before the word, the one that ended last
    upcoming = 0
    for word in words:
        while upcoming < len(turns) and turns[upcoming].start < word.end:
            current.append(upcoming)
            upcoming += 1
        ended = [number for number in current if turns[number].end <= word.start]
        last = max(ended if last is None else [last, *ended], key=lambda number: turns[number].end, default=None)
        current = [number for number in current if turns[number].end > word.start]
        yield word, _most(word, current, turns) if current else _nearest(word, turns, last, upcoming)


def _most(word: TimedWord, numbers: Sequence[int], turns: Sequence[TimedTurn]) -> int:
    """Of the speaker with the most overlap, the turn with the most; of equals the first."""
    overlap = {number: min(word.end, turns[number].end) - max(word.start, turns[number].start) for number in numbers}
    by_speaker: dict[str | None, float] = {}
    for number, seconds in overlap.items():
        by_speaker[turns[number].speaker] = by_speaker.get(turns[number].speaker, 0.0) + seconds
    speaker = max(by_speaker, key=lambda name: by_speaker[name])
    return max((number for number in numbers if turns[number].speaker == speaker), key=lambda number: overlap[number])


def _nearest(word: TimedWord, turns: Sequence[TimedTurn], last: int | None, upcoming: int) -> int:
    if last is None or upcoming == len(turns):
        return upcoming if last is None else last
    return last if word.start - turns[last].end <= turns[upcoming].start - word.end else upcoming


def _placed(turn: TimedTurn, words: Sequence[TimedWord]) -> list[_Said]:
    placed = [_Said(word, turn, word.start, word.end) for word in words]
    placed[0] = replace(placed[0], start=min(turn.start, placed[0].start))
    placed[-1] = replace(placed[-1], end=max(turn.end, placed[-1].end))
    return placed


def _regrouped(said: Sequence[_Said], max_pause: float) -> list[TimedTurn]:
    """Turns of one speaker's words."""
    groups: list[list[_Said]] = []
    spoken_until = float("-inf")
    for one in sorted(said, key=lambda one: (one.word.start, one.word.end)):
        if groups and one.word.start - spoken_until <= max_pause:
            groups[-1].append(one)
        else:
            groups.append([one])
        spoken_until = max(spoken_until, one.word.end)
    return [
        replace(
            _with_words(group[0].turn, [one.word for one in group]),
            start=min(one.start for one in group),
            end=max(one.end for one in group),
        )
        for group in groups
    ]


def _with_words(turn: TimedTurn, words: Sequence[TimedWord]) -> TimedTurn:
    text = " ".join(word.text for word in words) or None
    return replace(turn, text=text, words=tuple(Word(word.text, word.start, word.end) for word in words))
