"""The layers of the models: paths and modalities are leading axes, so that a step is one operation for all of them."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn import init

from lpgnet.model.compiling import uncompiled
from lpgnet.model.packing import Layout, select, some

# What one dimension adds to a distance at most: one that hardly varied in training must not decide alone (deviations).
FARTHEST = 5.0
# Two of them, 768 wide, take 0.8 MB.
ROWS_IN_CACHE = 128


class InputMix(nn.Module):
    """Step 0: standardize each layer and dimension of an embedding, then mix its layers by softmax weights.

    The statistics are buffers and travel with the checkpoint. With one layer there is nothing to learn.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(layers, width))
        self.register_buffer("std", torch.ones(layers, width))
        self.layer_weights = nn.Parameter(torch.zeros(layers)) if layers > 1 else None

    def forward(self, x: Tensor | Sequence[Tensor], rows: Tensor | Layout | None) -> Tensor:
        """Some of N embeddings, (N, K, D) and their numbers (T,), None for all -> (T, D), in float32.

        Or those of each dialogue by itself, (L_b, K, D), and how dialogues lie in a row of T turns; what stands at an
        empty one means nothing. Both are one weighted sum over the layers, sum_k (w_k / std_k) (x_k - mean_k).
        """
        if self.layer_weights is None:
            return (_only_layer(x, rows).float() - self.mean[0]) / self.std[0]
        scale = self.layer_weights.float().softmax(0)[:, None] / self.std  # (K, D)
        mixed: Tensor = _weighted_sum(x, rows, scale, -(scale * self.mean).sum(0))
        return mixed

    def distances(self, x: Tensor) -> Tensor:
        """(N, K, D) -> (N,): squared deviations from the mean, averaged over layers and dimensions."""
        # Layer by layer, as in `forward`.
        layers = zip(x.unbind(1), self.mean, self.std, strict=True)
        squares = [
            ((layer.float() - mean) / std).square().clamp(max=FARTHEST**2).mean(1) for layer, mean, std in layers
        ]
        return torch.stack(squares).mean(0)


def _only_layer(x: Tensor | Sequence[Tensor], rows: Tensor | Layout | None) -> Tensor:
    """Of what `InputMix.forward` takes with one layer, the rows (T, D)."""
    if isinstance(rows, Layout):
        return rows.lay([values[:, 0] for values in x])
    return select(cast(Tensor, x)[:, 0], rows)


class _WeightedSum(torch.autograd.Function):
    """sum_k x_k scale_k + shift over the layers of some rows.

    The input is the model's largest tensor by far. It is read layer by layer and a few rows at once, so that the sum
    stays in a CPU's cache, and nothing of it is copied or kept.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor | Layout | None, scale: Tensor, shift: Tensor, *x: Tensor) -> Tensor:
        """(T,), a layout or None; (K, D) and (D,); (N, K, D), or with a layout those of each dialogue -> (T, D)."""
        ctx.rows = rows
        ctx.save_for_backward(scale, *x)
        total = shift.repeat(len(x[0]) if rows is None else len(rows), 1)
        for part, layers in _in_cache(x, rows, total):
            for layer, factor in zip(layers, scale, strict=True):
                part.addcmul_(layer.float(), factor)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """(T, D) -> gradients of all that `forward` takes."""
        scale, *x = ctx.saved_tensors
        of_scale = torch.zeros_like(scale)
        for part, layers in _in_cache(x, ctx.rows, gradient):
            for layer, total in zip(layers, of_scale, strict=True):
                total += (layer.float() * part).sum(0)
        needed = any(ctx.needs_input_grad[3:])
        of_x = _of_inputs(x, ctx.rows, gradient[:, None] * scale) if needed else [None] * len(x)
        return None, of_scale, gradient.sum(0), *of_x


def _of_inputs(x: Sequence[Tensor], rows: Tensor | Layout | None, of_rows: Tensor) -> Sequence[Tensor]:
    """What the inputs of a row get of its gradient (T, K, D)."""
    if isinstance(rows, Layout):
        return [own.to(one.dtype) for own, one in zip(rows.of_dialogues(of_rows), x, strict=True)]
    return [of_rows.to(x[0].dtype) if rows is None else torch.zeros_like(x[0]).index_add_(0, rows, of_rows.to(x[0]))]


@uncompiled
def _weighted_sum(x: Tensor | Sequence[Tensor], rows: Tensor | Layout | None, scale: Tensor, shift: Tensor) -> Tensor:
    values = [x] if isinstance(x, Tensor) else x
    total: Tensor = _WeightedSum.apply(rows, scale, shift, *values)  # type: ignore[no-untyped-call]
    return total


def _in_cache(
    x: Sequence[Tensor], rows: Tensor | Layout | None, of_rows: Tensor
) -> Iterator[tuple[Tensor, Iterable[Tensor]]]:
    """Parts of (T, D) that a CPU's cache holds, each with the layers of its rows; all of it elsewhere."""
    size = ROWS_IN_CACHE if of_rows.device.type == "cpu" else len(of_rows)
    if isinstance(rows, Tensor):
        for part, some in zip(of_rows.split(size), rows.split(size), strict=True):
            yield part, (select(layer, some) for layer in x[0].unbind(1))
        return
    places = iter([of_rows]) if rows is None else rows.of_dialogues(of_rows)
    for place, values in zip(places, x, strict=True):
        for part, here in zip(place.split(size), values.split(size), strict=True):
            yield part, here.unbind(1)


