"""Work on several items at once, in processes of one thread each, so that how many there are changes no result."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from lpgnet.pipeline.common import console
from lpgnet.pipeline.common.processes import device_kind
from lpgnet.pipeline.common.threads import usable_cores
from lpgnet.pipeline.common.workers import Workers

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

Item = TypeVar("Item")
Given = TypeVar("Given")
# How often it is looked at what is being worked on (seconds).
LOOK_SECONDS = 2.0


def default_workers(device: str) -> int:
    """Return one worker for each GPU, or for each CPU core that this process may use."""
    import torch

    kind = device_kind(device)
    if kind != "cpu":
        return torch.cuda.device_count() if kind == "cuda" else 1
    return usable_cores()


def run_side_by_side(
    work: Callable[[Item], None],
    items: Sequence[Item],
    *,
    workers: int,
    take: Callable[[Given], None] | None = None,
    given: Given | None = None,
    meanwhile: Callable[[Sequence[Item]], None] | None = None,
) -> Iterator[Item]:
    """Do the work on every item in new processes, which stay for the next one.

    The first error ends the processes and is raised; what other items had written by then stays.

    Args:
        work: a function at the top level of a module.
        items: what it is called with, one at a time; they are pickled on their way to a process.
        workers: processes at once.
        take: is called in every process with `given` before its first work.
        given: what all items need; it is pickled like them.
        meanwhile: is called every few seconds, and when items are done, with those that are being worked on.

    Yields:
        Each item when it is done.
    """
    with side_by_side(workers, take=take, given=given) as pool:
        left = {pool.submit(work, item): item for item in items}
        while left:
            done, _ = wait(left, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
            finished = [left.pop(future) for future in done]
            if meanwhile:
                # They are taken in order.
                meanwhile([*left.values()][:workers])
            yield from finished


@contextmanager
def side_by_side(
    workers: int, *, take: Callable[[Given], None] | None = None, given: Given | None = None
) -> Iterator[Workers]:
    """Give processes of one thread each, every one with a GPU of its own where there are enough.

    Args:
        workers: processes at once.
        take: is called in every process with `given` before its first work.
        given: what all work needs; it is pickled on its way to a process.
    """
    slots = multiprocessing.get_context("spawn").Queue()
    for slot in range(workers):
        slots.put((slot, take, given))
    # What a process that ended early did not take is not waited for.
    slots.cancel_join_thread()
    with Workers(workers, _set_up, slots) as pool:
        yield pool


def _set_up(slots: Queue[tuple[int, Callable[[Given], None] | None, Given]]) -> None:
    import torch

    slot, take, given = slots.get()
    torch.set_num_threads(1)
    console.messages.quiet = True
    _take_gpu(slot)
    if take:
        take(given)


def _take_gpu(slot: int) -> None:
    """Let this process see one GPU only; call it before CUDA starts."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]
    if names:
        os.environ["CUDA_VISIBLE_DEVICES"] = names[slot % len(names)]
