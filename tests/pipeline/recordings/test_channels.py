"""Channels: speakers or a mix, what bleeds from one into the other, and the channel of a transcript's turns."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.signal import fftconvolve

from lpgnet.pipeline.corpora.audio import describe
from lpgnet.pipeline.corpora.voice_activity import FRAME, Span
from lpgnet.pipeline.recordings.channels import Channels, choose_channels, measure_channels
from lpgnet.pipeline.recordings.transcripts import TimedTurn
from lpgnet.pipeline.recordings.turns import TurnFinder, Turns
from tests.pipeline.recordings.calls import RATE, Call, call, mono

NAMES = ["demo", "conversation"]
BLEEDS = [None, -40.0, -30.0, -28.0, -26.0, -20.0]


def find(
    path: Path, channels: Literal["auto", "mix", "speakers"] = "auto", transcript: str | Path | None = None
) -> Turns:
    return TurnFinder(channels=channels, wants_words=False).find(path, describe(str(path)), transcript)


def measured(path: Path) -> Channels:
    return measure_channels(str(path), describe(str(path)))


def marked(turns: Sequence[TimedTurn], channel: int | None, n_samples: int) -> np.ndarray:
    found = np.zeros(n_samples, bool)
    for turn in turns:
        if turn.channel == channel:
            found[round(turn.start * RATE) : round(turn.end * RATE)] = True
    return found


def wrong(turns: Turns, stereo: Call) -> list[TimedTurn]:
    """Turns in most of which their channel's speaker is silent."""

    def own(turn: TimedTurn) -> float:
        return float(stereo.spoken[turn.channel or 0, round(turn.start * RATE) : round(turn.end * RATE)].mean())

    return [turn for turn in turns.turns if own(turn) < 0.3]


def found_share(turns: Turns, stereo: Call, channel: int) -> float:
    truth = stereo.spoken[channel]
    return float((marked(turns.turns, channel, len(truth)) & truth).sum() / truth.sum())


def check(turns: Turns, stereo: Call, least: float = 0.95) -> None:
    """No turn of the other speaker, and both are found."""
    assert {turn.channel for turn in turns.turns} == {0, 1}
    assert not wrong(turns, stereo)
    assert min(found_share(turns, stereo, channel) for channel in (0, 1)) >= least


@pytest.mark.parametrize("bleed", BLEEDS)
@pytest.mark.parametrize("name", NAMES)
def test_bleed_is_no_turn(name: str, bleed: float | None, tmp_path: Path) -> None:
    stereo = call(name).with_bleed(bleed)
    turns = find(stereo.write(tmp_path / "call.wav"))
    check(turns, stereo)
    assert turns.choices[0].startswith("channels: 2, each is a speaker (channel 1 is up to ")
    if bleed is not None and bleed >= -30:
        assert any(choice.startswith("bleed: ") for choice in turns.choices), "what was left out is told"
    elif bleed is None:
        assert not any(choice.startswith("bleed: ") for choice in turns.choices), turns.choices


@pytest.mark.parametrize("delay", [0.001, 0.005, 0.02, 0.06])
@pytest.mark.parametrize("name", NAMES)
def test_bleed_may_come_late(name: str, delay: float, tmp_path: Path) -> None:
    stereo = call(name).with_bleed(-26, delay)
    check(find(stereo.write(tmp_path / "call.wav")), stereo)


@pytest.mark.parametrize("bleed", [-20.0, -26.0, -30.0])
@pytest.mark.parametrize("name", NAMES)
def test_bleed_in_noise(name: str, bleed: float, tmp_path: Path) -> None:
    stereo = call(name).with_bleed(bleed).with_noise(-45)
    check(find(stereo.write(tmp_path / "call.wav")), stereo, least=0.9)


@pytest.mark.parametrize("bleed", [None, -28.0])
@pytest.mark.parametrize("name", NAMES)
def test_both_at_once_stay_on_both(name: str, bleed: float | None, tmp_path: Path) -> None:
    stereo = call(name).with_overlap().with_bleed(bleed)
    assert stereo.spoken.all(axis=0).mean() > 0.15
    check(find(stereo.write(tmp_path / "call.wav")), stereo)


