"""Work on several items at once, in processes of one thread each, so that how many there are changes no result."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from lpgnet.pipeline.common import console
from lpgnet.pipeline.common.processes import device_kind
from lpgnet.pipeline.common.workers import Workers

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

Item = TypeVar("Item")


def default_workers(device: str) -> int:
    """Return one worker for each GPU, or for each CPU core that this process may use."""
    import torch

    kind = device_kind(device)
    if kind != "cpu":
        return torch.cuda.device_count() if kind == "cuda" else 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread, as a worker process does."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def run_side_by_side(work: Callable[[Item], None], items: Sequence[Item], *, workers: int) -> Iterator[Item]:
    """Do the work on every item in new processes.

    The first error ends the processes and is raised; what other items had written by then stays.

    Args:
        work: a function at the top level of a module.
        items: what it is called with, one at a time; they are pickled on their way to a process.
        workers: processes at once.

    Yields:
        Each item when it is done.
    """
    with side_by_side(workers) as pool:
        futures = {pool.submit(work, item): item for item in items}
        for future in as_completed(futures):
            future.result()
            yield futures[future]


@contextmanager
def side_by_side(workers: int) -> Iterator[Workers]:
    """Give processes of one thread each, every one with a GPU of its own where there are enough."""
    slots = multiprocessing.get_context("spawn").SimpleQueue()
    for slot in range(workers):
        slots.put(slot)
    with Workers(workers, _set_up, slots) as pool:
        yield pool


def _set_up(slots: SimpleQueue[int]) -> None:
    import torch

    torch.set_num_threads(1)
    console.messages.quiet = True
    _take_gpu(slots.get())


def _take_gpu(slot: int) -> None:
    """Let this process see one GPU only; call it before CUDA starts."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]
    if names:
        os.environ["CUDA_VISIBLE_DEVICES"] = names[slot % len(names)]
