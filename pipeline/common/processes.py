"""The processes of one launch: which one this is, how many there are, and the device that each computes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lpgnet.pipeline.errors import UsageError

if TYPE_CHECKING:
    from accelerate import Accelerator

Item = TypeVar("Item")
PROC = Path("/proc")


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
    words = _parents_command()
    for position, word in enumerate(words):
        name, _, value = word.partition("=")
        if name in ("--num_processes", "--num-processes", "-n"):
            count = value or "".join(words[position + 1 : position + 2])
            return int(count) if count.isdigit() else 1
    return 1


def _parents_command() -> list[str]:
    """The words of the command that started this process, where the system tells: by /proc, else by ps.

    Windows has neither: there the launcher's promise goes unchecked.
    """
    parent = os.getppid()
    with suppress(OSError):
        return (PROC / str(parent) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    with suppress(OSError):
        ps = ["ps", "-ww", "-o", "args=", "-p", str(parent)]
        return subprocess.run(ps, capture_output=True, text=True).stdout.split()
    return []


def device_kind(device: str) -> str:
    """What `device` is: cuda, mps (Apple's GPU) or cpu; `auto` is the first of them that torch can use here.

    Raises:
        UsageError: there is no such GPU here.
    """
    import torch

    # Processes on one Apple GPU cannot exchange gradients: torch.distributed has no backend for it.
    alone = current_launch().size == 1
    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available() and alone, "cpu": True}
    if device == "auto":
        return next(kind for kind, can in usable.items() if can)
    kind = device.partition(":")[0]
    if not usable.get(kind, True):
        one = "" if alone else " for several processes"
        raise UsageError(f"device is {device}, and there is no such GPU here that torch can use{one}; take auto or cpu")
    return kind


def resolve_device(device: str) -> str:
    """`auto` is this process's GPU where there is one, else the CPU; any other name is kept.

    Raises:
        UsageError: there is no such GPU here.
    """
    import torch

    kind = device_kind(device)
    if device != "auto":
        return device
    return f"cuda:{current_launch().rank % torch.cuda.device_count()}" if kind == "cuda" else kind


def make_accelerator(device: str, mixed_precision: str = "no") -> Accelerator:
    """Accelerate's view of this launch.

    Raises:
        UsageError: the processes do not know of each other, or the device cannot compute in this precision.
    """
    from accelerate import Accelerator
    from accelerate.utils import InitProcessGroupKwargs

    kind = device_kind(device)
    if mixed_precision == "fp16" and kind != "cuda":
        raise UsageError("training.mixed_precision fp16 needs a CUDA GPU; elsewhere take bf16 or no")
    launch = current_launch()
    # A process may wait hours for another's part; the launcher, not a clock, notices one that died.
    patience = InitProcessGroupKwargs(timeout=timedelta(days=7))
    accelerator = Accelerator(cpu=kind == "cpu", mixed_precision=mixed_precision, kwargs_handlers=[patience])
    if accelerator.num_processes != launch.size:
        raise UsageError(f"the launcher says {launch.size} processes, accelerate sees {accelerator.num_processes}")
    return accelerator


def end_cleanly_when_terminated() -> None:
    """Let SIGTERM end this process as an error does, so that what is open is written.

    Launchers send it to all processes when one has failed, batch systems before they take a machine away.
    On Windows nothing sends it, and a process that is ended there ends at once.
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
