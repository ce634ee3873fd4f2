"""Work for other processes, in a module that imports little."""

import hashlib
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lpgnet.pipeline.errors import PipelineError, UsageError
from lpgnet.pipeline.training.dialogues import Dialogue
from lpgnet.pipeline.training.run_lock import run_lock


def fail_on_two(number: int) -> None:
    if number == 2:
        raise UsageError("number 2 cannot be done")


def add_one_under_the_lock(folder: Path, counter: Path, times: int) -> None:
    done = 0
    while done < times:
        with suppress(PipelineError), run_lock(folder):
            number = int(counter.read_text()) if counter.exists() else 0
            counter.write_text(str(number + 1))
            done += 1


def touch(file: Path) -> None:
    file.touch()


_taken: list[Any] = []


def take(given: Any) -> None:
    _taken.append(given)


def write_taken(folder: Path) -> None:
    """Write what this process was given, and which process it is."""
    (folder / str(os.getpid())).write_text(f"{len(_taken)} {_taken[-1]}")


def write_digest(file: Path) -> None:
    """Write the digest of the numbers of the corpora that this process was given, and of what memory it alone holds."""
    before = private_bytes()
    (corpus,) = [shared.load() for shared in _taken]
    digest = digest_of(corpus.dialogues)
    file.write_text(f"{digest} {private_bytes() - before}")


def digest_of(dialogues: Sequence[Dialogue]) -> str:
    """Digest the fields of dialogues, bit by bit, in pieces."""
    digest = hashlib.sha256()
    for dialogue in dialogues:
        for name, value in vars(dialogue).items():
            digest.update(name.encode())
            for part in value.items() if isinstance(value, dict) else [("", value)]:
                digest.update(part[0].encode())
                digest.update(part[1].numpy().tobytes() if isinstance(part[1], Tensor) else repr(part[1]).encode())
    return digest.hexdigest()


def private_bytes() -> int:
    """The memory that this process shares with no other, of Linux; 0 elsewhere."""
    file = Path("/proc/self/smaps_rollup")
    lines = file.read_text().splitlines() if file.exists() else []
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))


def begin_and_wait(file: Path) -> None:
    """Tell by a file that the work has begun, and do nothing for a minute."""
    file.touch()
    time.sleep(60)


def write_environment(file: Path) -> None:
    """Write what this process is told about threads, and how many it has."""
    names = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
    told = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
    file.write_text(", ".join([*told, f"{torch.get_num_threads()} thread"]))
