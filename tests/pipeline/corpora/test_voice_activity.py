"""Voice activity: the network against the package's own, the stretches it gives, and two recordings with a truth."""

import csv
import weakref
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from lpgnet.pipeline.common.voice_activity import VoiceActivityConfig
from lpgnet.pipeline.config import PredictionConfig
from lpgnet.pipeline.corpora import voice_activity
from lpgnet.pipeline.corpora.audio import describe, segment_of
from lpgnet.pipeline.corpora.voice_activity import (
    FRAME_SECONDS,
    SileroNetwork,
    Span,
    find_speech,
    speech_probabilities,
    speech_spans,
)

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "examples" / "demo" / "recording"
CONVERSATION = ROOT / "tests" / "data" / "conversation"
SETTINGS = VoiceActivityConfig()
# The package's JIT file names the weights so.
JIT_NAMES = {
    "stft_conv.weight": "_model.stft.forward_basis_buffer",
    "final_conv.weight": "_model.decoder.decoder.2.weight",
    "final_conv.bias": "_model.decoder.decoder.2.bias",
    **{
        f"conv{n + 1}.{kind}": f"_model.encoder.{n}.reparam_conv.{kind}"
        for n in range(4)
        for kind in ("weight", "bias")
    },
    **{
        f"lstm_cell.{kind}_l0": f"_model.decoder.rnn.{kind}"
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    },
}


def speech(path: Path) -> list[Span]:
    return find_speech(segment_of(str(path), describe(str(path)), start=None, end=None, channel=None), SETTINGS)


def frames(spans: Iterable[tuple[float, float]], seconds: float) -> np.ndarray:
    """Speech or not, in frames of 10 ms."""
    marked = np.zeros(round(seconds * 100), bool)
    for start, end in spans:
        marked[round(start * 100) : round(end * 100)] = True
    return marked


def test_the_defaults_of_the_command_are_those_that_were_tuned() -> None:
    assert PredictionConfig().vad == SETTINGS


def test_a_block_through_the_network_is_the_package_frame_by_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the weights of the package's streaming model, which is another training, the probabilities are its own."""
    from silero_vad import load_silero_vad

    theirs = load_silero_vad()
    weights = theirs.state_dict()
    network = SileroNetwork()
    network.load_state_dict(
        {ours: weights[name].reshape(network.state_dict()[ours].shape) for ours, name in JIT_NAMES.items()}
    )
    waveform, _ = soundfile.read(DEMO / "recording.flac", frames=5 * 16_000, dtype="float32")
    padded = np.pad(waveform, (0, -len(waveform) % 512)).reshape(-1, 512)
    expected = [theirs(torch.from_numpy(frame), 16_000).item() for frame in padded]
    monkeypatch.setattr(voice_activity, "load_network", lambda: network.eval())
    np.testing.assert_allclose(speech_probabilities([waveform]), expected, atol=1e-4)


def test_blocks_join_without_a_seam() -> None:
    waveform, _ = soundfile.read(DEMO / "recording.flac", frames=3 * 16_000, dtype="float32")
    blocks = [waveform[:7], waveform[7:7000], waveform[7000:7001], waveform[7001:]]
    np.testing.assert_allclose(speech_probabilities(blocks), speech_probabilities([waveform]), atol=1e-6)


def test_the_demo_recording_has_its_turns_found() -> None:
    seconds = soundfile.info(DEMO / "recording.flac").duration
    with (DEMO / "recording.truth.csv").open(newline="") as file:
        truth = frames(((float(row["start"]), float(row["end"])) for row in csv.DictReader(file)), seconds)
    found = frames(((span.start, span.end) for span in speech(DEMO / "recording.flac")), seconds)
    assert (found & truth).sum() >= 0.99 * truth.sum()
    # The pauses between its turns last half a second: padding, and the time it takes to be sure, are much of them.
    assert (found & ~truth).sum() <= 0.19 * truth.sum()


def test_a_real_conversation_agrees_with_its_reference() -> None:
    lines = [line.split() for line in (CONVERSATION / "sample.rttm").read_text().splitlines()]
    truth = frames(((float(line[3]), float(line[3]) + float(line[4])) for line in lines), 30.0)
    found = frames(((span.start, span.end) for span in speech(CONVERSATION / "sample.wav")), 30.0)
    assert (found == truth).mean() >= 0.95


def test_a_part_of_a_recording_has_times_of_the_whole() -> None:
    path = DEMO / "recording.flac"
    spans = find_speech(segment_of(str(path), describe(str(path)), start=20.0, end=30.0, channel=None), SETTINGS)
    assert spans and all(20.0 <= span.start < span.end <= 30.0 for span in spans)


def pause(seconds: float, folder: Path) -> list[Span]:
    """The stretches of two sentences of the demo with a pause between them."""
    waveform, rate = soundfile.read(DEMO / "recording.flac", dtype="float32")
    first, second = (
        waveform[round(0.55 * rate) : round(2.33 * rate)],
        waveform[round(7.706 * rate) : round(9.54 * rate)],
    )
    silence = np.zeros(rate, np.float32)
    between = silence[: round(seconds * rate)]
    soundfile.write(folder / "pause.wav", np.concatenate([silence, first, between, second, silence]), rate)
    return speech(folder / "pause.wav")


