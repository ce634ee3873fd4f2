"""Who speaks around a turn: its neighbors of the same voice and of another, of which no name is ever known."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lpgnet.model.layers import StackedLinear

# Columns of `neighbors`.
NEIGHBORS = ("previous of the same voice", "next of it", "previous of another voice", "next of one")


class VoiceNeighbors(nn.Module):
    """What a turn's neighbors say, for its local encoding.

    Every turn is projected once, to a quarter of the width, and fetched where it is a neighbor: at D = 768 and d = 128
    a tenth of what four projections of the embeddings would cost.

    Args:
        widths: D_m by modality.
        size: d.
    """

    def __init__(self, widths: Mapping[str, int], size: int) -> None:
        super().__init__()
        narrow = -(-size // len(NEIGHBORS))
        self.project = nn.ModuleDict({name: nn.Linear(width, narrow) for name, width in widths.items()})
        self.join = StackedLinear(len(widths), len(NEIGHBORS) * narrow, size, bias=False)

    def forward(self, mixed: Mapping[str, Tensor], real: Tensor, places: Tensor) -> Tensor:
        """Embeddings (B, L, D_m) by modality, `real` (M, B, L) and `places` (B, L, 4) -> (M, B, L, d)."""
        projected = torch.stack([self.project[name](values) for name, values in mixed.items()])
        around = at_neighbors(projected.masked_fill(~real[..., None], 0.0), places)  # (M, B, L, 4, d / 4)
        joined: Tensor = self.join(around.flatten(-2))
        return joined


def neighbors(speakers: Tensor, mask: Tensor, *, causal: bool = False) -> Tensor:
    """The nearest turns of the same voice and of another one, before each turn and after it.

    A turn whose speaker is not told has no neighbors and is nobody's.

    Args:
        speakers: (B, L), any number per voice of a dialogue, negative where the speaker is not told.
        mask: (B, L) bool, true for a real utterance.
        causal: whether no turn has a later neighbor.

    Returns:
        (B, L, 4), turns of the same dialogue in the order of `NEIGHBORS`, -1 where there is none.
    """
    same, other = voices(speakers, mask)
    turns = torch.arange(mask.shape[1], device=mask.device)
    before = turns < turns[:, None]  # (L, L), query and neighbor
    found = [place for voice in (same, other) for place in (_last(voice & before), _first(voice & before.T))]
    if causal:
        found[1::2] = [torch.full_like(place, -1) for place in found[1::2]]
    return torch.stack(found, dim=-1)


def voices(speakers: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Which pairs of turns have the same voice, and which have two, both (B, L, L); neither where one is not told.

    Args:
        speakers, mask: as in `neighbors`.
    """
    told = mask & (speakers >= 0)
    both = told[:, :, None] & told[:, None, :]
    equal = speakers[:, :, None] == speakers[:, None, :]
    return both & equal, both & ~equal


def at_neighbors(x: Tensor, places: Tensor) -> Tensor:
    """What stands at each turn's neighbors, zero where there is none: (M, B, L, d) -> (M, B, L, 4, d).

    Args:
        x: (M, B, L, d).
        places: (B, L, 4), turns of the same row, -1 for none.
    """
    first = torch.arange(x.shape[1], device=x.device)[:, None, None] * x.shape[2]  # the first turn of each row
    rows = (first + places.clamp_min(0)).flatten()
    found: Tensor = x.flatten(1, 2).index_select(1, rows).unflatten(1, places.shape)
    return found.masked_fill((places < 0)[..., None], 0.0)


def _last(there: Tensor) -> Tensor:
    """The last place along the last axis that is true, -1 where none is."""
    return torch.where(there, torch.arange(there.shape[-1], device=there.device), -1).amax(-1)


def _first(there: Tensor) -> Tensor:
    """The first place along the last axis that is true, -1 where none is."""
    last = _last(there.flip(-1))
    return torch.where(last < 0, last, there.shape[-1] - 1 - last)
