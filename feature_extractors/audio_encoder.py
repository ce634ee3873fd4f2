"""Waveforms through any torch model: cutting them, normalising them, and the front ends that models ask for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from .devices import audio_budget
from .exactness import Lengths, own_frames
from .items import Item, refuse_bad, waveform_flags, waveform_problem
from .spec import EncoderSpec
from .taps import Taps
from .torch_encoder import Piece, Pieces, TorchEncoder
from .windows import Frames, cut

# Two windows of a long utterance share so much, of which each counts its half: a second of context at a border.
OVERLAP_SECONDS = 2.0
# Read at once when taking the variance of a waveform, so that an hour needs no second copy of itself.
VARIANCE_BLOCK = 1 << 20


@dataclass(frozen=True)
class Excerpt:
    """Samples of one window, as `(samples - mean) * scale`, followed by silence up to `minimum`."""

    samples: np.ndarray
    mean: float
    scale: float
    minimum: int

    def waveform(self) -> np.ndarray:
        """Float32 `(samples,)`, normalised and padded."""
        values = self.samples.astype(np.float32)
        if self.scale != 1.0 or self.mean != 0.0:
            values = (values - np.float32(self.mean)) * np.float32(self.scale)
        short = self.minimum - len(values)
        return np.pad(values, (0, short)) if short > 0 else values


class FrontEnd(Protocol):
    """What lies between waveforms and a model.

    `frames` is the model's length formula, None when only the model knows it; `batched` says whether padded batches
    are exact; `minimum` and `maximum` are in samples; `epsilon` is added to the variance when waveforms are
    normalised, None when they are not; `fixed` is the size that every input is padded to.
    """

    @property
    def frames(self) -> Frames | None: ...

    batched: bool
    minimum: int
    maximum: int | None
    epsilon: float | None
    fixed: int | None

    def forward(self, waveforms: Sequence[np.ndarray], device: torch.device) -> Tensor:
        """Last hidden states `(B, T, d)` of waveforms `(samples,)`."""
        ...


class AudioEncoder(TorchEncoder):
    """Embeds waveforms through a front end."""

    def __init__(
        self, spec: EncoderSpec, model: nn.Module, taps: Taps, front_end: FrontEnd, *, width: int, device: str
    ) -> None:
        budget = audio_budget(torch.device(device)) if front_end.batched else None
        super().__init__(spec, model, taps, width=width, budget=budget, device=device)
        self.front_end = front_end

    def lengths(self, items: Sequence[Item]) -> list[int]:
        """Samples of each waveform."""
        refuse_bad(items, waveform_problem)
        return [len(item) for item in items if isinstance(item, np.ndarray)]

    def _forward(self, contents: Sequence[Excerpt]) -> Tensor:
        return self.front_end.forward([excerpt.waveform() for excerpt in contents], self.device)

    def _cut(self, items: Sequence[Item]) -> list[Pieces]:
        refuse_bad(items, waveform_problem)
        return [self._cut_one(index, item) for index, item in enumerate(items) if isinstance(item, np.ndarray)]

    def _cut_one(self, index: int, waveform: np.ndarray) -> Pieces:
        mean, scale = self._normalisation(waveform)
        spans = self._spans(len(waveform))
        pieces = [
            self._piece(index, Excerpt(waveform[start:stop], mean, scale, self.front_end.minimum), counted)
            for start, stop, counted in spans
        ]
        flags = waveform_flags(waveform)
        flags |= {"padded"} if len(waveform) < self.front_end.minimum else frozenset()
        return Pieces(pieces, flags | ({"windowed"} if len(spans) > 1 else frozenset()))

    def _piece(self, index: int, excerpt: Excerpt, counted: tuple[int, int | None]) -> Piece:
        size = self.front_end.fixed or max(len(excerpt.samples), excerpt.minimum)
        return Piece(index, size, excerpt, *counted)

    def _spans(self, samples: int) -> list[tuple[int, int, tuple[int, int | None]]]:
        """First sample, one past the last, and the counted frames, of every window."""
        longest = int((self.spec.max_seconds or 0) * (self.spec.sampling_rate or 0))
        longest = min(longest, self.front_end.maximum or longest)
        if self.front_end.frames is None:
            borders = np.linspace(0, samples, -(-samples // longest) + 1).astype(int).tolist()
            return [(start, stop, (0, None)) for start, stop in pairwise(borders)]
        return _frame_windows(self.front_end.frames, max(samples, self.front_end.minimum), longest, self._overlap)

    @property
    def _overlap(self) -> int:
        return int(OVERLAP_SECONDS * (self.spec.sampling_rate or 0))

    def _normalisation(self, waveform: np.ndarray) -> tuple[float, float]:
        """Mean and scale that give the whole utterance zero mean and unit variance, as the stock extractors do."""
        if self.front_end.epsilon is None:
            return 0.0, 1.0
        mean = float(np.mean(waveform, dtype=np.float64))
        blocks = (waveform[start : start + VARIANCE_BLOCK] for start in range(0, len(waveform), VARIANCE_BLOCK))
        variance = sum(float(np.square(block - mean, dtype=np.float64).sum()) for block in blocks) / len(waveform)
        return mean, float(1 / np.sqrt(variance + self.front_end.epsilon))


def _frame_windows(
    frames: Frames, samples: int, longest: int, overlap: int
) -> list[tuple[int, int, tuple[int, int | None]]]:
    """Windows that begin on a frame, so that the frames of all windows are those of the whole utterance."""
    total, size = frames.count(samples), frames.count(longest)
    windows = cut(total, size, min(size // 4, overlap // frames.hop))
    return [
        (
            window.start * frames.hop,
            samples if window.stop == total else frames.samples(window.stop),
            (window.first - window.start, window.end - window.start),
        )
        for window in windows
    ]


class Waveforms:
    """Models that read samples through convolutions; exact in batches by their mask and `exactness.cure`.

    `call` takes padded samples `(B, samples)` and each row's length, None when nothing is padded.
    """

    maximum: int | None = None
    fixed: int | None = None

    def __init__(
        self,
        call: Callable[[Tensor, Tensor | None], Tensor],
        frames: Frames,
        lengths: Lengths,
        epsilon: float | None,
        *,
        batched: bool = True,
    ) -> None:
        self.call, self.lengths, self.epsilon, self.batched = call, lengths, epsilon, batched
        self.frames, self.minimum = frames, frames.receptive

    def forward(self, waveforms: Sequence[np.ndarray], device: torch.device) -> Tensor:
        samples = [len(waveform) for waveform in waveforms]
        values = padded(waveforms, 0.0).to(device)
        if min(samples) == max(samples):
            self.lengths.set(None, None)
            return self.call(values, None)
        counts = [self.frames.count(count) for count in samples]
        self.lengths.set(samples, own_frames(counts, self.frames.count(max(samples)), device))
        return self.call(values, torch.tensor(samples, device=device))


class Features:
    """Models that read filter banks, computed for each utterance alone by the model's own feature extractor."""

    batched: bool = True
    maximum: int | None = None
    epsilon: float | None = None
    fixed: int | None = None

    def __init__(self, model: nn.Module, extractor: Any, frames: Frames) -> None:
        self.model, self.extractor, self.frames = model, extractor, frames
        self.minimum = frames.receptive

    def forward(self, waveforms: Sequence[np.ndarray], device: torch.device) -> Tensor:
        rate = self.extractor.sampling_rate
        counts = [self.frames.count(len(waveform)) for waveform in waveforms]
        rows = [
            self.extractor(waveform, sampling_rate=rate, return_tensors="np")["input_features"][0][:count]
            for waveform, count in zip(waveforms, counts, strict=True)
        ]
        mask = own_frames(counts, max(counts), device).long() if min(counts) < max(counts) else None
        values = padded(rows, self.extractor.padding_value).to(device)
        return self.model(input_features=values, attention_mask=mask).last_hidden_state


