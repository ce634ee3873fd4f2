"""The channels of a recording: whether each is a speaker or all are one mix, and what of one is heard in another.

All of it is told from the power of each channel in frames and bands. Two microphones, or the two ends of a call, hold
two speakers if now the one and now the other is clearly louder; the same sound twice, however unequal, has one
difference throughout. Where only one speaks, what the other channel holds is bleed, which so shows how loud it is.
Power, unlike the waveform, bears delays, echo, and what codecs do to a waveform.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, combinations

import numpy as np
from scipy.ndimage import distance_transform_edt, maximum_filter1d, uniform_filter1d

from lpgnet.pipeline.common.voice_activity import VoiceActivityConfig
from lpgnet.pipeline.corpora.audio import AudioInfo, Segment, read_blocks, segment_of
from lpgnet.pipeline.corpora.voice_activity import (
    FRAME,
    FRAME_SECONDS,
    SAMPLING_RATE,
    Span,
    probabilities_of,
    spans_of,
)
from lpgnet.pipeline.recordings.transcripts import TimedTurn

# More are no conversation, and every two are compared.
MOST_CHANNELS = 8
# Decoded at once, of each channel (seconds).
BLOCK_SECONDS = 10.0
# Borders of the bands (Hz): 100 Hz to 7.5 kHz.
_BORDERS = 100 * (4 / 3) ** np.arange(16)
# What power is never below (dB); full scale stands near 0.
_LEAST_LEVEL = -120.0
# Louder samples are taken for this loud ones; full scale is 1.
_MOST_SAMPLE = 100.0
# The quietest frames of a channel are its noise, the loudest its speaker. A frame is active if it is so much louder
# than the noise, and no more than so much quieter than the speaker (dB).
_NOISE_QUANTILE, _LOUD_QUANTILE = 0.1, 0.95
_ABOVE_NOISE, _BELOW_LOUD = 6.0, 25.0
# Channels are compared over this many frames (0.3 s), so that delays between them do not count.
_COMPARED_FRAMES = 9
# A speaker has at least this share of the active frames, is louder by so much in their own channel, and the two
# speakers together by so much (dB).
_LEAST_SHARE = 0.05
_LOUDER, _LOUDER_TOGETHER = 6.0, 20.0
# Bleed is at most so much louder than it usually is (dB), and so many frames before or after its source.
_MARGIN = 6.0
_DELAY_FRAMES = 3
# Frames that power is averaged over (0.1 s) where it is told whose it is.
_AVERAGED_FRAMES = 3
# The loudest frames of a speaker tell the bleed; in the others it may lie below the noise.
_TELLING_QUANTILE = 0.75
# A frame is bleed if less than this share of its power is not, and most of the frames around it are bleed.
_OWN_SHARE = 0.2
_AROUND_FRAMES = 11

_WINDOW = np.hanning(FRAME + 1)[:-1].astype(np.float32)
_BINS = np.fft.rfftfreq(FRAME, 1 / SAMPLING_RATE)
# (bins, bands), scaled so that a sine at full scale has about 0 dB.
_BANDS = ((_BINS[:, None] >= _BORDERS[:-1]) & (_BINS[:, None] < _BORDERS[1:])).astype(np.float32) * 8 / FRAME**2


@dataclass(frozen=True, eq=False)
class Channels:
    """What the channels of a recording hold.

    Attributes:
        levels: power (dB) `(channels, bands, frames)`, in the frames of voice activity.
        correlation: of the samples of each two channels `(channels, channels)`.
    """

    levels: np.ndarray
    correlation: np.ndarray

    @cached_property
    def loudness(self) -> np.ndarray:
        """Power of all bands together (dB) `(channels, frames)`."""
        return _decibels(np.stack([sum(_power(band) for band in levels) for levels in self.levels]))

    @cached_property
    def active(self) -> np.ndarray:
        """Where a channel holds more than noise, bool `(channels, frames)`."""
        loud = np.quantile(self.loudness, _LOUD_QUANTILE, axis=1, keepdims=True)
        active: np.ndarray = self.loudness > np.maximum(self._noise + _ABOVE_NOISE, loud - _BELOW_LOUD)
        return active

    @property
    def _noise(self) -> np.ndarray:
        """How loud each channel is where nobody speaks (dB) `(channels, 1)`."""
        noise: np.ndarray = np.quantile(self.loudness, _NOISE_QUANTILE, axis=1, keepdims=True)
        return noise

    @cached_property
    def _compared(self) -> np.ndarray:
        """Loudness to compare: averaged, and nowhere below what noise lets be seen (dB) `(channels, frames)`."""
        averaged = _decibels(uniform_filter1d(_power(self.loudness), _COMPARED_FRAMES, axis=1))
        compared: np.ndarray = np.maximum(averaged, self._noise + _ABOVE_NOISE / 2)
        return compared

    @cached_property
    def heard(self) -> tuple[int, ...]:
        """The channels that hold anything but noise."""
        return tuple(np.flatnonzero(self.active.any(axis=1)).tolist())

    @cached_property
    def louder(self) -> np.ndarray:
        """By how much each channel is louder than each other where it is so at its most (dB) `(channels, channels)`."""
        louder = np.zeros((len(self.levels), len(self.levels)))
        for one, other in combinations(self.heard, 2):
            either = self.active[one] | self.active[other]
            difference = (self._compared[one] - self._compared[other])[either]
            least, louder[one, other] = np.quantile(difference, [_LEAST_SHARE, 1 - _LEAST_SHARE])
            louder[other, one] = -least
        return louder

    @cached_property
    def closest(self) -> tuple[int, int] | None:
        """The two channels that differ least; None where only one of them holds anything."""
        pairs = combinations(self.heard, 2)
        return min(pairs, key=lambda pair: self.louder[pair] + self.louder[pair[::-1]], default=None)

    @property
    def are_speakers(self) -> bool:
        """Whether each channel that holds anything is a speaker."""
        louder = self.louder
        return self.closest is not None and all(
            min(louder[pair], louder[pair[::-1]]) >= _LOUDER and louder[pair] + louder[pair[::-1]] >= _LOUDER_TOGETHER
            for pair in combinations(self.heard, 2)
        )

    @property
    def figures(self) -> str:
        """What tells it, for people."""
        if self.closest is None:
            return "only one of them holds more than noise" if self.heard else "none of them holds more than noise"
        one, other = self.closest
        first, second = self.louder[one, other], self.louder[other, one]
        return (
            f"channel {one + 1} is up to {first:.0f} dB louder than channel {other + 1}, which is up to {second:.0f} "
            f"dB louder than it; correlation {self.correlation[one, other]:.2f}"
        )

    @cached_property
    def bleed(self) -> np.ndarray:
        """Where each channel holds nothing but what is heard of others, bool `(channels, frames)`."""
        return np.stack([self._bleed(channel) for channel in range(len(self.levels))])

    def _bleed(self, channel: int) -> np.ndarray:
        sources = [other for other in self.heard if channel in self.heard and self.louder[other, channel] >= _LOUDER]
        if not sources:
            return np.zeros(self.levels.shape[2], bool)
        leaks = {source: self._leaks(source, channel) for source in sources}
        # Sums over the bands `(frames,)`: what is more than noise, and what of it the others do not explain.
        total, own = np.zeros((2, self.levels.shape[2]), np.float32)
        for band in range(self.levels.shape[1]):
            excess = self._excess(channel, band)
            explained = [_power(self._reach(source, band) + leak[band] + _MARGIN) for source, leak in leaks.items()]
            total += excess
            own += np.maximum(excess - np.max(explained, axis=0), 0)
        near = [maximum_filter1d(self._louder_now(source, channel), 2 * _DELAY_FRAMES + 1) for source in sources]
        foreign = np.any(near, axis=0) & (own < _OWN_SHARE * total)
        foreign = _as_nearest(foreign, decided=foreign | self.active[channel])
        most: np.ndarray = uniform_filter1d(foreign.astype(np.float32), _AROUND_FRAMES) > 0.5
        return most

    def _louder_now(self, source: int, channel: int) -> np.ndarray:
        """Where the source speaks and is nearer to being at its most than the other, bool `(frames,)`."""
        most, together = self.louder[source, channel], self.louder[source, channel] + self.louder[channel, source]
        least = most - max(together, _LOUDER_TOGETHER) / 2
        louder: np.ndarray = self.active[source] & (self._compared[source] - self._compared[channel] > least)
        return louder

    def _leaks(self, source: int, channel: int) -> np.ndarray:
        """How loud a source is in another channel, against itself (dB) `(bands,)`."""
        alone = self._louder_now(source, channel)
        leaks = np.array([self._leak(source, channel, band, alone) for band in range(self.levels.shape[1])])
        seen = leaks > _LEAST_LEVEL
        # In a band where noise hides it, it is taken to be what it is in others.
        return np.where(seen, leaks, np.median(leaks[seen]) if seen.any() else _LEAST_LEVEL).astype(np.float32)

    def _leak(self, source: int, channel: int, band: int, alone: np.ndarray) -> float:
        reach = self._reach(source, band)[alone]
        if not reach.size:
            return _LEAST_LEVEL
        telling = reach >= np.quantile(reach, _TELLING_QUANTILE)
        bled = self._excess(channel, band)[alone][telling]
        return float(np.median(_decibels(bled) - reach[telling])) if np.median(bled) > 0 else _LEAST_LEVEL

    def _averaged(self, channel: int, band: int) -> np.ndarray:
        averaged: np.ndarray = uniform_filter1d(_power(self.levels[channel, band]), _AVERAGED_FRAMES)
        return averaged

    def _excess(self, channel: int, band: int) -> np.ndarray:
        """Power that is more than noise `(frames,)`."""
        noise = np.quantile(self.levels[channel, band].astype(np.float32), _NOISE_QUANTILE) + _ABOVE_NOISE
        excess: np.ndarray = np.maximum(self._averaged(channel, band) - _power(noise), 0)
        return excess

    def _reach(self, source: int, band: int) -> np.ndarray:
        """Level of a source where its bleed may be heard (dB) `(frames,)`."""
        reach: np.ndarray = maximum_filter1d(_decibels(self._averaged(source, band)), 2 * _DELAY_FRAMES + 1)
        return reach


def _as_nearest(values: np.ndarray, *, decided: np.ndarray) -> np.ndarray:
    """Values `(frames,)` with those that are not decided taken from the nearest that is."""
    if not decided.any():
        return values
    nearest = distance_transform_edt(~decided, return_distances=False, return_indices=True)[0]
    taken: np.ndarray = values[nearest]
    return taken


def measure_channels(file: str, info: AudioInfo) -> Channels:
    """Measure the channels of a recording, in 3.4 MB of memory an hour and channel.

    Args:
        file: the recording.
        info: what it holds.

    Raises:
        PipelineError: the file cannot be decoded.
    """
    segments = [segment_of(file, info, start=None, end=None, channel=channel) for channel in range(info.channels)]
    readers = [read_blocks(segment, SAMPLING_RATE, seconds=BLOCK_SECONDS) for segment in segments]
    products = np.zeros((info.channels, info.channels))
    levels = []
    # Files of floats may hold what has no square.
    blocks = (np.clip(np.stack(parts), -_MOST_SAMPLE, _MOST_SAMPLE) for parts in zip(*readers, strict=True))
    for block in _whole_frames(blocks):
        products += block @ block.T
        levels.append(_levels(block))
    norms = np.sqrt(np.diag(products))
    return Channels(np.concatenate(levels, axis=2), products / np.maximum(np.outer(norms, norms), 1e-20))


def _whole_frames(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The same samples `(channels, samples)` in blocks of whole frames, the last one filled with silence."""
    rest: np.ndarray | None = None
    for block in chain(blocks, [None]):
        if block is not None:
            rest = block if rest is None else np.concatenate([rest, block], axis=1)
        elif rest is not None:
            rest = np.pad(rest, ((0, 0), (0, -rest.shape[1] % FRAME if rest.shape[1] else FRAME)))
        if rest is not None:
            whole = rest.shape[1] // FRAME * FRAME
            yield rest[:, :whole]
            rest = rest[:, whole:]


