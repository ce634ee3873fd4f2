"""Dialogues end to end in one row, so that a model computes on turns and not on padding.

A batch comes as (B, L, ...), padded to its longest dialogue: dialogues of 24 to 110 turns in random order have 60 %
more rows than turns. Inside a model they lie in one row (1, T, ...), the longest first, each with empty turns after it
as far as the model's convolutions reach. So nothing but attention knows of dialogues, and it runs once for each group
of dialogues of like length, which have equal room in the row.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from lpgnet.model.compiling import uncompiled


def select(x: Tensor, rows: Tensor | None) -> Tensor:
    """Some rows of (N, ...), by their numbers (T,); as they stand for None."""
    return x if rows is None else x.index_select(0, rows)


def some(x: Tensor, rows: Tensor | None) -> Tensor:
    """Some turns of (P, 1, T, ...), by their numbers (K,); all for None."""
    return x if rows is None else x.index_select(2, rows)


@dataclass(frozen=True)
class Layout:
    """Where the turns of a batch lie in the row.

    Attributes:
        sources: (T,) of each turn of the row, its number among the B * L of the batch; 0 where it is empty. None if the
            row is the batch as it stands: of a dialogue alone, nothing is moved.
        filled: (1, T) bool, false where it is empty.
        positions: (T,) of each turn in its dialogue, from 0; 0 where it is empty.
        places: (B, L) of each turn of the batch in the row; at padding, that of the dialogue's last turn.
        groups: of each group of dialogues, their number G and the turns W that each has room for; they add up to T.
        spans: (B,) of each dialogue of the batch, where it begins in the row, and its turns.
    """

    sources: Tensor | None
    filled: Tensor
    positions: Tensor
    places: Tensor
    groups: tuple[tuple[int, int], ...]
    spans: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.positions)

    def of_dialogues(self, row: Tensor) -> Iterator[Tensor]:
        """Views of (T, ...), of where the turns of each dialogue lie, (L_b, ...)."""
        return (row[start : start + turns] for start, turns in self.spans)

    def lay(self, dialogues: Sequence[Tensor]) -> Tensor:
        """Lay dialogues of their own lengths, (L_b, ...) -> (T, ...), zero where it is empty."""
        row = dialogues[0].new_zeros(len(self), *dialogues[0].shape[1:])
        for place, own in zip(self.of_dialogues(row), dialogues, strict=True):
            place.copy_(own)
        return row

    def only(self, rows: Tensor) -> "Layout":
        """The layout of some turns of the row, by their numbers (K,); `unpack` gives nothing that means anything else.

        It has no dialogues any more: they may have lost turns.
        """
        numbers = torch.zeros_like(self.positions).index_copy(0, rows, torch.arange(len(rows), device=rows.device))
        sources = rows if self.sources is None else select(self.sources, rows)
        return Layout(sources, self.filled[:, rows], self.positions[rows], numbers[self.places], (), ())

    def pack(self, x: Tensor) -> Tensor:
        """(B, L, ...) -> (1, T, ...); what stands at an empty turn means nothing."""
        return select(x.flatten(0, 1), self.sources)[None]

    def unpack(self, x: Tensor) -> Tensor:
        """(1, T, ...) -> (B, L, ...); padding repeats the dialogue's last turn."""
        places = None if self.sources is None else self.places.flatten()
        rows: Tensor = select(x[0], places).unflatten(0, self.places.shape)
        return rows

    def pack_places(self, places: Tensor) -> Tensor:
        """Turns of each dialogue as those of the row, (B, L, N) -> (1, T, N); negative ones stay what they are."""
        return self.pack(torch.where(places < 0, places, places + self.places[:, :1, None]))

    def split(self, x: Tensor) -> list[Tensor]:
        """(P, 1, T, ...) -> (P, G, W, ...) of each group."""
        if len(self.groups) == 1:
            # By a shape, which may vary where a model is compiled, as a number may not.
            return [x.squeeze(1).unflatten(1, (self.places.shape[0], -1))]
        parts = x.squeeze(1).split([dialogues * width for dialogues, width in self.groups], dim=1)
        return [part.unflatten(1, group) for part, group in zip(parts, self.groups, strict=True)]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Undo `split`."""
        rows = [part.flatten(1, 2) for part in parts]
        return (torch.cat(rows, dim=1) if len(rows) > 1 else rows[0]).unsqueeze(1)


@uncompiled
def lay_out(mask: Tensor, *, gap: int, spare: float) -> Layout:
    """Lay out a batch.

    Args:
        mask: (B, L) bool, true for a real utterance.
        gap: empty turns between dialogues: how far the model's convolutions reach.
        spare: the share of its room that a dialogue leaves empty at most, beside the gap. 0 puts dialogues of one
            length into a group, 1 puts all of them into one, which pads them to the longest.
    """
    # The one thing that a GPU is waited for.
    lengths = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).amax(1).clamp_min(1).cpu()
    sorted_lengths, order = lengths.sort(descending=True, stable=True)
    rooms = _rooms(sorted_lengths.tolist(), gap if len(mask) > 1 else 0, spare)
    sources, positions, places = _place(lengths, order, torch.tensor(rooms), mask.shape[1])
    spans = tuple(zip(places[:, 0].tolist(), lengths.tolist(), strict=True))
    as_it_stands = torch.equal(sources, torch.arange(mask.numel()))
    sources, positions, places = _send([sources, positions, places], mask.device)
    return Layout(
        sources=None if as_it_stands else sources.clamp_min(0),
        filled=(sources >= 0)[None],
        positions=positions,
        places=places,
        groups=tuple((len(list(same)), width) for width, same in groupby(rooms)),
        spans=spans,
    )


def _place(lengths: Tensor, order: Tensor, rooms: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """`Layout.sources`, -1 where the row is empty, `positions` and `places`, on the CPU.

    Args:
        lengths: (B,) of the dialogues; one without any turn has room for one.
        order: (B,), the dialogues as they lie in the row.
        rooms: (B,), of the dialogues in that order.
        length: L.
    """
    starts = torch.zeros_like(lengths).index_copy(0, order[1:], rooms.cumsum(0)[:-1])
    dialogues = order.repeat_interleave(rooms)  # (T,)
    positions = torch.arange(len(dialogues)) - starts[dialogues]
    empty = positions >= lengths[dialogues]
    sources = (dialogues * length + positions).masked_fill(empty, -1)
    places = starts[:, None] + torch.arange(length).minimum(lengths[:, None] - 1)
    return sources, positions.masked_fill(empty, 0), places


def _send(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Copy small tensors of one type to a device, at once and without waiting."""
    joined = torch.cat([x.flatten() for x in tensors])
    if device.type == "cuda":  # which reads other memory only while the CPU waits
        joined = joined.pin_memory()
    parts = joined.to(device, non_blocking=True).split([x.numel() for x in tensors])
    return [part.view(x.shape) for part, x in zip(parts, tensors, strict=True)]


def _rooms(lengths: Sequence[int], gap: int, spare: float) -> list[int]:
    """The room of each dialogue, from the longest to the shortest: that of the one before if it leaves little empty."""
    rooms: list[int] = []
    for length in lengths:
        fits = rooms and length >= (1 - spare) * (rooms[-1] - gap)
        rooms.append(rooms[-1] if fits else length + gap)
    return rooms
