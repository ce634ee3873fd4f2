"""What a model hears of turns: padded to the silence of its training, and never with another turn's words."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpgnet.model import EmotionConfig
from lpgnet.model.configuration import ConcatConfig
from lpgnet.pipeline.corpora.audio import AudioInfo, Segment
from lpgnet.pipeline.embeddings.plan import Plan, Request
from lpgnet.pipeline.embeddings.silence import MARGIN, trim
from lpgnet.pipeline.labelling.hearing import TOLERANCE, Heard, hear, pad

RATE = 1000
SECONDS = 20
TRAINED = {"lead": 1.0, "trail": 0.5, "share": 0.3}
DIGEST = "ab" * 32


def plan_of(*turns: tuple[float, float], channel: int | None = 0) -> Plan:
    requests = [
        Request(f"u{n}", bytes(16), Segment("a.wav", round(start * RATE), round(end * RATE), channel, RATE))
        for n, (start, end) in enumerate(turns)
    ]
    return Plan(tuple(requests), (), {"a.wav": AudioInfo(DIGEST, RATE, SECONDS * RATE, 2)})


def speech_of(*turns: tuple[float, float], channel: int | None = 0) -> dict[tuple[str, int | None], list[float] | str]:
    return {(DIGEST, channel): sorted(time for turn in turns for time in turn)}


def heard(result: Heard) -> list[tuple[float, float]]:
    segments = [one.source for one in result.plan.requests if isinstance(one.source, Segment)]
    return [(segment.start / RATE, segment.end / RATE) for segment in segments]


def test_padding_worked_out_by_hand() -> None:
    # The first is near the recording's start, the second has all that it lacks, the last two share a pause of 0.4 s.
    turns = ((0.25, 2.0), (6.0, 8.0), (12.0, 13.0), (13.4, 15.0))
    result = pad(plan_of(*turns), speech_of(*turns), TRAINED)
    assert heard(result) == [(0.0, 2.5), (5.0, 8.5), (11.0, 13.2), (13.2, 15.5)]
    assert result.choices == (
        "padded: turns are heard with 1.00 s before (not 0.00) and 0.50 s after (not 0.00) their words, as in the "
        "model's training; 3 of 4 less, as another turn or the end of the recording is near",
    )
    assert [one.utterance_id for one in result.plan.requests] == ["u0", "u1", "u2", "u3"]
    assert len({one.key for one in result.plan.requests}) == 4


def test_turns_like_those_of_the_training_stay() -> None:
    words = ((2.0, 4.0), (8.0, 10.0))
    turns = [(start - 0.95, end + 0.45) for start, end in words]
    assert heard(pad(plan_of(*turns), speech_of(*words), TRAINED)) == turns
    loose = [(start - 2.0, end + 2.0) for start, end in words]
    assert pad(plan_of(*loose), speech_of(*words), TRAINED) == Heard(plan_of(*loose))


def test_trimmed_turns_are_those_of_the_training() -> None:
    """Whether borders leave out some of the speech or have much silence: turns grow, or are cut, to the same."""
    speech = speech_of((2.0, 4.0), (8.0, 10.0))
    trained = trim(plan_of((0.5, 5.0), (6.0, 12.0)), speech)
    small = {"lead": MARGIN, "trail": MARGIN, "share": 0.1}
    for turns in (((2.1, 3.9), (8.0, 9.8)), ((1.97, 4.02), (7.98, 10.03)), ((0.5, 5.0), (6.0, 12.0))):
        found = pad(trim(plan_of(*turns), speech), speech, small, tolerance=MARGIN / 2)
        assert found.plan == trained


def test_only_the_side_that_lacks_silence_grows() -> None:
    words = ((2.0, 4.0), (8.0, 10.0))
    turns = [(start - 1.0, end) for start, end in words]
    assert heard(pad(plan_of(*turns), speech_of(*words), TRAINED)) == [(1.0, 4.5), (7.0, 10.5)]


def test_overlapping_and_touching_turns_grow_on_their_outside_alone() -> None:
    turns = ((5.0, 7.0), (6.0, 8.0), (8.0, 9.0))
    assert heard(pad(plan_of(*turns), speech_of((5.0, 9.0)), TRAINED)) == [(4.0, 7.0), (6.0, 8.0), (8.0, 9.5)]


def test_channels_do_not_stand_in_each_others_way() -> None:
    first, second = plan_of((5.0, 7.0), channel=0), plan_of((7.1, 8.0), channel=1)
    both = Plan((*first.requests, *(Request("v", bytes(16), one.source) for one in second.requests)), (), first.files)
    speech = speech_of((5.0, 7.0), channel=0) | speech_of((7.1, 8.0), channel=1)
    assert heard(pad(both, speech, TRAINED)) == [(4.0, 7.5), (6.1, 8.5)]


@given(
    borders=st.lists(st.integers(0, SECONDS * RATE), min_size=2, max_size=16, unique=True).map(sorted),
    lead=st.floats(0, 30),
    trail=st.floats(0, 30),
)
def test_turns_grow_within_the_pauses(borders: list[int], lead: float, trail: float) -> None:
    turns = [(a / RATE, b / RATE) for a, b in zip(borders[::2], borders[1::2], strict=False)]
    grown = heard(pad(plan_of(*turns), speech_of(*turns), {"lead": lead, "trail": trail, "share": 0.5}))
    for (start, end), (wide_start, wide_end) in zip(turns, grown, strict=True):
        assert 0 <= wide_start <= start and end <= wide_end <= SECONDS
    for (before, after), (one, other) in zip(pairwise(grown), pairwise(turns), strict=True):
        middle = (one[1] + other[0]) / 2
        assert before[1] <= middle + 1e-9 and after[0] >= middle - 1 / RATE - 1e-9


@pytest.mark.parametrize("silence", [{}, {"lead": TOLERANCE, "trail": 0.0, "share": 0.1}])
def test_a_model_without_silence_hears_turns_as_they_are(silence: dict[str, float]) -> None:
    """As those do that were trained before it was measured; the recording, which is not there, is not searched."""
    plan = plan_of((2.0, 4.0))
    assert hear(plan, ConcatConfig(audio_silence=silence), pads=True) == Heard(plan)


def test_where_speech_cannot_be_found_turns_stay() -> None:
    plan = plan_of((2.0, 4.0))
    assert pad(plan, {(DIGEST, 0): "is damaged"}, TRAINED) == pad(plan, {(DIGEST, 0): []}, TRAINED) == Heard(plan)


def test_utterances_of_a_corpus_are_not_padded() -> None:
    plan = plan_of((2.0, 4.0))
    config: EmotionConfig = ConcatConfig(audio_silence=TRAINED)
    assert hear(plan, config, pads=False) == Heard(plan)