def _levels(block: np.ndarray) -> np.ndarray:
    """Power (dB) `(channels, bands, frames)` of samples `(channels, samples)`."""
    spectrum = np.fft.rfft(block.reshape(len(block), -1, FRAME) * _WINDOW)  # (channels, frames, bins)
    power = (spectrum.real**2 + spectrum.imag**2) @ _BANDS
    return _decibels(power).astype(np.float16).swapaxes(1, 2)


def _decibels(power: np.ndarray) -> np.ndarray:
    decibels: np.ndarray = 10 * np.log10(np.maximum(power, 10 ** (_LEAST_LEVEL / 10), dtype=np.float32))
    return decibels


def _power(decibels: np.ndarray) -> np.ndarray:
    power: np.ndarray = 10 ** (decibels.astype(np.float32) / 10)
    return power


@dataclass(frozen=True)
class OwnSpeech:
    """What the speaker of a channel says in a stretch of a recording.

    Attributes:
        spans: in order, in seconds of the recording.
        n_removed: stretches of speech that hold nothing but others.
        seconds_removed: how long others are heard, in those and in the other ones.
    """

    spans: list[Span]
    n_removed: int
    seconds_removed: float


def find_own_speech(segment: Segment, config: VoiceActivityConfig, bleed: np.ndarray) -> OwnSpeech:
    """Find where the speaker of a channel speaks, leaving out what is heard of others.

    Args:
        segment: of one channel.
        config: what counts as speech.
        bleed: of that channel, in frames of the whole recording.

    Raises:
        PipelineError: the file cannot be decoded.
    """
    probabilities = probabilities_of(segment)
    first = round(segment.start / segment.sampling_rate / FRAME_SECONDS)
    others = bleed[first : first + len(probabilities)]
    # Where a segment begins between two frames, it may have one more.
    others = np.pad(others, (0, len(probabilities) - len(others)))
    heard = spans_of(probabilities, segment, config)
    spans = spans_of(np.where(others, 0, probabilities), segment, config)
    gone = [span for span in heard if not any(own.start < span.end and span.start < own.end for own in spans)]
    seconds = sum(span.seconds for span in heard) - sum(span.seconds for span in spans)
    return OwnSpeech(spans, len(gone), max(0.0, seconds))


