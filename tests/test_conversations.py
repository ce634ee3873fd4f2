"""The made-up conversations of the accuracy benchmark are what they say they are."""

import numpy as np
import pytest

from benchmarks.conversations import COUNTS, DIALOGUES, LIKE_IEMOCAP, SIMPLE, TURNS, Conversations, Effects, converse


@pytest.fixture(scope="module", params=[LIKE_IEMOCAP, SIMPLE], ids=["like IEMOCAP", "simple"])
def made(request: pytest.FixtureRequest) -> Conversations:
    return converse(request.param)


def test_the_sizes_are_those_of_iemocap(made: Conversations) -> None:
    assert len(made.labels) == TURNS
    assert len(np.unique(made.dialogue)) == sum(DIALOGUES)
    assert made.text.shape == (TURNS, 1, 128)
    assert made.audio.shape == (TURNS, 3, 128)


def test_the_shares_of_the_classes_are_those_of_iemocap(made: Conversations) -> None:
    found = np.bincount(made.labels + 1)[1 : 1 + COUNTS.shape[1]]

    np.testing.assert_allclose(found, COUNTS.sum(0), rtol=0.02)
    assert (made.labels < 0).mean() == pytest.approx(0.25, abs=0.005)


def test_a_seed_makes_the_same_conversations() -> None:
    first, again, other = converse(SIMPLE, seed=1), converse(SIMPLE, seed=1), converse(SIMPLE, seed=2)

    np.testing.assert_array_equal(first.audio, again.audio)
    np.testing.assert_array_equal(first.votes, again.votes)
    assert not np.array_equal(first.votes, other.votes)


def _answers(effects: Effects) -> float:
    """How much a turn's state has of the other speaker's last one, beside the moods of the scene."""
    made = converse(effects)
    states = made.states.copy()
    for voice in np.unique(2 * made.dialogue + made.speaker):
        states[2 * made.dialogue + made.speaker == voice] -= states[2 * made.dialogue + made.speaker == voice].mean(0)
    follows = (made.dialogue[1:] == made.dialogue[:-1]) & (made.speaker[1:] != made.speaker[:-1])
    return float(np.corrcoef(states[1:][follows][:, 0], states[:-1][follows][:, 0])[0, 1])


def test_speakers_answer_each_other_except_in_simple_conversations() -> None:
    assert _answers(LIKE_IEMOCAP) > 0.2
    assert abs(_answers(SIMPLE)) < 0.1
