"""The processes of one launch: which one this is, how many there are, and the device that each computes on."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from lpgnet.pipeline.errors import UsageError

if TYPE_CHECKING:
    from accelerate import Accelerator

Item = TypeVar("Item")


@dataclass(frozen=True)
class Launch:
    """This process's rank among `size`, as the launcher says it in the environment."""

    rank: int
    size: int

    @property
    def is_main(self) -> bool:
        """Whether this process prints results and writes what is written once."""
        return self.rank == 0


def current_launch() -> Launch:
    """What `accelerate launch` or `torch.distributed.run` started; no torch needed.

    Raises:
        UsageError: the launcher was asked for more processes than it started.
    """
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1 and "ACCELERATE_MIXED_PRECISION" in os.environ:
        _check_promise(_processes_asked_for())
    return Launch(int(os.environ.get("RANK", 0)), size)


def _check_promise(asked: int) -> None:
    if asked > 1:
        raise UsageError(
            f"accelerate launch was asked for {asked} processes and started one, as it does without GPUs; "
            f'on CPUs use LAUNCH="python -m torch.distributed.run --nproc_per_node {asked}"'
        )


def _processes_asked_for() -> int:
    """The --num_processes of the launcher, which starts one process on a CPU and says nothing."""
    import psutil

    parent = psutil.Process().parent()
    words = parent.cmdline() if parent is not None else []
    for position, word in enumerate(words):
        name, _, value = word.partition("=")
        if name in ("--num_processes", "--num-processes", "-n"):
            count = value or words[position + 1]
            return int(count) if count.isdigit() else 1
    return 1


def resolve_device(device: str) -> str:
    """`auto` is this process's GPU where there is one, else the CPU; any other name is kept."""
    if device != "auto":
        return device
    import torch

    return f"cuda:{current_launch().rank % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"


def make_accelerator(device: str, mixed_precision: str = "no") -> Accelerator:
    """Accelerate's view of this launch.

    Raises:
        UsageError: the processes do not know of each other, or the device cannot compute in this precision.
    """
    import torch
    from accelerate import Accelerator
    from accelerate.utils import InitProcessGroupKwargs

    on_cpu = device == "cpu" or not torch.cuda.is_available()
    if device == "cuda" and on_cpu:
        raise UsageError("training.device is cuda, and there is no GPU that torch can use")
    if mixed_precision == "fp16" and on_cpu:
        raise UsageError("training.mixed_precision fp16 needs a GPU; on a CPU take bf16 or no")
    launch = current_launch()
    # A process may wait hours for another's part; the launcher, not a clock, notices one that died.
    patience = InitProcessGroupKwargs(timeout=timedelta(days=7))
    accelerator = Accelerator(cpu=on_cpu, mixed_precision=mixed_precision, kwargs_handlers=[patience])
    if accelerator.num_processes != launch.size:
        raise UsageError(f"the launcher says {launch.size} processes, accelerate sees {accelerator.num_processes}")
    return accelerator


def end_cleanly_when_terminated() -> None:
    """Let SIGTERM end this process as an error does, so that what is open is written.

    Launchers send it to all processes when one has failed, batch systems before they take a machine away.
    """
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def balance(items: Sequence[Item], costs: Sequence[float], parts: int) -> list[list[Item]]:
    """Cut items into parts of about equal cost, each in the items' order: longest first to the least loaded part."""
    loads = [0.0] * parts
    owner = [0] * len(items)
    for position in sorted(range(len(items)), key=lambda position: -costs[position]):
        owner[position] = part = loads.index(min(loads))
        loads[part] += costs[position]
    return [[item for item, mine in zip(items, owner, strict=True) if mine == part] for part in range(parts)]
