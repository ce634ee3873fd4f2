"""Encoders of functionals: one vector an utterance, known answers on known sounds."""

import threading
from pathlib import Path

import numpy as np
import pytest

from lpgnet.feature_extractors import EncoderError, check_encoder, load_encoder, resolve_spec
from lpgnet.feature_extractors.librosa_prosody import NAMES
from tests.feature_extractors.conftest import voice

RATE = 16_000


def described(waveform: np.ndarray) -> dict[str, float]:
    """The prosody vector by the names of its entries."""
    embedding = load_encoder("librosa:prosody").encode([waveform.astype(np.float32)])[0]
    assert embedding.values.shape == (1, len(NAMES))
    return dict(zip(NAMES, embedding.values[0].tolist(), strict=True))


def buzz(hertz: np.ndarray, loudness: float = 0.1) -> np.ndarray:
    """A tone of ten harmonics with a pitch given for every sample."""
    phase = 2 * np.pi * np.cumsum(hertz) / RATE
    return loudness * np.sum([np.sin(k * phase) / k for k in range(1, 11)], axis=0)


def test_pitch_is_in_semitones_above_60_hertz() -> None:
    found = described(buzz(np.full(2 * RATE, 240.0)))
    assert found["pitch_p50"] == pytest.approx(24.0, abs=0.1)
    assert found["pitch_slope"] == pytest.approx(0.0, abs=0.2)
    assert found["voiced_share"] > 0.95
    assert found["log_seconds"] == pytest.approx(np.log(2), abs=0.02)


def test_a_rising_octave_has_its_slope() -> None:
    found = described(buzz(120.0 * 2 ** np.linspace(0, 1, 2 * RATE)))
    assert found["pitch_slope"] == pytest.approx(6.0, abs=0.3)


def test_ten_times_louder_is_twenty_decibels() -> None:
    quiet, loud = (described(buzz(np.full(RATE, 150.0), loudness)) for loudness in (0.02, 0.2))
    assert loud["energy_mean"] - quiet["energy_mean"] == pytest.approx(20, abs=0.1)
    assert loud["centroid_mean"] == pytest.approx(quiet["centroid_mean"], rel=0.02)


def test_noise_has_no_voice() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    found = described(noise)
    assert found["voiced_share"] < 0.05
    assert found["flatness_mean"] > 10 * described(buzz(np.full(RATE, 150.0)))["flatness_mean"]


def test_three_bursts_are_three_runs() -> None:
    burst = np.concatenate([buzz(np.full(RATE // 4, 150.0)), np.zeros(RATE // 4)])
    assert described(np.tile(burst, 3))["voiced_runs_per_second"] == pytest.approx(2.0, abs=0.1)


def test_silence_and_a_click_are_finite_and_flagged() -> None:
    silence, click = load_encoder("librosa:prosody").encode([np.zeros(RATE, np.float32), np.ones(3, np.float32)])
    assert np.isfinite(silence.values).all() and np.isfinite(click.values).all()
    assert silence.flags == {"silent"} and "padded" in click.flags


def test_one_fingerprint_whatever_a_config_asks_of_other_encoders() -> None:
    plain = resolve_spec("librosa:prosody")
    asked = resolve_spec("librosa:prosody", layers="all", precision="bf16", max_seconds=12.0, modality="audio")
    assert asked == plain
    with pytest.raises(EncoderError, match="one vector an utterance"):
        resolve_spec("librosa:prosody", pooling="none")
    with pytest.raises(EncoderError, match="for audio, it was given for text"):
        resolve_spec("librosa:prosody", modality="text")


def test_opensmile_says_its_license(caplog: pytest.LogCaptureFixture) -> None:
    assert resolve_spec("opensmile:eGeMAPSv02").sampling_rate == RATE
    assert "commercial use needs a license" in caplog.text


def test_opensmile_keeps_the_contract_or_says_how_to_install_it() -> None:
    try:
        import opensmile  # noqa: F401
    except ImportError:
        with pytest.raises(EncoderError, match=r"pip install 'lpgnet\[opensmile\]'"):
            load_encoder("opensmile:eGeMAPSv02")
        return
    assert all(result.passed for result in check_encoder("opensmile:eGeMAPSv02"))
    assert load_encoder("opensmile:eGeMAPSv02").encode([voice(RATE)])[0].values.shape == (1, 88)


def test_processes_compile_one_after_another() -> None:
    """Two that fill numba's cache at once may end with a segmentation fault."""
    fcntl = pytest.importorskip("fcntl")
    import librosa

    load_encoder("librosa:prosody")
    loading = threading.Thread(target=load_encoder, args=("librosa:prosody",))
    with open(Path(librosa.__file__), "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        loading.start()
        loading.join(1.0)
        assert loading.is_alive(), "it waits for whoever compiles"
    loading.join()
