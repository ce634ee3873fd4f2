"""What speech recognition hears: the speech of turns, in stretches that a model can take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from lpgnet.pipeline.corpora.voice_activity import Span, padded
from lpgnet.pipeline.recordings.transcripts.base import TimedTurn, TimedWord

# Heard on both sides of speech: sounds begin before voice activity is sure, and words need a pause between them.
MARGIN_SECONDS = 0.3


def speech_of(turns: Iterable[TimedTurn], speech: Sequence[Span]) -> list[Span]:
    """Find where somebody speaks within turns, each moment once however many turns share it.

    Args:
        turns: in any order, overlapping or not.
        speech: where anybody speaks, in order, apart from each other.

    Returns:
        Spans in order, apart from each other; none in a turn in which nobody speaks.
    """
    found: list[Span] = []
    after = 0
    for whole in united(turns):
        while after < len(speech) and speech[after].end <= whole.start:
            after += 1
        place = after
        while place < len(speech) and speech[place].start < whole.end:
            found.append(Span(max(whole.start, speech[place].start), min(whole.end, speech[place].end)))
            place += 1
    return found


def united(turns: Iterable[TimedTurn]) -> list[Span]:
    """Return what turns cover together, in order and apart from each other."""
    united: list[Span] = []
    for turn in sorted(turns, key=lambda turn: turn.start):
        if united and turn.start <= united[-1].end:
            united[-1] = Span(united[-1].start, max(united[-1].end, turn.end))
        else:
            united.append(Span(turn.start, turn.end))
    return united


def stretches_of(
    speech: Sequence[Span], *, longest: float, seconds: float, pause: float = 2 * MARGIN_SECONDS
) -> list[Span]:
    """Cut speech to stretches that are heard without a break, at pauses where there are any.

    Args:
        speech: where somebody speaks, in order, apart from each other.
        longest: what a model hears at once (seconds).
        seconds: length of the recording.
        pause: speech is joined over shorter ones than this, as far as `longest` allows; at most twice
            `MARGIN_SECONDS`.

    Returns:
        Spans in order that hold all of the speech, with up to `MARGIN_SECONDS` on both sides.
    """
    joined: list[Span] = []
    spoken_until = float("-inf")
    for spoken, span in zip(speech, padded(speech, MARGIN_SECONDS, seconds), strict=True):
        if joined and spoken.start - spoken_until < pause and span.end - joined[-1].start <= longest:
            joined[-1] = Span(joined[-1].start, span.end)
        else:
            joined.append(span)
        spoken_until = spoken.end
    return [part for span in joined for part in _parts(span, longest)]


def _parts(span: Span, longest: float) -> list[Span]:
    """The span in equal parts that are short enough."""
    n_parts = int(max(1, np.ceil(span.seconds / longest - 1e-9)))
    borders = np.linspace(span.start, span.end, n_parts + 1).tolist()
    return [Span(start, end) for start, end in pairwise(borders)]


def packed(seconds: Sequence[float], longest: float) -> list[list[int]]:
    """Put stretches together to windows, in their order.

    Args:
        seconds: length of each stretch.
        longest: length of a window.

    Returns:
        The numbers of the stretches in each window; one that is longer than a window is alone in it.
    """
    windows: list[list[int]] = []
    left = 0.0
    for number, length in enumerate(seconds):
        if windows and length <= left:
            windows[-1].append(number)
        else:
            windows.append([number])
            left = longest
        left -= length
    return windows


def into_speech(words: Sequence[TimedWord], speech: Sequence[Span]) -> list[TimedWord]:
    """Take the pauses from the times of words: a word lies in the one span of speech that it overlaps most.

    A model that aligns words to a waveform leaves no moment out, and so gives the pauses to the words beside them.

    Args:
        words: in the order of their starts.
        speech: where somebody speaks, in order, apart from each other.

    Returns:
        As many words in the same order; one that overlaps no speech stays as it is.
    """
    placed: list[TimedWord] = []
    first = 0
    for word in words:
        while first < len(speech) and speech[first].end <= word.start:
            first += 1
        touched: list[Span] = []
        while first + len(touched) < len(speech) and speech[first + len(touched)].start < word.end:
            span = speech[first + len(touched)]
            touched.append(Span(max(word.start, span.start), min(word.end, span.end)))
        most = max(touched, key=lambda span: span.seconds, default=Span(word.start, word.end))
        placed.append(TimedWord(word.text, most.start, most.end))
    return placed
