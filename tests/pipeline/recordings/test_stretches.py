"""What recognition hears: the speech of turns once, in stretches and windows that lose none of it."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lpgnet.pipeline.corpora.voice_activity import Span
from lpgnet.pipeline.recordings.stretches import MARGIN_SECONDS, into_speech, packed, speech_of, stretches_of
from lpgnet.pipeline.recordings.transcripts.base import TimedTurn, TimedWord


def turns(*spans: tuple[float, float]) -> list[TimedTurn]:
    return [TimedTurn(start, end, None) for start, end in spans]


def spans(*borders: tuple[float, float]) -> list[Span]:
    return [Span(start, end) for start, end in borders]


def test_turns_that_overlap_are_heard_once_and_silent_ones_not() -> None:
    found = speech_of(turns((4, 6), (0, 3), (2, 3.5), (8, 9)), spans((1, 2.5), (3, 5), (5.5, 7)))
    assert found == spans((1, 2.5), (3, 3.5), (4, 5), (5.5, 6))


def test_short_pauses_are_kept_and_long_ones_cut() -> None:
    found = stretches_of(spans((1, 2), (2.5, 3), (5, 6)), longest=30, seconds=6.1)
    assert found == spans((1 - MARGIN_SECONDS, 3 + MARGIN_SECONDS), (5 - MARGIN_SECONDS, 6.1))


def test_over_which_pauses_speech_is_joined_can_be_said() -> None:
    speech = spans((1, 2), (2.1, 3), (3.4, 4))
    found = stretches_of(speech, longest=30, seconds=6, pause=0.2)
    assert [(round(span.start, 2), round(span.end, 2)) for span in found] == [(0.7, 3.2), (3.2, 4.3)]
    assert len(stretches_of(speech, longest=30, seconds=6)) == 1


def test_what_is_longer_than_a_window_is_cut_at_a_pause() -> None:
    found = stretches_of(spans((1, 20), (20.2, 40), (40.4, 110)), longest=30, seconds=111)
    assert [round(span.start, 1) for span in found] == [0.7, 20.1, 40.2, 63.6, 86.9]
    assert all(span.seconds <= 30 for span in found)


def test_windows_hold_what_fits() -> None:
    assert packed([10, 15, 6, 29, 31, 1, 2], 30) == [[0, 1], [2], [3], [4], [5, 6]]
    assert packed([], 30) == []


def test_a_word_lies_in_the_speech_that_it_overlaps_most() -> None:
    speech = spans((1, 2), (3, 4))
    said = [("first", 0, 1.4), ("long", 1.5, 3.9), ("quiet", 5, 6)]
    placed = into_speech([TimedWord(*word) for word in said], speech)
    assert [(word.start, word.end) for word in placed] == [(1, 1.4), (3, 3.9), (5, 6)]
    assert [word.text for word in placed] == ["first", "long", "quiet"]


TICKS = st.lists(st.integers(1, 300), max_size=24, unique=True).map(sorted)


def apart(ticks: list[int]) -> list[Span]:
    return [Span(start / 4, end / 4) for start, end in zip(ticks[::2], ticks[1::2], strict=False)]


@given(TICKS.map(apart), st.lists(st.tuples(st.integers(0, 300), st.integers(1, 60)), max_size=8))
def test_all_speech_of_the_turns_is_heard_and_nothing_twice(speech: list[Span], borders: list[tuple[int, int]]) -> None:
    given_turns = [TimedTurn(start / 4, (start + length) / 4, None) for start, length in borders]
    found = speech_of(given_turns, speech)
    assert all(a.end <= b.start for a, b in pairwise(found))

    def holds(these: list[Span] | list[TimedTurn], moment: float) -> bool:
        return any(one.start <= moment < one.end for one in these)

    for moment in (tick / 4 + 0.125 for tick in range(361)):
        assert holds(found, moment) == (holds(given_turns, moment) and holds(speech, moment))
    heard = stretches_of(found, longest=20, seconds=100)
    assert all(a.end <= b.start for a, b in pairwise(heard))
    assert all(0 <= span.start < span.end <= 100 and span.seconds <= 20 + 1e-6 for span in heard)
    inside = [span for span in found for moment in (span.start, span.end - 1e-3) if not holds(heard, moment)]
    assert not inside


@given(st.lists(st.floats(0.1, 40), max_size=30))
def test_windows_keep_the_order(seconds: list[float]) -> None:
    windows = packed(seconds, 30)
    assert [number for window in windows for number in window] == list(range(len(seconds)))
    assert all(len(window) == 1 or sum(seconds[n] for n in window) <= 30 + 1e-6 for window in windows)
    assert all(sum(seconds[n] for n in [*a, b[0]]) > 30 - 1e-6 for a, b in pairwise(windows))


@given(TICKS.map(apart), st.lists(st.tuples(st.floats(0, 80), st.floats(0.05, 9)), max_size=12))
def test_no_word_is_lost_in_speech(speech: list[Span], timed: list[tuple[float, float]]) -> None:
    said = [TimedWord(str(n), start, start + length) for n, (start, length) in enumerate(sorted(timed))]
    placed = into_speech(said, speech)
    assert [word.text for word in placed] == [word.text for word in said]
    assert all(a.start <= b.start < b.end <= a.end for a, b in zip(said, placed, strict=True))
