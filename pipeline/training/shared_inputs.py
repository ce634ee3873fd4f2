"""The inputs of a corpus in one file, which every process of a table maps: they are in memory once for all of them.

What is mapped lies in the system's cache of the disk, which it takes back where memory is short. The file has no name,
so it is gone with the last process that has it open, however that ends.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lpgnet.pipeline.errors import failed_file
from lpgnet.pipeline.training.dialogues import Dialogue

if TYPE_CHECKING:
    from lpgnet.pipeline.training.runs import LoadedCorpus

_BYTES = np.dtype(np.float32).itemsize


class SharedInputs:
    """Room for float32 numbers in a file: filled once from its beginning, and mapped.

    As an argument of a process it takes the open file along.

    Args:
        file: open, without a name.
        count: of the numbers that there is room for.
        folder: on whose disk it is.

    Raises:
        PipelineError: the system does not map it.
    """

    def __init__(self, file: IO[bytes], count: int, folder: Path) -> None:
        self._file, self._count, self._folder, self._filled = file, count, folder, 0
        try:
            # A process that changed a number would change a copy of its own.
            mapped = mmap.mmap(file.fileno(), max(count * _BYTES, 1), access=mmap.ACCESS_COPY)
        except OSError as error:
            raise failed_file(error, folder) from None
        self._numbers = torch.frombuffer(mapped, dtype=torch.float32, count=count) if count else torch.zeros(0)

    @classmethod
    def make(cls, folder: Path, count: int) -> SharedInputs:
        """Make an empty one on the disk of a folder.

        Raises:
            PipelineError: the folder cannot be written to, or the file not mapped.
        """
        try:
            file = TemporaryFile(dir=folder)  # noqa: SIM115 (open as long as what is mapped)
            file.truncate(max(count * _BYTES, 1))
        except OSError as error:
            raise failed_file(error, folder) from None
        return cls(file, count, folder)

    def add(self, rows: np.ndarray) -> Tensor:
        """Write rows behind those that are there, and return them as they are mapped.

        Raises:
            PipelineError: the disk is full.
        """
        try:
            self._file.write(rows.data)
            self._file.flush()
        except OSError as error:
            raise failed_file(error, self._folder) from None
        start, self._filled = self._filled, self._filled + rows.size
        return self.at(start, rows.shape)

    def at(self, start: int, shape: Sequence[int]) -> Tensor:
        """Return the numbers of that shape that begin at that place."""
        return self._numbers[start : start + int(np.prod(shape))].view(*shape)

    def __reduce__(self) -> tuple[Callable[..., SharedInputs], tuple[Any, int, Path]]:
        from multiprocessing.reduction import DupFd  # which Windows lacks

        return _received, (DupFd(self._file.fileno()), self._count, self._folder)


def _received(file: Any, count: int, folder: Path) -> SharedInputs:
    return SharedInputs(os.fdopen(file.detach(), "rb"), count, folder)


@dataclass(frozen=True)
class SharedCorpus:
    """A loaded corpus as other processes are given it.

    Attributes:
        corpus: it, without its dialogues.
        dialogues: the fields of each, with arrays for tensors, and where its inputs are instead of them.
    """

    corpus: LoadedCorpus
    inputs: SharedInputs
    dialogues: tuple[dict[str, Any], ...]

    @classmethod
    def of(cls, corpus: LoadedCorpus, inputs: SharedInputs) -> SharedCorpus:
        """Take a corpus apart whose dialogues' inputs were added to `inputs`."""
        return cls(replace(corpus, dialogues=()), inputs, tuple(map(_taken_apart, corpus.dialogues)))

    def load(self) -> LoadedCorpus:
        """Put the corpus together again."""
        return replace(self.corpus, dialogues=tuple(self._dialogue(**values) for values in self.dialogues))

    def _dialogue(self, *, inputs: dict[str, tuple[int, Sequence[int]]], **values: Any) -> Dialogue:
        mapped = {name: self.inputs.at(*place) for name, place in inputs.items()}
        return Dialogue(inputs=mapped, **{name: _tensors(value) for name, value in values.items()})


def _taken_apart(dialogue: Dialogue) -> dict[str, Any]:
    places = {name: (rows.storage_offset(), tuple(rows.shape)) for name, rows in dialogue.inputs.items()}
    return {name: _arrays(value) for name, value in vars(dialogue).items()} | {"inputs": places}


def _arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _arrays(one) for name, one in value.items()}
    return value.numpy() if isinstance(value, Tensor) else value


def _tensors(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _tensors(one) for name, one in value.items()}
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value