@pytest.mark.parametrize("name", NAMES)
def test_a_quiet_speaker_stays(name: str, tmp_path: Path) -> None:
    """12 dB quieter than the other, who bleeds into their channel at -28 dB, and speaks at the same time."""
    stereo = call(name).with_overlap().with_gains(-12, 0).with_bleed(-28)
    check(find(stereo.write(tmp_path / "call.wav")), stereo)


@pytest.mark.parametrize("name", NAMES)
def test_channels_swapped_are_speakers_swapped(name: str, tmp_path: Path) -> None:
    stereo = call(name).with_bleed(-26)
    turns = find(stereo.write(tmp_path / "call.wav")).turns
    swapped = find(stereo.swapped().write(tmp_path / "swapped.wav")).turns
    assert sorted((t.start, t.end, t.channel) for t in turns) == sorted(
        (t.start, t.end, 1 - (t.channel or 0)) for t in swapped
    )


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bleed=st.floats(-40, -18),
    delay=st.floats(0, 0.04),
    gains=st.tuples(st.floats(-12, 0), st.floats(-12, 0)),
    swap=st.booleans(),
)
def test_any_call_has_its_two_speakers(
    tmp_path: Path, bleed: float, delay: float, gains: tuple[float, float], swap: bool
) -> None:
    stereo = call("demo").with_bleed(bleed, delay).with_gains(*gains)
    stereo = stereo.swapped() if swap else stereo
    held = measured(stereo.write(tmp_path / "call.wav"))
    assert held.are_speakers
    for channel in (0, 1):
        lost = np.repeat(held.bleed[channel], FRAME)[: stereo.spoken.shape[1]]
        own, others = stereo.spoken[channel], stereo.spoken[1 - channel]
        assert (lost & own).sum() <= 0.02 * own.sum(), "what the speaker says stays"
        assert (lost & others).sum() >= 0.95 * others.sum(), "what the other says goes"


@pytest.mark.parametrize("gain", [1.0, 0.1, 2.0])
@pytest.mark.parametrize("name", NAMES)
def test_a_mono_file_twice_is_that_file(name: str, gain: float, tmp_path: Path) -> None:
    waveform = mono(name)
    soundfile.write(tmp_path / "mono.wav", waveform * (1 + gain) / 2, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "twice.wav", np.stack([waveform, gain * waveform], axis=1), RATE, subtype="FLOAT")
    alone, twice = find(tmp_path / "mono.wav"), find(tmp_path / "twice.wav")
    assert twice.turns == tuple(replace(turn, channel=None) for turn in alone.turns)
    assert twice.choices[0].startswith("channels: 2, mixed (") and "correlation 1.00" in twice.choices[0]
    assert not any(choice.startswith("channels") for choice in alone.choices), "one channel is no choice"


def room(waveform: np.ndarray) -> np.ndarray:
    """Two microphones in a room of 0.3 s of reverberation."""
    random = np.random.default_rng(0)
    fading = 10 ** (-3 * np.arange(8000) / (0.3 * RATE))
    echoes = random.standard_normal((2, 8000)) * fading * 0.1
    echoes[0, 20], echoes[1, 60] = 1, 0.8
    return np.stack([fftconvolve(waveform, echo)[: len(waveform)] for echo in echoes])


@pytest.mark.parametrize(
    "kind", ["delay", "noise", "inverse", "room", "one channel", "noise in the other", "one speaker", "places"]
)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_a_mix(name: str, kind: str, tmp_path: Path) -> None:
    waveform, random = mono(name), np.random.default_rng(0)
    first, second = call(name).sound
    sounds = {
        "delay": [waveform, np.roll(waveform, 320)],
        "noise": [waveform, waveform] + 0.003 * random.standard_normal((2, len(waveform))),
        "inverse": [waveform, -waveform],
        "room": room(waveform),
        "one channel": [waveform, 0 * waveform],
        "noise in the other": [waveform, 0.001 * random.standard_normal(len(waveform))],
        "one speaker": [first, 0.05 * first],
        "places": [first + 0.5 * second, 0.5 * first + second],
    }
    soundfile.write(tmp_path / "call.wav", np.stack(sounds[kind], axis=1), RATE, subtype="FLOAT")
    assert not measured(tmp_path / "call.wav").are_speakers