class Dropout(nn.Dropout):
    """Dropout by uniform numbers on a CPU, where torch's own draws take four times as long; elsewhere torch's own."""

    def forward(self, x: Tensor, rows: Tensor | None = None, among: int = 0) -> Tensor:
        """(...) -> (...).

        Args:
            x: of any shape; with `rows`, (P, 1, K, d).
            rows: (K,), which of the turns these are; what they lose is what they would lose among all of them.
            among: T, how many there are.
        """
        if not self.training or not self.p or x.device.type != "cpu":
            return super().forward(x)
        drawn = torch.rand(x.shape) if rows is None else torch.rand(*x.shape[:2], among, x.shape[3])[:, :, rows]
        # The same memory, one after another: 0 and 1, then the latter as what is kept is multiplied by.
        return x * drawn.ge_(self.p).div_(1 - self.p).to(x.dtype)


class StackedLinear(nn.Module):
    """`copies` linear layers side by side: (copies, ..., in) -> (copies, ..., out) in one product."""

    def __init__(self, copies: int, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(copies, in_features, out_features))
        self.bias = nn.Parameter(torch.empty(copies, 1, out_features)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Apply layer i to x[i]."""
        rows = x.flatten(1, -2)  # (copies, N, in)
        out = torch.bmm(rows, self.weight) if self.bias is None else torch.baddbmm(self.bias, rows, self.weight)
        return out.view(*x.shape[:-1], -1)


class StackedLayerNorm(nn.Module):
    """`copies` layer normalizations side by side: (copies, B, L, d) -> the same."""

    def __init__(self, copies: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(copies, 1, 1, size))
        self.bias = nn.Parameter(torch.zeros(copies, 1, 1, size))

    def forward(self, x: Tensor) -> Tensor:
        """Apply normalization i to x[i]."""
        return torch.addcmul(self.bias, F.layer_norm(x, x.shape[-1:]), self.weight)


class MaskedBatchNorm(nn.Module):
    """A batch normalization per path over its real utterances; fewer than two use the running statistics."""

    momentum = 0.1
    epsilon = 1e-5
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, paths: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(paths, 1, 1, size))
        self.bias = nn.Parameter(torch.zeros(paths, 1, 1, size))
        self.register_buffer("running_mean", torch.zeros(paths, 1, 1, size))
        self.register_buffer("running_var", torch.ones(paths, 1, 1, size))

    def forward(self, x: Tensor, real: Tensor, rows: Tensor | None = None) -> Tensor:
        """(P, B, L, d) with `real` (P, B, L) bool -> (P, B, L, d) in float32; of `rows` (K,) of L alone, if given."""
        x = x.float()
        mean, variance = self._statistics(x, real) if self.training else (self.running_mean, self.running_var)
        x = some(x, rows)
        scale = self.weight * (variance + self.epsilon).rsqrt()
        return torch.addcmul(self.bias - mean * scale, x, scale)

    def _statistics(self, x: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        count = real.sum((1, 2)).view(-1, 1, 1, 1)  # (P, 1, 1, 1)
        weight = real[..., None] / count.clamp_min(1)  # (P, B, L, 1)
        mean = (x * weight).sum((1, 2), keepdim=True)  # (P, 1, 1, d)
        variance = ((x - mean).square() * weight).sum((1, 2), keepdim=True)
        enough = count >= 2
        mean = torch.where(enough, mean, self.running_mean)
        variance = torch.where(enough, variance, self.running_var)
        self._update(mean, variance, count)
        return mean, variance

    @torch.no_grad()
    def _update(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Move the running statistics; those of a path with too few utterances move towards themselves."""
        unbiased = torch.where(count >= 2, variance * count / (count - 1).clamp_min(1), variance)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(unbiased, self.momentum)


def initialize(module: nn.Module) -> None:
    """Draw a layer's weights, as torch does its linear layers; for `nn.Module.apply`."""
    if isinstance(module, nn.Linear | nn.Conv1d | StackedLinear):
        fan_in = module.weight.shape[1] if isinstance(module, StackedLinear) else module.weight[0].numel()
        bound = 1 / math.sqrt(fan_in)
        init.uniform_(module.weight, -bound, bound)
        if module.bias is not None:
            init.uniform_(module.bias, -bound, bound)
