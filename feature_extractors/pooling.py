"""Pooling frames under a mask, and joining what was pooled of several windows of one utterance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Part:
    """What one window gives: `values` `(layers, width)` or `(n_frames, layers, width)`, and its counted frames."""

    values: np.ndarray
    n_frames: int


def pool(hidden: Tensor, counted: Tensor, pooling: str) -> Tensor:
    """Pool one layer's frames `(B, T, d)` to `(B, width)` in float32; `counted` `(B, T)` has at least one True a row.

    `first` is the first position of the sequence: for text the token in front (`<s>`, `[CLS]`) where the model has
    one. The standard deviation of `mean_std` divides by the number of frames. `none` returns `(B, T, d)`.
    """
    hidden = hidden.float()
    if pooling == "none":
        return hidden
    if pooling == "first":
        return hidden[:, 0]
    if pooling == "max":
        return hidden.masked_fill(~counted.unsqueeze(-1), -torch.inf).amax(dim=1)
    # A weighted sum as a matrix product reads the frames once and makes no masked copy of them.
    weights = counted.float().unsqueeze(1) / counted.sum(dim=1).view(-1, 1, 1)  # (B, 1, T)
    mean = weights @ hidden  # (B, 1, d)
    if pooling == "mean":
        return mean.squeeze(1)
    variance = weights @ (hidden - mean).square()
    return torch.cat([mean, variance.sqrt()], dim=-1).squeeze(1)


def join(parts: Sequence[Part], pooling: str) -> Part:
    """Join the parts of one utterance, in order, as if its frames had been pooled together."""
    n_frames = sum(part.n_frames for part in parts)
    if len(parts) == 1:
        return parts[0]
    if pooling == "none":
        return Part(np.concatenate([part.values for part in parts]), n_frames)
    values = torch.from_numpy(np.stack([part.values for part in parts]).astype(np.float64))  # (parts, layers, width)
    weights = torch.tensor([part.n_frames for part in parts], dtype=torch.float64) / n_frames
    return Part(join_values(values, weights, pooling).float().numpy(), n_frames)


def join_values(values: Tensor, weights: Tensor, pooling: str) -> Tensor:
    """Join what was pooled of an utterance's windows, `(parts, layers, width)`, by their shares `(parts,)` of frames.

    Returns:
        `(layers, width)`.
    """
    if pooling == "first":
        return values[0]
    if pooling == "max":
        return values.amax(dim=0)
    weights = weights.view(-1, 1, 1)
    if pooling == "mean":
        return (weights * values).sum(dim=0)
    means, deviations = values.chunk(2, dim=-1)
    mean = (weights * means).sum(dim=0)
    # The variance of the whole is the mean of the variances plus the variance of the means.
    variance = (weights * (deviations**2 + (means - mean) ** 2)).sum(dim=0)
    return torch.cat([mean, variance.sqrt()], dim=-1)