def test_a_silent_channel_has_no_turns(tmp_path: Path) -> None:
    first, _ = call("demo").sound
    for number, other in enumerate((np.zeros_like(first), 0.04 * first)):
        stereo = replace(call("demo"), sound=np.stack([first, other]))
        path = stereo.write(tmp_path / f"{number}.wav")
        assert {turn.channel for turn in find(path, "speakers").turns} == {0}
        assert {turn.channel for turn in find(path, "auto").turns} == {None}


def test_more_than_two_channels(tmp_path: Path) -> None:
    """Three microphones, each of which hears the others a little, and one that nobody uses."""
    waveform, parts = mono("demo"), np.zeros((3, len(mono("demo"))), np.float32)
    third = len(waveform) // 3
    for number in range(3):
        parts[number, number * third : (number + 1) * third] = waveform[number * third : (number + 1) * third]
    heard = parts + 0.05 * (parts.sum(axis=0) - parts)
    soundfile.write(tmp_path / "meeting.wav", np.vstack([heard, 0 * waveform]).T, RATE, subtype="FLOAT")
    turns = find(tmp_path / "meeting.wav").turns
    assert {turn.channel for turn in turns} == {0, 1, 2}
    assert all(turn.start >= (turn.channel or 0) * third / RATE - 0.5 for turn in turns)
    assert all(turn.end <= ((turn.channel or 0) + 1) * third / RATE + 0.5 for turn in turns)


def test_many_channels_are_mixed(tmp_path: Path) -> None:
    waveform = mono("demo")[: 5 * RATE]
    soundfile.write(tmp_path / "array.wav", np.tile(waveform[:, None], 9), RATE)
    turns = find(tmp_path / "array.wav")
    assert {turn.channel for turn in turns.turns} == {None}
    assert turns.choices[0] == "channels: 9, mixed (told apart are at most 8)"
    assert {turn.channel for turn in find(tmp_path / "array.wav", "speakers").turns} == set(range(9))


def test_a_word_alone(tmp_path: Path) -> None:
    """Less than a frame, silence, and half a second."""
    for number, sound in enumerate((np.ones((100, 2)), np.zeros((8000, 2)), mono("demo")[8000:16_000, None] * [1, 1])):
        soundfile.write(tmp_path / f"{number}.wav", sound, RATE)
        held = measured(tmp_path / f"{number}.wav")
        assert not held.are_speakers and held.figures and not held.bleed.any()


@pytest.mark.filterwarnings("error")
def test_samples_that_have_no_square(tmp_path: Path) -> None:
    sound = np.stack([mono("demo")[: 5 * RATE], 1e30 * mono("demo")[: 5 * RATE]], axis=1)
    soundfile.write(tmp_path / "loud.wav", sound, RATE, subtype="FLOAT")
    held = measured(tmp_path / "loud.wav")
    assert np.isfinite(held.levels).all() and np.isfinite(held.louder).all() and held.figures
    assert find(tmp_path / "loud.wav", "speakers").turns


@pytest.mark.parametrize("channels", ["auto", "speakers"])
def test_turns_of_a_transcript_take_their_channel(channels: Literal["auto", "speakers"], tmp_path: Path) -> None:
    stereo = call("demo").with_bleed(-28)
    path = stereo.write(tmp_path / "call.wav")
    transcript = Path("examples/demo/recording/recording.srt")
    turns = find(path, channels, transcript).turns
    speakers = {(turn.speaker, turn.channel) for turn in turns}
    assert speakers == {("Ann", 0), ("Bob", 1)}, "the transcript names the speakers"
    assert len(turns) == 24
    assert {turn.channel for turn in find(path, "mix", transcript).turns} == {None}


