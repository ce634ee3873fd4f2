"""Valence, arousal and dominance: heads beside those of the emotions, and the losses that they learn by.

Neither LPGNet's paper nor SDT's has them; systems that win challenges in speech emotion do. Inside a model a rating
lies between -1 and 1, the lowest and the highest that the corpus's raters could give.

The concordance correlation coefficient (Lin, Biometrics 45, 1989) of a step is no mean over its utterances, but a
function of sums over them, its `moments`. So a step of several batches or processes first adds those up.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lpgnet.model.layers import StackedLinear, initialize

# Keeps the quotient finite where neither p nor y varies.
_LEAST = 1e-12


class RatingHeads(nn.Module):
    """A linear head for every dimension, on the fused vector and on each branch: H = 1 + M heads."""

    def __init__(self, width: int, branches: int, dimensions: int) -> None:
        super().__init__()
        self.fused = nn.Linear(width, dimensions)
        self.branches = StackedLinear(branches, width, dimensions) if branches else None
        self.apply(initialize)

    def forward(self, fused: Tensor, branches: Tensor | None = None) -> Tensor:
        """(B, L, d) and (M, B, L, d) -> (H, B, L, R), the fused head first."""
        heads = [self.fused(fused)[None]]
        if self.branches is not None:
            heads.append(self.branches(branches))
        return torch.cat(heads)


def normalize_ratings(ratings: Mapping[str, Tensor], ranges: Mapping[str, tuple[float, float]], like: Tensor) -> Tensor:
    """Stack ratings, and move the range of each to -1 .. 1.

    Args:
        ratings: (B, L) by dimension, in the corpus's units, NaN where there is none; a dimension may be missing.
        ranges: the lowest and the highest rating of each dimension of the model.
        like: (B, L, ...), what the ratings are of.

    Returns:
        (B, L, R).
    """
    nowhere = like.new_full(like.shape[:2], torch.nan, dtype=torch.float32)
    scaled = [2 * (ratings.get(name, nowhere).float() - low) / (high - low) - 1 for name, (low, high) in ranges.items()]
    return torch.stack(scaled, dim=-1)


def restore_units(rated: Tensor, ranges: Mapping[str, tuple[float, float]]) -> dict[str, Tensor]:
    """Undo `normalize_ratings`, (B, L, R) -> (B, L) by dimension; what lies beyond the range becomes its end."""
    inside = (rated.float().clamp(-1, 1) + 1) / 2
    return {
        name: low + (high - low) * values
        for (name, (low, high)), values in zip(ranges.items(), inside.unbind(-1), strict=True)
    }


@dataclass(frozen=True, kw_only=True)
class RatingTerms:
    """What the heads of one batch of utterances learn.

    Attributes:
        moments: (H, R, 6) float64 (float32 on Apple's GPUs): of a head's rating p and the raters' y, the sums of 1, p,
            y, p * p, y * y and p * y over the utterances that are rated and have the head's modality.
        weights: (H,) of each head.
        loss_name: ccc or mse.
    """

    moments: Tensor
    weights: Tensor
    loss_name: str

    def loss(self, whole: Tensor | None = None) -> Tensor:
        """The weighted mean over the dimensions of 1 - CCC, or of the squared error; 0 where nothing is rated.

        Args:
            whole: moments of the whole step, which this batch is a part of; None where it is the step. The losses of a
                step's batches add up to the step's, and their gradients to the step's gradient.
        """
        if whole is None:
            return self._weigh(self.moments)
        # The step's value, and the gradient of this part of its sums.
        step = whole.detach() + self.moments - self.moments.detach()
        share = self.moments[..., 0] / whole[..., 0].clamp_min(1)
        return self._weigh(step, share=share)

    def _weigh(self, moments: Tensor, share: Tensor | None = None) -> Tensor:
        losses = {"ccc": _discordance, "mse": _squared_error}[self.loss_name](moments)  # (H, R)
        if share is not None:
            losses = losses - losses.detach() + share * losses.detach()
        return (self.weights * losses.mean(-1).float()).sum()


def rating_terms(rated: Tensor, targets: Tensor, present: Tensor, weights: Tensor, loss_name: str) -> RatingTerms:
    """Sum up a batch.

    Args:
        rated: (H, B, L, R), of the heads.
        targets: (B, L, R), NaN where there is none.
        present: (H, B, L) bool, true where the head learns from the utterance.
        weights: (H,).
        loss_name: ccc or mse.
    """
    known = targets.isfinite() & present[..., None]  # (H, B, L, R)
    # A variance from sums of squares loses digits where ratings lie close together; Apple's GPUs have no more of them.
    kind = torch.float32 if rated.device.type == "mps" else torch.float64
    p, y = (torch.where(known, values.to(kind), 0.0) for values in (rated, targets))
    moments = torch.stack([known.to(kind), p, y, p * p, y * y, p * y], dim=-1).sum((1, 2))
    return RatingTerms(moments=moments, weights=weights, loss_name=loss_name)


def _discordance(moments: Tensor) -> Tensor:
    """1 - CCC, (..., 6) -> (...); 0 of no utterance."""
    count = moments[..., 0].clamp_min(1)
    p, y, pp, yy, py = (moments[..., 1:] / count[..., None]).unbind(-1)
    spread = (pp - p * p).clamp_min(0) + (yy - y * y).clamp_min(0) + (p - y).square()
    return (1 - 2 * (py - p * y) / (spread + _LEAST)) * (moments[..., 0] > 0)


def _squared_error(moments: Tensor) -> Tensor:
    """The mean of (p - y)^2, (..., 6) -> (...); 0 of no utterance."""
    count, _, _, pp, yy, py = moments.unbind(-1)
    return (pp - 2 * py + yy) / count.clamp_min(1)
