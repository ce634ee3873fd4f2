"""Words to speakers: what overlaps, what is near, and which turns result."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpgnet.pipeline.recordings.speakers_of_words import turns_of_words
from lpgnet.pipeline.recordings.transcripts.base import TimedTurn, TimedWord, Word
from tests.growth import grows_too_fast


def turn(start: float, end: float, speaker: str | None = None) -> TimedTurn:
    return TimedTurn(start, end, None, speaker)


def words(*timed: tuple[str, float, float]) -> list[TimedWord]:
    return [TimedWord(*one) for one in timed]


def told(turns: list[TimedTurn]) -> list[tuple[float, float, str | None, str | None]]:
    return [(turn.start, turn.end, turn.speaker, turn.text) for turn in turns]


def test_a_word_goes_to_whom_it_overlaps_most() -> None:
    found = turns_of_words(
        words(("well", 0.1, 0.5), ("yes", 1.8, 2.4), ("no", 2.5, 2.9)),
        [turn(0, 2, "Ann"), turn(1.9, 3, "Bob")],
        max_pause=0.5,
    )
    assert told(found) == [(0, 2, "Ann", "well"), (1.8, 3, "Bob", "yes no")]
    assert found[1].words == (Word("yes", 1.8, 2.4), Word("no", 2.5, 2.9))


def test_a_word_between_two_turns_goes_to_the_nearer_one() -> None:
    near = turns_of_words(
        words(("before", 0.2, 0.4), ("a", 2.1, 2.2), ("b", 3.8, 3.9), ("after", 6.5, 7.0)),
        [turn(1, 2, "Ann"), turn(4, 6, "Bob")],
        max_pause=0.1,
    )
    assert told(near) == [
        (0.2, 0.4, "Ann", "before"),
        (2.1, 2.2, "Ann", "a"),
        (3.8, 3.9, "Bob", "b"),
        (6.5, 7.0, "Bob", "after"),
    ]


def test_the_overlaps_with_all_turns_of_a_speaker_count() -> None:
    """Ann's two turns have 0.3 s each of the word, Bob's one 0.4."""
    found = turns_of_words(
        words(("understand", 1.0, 2.0)),
        [turn(0, 1.3, "Ann"), turn(1.3, 1.7, "Bob"), turn(1.7, 3, "Ann")],
        max_pause=0.5,
    )
    assert [(one.speaker, one.text) for one in found] == [("Ann", "understand"), ("Bob", None), ("Ann", None)]


def test_who_says_a_word_in_between_does_not_cut_a_sentence() -> None:
    found = turns_of_words(
        words(("I", 0.0, 0.2), ("think", 0.3, 0.7), ("mhm", 0.6, 1.0), ("so", 0.9, 1.2)),
        [turn(0, 0.7, "Ann"), turn(0.7, 1.0, "Bob"), turn(0.9, 1.2, "Ann")],
        max_pause=0.5,
    )
    assert told(found) == [(0, 1.2, "Ann", "I think so"), (0.6, 1.0, "Bob", "mhm")]


def test_what_two_may_have_said_is_of_the_one_who_spoke_first() -> None:
    found = turns_of_words(words(("mhm", 0.5, 0.7)), [turn(0, 2, "Ann"), turn(0.5, 0.7, "Bob")], max_pause=0.5)
    assert told(found) == [(0, 2, "Ann", "mhm"), (0.5, 0.7, "Bob", None)]


def test_a_pause_ends_a_turn_and_a_short_one_joins_two() -> None:
    given_turns = [turn(0, 4, "Ann"), turn(4.2, 6, "Ann"), turn(7, 8, "Ann")]
    found = turns_of_words(words(("one", 0.5, 1.0), ("two", 3.5, 3.9), ("three", 4.3, 5.0)), given_turns, max_pause=0.5)
    assert told(found) == [(0, 1.0, "Ann", "one"), (3.5, 6, "Ann", "two three"), (7, 8, "Ann", None)]


def test_turns_of_nobody_keep_their_borders() -> None:
    found = turns_of_words(
        words(("one", 0.5, 1.0), ("two", 1.1, 1.4), ("three", 2.5, 3.1)),
        [turn(0, 1), turn(1, 2), turn(3, 4)],
        max_pause=0.5,
    )
    assert told(found) == [(0, 1, None, "one"), (1, 2, None, "two"), (3, 4, None, "three")]


def test_what_else_a_turn_knows_stays() -> None:
    (found,) = turns_of_words(words(("one", 0.5, 1.0)), [TimedTurn(0, 1, None, "channel 2", channel=1)], max_pause=0.5)
    assert found.channel == 1


def test_nothing_said() -> None:
    turns = [turn(1, 2, "Bob"), turn(0, 1)]
    assert turns_of_words([], turns, max_pause=0.5) == turns[::-1]
    assert turns_of_words([], [], max_pause=0.5) == []


TIME = st.integers(0, 400).map(lambda tick: tick / 20)
LENGTH = st.integers(1, 80).map(lambda tick: tick / 20)


@given(
    spoken=st.lists(st.tuples(TIME, LENGTH), max_size=20),
    speaking=st.lists(st.tuples(TIME, LENGTH, st.sampled_from(["Ann", "Bob", None])), min_size=1, max_size=8),
    max_pause=st.sampled_from([0.0, 0.5, 2.0]),
)
def test_no_word_is_lost_or_doubled(
    spoken: list[tuple[float, float]], speaking: list[tuple[float, float, str | None]], max_pause: float
) -> None:
    said = [TimedWord(f"w{number}", start, start + length) for number, (start, length) in enumerate(spoken)]
    given_turns = [turn(start, start + length, speaker) for start, length, speaker in speaking]
    found = turns_of_words(said, given_turns, max_pause=max_pause)
    assert sorted(word.text for one in found for word in one.words) == sorted(word.text for word in said)
    assert [(one.start, one.end) for one in found] == sorted((one.start, one.end) for one in found)
    for one in found:
        assert (one.text or "").split() == [word.text for word in one.words]
        starts = [word.start for word in one.words]
        assert starts == sorted(starts, key=lambda start: start or 0)
        if one.speaker:
            assert all(one.start <= (w.start or 0) and (w.end or 0) <= one.end for w in one.words)
            ends = [max((w.end or 0) for w in one.words[: n + 1]) for n in range(len(one.words))]
            assert all((w.start or 0) - end <= max_pause for end, w in zip(ends, one.words[1:], strict=False))
    without = [one for one in found if not one.words]
    assert all(one in given_turns for one in without)
    nobody = [(one.start, one.end) for one in found if one.speaker is None]
    assert nobody == sorted((one.start, one.end) for one in given_turns if one.speaker is None)
    assert {one.speaker for one in found} == {one.speaker for one in given_turns}


@pytest.mark.parametrize("speaker", ["Ann", None])
def test_time_grows_as_the_words_do(speaker: str | None) -> None:
    def use(text: str) -> None:
        said = [TimedWord("w", number / 2, number / 2 + 0.4) for number in range(len(text))]
        turns = [turn(0, len(text) / 2, "Bob")] + [turn(n, n + 0.9, speaker) for n in range(len(text) // 2)]
        turns_of_words(said, turns, max_pause=0.5)

    assert not grows_too_fast(use, "w".__mul__)


def test_pauses_of_a_turn_are_those_of_its_words() -> None:
    """One word a second in one long turn: as many turns as words, apart from each other."""
    said = [TimedWord(str(second), second, second + 0.3) for second in range(10)]
    found = turns_of_words(said, [turn(0, 10, "Ann")], max_pause=0.5)
    assert len(found) == 10 and all(a.end < b.start for a, b in pairwise(found))
    assert found[0].start == 0 and found[-1].end == 10