def test_a_mix_leaves_a_transcript_alone() -> None:
    recording = Path("examples/demo/recording/recording.flac")
    turns = find(recording, "speakers", recording.with_suffix(".srt")).turns
    assert {turn.channel for turn in turns} == {None}, "one channel has no speaker of its own"


def test_turns_without_speakers_are_named_by_channels(tmp_path: Path) -> None:
    path = call("demo").write(tmp_path / "call.wav")
    (tmp_path / "call.srt").write_text(
        "1\n00:00:00,600 --> 00:00:02,300\nyes\n\n2\n00:00:07,800 --> 00:00:09,500\nno\n"
    )
    turns = find(path, "auto", tmp_path / "call.srt").turns
    assert [(turn.speaker, turn.channel, turn.text) for turn in turns] == [
        ("channel 1", 0, "yes"),
        ("channel 2", 1, "no"),
    ]


def test_channels_chosen_by_hand() -> None:
    speech = [[Span(0, 4), Span(6, 7)], [Span(1, 1.5), Span(4.5, 5.5)]]
    turns = [
        TimedTurn(0, 4, None, "Ann"),
        TimedTurn(1, 1.5, None, "Bob"),
        TimedTurn(4.5, 5.5, None, "Bob"),
        TimedTurn(6, 6.4, None, "Bob"),
        TimedTurn(8, 9, None, "Ann"),
        TimedTurn(0.5, 2, None),
    ]
    # Both speak in the second, Bob's, who is heard on the other; only one channel speaks in the fourth, whoever
    # it is said to be; nobody speaks in the fifth; the last has no speaker to go by.
    assert choose_channels(turns, speech) == [0, 1, 1, 0, None, 0]


@given(
    st.lists(st.tuples(st.floats(0, 50), st.floats(0.1, 5), st.sampled_from([None, "Ann", "Bob"])), min_size=1),
    st.lists(st.floats(0.1, 3), min_size=2, max_size=12),
)
def test_choosing_does_not_depend_on_the_order_of_channels(
    drawn: list[tuple[float, float, str | None]], lengths: list[float]
) -> None:
    borders = np.cumsum(lengths).tolist()
    spans = [Span(start, end) for start, end in zip(borders[::2], borders[1::2], strict=False)]
    others = [Span(span.start + 1.7, span.end + 1.9) for span in spans][:1]
    turns = [TimedTurn(start, start + seconds, None, speaker) for start, seconds, speaker in drawn]
    one, other = choose_channels(turns, [spans, others]), choose_channels(turns, [others, spans])
    for chosen, swapped in zip(one, other, strict=True):
        assert (chosen is None) == (swapped is None)


def test_the_whole_is_never_in_memory(tmp_path: Path) -> None:
    """What is measured of a recording takes 15 numbers of two bytes every 32 ms."""
    stereo = call("conversation")
    held = measured(stereo.write(tmp_path / "call.wav"))
    assert held.levels.nbytes == 2 * 15 * -(-stereo.sound.shape[1] // FRAME) * 2


def test_short_answers_under_one_who_talks_on_keep_their_channel() -> None:
    answers = [TimedTurn(start, start + 0.6, None, "Bob") for start in (1.0, 3.0, 5.0, 7.0)]
    turns = [TimedTurn(0.0, 10.0, None, "Ann"), *answers, TimedTurn(10.5, 11.0, None, "Bob")]
    bob = [Span(turn.start + 0.1, turn.start + 0.5) for turn in answers] + [Span(10.5, 11.0)]
    assert choose_channels(turns, [[Span(0.0, 10.0)], bob]) == [0, 1, 1, 1, 1, 1]


def test_a_recording_without_a_sample_at_the_lower_rate_is_mixed(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((1, 2)), 48_000)
    assert not measure_channels(str(tmp_path / "a.wav"), describe(str(tmp_path / "a.wav"))).are_speakers
