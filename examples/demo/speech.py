"""Synthetic speech by espeak-ng: a voice, the manner it speaks in, and the words give a waveform."""

import io
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt
import soundfile as sf
import soxr

SAMPLING_RATE = 16_000
Waveform = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]

_QUANTUM = 64  # 10 significant bits: FLAC stores the zero bits below them for nothing
_SPEECH_FLOOR = 0.02  # amplitude below which the ends of a rendering count as silence
_PEAK = 0.25


@dataclass(frozen=True)
class Voice:
    """One speaker: an espeak-ng voice with its own register and tempo."""

    name: str
    variant: str
    pitch: float = 50.0  # espeak-ng's scale, 0 to 99
    rate: float = 170.0  # words a minute
    tilt: float = 0.0  # dB an octave, around 1 kHz


@dataclass(frozen=True)
class Manner:
    """How a voice departs from its own register."""

    pitch: float = 0.0  # added to the voice's
    spread: float = 100.0  # percent of the voice's pitch range
    rate: float = 1.0  # factor on the voice's
    tilt: float = 0.0  # dB an octave, added to the voice's: vocal effort flattens the spectrum
    drive: float = 0.0  # soft clipping: roughness
    gap: int = 0  # pause between words, units of 10 ms


def speak(words: str, voice: Voice, manner: Manner) -> Waveform:
    """Return the words as (samples,) at 16 kHz, peak 0.25, with no silence at either end."""
    spoken = _shape(_espeak(words, voice, manner), voice.tilt + manner.tilt, manner.drive)
    loud = np.flatnonzero(np.abs(spoken) > _SPEECH_FLOOR * np.abs(spoken).max())
    spoken = spoken[loud[0] : loud[-1] + 1]
    return spoken * (_PEAK / np.abs(spoken).max())


def jitter(manner: Manner, rng: np.random.Generator, amount: float = 1.0) -> Manner:
    """Return the manner as one utterance has it: no two sound the same."""
    return replace(
        manner,
        pitch=manner.pitch + amount * rng.normal(0, 3),
        spread=max(0.0, manner.spread + amount * rng.normal(0, 8)),
        rate=manner.rate * float(np.exp(amount * rng.normal(0, 0.04))),
        tilt=manner.tilt + amount * rng.normal(0, 0.4),
    )


def impression(manner: Manner) -> Vector:
    """Return the valence, arousal and dominance that a manner tells, (3,), about -1 to 1; a made-up rule.

    Melody and a high voice are pleasant and roughness is not; high, fast and effortful is aroused; effort and
    roughness are dominant.
    """
    high, effort, rough = manner.pitch / 32, manner.tilt / 6, manner.drive / 4
    fast, melody = np.log(manner.rate) / np.log(1.3), (manner.spread - 90) / 160
    return np.array(
        [0.5 * melody + 0.5 * high - 0.8 * rough, (high + fast + effort) / 3, 0.6 * effort + 0.2 * rough - 0.2 * high]
    )


def quantize(waveform: Waveform) -> npt.NDArray[np.int16]:
    """Return 16-bit samples of 10 significant bits, which take half the room in FLAC."""
    coarse = np.round(waveform * (32767 / _QUANTUM))
    return np.asarray(np.clip(coarse, -511, 511) * _QUANTUM, dtype=np.int16)


def write_flac(path: Path, waveform: Waveform) -> None:
    """Write mono FLAC at 16 kHz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, quantize(waveform), SAMPLING_RATE, subtype="PCM_16", compression_level=1.0)


def _espeak(words: str, voice: Voice, manner: Manner) -> Waveform:
    pitch = round(min(max(voice.pitch + manner.pitch, 0), 99))
    command = ["espeak-ng", "-m", "--stdout", "-v", voice.variant, "-p", str(pitch)]
    command += ["-s", str(round(voice.rate * manner.rate)), "-g", str(manner.gap)]
    text = f'<prosody range="{round(manner.spread)}%">{escape(words)}</prosody>'
    wav = subprocess.run([*command, text], capture_output=True, check=True).stdout
    rendered, rate = sf.read(io.BytesIO(wav))
    return np.asarray(soxr.resample(rendered, rate, SAMPLING_RATE), dtype=np.float64)


def _shape(waveform: Waveform, tilt: float, drive: float) -> Waveform:
    size = 1 << len(waveform).bit_length()
    hertz = np.clip(np.fft.rfftfreq(size, 1 / SAMPLING_RATE), 125, 8000)
    gain = 10 ** (tilt * np.log2(hertz / 1000) / 20)
    tilted = np.fft.irfft(np.fft.rfft(waveform, size) * gain, size)[: len(waveform)]
    tilted /= np.abs(tilted).max()
    return np.tanh(drive * tilted) / np.tanh(drive) if drive else tilted
