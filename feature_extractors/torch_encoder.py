"""The frame of every torch encoder: items to pieces, pieces to batches, batches to parts, parts to embeddings."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lpgnet.feature_extractors.devices import Arriving, full_float32, send
from lpgnet.feature_extractors.errors import EncoderError, ItemError
from lpgnet.feature_extractors.items import Embedding, Item
from lpgnet.feature_extractors.layer_hooks import LayerHooks
from lpgnet.feature_extractors.pooling import Part, join, join_values, pool
from lpgnet.feature_extractors.precision import cast_to_bfloat16, prepare_for_autocast
from lpgnet.feature_extractors.spec import EncoderSpec
from lpgnet.feature_extractors.windows import batches


@dataclass(frozen=True)
class Piece:
    """What is encoded together: a whole item or one window of it.

    `own` counts its samples or tokens, `size` those that the model makes of it when it is alone; `content` is what
    the encoder's `_forward` takes. Positions `first` to `end` are counted; `end` is None when the model alone knows
    how many there are, and all count.
    """

    item: int
    own: int
    size: int
    content: Any
    first: int
    end: int | None


@dataclass(frozen=True)
class Pieces:
    """The pieces of one item, in order, and its flags."""

    pieces: list[Piece]
    flags: frozenset[str]


@dataclass(frozen=True)
class Pooled:
    """A batch's layers on the device: `values` `(B, layers, width)` or `(B, layers, T, d)`, counted frames a row."""

    values: Tensor
    spans: list[tuple[int, int]]


@dataclass(frozen=True)
class Running:
    """A batch that the device computes: which pieces it holds, and their pooled layers on the way here."""

    group: list[int]
    spans: list[tuple[int, int]]
    values: Arriving

    def fetch(self) -> Iterator[tuple[int, Part]]:
        """Wait for the batch, and yield each piece's index and part."""
        values = self.values.wait()
        # Frames are (B, layers, T, d). Copies, or every utterance would keep its whole batch in memory.
        for index, row, (first, end) in zip(self.group, values, self.spans, strict=True):
            own = row if row.ndim == 2 else row[:, first:end].swapaxes(0, 1)
            yield index, Part(own.copy("C"), end - first)


