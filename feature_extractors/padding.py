"""What makes a padded batch give the numbers of each utterance alone, where a mask does not suffice.

Two things leak padding into an utterance: a GroupNorm over time, whose statistics see the padding, and a
convolution after a layer that turns padding into something else than zero. Each is cured where it stands; the
models' own forward passes run unchanged.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lpgnet.feature_extractors.devices import send


class Lengths:
    """The lengths, per batch row, of the batch that is running; None when nothing is padded."""

    def __init__(self) -> None:
        self.samples: Sequence[int] | None = None
        self.frames: Tensor | None = None  # (B, T) bool

    def set(self, samples: Sequence[int] | None, frames: Tensor | None) -> None:
        """Announce the next batch."""
        self.samples, self.frames = samples, frames


class MaskedGroupNorm(nn.Module):
    """A GroupNorm over `(B, channels, T)` that takes each row's statistics over the row's own frames.

    `kernel` and `stride` are those of the one convolution before it; what lies beyond a row's frames becomes zero.
    """

    def __init__(self, norm: nn.GroupNorm, kernel: int, stride: int, lengths: Lengths) -> None:
        super().__init__()
        self.norm, self.kernel, self.stride, self.lengths = norm, kernel, stride, lengths

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalize `(B, channels, T)` to the same shape."""
        if self.lengths.samples is None:
            normed: Tensor = self.norm(hidden)
            return normed
        ends = [(samples - self.kernel) // self.stride + 1 for samples in self.lengths.samples]
        rows: list[Tensor] = [self.norm(row[:, :, :end]) for row, end in zip(torch.split(hidden, 1), ends, strict=True)]
        normed = rows[0].new_zeros(hidden.shape)
        for index, (row, end) in enumerate(zip(rows, ends, strict=True)):
            normed[index, :, :end] = row[0]
        return normed


def make_padding_invariant(model: nn.Module, lengths: Lengths) -> None:
    """Make a model of the wav2vec 2.0 family exact in padded batches, given its attention mask.

    wav2vec2, HuBERT, WavLM and UniSpeech normalize the first convolution by groups; data2vec-audio's positional
    convolutions follow one another, each after a LayerNorm; HuBERT may have a BatchNorm before its own.
    """
    first = model.get_submodule("feature_extractor.conv_layers.0")
    norm, conv = getattr(first, "layer_norm", None), first.get_submodule("conv")
    if isinstance(norm, nn.GroupNorm) and isinstance(conv, nn.Conv1d):
        first.layer_norm = MaskedGroupNorm(norm, conv.kernel_size[0], conv.stride[0], lengths)
    for module in model.modules():
        if type(module).__name__ == "Data2VecAudioPositionalConvLayer" or isinstance(module, nn.BatchNorm1d):
            module.register_forward_hook(lambda _, __, output: _masked(output, lengths))


def fold_weight_norms(model: nn.Module) -> None:
    """Compute normalized weights once instead of in every forward pass."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


def frame_mask(counts: Sequence[int], total: int, device: torch.device) -> Tensor:
    """Make a mask `(B, total)` that is True on each row's first `counts` frames."""
    return torch.arange(total, device=device) < send(torch.tensor(counts), device).unsqueeze(1)


def _masked(hidden: Tensor, lengths: Lengths) -> Tensor | None:
    return None if lengths.frames is None else hidden * lengths.frames.unsqueeze(1).to(hidden.dtype)
