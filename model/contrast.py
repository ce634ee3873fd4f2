"""Supervised contrast (Khosla et al., arXiv 2004.11362): turns of one class lie close together, those of others do not.

Neither LPGNet's paper nor SDT's has it. Each labelled turn of a batch is an anchor, and all others are what it is
contrasted with, from whichever dialogue: sum over its class of -log(exp(s_p / T) / sum of exp(s / T) over the others),
divided by the number p of turns of its class, with cosines s. An anchor without another turn of its class has no loss.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Shorter vectors are not made longer than this allows: a gradient grows by what its vector is divided by.
_SHORTEST = 1e-3


def contrast_sum(hidden: Tensor, labels: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """Sum the weighted losses of the anchors, a scalar in float32; 0 where there is none.

    Args:
        hidden: (N, d), of labelled turns.
        labels: (N,) class numbers.
        weights: (N,), of each turn as an anchor.
        temperature: T.
    """
    # A product of half precision would round the cosines before the temperature makes them large.
    with torch.autocast(hidden.device.type, enabled=False):
        unit = F.normalize(hidden.float(), dim=-1, eps=_SHORTEST)
        scores = unit @ unit.T / temperature  # (N, N)
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    alike = (labels[:, None] == labels) & ~itself
    # A turn that is alone of its class may be alone at all, and a softmax over nothing is NaN.
    anchors = alike.any(1)
    log_shares = scores.masked_fill(itself, -torch.inf)[anchors].log_softmax(-1)  # (A, N)
    alike = alike[anchors]
    losses = -log_shares.where(alike, 0.0).sum(-1) / alike.sum(-1)
    return (weights[anchors] * losses).sum()


def contrast_count(labels: Tensor, weights: Tensor) -> Tensor:
    """Sum the weights of the anchors that have another turn of their class, a scalar.

    Args:
        labels: (N,) class numbers.
        weights: (N,).
    """
    return (weights * (torch.bincount(labels)[labels] > 1)).sum()