@pytest.mark.parametrize(("seconds", "n_turns"), [(0.2, 1), (0.35, 1), (0.55, 2), (1.0, 2)])
def test_a_turn_ends_at_a_pause_of_about_half_a_second(seconds: float, n_turns: int, tmp_path: Path) -> None:
    assert len(pause(seconds, tmp_path)) == n_turns


@pytest.mark.parametrize("decibels", [0, -20, -40, -50])
@pytest.mark.parametrize("path", [DEMO / "recording.flac", CONVERSATION / "sample.wav"], ids=["demo", "conversation"])
def test_quiet_speech_is_found(path: Path, decibels: float, tmp_path: Path) -> None:
    waveform, rate = soundfile.read(path, dtype="float32")
    soundfile.write(tmp_path / "quiet.wav", waveform * 10 ** (decibels / 20), rate, subtype="FLOAT")
    seconds = len(waveform) / rate
    loud, quiet = (
        frames(((span.start, span.end) for span in speech(file)), seconds) for file in (path, tmp_path / "quiet.wav")
    )
    assert (loud == quiet).mean() >= 0.98


@pytest.mark.parametrize("decibels", [0, -20, -40])
def test_a_few_quiet_seconds_are_found(decibels: float, tmp_path: Path) -> None:
    """3.3 s of a conversation in five minutes of faint noise."""
    waveform, rate = soundfile.read(CONVERSATION / "sample.wav", dtype="float32")
    whole = 1e-5 * np.random.default_rng(0).standard_normal(300 * rate)
    whole[100 * rate : 100 * rate + round(3.3 * rate)] += waveform[round(11 * rate) :][: round(3.3 * rate)] * 10 ** (
        decibels / 20
    )
    soundfile.write(tmp_path / "short.wav", whole, rate, subtype="FLOAT")
    found = speech(tmp_path / "short.wav")
    assert sum(span.seconds for span in found) >= 3.0
    assert all(99.5 <= span.start < span.end <= 104.0 for span in found)


@pytest.mark.parametrize("level", [1e-6, 1e-4, 0.01, 0.3])
def test_noise_is_no_speech_however_loud_it_is_made(level: float, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    hum = np.sin(2 * np.pi * 50 * np.arange(160_000) / 16_000)
    soundfile.write(tmp_path / "noise.wav", level * (random.standard_normal(160_000) + hum), 16_000, subtype="FLOAT")
    assert speech(tmp_path / "noise.wav") == []


@given(st.lists(st.floats(0, 10), min_size=1, max_size=50))
def test_what_is_made_louder_is_not_made_too_loud(energies: list[float]) -> None:
    gain = voice_activity._gain(np.array(energies, np.float32))
    assert 1 <= gain <= voice_activity.MOST_GAIN
    assert gain == 1 or gain**2 * np.quantile(energies, 0.95) <= 0.05**2 * 1.01


def test_silence_holds_no_speech(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(32_000), 16_000)
    assert speech(tmp_path / "silence.wav") == []


def test_stretches_worked_out_by_hand() -> None:
    high, between, low = 0.9, 0.55, 0.1
    settings = VoiceActivityConfig(threshold=0.6, release=0.5, min_speech=0.04, min_silence=0.05, padding=0.01)
    values = np.array([low, between, high, between, low, high, low, low, low, high, low, low], np.float32)
    # Frames 2 and 3 begin and hold; the gap of frame 4 is too short to end anything; frame 9 alone is too short.
    (span,) = speech_spans(values, settings, seconds=12 * FRAME_SECONDS)
    assert span.start == pytest.approx(2 * FRAME_SECONDS - 0.01)
    assert span.end == pytest.approx(6 * FRAME_SECONDS + 0.01)


@given(
    values=st.lists(st.floats(0, 1), max_size=60),
    release=st.floats(0.1, 0.5),
    min_silence=st.floats(0, 0.3),
    padding=st.floats(0, 0.3),
)
def test_stretches_are_in_order_and_inside(
    values: list[float], release: float, min_silence: float, padding: float
) -> None:
    seconds = len(values) * FRAME_SECONDS
    settings = VoiceActivityConfig(0.5, release, 0.05, min_silence, padding)
    spans = speech_spans(np.array(values, np.float32), settings, seconds=seconds)
    times = [time for span in spans for time in (span.start, span.end)]
    assert times == sorted(times)
    assert all(0 <= time <= seconds for time in times)
    assert all(span.seconds >= settings.min_speech for span in spans)


def test_no_more_than_a_block_is_held() -> None:
    """Each block is let go of before the second one after it is read."""
    alive: list[weakref.ref[np.ndarray]] = []

    def blocks() -> Iterable[np.ndarray]:
        for _ in range(5):
            block = np.zeros(16_000, np.float32)
            alive.append(weakref.ref(block))
            yield block
            del block
            assert sum(ref() is not None for ref in alive) <= 2

    assert len(speech_probabilities(blocks())) == 157
