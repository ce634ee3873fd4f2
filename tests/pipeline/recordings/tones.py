"""A language of tones that a tiny Whisper can learn: every word is one pitch, every language one timbre."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RATE = 16_000
PITCHES = (300, 420, 590, 830, 1160, 1620)
WORDS = {
    "en": ("one", "two", "three", "four", "five", "six"),
    "de": ("eins", "zwei", "drei", "vier", "fünf", "sechs"),
}
# What the toy writes without end while it hears this pitch, as large models do at music.
BUZZ_PITCH, BUZZ_WORD = 110, "la"


@dataclass(frozen=True)
class Spoken:
    """A word with its place in a waveform (seconds)."""

    text: str
    start: float
    end: float


def tone(pitch: float, seconds: float, language: str = "en") -> np.ndarray:
    """A word `(samples,)`."""
    moments = np.arange(round(seconds * RATE)) / RATE
    wave = np.sin(2 * np.pi * pitch * moments)
    if language == "de":
        wave += np.sin(2 * np.pi * 2.6 * pitch * moments)
    fade = np.minimum(1.0, np.minimum(np.arange(len(wave)), np.arange(len(wave))[::-1]) / 160)
    return (0.2 * wave * fade).astype(np.float32)


def hiss(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise in which nobody speaks `(samples,)`."""
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def speak(
    numbers: Sequence[int], language: str = "en", *, seed: int = 0, lead: float | None = None
) -> tuple[np.ndarray, list[Spoken]]:
    """Say words by their numbers in `WORDS`, with pauses between: the waveform `(samples,)` and where each word is."""
    random = np.random.default_rng(seed)
    parts = [np.zeros(round((random.uniform(0.05, 0.4) if lead is None else lead) * RATE), np.float32)]
    spoken: list[Spoken] = []
    for number in numbers:
        start = sum(map(len, parts)) / RATE
        parts.append(tone(PITCHES[number] * random.uniform(0.97, 1.03), random.uniform(0.2, 0.35), language))
        spoken.append(Spoken(WORDS[language][number], start, sum(map(len, parts)) / RATE))
        parts.append(np.zeros(round(random.uniform(0.06, 0.3) * RATE), np.float32))
    waveform = np.concatenate(parts)
    return waveform + random.normal(0, 1e-3, len(waveform)).astype(np.float32), spoken
