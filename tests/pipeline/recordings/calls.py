"""Stereo calls made out of the demo's synthetic recording and of a real telephone conversation, by their reference."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).parents[3]
RATE = 16_000
# Samples over which a channel is faded in and out, so that no click is heard.
FADE = 80


@dataclass(frozen=True)
class Call:
    """A call of two speakers: `sound` is (2, samples), `spoken` (2, samples) tells who speaks on which channel."""

    sound: np.ndarray
    spoken: np.ndarray

    def swapped(self) -> Call:
        """The same with the channels the other way round."""
        return Call(self.sound[::-1], self.spoken[::-1])

    def with_bleed(self, decibels: float | None, delay: float = 0.0) -> Call:
        """Each speaker is heard in the other channel too, `delay` seconds later."""
        if decibels is None:
            return self
        other = np.roll(self.sound[::-1], round(delay * RATE), axis=1)
        return replace(self, sound=self.sound + 10 ** (decibels / 20) * other)

    def with_noise(self, decibels: float) -> Call:
        """White noise in both channels, each its own, below the loudest sample."""
        noise = np.random.default_rng(0).standard_normal(self.sound.shape)
        level = np.abs(self.sound).max() * 10 ** (decibels / 20)
        return replace(self, sound=self.sound + level * noise)

    def with_gains(self, first: float, second: float) -> Call:
        """Channels that are louder or quieter by some decibels."""
        return replace(self, sound=self.sound * 10 ** (np.array([[first], [second]]) / 20))

    def with_overlap(self) -> Call:
        """The second speaker begins 3.3 s earlier, so that both speak at once here and there."""
        sound, spoken = self.sound.copy(), self.spoken.copy()
        for values in (sound, spoken):
            values[1] = np.roll(values[1], -round(3.3 * RATE))
        return Call(sound, spoken)

    def write(self, path: Path) -> Path:
        """Write it as a stereo wav of floats."""
        soundfile.write(path, self.sound.T, RATE, subtype="FLOAT")
        return path


def _references(name: str) -> list[tuple[float, float, str]]:
    if name == "demo":
        with (ROOT / "examples/demo/recording/recording.truth.csv").open(newline="") as file:
            return [(float(row["start"]), float(row["end"]), row["speaker"]) for row in csv.DictReader(file)]
    lines = [line.split() for line in (ROOT / "tests/data/conversation/sample.rttm").read_text().splitlines()]
    return [(float(line[3]), float(line[3]) + float(line[4]), line[7]) for line in lines]


@cache
def mono(name: str) -> np.ndarray:
    """The recording that a call is made of, (samples,)."""
    files = {"demo": "examples/demo/recording/recording.flac", "conversation": "tests/data/conversation/sample.wav"}
    waveform: np.ndarray = soundfile.read(ROOT / files[name], dtype="float32")[0]
    return waveform


@cache
def call(name: str) -> Call:
    """`demo` or `conversation` with each speaker in a channel; where both speak, both channels hold it."""
    waveform, references = mono(name), _references(name)
    speakers = sorted({speaker for _, _, speaker in references})
    spoken = np.zeros((2, len(waveform)), bool)
    for start, end, speaker in references:
        spoken[speakers.index(speaker), round(start * RATE) : round(end * RATE)] = True
    gate = np.stack([np.convolve(part, np.ones(FADE) / FADE, "same") for part in spoken.astype(np.float32)])
    return Call((waveform * gate).astype(np.float32), spoken)