def choose_channels(turns: Sequence[TimedTurn], speech: Sequence[Sequence[Span]]) -> list[int | None]:
    """Choose for each turn the channel that speaks in it.

    Where several do, as in a short answer while the other goes on, it is the one on which the turn's speaker is heard
    in other turns too.

    Args:
        turns: with or without speakers.
        speech: of each channel, in order and apart from each other.

    Returns:
        Numbers of channels, from 0; None for a turn in which none of them speaks.
    """
    starts, ends = (np.array([getattr(turn, name) for turn in turns]) for name in ("start", "end"))
    spoken = np.stack([_seconds_before(ends, spans) - _seconds_before(starts, spans) for spans in speech], axis=1)
    of_speakers: dict[str, np.ndarray] = {}
    for turn, seconds in zip(turns, spoken, strict=True):
        if turn.speaker is not None:
            of_speakers[turn.speaker] = of_speakers.get(turn.speaker, 0) + seconds
    # In shares of what each channel speaks: who talks on and on would win the others' short answers.
    total = np.maximum([sum(span.seconds for span in spans) for spans in speech], 1e-9)
    likely = [
        seconds if turn.speaker is None else seconds * of_speakers[turn.speaker] / total
        for turn, seconds in zip(turns, spoken, strict=True)
    ]
    return [int(values.argmax()) if values.max() > 0 else None for values in likely]


def _seconds_before(times: np.ndarray, spans: Sequence[Span]) -> np.ndarray:
    """How long spans last before each of some times."""
    borders = [0.0, *(time for span in spans for time in (span.start, span.end))]
    lasted = np.cumsum([0.0, *(length for span in spans for length in (0.0, span.seconds))])
    seconds: np.ndarray = np.interp(times, borders, lasted)
    return seconds