class FixedLength:
    """Whisper: every input is padded to the length that the model has positions for, and needs no mask."""

    batched: bool = True
    epsilon: float | None = None
    minimum: int = 1

    def __init__(self, model: nn.Module, extractor: Any, hop: int) -> None:
        self.model, self.extractor = model, extractor
        # The last frame is counted as soon as its first sample is there.
        self.frames: Frames | None = Frames(hop, 1)
        self.maximum: int | None = extractor.n_samples
        self.fixed: int | None = extractor.n_samples

    def forward(self, waveforms: Sequence[np.ndarray], device: torch.device) -> Tensor:
        rate = self.extractor.sampling_rate
        inputs = self.extractor(list(waveforms), sampling_rate=rate, return_tensors="pt")
        return self.model(inputs["input_features"].to(device)).last_hidden_state


class Alone:
    """Any other model: one utterance at a time through its own feature extractor, exact without knowing more."""

    frames: Frames | None = None
    batched: bool = False
    epsilon: float | None = None
    fixed: int | None = None

    def __init__(self, model: nn.Module, extractor: Any, minimum: int, maximum: int | None) -> None:
        self.model, self.extractor, self.minimum, self.maximum = model, extractor, minimum, maximum

    def forward(self, waveforms: Sequence[np.ndarray], device: torch.device) -> Tensor:
        inputs = self.extractor(waveforms[0], sampling_rate=self.extractor.sampling_rate, return_tensors="pt")
        return self.model(**{name: values.to(device) for name, values in inputs.items()}).last_hidden_state


def padded(rows: Sequence[np.ndarray], value: float) -> Tensor:
    """Rows of different length in one float32 tensor, padded behind."""
    if len(rows) == 1:
        return torch.from_numpy(np.ascontiguousarray(rows[0], dtype=np.float32)).unsqueeze(0)
    longest = max(map(len, rows))
    values = np.full((len(rows), longest, *rows[0].shape[1:]), value, dtype=np.float32)
    for place, row in zip(values, rows, strict=True):
        place[: len(row)] = row
    return torch.from_numpy(values)
