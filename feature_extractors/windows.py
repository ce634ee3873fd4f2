"""Cutting what is too long into overlapping windows, and grouping windows into batches of a budget."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Frames:
    """How many frames a model makes of how many samples.

    Frame k covers samples `k * hop` to `k * hop + receptive`; a chain of convolutions without padding
    (strides s, kernels k) has `hop = prod(s)` and floors as one such formula does.
    """

    hop: int
    receptive: int

    def count(self, samples: int) -> int:
        """Count the frames of a waveform of at least `receptive` samples."""
        return (samples - self.receptive) // self.hop + 1

    def samples(self, frames: int) -> int:
        """Return the fewest samples that make so many frames."""
        return (frames - 1) * self.hop + self.receptive

    @classmethod
    def of_convolutions(cls, kernels: Sequence[int], strides: Sequence[int]) -> "Frames":
        """Make the formula of a stack of convolutions without padding, first layer first."""
        hop, receptive = 1, 1
        for kernel, stride in zip(kernels, strides, strict=True):
            receptive += (kernel - 1) * hop
            hop *= stride
        return cls(hop, receptive)


@dataclass(frozen=True)
class Window:
    """Indices `start` to `stop` are encoded together, of which `first` to `end` are counted."""

    start: int
    stop: int
    first: int
    end: int


def cut(length: int, size: int, overlap: int) -> list[Window]:
    """Cut windows of at most `size` indices that overlap by `overlap`, whose counted parts partition `length`.

    Where two windows overlap, each counts its own half, so that a counted index has neighbors on both
    sides. The last window is moved back to be full.

    >>> cut(10, 6, 2)
    [Window(start=0, stop=6, first=0, end=5), Window(start=4, stop=10, first=5, end=10)]
    """
    if length <= size:
        return [Window(0, length, 0, length)]
    starts = [*range(0, length - size, size - overlap), length - size]
    middles = [(before + size + after) // 2 for before, after in pairwise(starts)]
    borders = [0, *middles, length]
    return [
        Window(start, start + size, first, end)
        for start, first, end in zip(starts, borders[:-1], borders[1:], strict=True)
    ]


def batches(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Group indices so that a group's longest size times its count stays within the budget.

    Longest first, so that memory is highest in the first batch; an item above the budget is a batch alone.

    >>> batches([3, 9, 4, 8], 18)
    [[1, 3], [2, 0]]
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        if groups and sizes[groups[-1][0]] * (len(groups[-1]) + 1) <= budget:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups
