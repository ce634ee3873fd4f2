"""Processes that work for this one: they end when it ends, however it ends, and leave Ctrl-C to it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from threading import current_thread, main_thread
from types import TracebackType
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from lpgnet.pipeline.common.processes import end_with_parent

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


class Workers(ProcessPoolExecutor):
    """New processes, started as work is given to them.

    As a context manager it waits for them at the end of the block, and ends them at once where the block fails.

    Args:
        count: processes at most.
        set_up: is called with `arguments` in every process before its first work.
    """

    def __init__(self, count: int, set_up: Callable[..., object] | None = None, *arguments: object) -> None:
        # A fork of a process with torch's threads in it may hang.
        context = get_context("spawn")
        ends, self._held = context.Pipe(duplex=False)
        super().__init__(count, mp_context=context, initializer=_start, initargs=(ends, set_up, arguments))

    def submit(
        self, work: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Future[Result]:
        """Give work to the next free process, which is started where none is."""
        with interrupts_later():
            return super().submit(work, *args, **kwargs)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._held.close()
        self.shutdown(cancel_futures=True)


def _start(ends: Connection, set_up: Callable[..., object] | None, arguments: tuple[object, ...]) -> None:
    end_with_parent(ends)
    # Where a signal cannot be blocked, as it is by `interrupts_later` for processes that start.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if set_up is not None:
        set_up(*arguments)


@contextmanager
def interrupts_later() -> Iterator[None]:
    """Keep a Ctrl-C until the block is done; a process that is started in it gets none as long as it lives.

    A process that is half started, by its parent or by itself, would answer with a traceback.
    """
    with _handled_later(), interrupts_blocked():
        yield


@contextmanager
def _handled_later() -> Iterator[None]:
    # Another thread may set no handler; one that is no Python code is None and could not be put back.
    if current_thread() is not main_thread() or signal.getsignal(signal.SIGINT) is None:
        yield
        return
    came: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Block Ctrl-C in this thread, and so in the processes that it starts, which ignoring it would not outlast."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
