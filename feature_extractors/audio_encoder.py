"""Waveforms through any torch model: cutting them, normalizing them, and the front ends that models ask for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from lpgnet.feature_extractors.devices import audio_budget, send
from lpgnet.feature_extractors.items import Item, checked_waveforms, waveform_flags
from lpgnet.feature_extractors.layer_hooks import LayerHooks
from lpgnet.feature_extractors.padding import Lengths, frame_mask
from lpgnet.feature_extractors.spec import EncoderSpec
from lpgnet.feature_extractors.torch_encoder import Piece, Pieces, TorchEncoder, last_hidden_state
from lpgnet.feature_extractors.windows import Frames, cut

# Two windows of a long utterance share so much, of which each counts its half: a second of context at a border.
OVERLAP_SECONDS = 2.0
# Read at once when taking the variance of a waveform, so that an hour needs no second copy of itself.
VARIANCE_BLOCK = 1 << 20


@dataclass(frozen=True)
class WaveformWindow:
    """Samples of one window.

    `moments` are the mean and variance of the whole waveform, None where the window is the whole or nothing is
    normalized.
    """

    samples: np.ndarray
    moments: tuple[float, float] | None = None


class FeatureExtractor(Protocol):
    """A feature extractor of Hugging Face; an architecture's own has those of the settings that it needs."""

    sampling_rate: int
    padding_value: float
    n_samples: int
    max_length: int
    stride: int
    do_normalize: bool

    def __call__(
        self, waveforms: np.ndarray | list[np.ndarray], *, sampling_rate: int, return_tensors: str, **options: Any
    ) -> Mapping[str, Any]:
        """Compute what a model takes.

        Args:
            waveforms: `(samples,)` each.
            sampling_rate: of the waveforms, in Hz.
            return_tensors: "np" or "pt".
            options: others of the architecture's own, such as `padding`.

        Returns:
            The model's inputs by name, each `(B, ...)`.
        """
        ...


class FrontEnd(Protocol):
    """What lies between waveforms and a model.

    `frames` is the model's length formula, None when only the model knows it; `batched` says whether padded batches
    are exact; `minimum` and `maximum` are in samples; `normalizes` says whether `forward` wants the moments of
    waveforms that are cut; `fixed` is the size that every input is padded to.
    """

    @property
    def frames(self) -> Frames | None:
        """The model's length formula; None when only the model knows it."""
        ...

    batched: bool
    minimum: int
    maximum: int | None
    normalizes: bool
    fixed: int | None

    def forward(self, windows: Sequence[WaveformWindow], device: torch.device) -> Tensor:
        """Compute the last hidden states `(B, T, d)`."""
        ...


class AudioEncoder(TorchEncoder):
    """Embeds waveforms through a front end."""

    def __init__(
        self, spec: EncoderSpec, model: nn.Module, hooks: LayerHooks, front_end: FrontEnd, *, width: int, device: str
    ) -> None:
        budget = audio_budget(torch.device(device)) if front_end.batched else None
        super().__init__(spec, model, hooks, width=width, budget=budget, device=device)
        self.front_end = front_end

    def lengths(self, items: Sequence[Item]) -> list[int]:
        """Count the samples of each waveform."""
        return [len(waveform) for waveform in checked_waveforms(items)]

    def _forward(self, contents: Sequence[WaveformWindow]) -> Tensor:
        return self.front_end.forward(contents, self.device)

    def _cut(self, items: Sequence[Item]) -> list[Pieces]:
        return [self._cut_one(index, waveform) for index, waveform in enumerate(checked_waveforms(items))]

    def _cut_one(self, index: int, waveform: np.ndarray) -> Pieces:
        spans = self._spans(len(waveform))
        moments = _moments(waveform) if self.front_end.normalizes and len(spans) > 1 else None
        pieces = [
            self._piece(index, WaveformWindow(waveform[start:stop], moments), counted) for start, stop, counted in spans
        ]
        flags = waveform_flags(waveform)
        flags |= {"padded"} if len(waveform) < self.front_end.minimum else frozenset()
        return Pieces(pieces, flags | ({"windowed"} if len(spans) > 1 else frozenset()))

    def _piece(self, index: int, window: WaveformWindow, counted: tuple[int, int | None]) -> Piece:
        own = len(window.samples)
        return Piece(index, own, self.front_end.fixed or max(own, self.front_end.minimum), window, *counted)

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


def _moments(waveform: np.ndarray) -> tuple[float, float]:
    """Mean and variance of a waveform that is too long for one tensor."""
    mean = float(np.mean(waveform, dtype=np.float64))
    blocks = (waveform[start : start + VARIANCE_BLOCK] for start in range(0, len(waveform), VARIANCE_BLOCK))
    return mean, sum(float(np.square(block - mean, dtype=np.float64).sum()) for block in blocks) / len(waveform)


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


