"""In how many threads a network is computed, and what they do while they wait for each other.

Left alone, OpenMP's threads spin: they ask again and again whether the others are done. Where these wait for a
processor that other work has, most of the time goes into asking. `benchmarks/threads.py` measures all of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import ceil
from pathlib import Path
from threading import RLock, get_ident

from lpgnet.pipeline.errors import counted

# Whoever sets one of these says how threads wait: of every OpenMP, of GNU's, and of LLVM's and Intel's.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
COUNT = "OMP_NUM_THREADS"
# The count that a process has set itself: those that it starts must not take it for the user's.
OURS = "LPGNET_NUM_THREADS"
# Asked before this process sets it itself.
COUNT_IS_SET = COUNT in os.environ and os.environ[COUNT] != os.environ.get(OURS)
# Smaller networks take no longer in one thread than in two that sleep; for more than two it is a rule of thumb.
PARAMETERS_A_THREAD = 5_000_000
# Of Linux's control groups: how much of how much time the processes of a container may compute, or `max`.
CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")
# Each thread of Python that computes in a count of its own, and the count that it goes back to.
_OUTSIDE: dict[int, int] = {}
_LOCK = RLock()


def settle_threads() -> None:
    """Let the threads of this process, and of those that it starts, sleep while they wait for each other.

    And let there be no more of them than the cores that it may use, where these are fewer than it sees. OpenMP reads
    the environment when torch loads it, so this comes before. What is set already stays.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    if COUNT not in os.environ and (cores := usable_cores()) < _permitted_cores():
        os.environ[COUNT] = os.environ[OURS] = str(cores)


def settle_worker(count: int, *, said: bool) -> None:
    """Settle the threads of a process that another library started, which may have set a count of its own.

    Args:
        count: threads that the process may compute in.
        said: whether the user has said so; else a small network takes fewer.
    """
    global COUNT_IS_SET
    COUNT_IS_SET = said
    os.environ[COUNT] = os.environ[OURS] = str(count)
    settle_threads()
    if "torch" in sys.modules:
        _set(count)


def usable_cores() -> int:
    """Count the cores that this process may use, of which it may see more: a container may have a share of them."""
    cores = _permitted_cores()
    with suppress(OSError, ValueError):
        most, period = CPU_LIMIT.read_text(encoding="ascii").split()
        cores = min(cores, ceil(int(most) / int(period)))
    return cores


def _permitted_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def threads_for(network: object) -> Iterator[None]:
    """Compute in no more threads than a network can use; where the user has said how many, in as many.

    Args:
        network: a module of torch; anything else changes nothing.
    """
    with _threads(_count(network)):
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread, as a worker process does."""
    with _threads(1):
        yield


@contextmanager
def _threads(count: int) -> Iterator[None]:
    thread = get_ident()
    with _LOCK:
        before, outermost = _available(), thread not in _OUTSIDE
        _OUTSIDE.setdefault(thread, before)
        _set(count)
    try:
        yield
    finally:
        with _LOCK:
            # OpenMP keeps a count for each thread of Python, so each puts back its own.
            _set(before)
            if outermost:
                del _OUTSIDE[thread]


def _set(count: int) -> None:
    import torch

    # To set what is set already would make oneDNN forget the kernels that it has made for these lengths.
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


def _available() -> int:
    """Count the threads that this one may compute in, whatever another has chosen for itself meanwhile."""
    import torch

    with _LOCK:
        # Asked in any case: the first time, torch sets what holds for the process.
        count = torch.get_num_threads()
        return count if get_ident() in _OUTSIDE else next(iter(_OUTSIDE.values()), count)


def _count(network: object) -> int:
    """Count the threads that compute a network."""
    import torch

    threads = _available()
    if COUNT_IS_SET or not isinstance(network, torch.nn.Module):
        return threads
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return min(threads, max(1, ceil(parameters / PARAMETERS_A_THREAD)))


def place(device: str, network: object) -> str:
    """Say where a network is computed: `on cuda:0`, or `on cpu in 2 threads that sleep while they wait`."""
    if device != "cpu":
        return f"on {device}"
    count = _count(network)
    waits = {"PASSIVE": "sleep", "ACTIVE": "spin"}.get(os.environ.get("OMP_WAIT_POLICY", "").upper())
    return f"on cpu in {counted(count, 'thread')}" + (f" that {waits} while they wait" if count > 1 and waits else "")
