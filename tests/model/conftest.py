"""Batches of random dialogues for the tests of the models."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

SIZES = {"text": [1, 6], "audio": [3, 5]}


@dataclass(frozen=True)
class Batch:
    """A model's arguments, with rows of dialogues."""

    inputs: dict[str, Tensor]
    masks: dict[str, Tensor]
    mask: Tensor
    labels: Tensor
    speakers: Tensor
    lengths: list[int] = field(default_factory=list)
    votes: Tensor | None = None
    ratings: dict[str, Tensor] = field(default_factory=dict)

    def arguments(self) -> dict[str, Any]:
        return {
            "inputs": self.inputs,
            "masks": self.masks,
            "mask": self.mask,
            "labels": self.labels,
            "speakers": self.speakers,
            "votes": self.votes,
            "ratings": self.ratings,
        }

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """Apply a change to every tensor."""
        return Batch(
            {m: change(x) for m, x in self.inputs.items()},
            {m: change(x) for m, x in self.masks.items()},
            change(self.mask),
            change(self.labels),
            change(self.speakers),
            votes=None if self.votes is None else change(self.votes),
            ratings={name: change(x) for name, x in self.ratings.items()},
        )

    def alone(self, row: int) -> "Batch":
        """One dialogue without its padding."""
        return self.map(lambda x: x[row : row + 1, : self.lengths[row]])

    def padded(self, steps: int) -> "Batch":
        """The same dialogues with more padding, whose content is random."""

        def pad(x: Tensor) -> Tensor:
            shape = (x.shape[0], steps, *x.shape[2:])
            filler = torch.randn(shape) if x.is_floating_point() else torch.zeros(shape, dtype=x.dtype)
            return torch.cat([x, filler], dim=1)

        return self.map(pad)


def random_batch(
    lengths: list[int],
    sizes: dict[str, list[int]] | None = None,
    missing: float = 0.25,
    unlabelled: float = 0.2,
    classes: int = 4,
    seed: int = 0,
) -> Batch:
    """Dialogues of these lengths; padding, missing utterances and unlabelled ones hold random content."""
    sizes = SIZES if sizes is None else sizes
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), max(lengths))
    mask = torch.arange(shape[1])[None] < torch.tensor(lengths)[:, None]
    masks = {m: mask & (torch.rand(shape, generator=generator) >= missing) for m in sizes}
    labels = torch.randint(0, classes, shape, generator=generator)
    hidden = torch.rand(shape, generator=generator) < unlabelled
    return Batch(
        inputs={m: torch.randn(*shape, *size, generator=generator) * 3 + 1 for m, size in sizes.items()},
        masks=masks,
        mask=mask,
        labels=labels.masked_fill(hidden | ~mask, -100),
        speakers=torch.randint(0, 3, shape, generator=generator),
        lengths=lengths,
    )


@torch.no_grad()
def randomize(model: nn.Module, scale: float = 0.4, seed: int = 1) -> nn.Module:
    """Give every parameter and buffer a value that a test would notice if it were left out."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        noise = torch.rand(tensor.shape, generator=generator)
        positive = "std" in name or "var" in name
        tensor.copy_(0.5 + noise if positive else scale * (2 * noise - 1))
    return model


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., Batch]:
    return random_batch


@pytest.fixture(scope="session")
def randomized() -> Callable[..., nn.Module]:
    return randomize