class WaveformFrontEnd:
    """Models that read samples through convolutions; exact in batches by their mask and `make_padding_invariant`.

    `call` takes padded samples `(B, samples)` and each row's length, None when nothing is padded. Waveforms are
    brought to zero mean and unit variance on the device, `epsilon` added to the variance; None leaves them as they are.
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
        self.frames, self.minimum, self.normalizes = frames, frames.receptive, epsilon is not None

    def forward(self, windows: Sequence[WaveformWindow], device: torch.device) -> Tensor:
        """Compute the last hidden states `(B, T, d)`."""
        samples = [max(len(window.samples), self.minimum) for window in windows]
        values = pad([window.samples for window in windows], 0.0, least=self.minimum)
        # Normalizing takes double precision, which Apple's GPU does not have.
        values = values if device.type == "mps" else send(values, device)
        if self.epsilon is not None:
            values = _normalize(values, windows, self.epsilon)
        values = values.to(device)
        if min(samples) == max(samples):
            self.lengths.set(None, None)
            return self.call(values, None)
        counts = [self.frames.count(count) for count in samples]
        self.lengths.set(samples, frame_mask(counts, self.frames.count(max(samples)), device))
        return self.call(values, send(torch.tensor(samples), device))


def _normalize(values: Tensor, windows: Sequence[WaveformWindow], epsilon: float) -> Tensor:
    """Zero mean and unit variance over each waveform's own samples; the zeros behind them stay zero."""
    counts = send(torch.tensor([len(window.samples) for window in windows]), values.device).unsqueeze(1)
    own = torch.arange(values.shape[1], device=values.device) < counts
    # Rounding must not depend on the padding, so the sums are taken in double precision.
    exact = values.double()
    mean = exact.sum(dim=1, keepdim=True) / counts
    variance = ((exact - mean) * own).square().sum(dim=1, keepdim=True) / counts
    for row, window in enumerate(windows):
        if window.moments is not None:
            mean[row], variance[row] = window.moments
    return ((exact - mean) * own * (variance + epsilon).rsqrt()).float()


class FilterBankFrontEnd:
    """Models that read filter banks, computed for each utterance alone by the model's own feature extractor."""

    batched: bool = True
    normalizes: bool = False
    maximum: int | None = None
    fixed: int | None = None

    def __init__(self, model: nn.Module, extractor: FeatureExtractor, frames: Frames) -> None:
        self.model, self.extractor, self.frames = model, extractor, frames
        self.minimum = frames.receptive

    def forward(self, windows: Sequence[WaveformWindow], device: torch.device) -> Tensor:
        """Compute the last hidden states `(B, T, d)`."""
        waveforms = _padded_waveforms(windows, self.minimum)
        counts = [self.frames.count(len(waveform)) for waveform in waveforms]
        rows = [
            extract(self.extractor, waveform, "np")["input_features"][0][:count]
            for waveform, count in zip(waveforms, counts, strict=True)
        ]
        mask = frame_mask(counts, max(counts), device).long() if min(counts) < max(counts) else None
        values = send(pad(rows, self.extractor.padding_value), device)
        return last_hidden_state(self.model, input_features=values, attention_mask=mask)


class FixedLengthFrontEnd:
    """Whisper: every input is padded to the length that the model has positions for, and needs no mask."""

    batched: bool = True
    normalizes: bool = False
    minimum: int = 1

    def __init__(self, model: nn.Module, extractor: FeatureExtractor, hop: int) -> None:
        self.model, self.extractor = model, extractor
        # The last frame is counted as soon as its first sample is there.
        self.frames: Frames | None = Frames(hop, 1)
        self.maximum: int | None = extractor.n_samples
        self.fixed: int | None = extractor.n_samples

    def forward(self, windows: Sequence[WaveformWindow], device: torch.device) -> Tensor:
        """Compute the last hidden states `(B, T, d)`."""
        inputs = extract(self.extractor, _padded_waveforms(windows, self.minimum), "pt")
        return last_hidden_state(self.model, input_features=send(inputs["input_features"], device))


class UnbatchedFrontEnd:
    """Any other model: one utterance at a time through its own feature extractor, exact without knowing more."""

    frames: Frames | None = None
    batched: bool = False
    normalizes: bool = False
    fixed: int | None = None

    def __init__(self, model: nn.Module, extractor: FeatureExtractor, minimum: int, maximum: int | None) -> None:
        self.model, self.extractor, self.minimum, self.maximum = model, extractor, minimum, maximum

    def forward(self, windows: Sequence[WaveformWindow], device: torch.device) -> Tensor:
        """Compute the last hidden states `(B, T, d)`."""
        (waveform,) = _padded_waveforms(windows, self.minimum)
        inputs = extract(self.extractor, waveform, "pt")
        return last_hidden_state(self.model, **{name: send(values, device) for name, values in inputs.items()})


def extract(
    extractor: FeatureExtractor, waveforms: np.ndarray | list[np.ndarray], tensors: str, **options: Any
) -> Mapping[str, Any]:
    """Compute a model's inputs in full precision: under autocast, spectra would be taken in bfloat16.

    Args:
        extractor: computes them.
        waveforms: `(samples,)` each.
        tensors: "np" or "pt".
        options: others of the feature extractor.

    Returns:
        The model's inputs by name, each `(B, ...)`.
    """
    with torch.autocast("cpu", enabled=False):
        return extractor(waveforms, sampling_rate=extractor.sampling_rate, return_tensors=tensors, **options)


def _padded_waveforms(windows: Sequence[WaveformWindow], minimum: int) -> list[np.ndarray]:
    """Float32 waveforms `(samples,)`, followed by silence up to `minimum`."""
    return [np.pad(e.samples.astype(np.float32), (0, max(minimum - len(e.samples), 0))) for e in windows]


def pad(rows: Sequence[np.ndarray], value: float, *, least: int = 0) -> Tensor:
    """Put rows of different length in one float32 tensor, padded behind, to `least` at least."""
    longest = max(least, *map(len, rows))
    values = np.full((len(rows), longest, *rows[0].shape[1:]), value, dtype=np.float32)
    for target, row in zip(values, rows, strict=True):
        target[: len(row)] = row
    return torch.from_numpy(values)
