"""The processes of one launch: which one this is, how many there are, and the device that each computes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

from lpgnet.pipeline.errors import PipelineError, UsageError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from accelerate import Accelerator

Item = TypeVar("Item")
PROC = Path("/proc")
# Who started this process, asked as early as can be: a parent that is gone is another one.
PARENT = os.getppid()
# How often a process that shares no pipe with its parent looks whether it is still there (seconds).
PARENT_SECONDS = 0.5
# What the launchers leave in the environment of the processes that they start.
LAUNCHERS = ("TORCHELASTIC_RUN_ID", "ACCELERATE_MIXED_PRECISION")
# Of Linux's sys/prctl.h: the signal that the kernel sends when the parent is gone.
_PR_SET_PDEATHSIG = 1


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
    """Return what `accelerate launch` or `torch.distributed.run` started; no torch needed.

    Raises:
        UsageError: the launcher was asked for more processes than it started.
    """
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1 and "ACCELERATE_MIXED_PRECISION" in os.environ:
        _check_launcher(_requested_processes())
    return Launch(int(os.environ.get("RANK", 0)), size)


def _check_launcher(requested: int) -> None:
    if requested > 1:
        raise UsageError(
            f"accelerate launch was asked for {requested} processes but started one, as it does without GPUs; "
            f'on CPUs use LAUNCH="python -m torch.distributed.run --nproc_per_node {requested}"'
        )


def _requested_processes() -> int:
    """Return the launcher's --num_processes: on a CPU it starts one process and says nothing."""
    words = _parent_command()
    for index, word in enumerate(words):
        name, _, value = word.partition("=")
        if name in ("--num_processes", "--num-processes", "-n"):
            count = value or "".join(words[index + 1 : index + 2])
            return int(count) if count.isdigit() else 1
    return 1


def _parent_command() -> list[str]:
    """Return the words of the command that started this process: from /proc, else from ps.

    Windows has neither: there the number of processes goes unchecked.
    """
    parent = os.getppid()
    with suppress(OSError):
        return (PROC / str(parent) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    with suppress(OSError):
        ps = ["ps", "-ww", "-o", "args=", "-p", str(parent)]
        return subprocess.run(ps, capture_output=True, text=True).stdout.split()
    return []


def device_kind(device: str) -> str:
    """Return what `device` is: cuda, mps (Apple's GPU) or cpu; `auto` is the first of them that torch can use here.

    Raises:
        UsageError: there is no such GPU here.
    """
    import torch

    # Processes on one Apple GPU cannot exchange gradients: torch.distributed has no backend for it.
    single = current_launch().size == 1
    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available() and single, "cpu": True}
    if device == "auto":
        return next(kind for kind, can in usable.items() if can)
    kind = device.partition(":")[0]
    if not usable.get(kind, True):
        processes = "" if single else " in several processes"
        raise UsageError(f"device is {device}, but torch finds no such GPU here{processes}; use auto or cpu")
    return kind


def resolve_device(device: str) -> str:
    """Return the device that `auto` stands for: this process's GPU if there is one, else the CPU; keep other names.

    Raises:
        UsageError: there is no such GPU here.
    """
    import torch

    kind = device_kind(device)
    if device != "auto":
        return device
    return f"cuda:{current_launch().rank % torch.cuda.device_count()}" if kind == "cuda" else kind


def make_accelerator(device: str, mixed_precision: str = "no") -> Accelerator:
    """Make accelerate's view of this launch, with no setting left of an earlier one in this process.

    Args:
        device: as `device_kind` takes it.
        mixed_precision: no, fp16 or bf16.

    Raises:
        UsageError: the processes do not know of each other, or the device cannot compute in this precision.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import InitProcessGroupKwargs

    _end_with_launcher()
    kind = device_kind(device)
    if mixed_precision == "fp16" and kind != "cuda":
        raise UsageError("training.mixed_precision fp16 needs a CUDA GPU; on other devices use bf16 or no")
    launch = current_launch()
    # A process may wait hours for another's part; the launcher, not a clock, notices one that died.
    patience = InitProcessGroupKwargs(timeout=timedelta(days=7))
    # Accelerate would keep the precision of the first accelerator in this process; runs may differ in it.
    AcceleratorState._reset_state()
    accelerator = Accelerator(cpu=kind == "cpu", mixed_precision=mixed_precision, kwargs_handlers=[patience])
    if accelerator.num_processes != launch.size:
        raise UsageError(f"the launcher started {launch.size} processes, accelerate sees {accelerator.num_processes}")
    return accelerator


def agree(folder: Path, seen: Mapping[str, object]) -> None:
    """Compare what the processes of a launch see of a run, each on its machine; needs `make_accelerator` before it.

    Args:
        folder: of the run.
        seen: by what it is.

    Raises:
        PipelineError: they differ; all processes raise it, so that none waits for another.
    """
    from accelerate.utils import gather_object

    everyone: list[Mapping[str, object]] = gather_object([seen])
    names = {name: None for one in everyone for name in one}
    if differing := [name for name in names if any(one.get(name) != seen.get(name) for one in everyone)]:
        raise PipelineError(
            f"{folder}: the processes of this launch differ in {', '.join(differing)}; give every machine the same "
            "command, and the same work folder and store"
        )


def leave_launch() -> None:
    """Part from the other processes of a launch, where this one worked with any.

    Threads that torch keeps for them may abort a process that ends with them running ("terminate called without an
    active exception").
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _end_with_launcher() -> None:
    """End when the launcher is gone: the other processes that this one works with ended with it, or wait for it."""
    if any(name in os.environ for name in LAUNCHERS):
        end_with_parent()


def end_with_parent(pipe: Connection | None = None) -> None:
    """Let this process end as soon as its parent is gone: a parent that is killed cannot end its processes.

    Args:
        pipe: the end for reading of one whose other end the parent alone holds: it may also close it to end this
            process. None asks the system for the parent.
    """
    Thread(target=_end_when_gone, args=(pipe,), daemon=True).start()
    if sys.platform == "linux":
        import ctypes

        # The kernel ends even a process whose threads all wait for a library that holds the interpreter.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # It tells of no parent that was gone before.
        if os.getppid() != PARENT:
            os._exit(1)


def _end_when_gone(pipe: Connection | None) -> None:
    if pipe is not None:
        pipe.poll(None)
    else:
        while os.getppid() == PARENT:
            time.sleep(PARENT_SECONDS)
    os._exit(1)


def balance(items: Sequence[Item], costs: Sequence[float], parts: int) -> list[list[Item]]:
    """Cut items into parts of about equal cost, each in the items' order: longest first to the least loaded part."""
    loads = [0.0] * parts
    part_of = [0] * len(items)
    for index in sorted(range(len(items)), key=lambda index: -costs[index]):
        part_of[index] = part = loads.index(min(loads))
        loads[part] += costs[index]
    return [[item for item, its in zip(items, part_of, strict=True) if its == part] for part in range(parts)]