class TorchEncoder(nn.Module):
    """A frozen encoder: a module that stays in evaluation mode whatever its parent does.

    Subclasses say how items are cut (`_cut`) and how a batch of pieces runs through the model (`_forward`).
    `budget` is what a batch holds unless a call says otherwise; None for a model that is exact only alone.
    """

    def __init__(
        self, spec: EncoderSpec, model: nn.Module, hooks: LayerHooks, *, width: int, budget: int | None, device: str
    ) -> None:
        super().__init__()
        self.spec, self.hooks, self.budget = spec, hooks, budget
        self.n_layers = hooks.n_layers
        self.width = 2 * width if spec.pooling == "mean_std" else width
        self.device = torch.device(device)
        self.model = model.to(self.device).requires_grad_(False)
        # Models whose batches are exact are those that tests hold to bfloat16's contract; of others nothing is known.
        self.autocasts = spec.precision == "bf16" and budget is None
        if spec.precision == "bf16":
            (prepare_for_autocast if self.autocasts else cast_to_bfloat16)(self.model)
        self.eval()

    @property
    def sampling_rate(self) -> int | None:
        """The rate in Hz of the waveforms it takes; None for text."""
        return self.spec.sampling_rate

    def train(self, mode: bool = True) -> "TorchEncoder":
        """Stay in evaluation mode: training mode would drop layers and mask spans at random."""
        return super().train(False)

    @abstractmethod
    def lengths(self, items: Sequence[Item]) -> list[int]:
        """Count the samples or tokens of each item."""

    @abstractmethod
    def _cut(self, items: Sequence[Item]) -> list[Pieces]:
        """Cut every item to pieces; raises `ItemError` for all bad ones before anything is computed."""

    @abstractmethod
    def _forward(self, contents: Sequence[Any]) -> Tensor:
        """Compute the model's last hidden state `(B, T, d)` of a batch of piece contents."""

    def encode(self, items: Sequence[Item], batch_budget: int | None = None) -> list[Embedding]:
        """Return one embedding an item, in the items' order.

        `batch_budget` bounds a batch's padded samples or tokens (None: what suits the device; 0: one at a time).
        Raises `ItemError`, which names every bad item.
        """
        cuts = self._cut(items)
        pieces = [piece for cut in cuts for piece in cut.pieces]
        groups = self._groups(pieces, batch_budget)
        parts: list[list[Part]] = [[] for _ in items]
        for piece, part in zip(pieces, self._parts(pieces, groups), strict=True):
            parts[piece.item].append(part)
        joined = [join(own, self.spec.pooling) for own in parts]
        bad = {i: "the encoder gives NaN or infinity" for i, part in enumerate(joined) if not _is_finite(part.values)}
        if bad:
            raise ItemError(bad)
        costs = _costs(pieces, groups, len(items))
        return [
            Embedding(part.values, part.n_frames, cut.flags, *cost)
            for part, cut, cost in zip(joined, cuts, costs, strict=True)
        ]

    def _groups(self, pieces: Sequence[Piece], batch_budget: int | None) -> list[list[int]]:
        budget = self.budget if batch_budget is None or self.budget is None else batch_budget
        return batches([piece.size for piece in pieces], budget or 0)

    def _parts(self, pieces: Sequence[Piece], groups: Sequence[list[int]]) -> list[Part]:
        """Return a part of every piece, in the pieces' order."""
        done: dict[int, Part] = {}
        before: Running | None = None
        # A batch is fetched when the next one is queued, so that a GPU has work while its results are taken.
        for running in chain.from_iterable(self._launch(pieces, group) for group in groups):
            done.update(before.fetch() if before else ())
            before = running
        done.update(before.fetch() if before else ())
        return [done[index] for index in range(len(pieces))]

    def _launch(self, pieces: Sequence[Piece], group: list[int]) -> Iterator[Running]:
        """Yield a batch on its way, in halves where the device's memory does not hold it."""
        pooled = self._pool_if_it_fits([pieces[index] for index in group])
        if pooled is not None:
            yield Running(group, pooled.spans, Arriving.start(pooled.values))
            return
        if len(group) == 1:
            raise EncoderError(
                f"{self.spec.name}: {self.device} has no memory for one input of {pieces[group[0]].size} samples or"
                " tokens: make room there, take another device, or for audio a smaller max_seconds"
            )
        middle = len(group) // 2
        yield from self._launch(pieces, group[:middle])
        yield from self._launch(pieces, group[middle:])

    def _pool_if_it_fits(self, batch: Sequence[Piece]) -> Pooled | None:
        try:
            return self._pool_batch(batch)
        except torch.OutOfMemoryError:
            return None

    def _pool_batch(self, batch: Sequence[Piece]) -> Pooled:
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocasts)
        with torch.inference_mode(), full_float32(), autocast:
            return self._pool(batch)

    def embed(self, items: Sequence[Item], batch_budget: int | None = None) -> Tensor:
        """Embed items as `encode` does, but with what a gradient needs, and in the precision that the caller sets.

        Args:
            items: none of them bad; `pooling` is not none.
            batch_budget: as in `encode`.

        Returns:
            (N, layers, width) on the encoder's device.
        """
        pieces = [piece for cut in self._cut(items) for piece in cut.pieces]
        groups = self._groups(pieces, batch_budget)
        parts: list[list[tuple[Tensor, int]]] = [[] for _ in items]
        order = {index: (group, row) for group, own in enumerate(groups) for row, index in enumerate(own)}
        pooled = [self._pool([pieces[index] for index in group]) for group in groups]
        for index, piece in enumerate(pieces):
            group, row = order[index]
            first, end = pooled[group].spans[row]
            parts[piece.item].append((pooled[group].values[row], end - first))
        return torch.stack([_join(own, self.spec.pooling) for own in parts])

    def _pool(self, batch: Sequence[Piece]) -> Pooled:
        layers: list[Tensor] = [torch.empty(0)] * self.n_layers
        spans: list[tuple[int, int]] = []

        @cache
        def counted(frames: int) -> Tensor:
            spans[:] = [(p.first, frames if p.end is None else p.end) for p in batch]
            return _span_mask(spans, frames, self.device)

        def on_layer(index: int, hidden: Tensor) -> None:
            if hidden.ndim != 3:
                raise EncoderError(
                    f"{self.spec.name}: its states are {tuple(hidden.shape)}, not (batch, frames, width)"
                )
            # Sums of many frames in bfloat16 would lose what the frames still had.
            with torch.autocast(self.device.type, enabled=False):
                layers[index] = pool(hidden, counted(hidden.shape[1]), self.spec.pooling)

        self.hooks.run(lambda: self._forward([piece.content for piece in batch]), on_layer)
        return Pooled(torch.stack(layers, dim=1), spans)


def _join(parts: Sequence[tuple[Tensor, int]], pooling: str) -> Tensor:
    """Join the windows of one item, `(layers, width)` and how many frames each."""
    if len(parts) == 1:
        return parts[0][0]
    values = torch.stack([part for part, _ in parts])
    counts = values.new_tensor([count for _, count in parts])
    return join_values(values, counts / counts.sum(), pooling)


def last_hidden_state(model: nn.Module, **inputs: Tensor | None) -> Tensor:
    """Run a model of Hugging Face.

    Args:
        model: the model.
        inputs: its inputs by name, each `(B, ...)`.

    Returns:
        `(B, T, d)`.
    """
    states: Tensor = model(**inputs).last_hidden_state
    return states


def _costs(pieces: Sequence[Piece], groups: Sequence[list[int]], n_items: int) -> list[tuple[int, int, int]]:
    """Count the samples or tokens of every item, the padding that was computed beside them, and its largest batch."""
    own, padding, batch = [0] * n_items, [0] * n_items, [0] * n_items
    for group in groups:
        longest = max(pieces[index].size for index in group)
        for piece in (pieces[index] for index in group):
            own[piece.item] += piece.own
            padding[piece.item] += longest - piece.own
            batch[piece.item] = max(batch[piece.item], len(group))
    return list(zip(own, padding, batch, strict=True))


def _span_mask(spans: Sequence[tuple[int, int]], frames: int, device: torch.device) -> Tensor:
    first, end = send(torch.tensor(spans), device).unsqueeze(-1).unbind(1)  # (B, 1) each
    indices = torch.arange(frames, device=device)
    return (indices >= first) & (indices < end)


def _is_finite(values: np.ndarray) -> bool:
    return bool(np.isfinite(np.sum(values, dtype=np.float64)))
