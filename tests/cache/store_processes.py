"""Processes that write and read a store, run as a script so that they can be killed.

One process imports the library and forks the others, which makes hundreds of them affordable. It takes commands on its
standard input, a JSON list a line, and answers every one with a line.
"""

import itertools
import json
import os
import random
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from store_rows import FINGERPRINT, row_key, row_values

from lpgnet.cache import FeatureStore, StatCache, repair
from lpgnet.cache.files import part_file


def write_until_killed(root: str, confirmed: str, seed: int) -> None:
    """Writes rows 0, 1, 2, ... and notes after every flush how many are confirmed."""
    rng = random.Random(seed)
    number, note = 0, os.open(confirmed, os.O_WRONLY | os.O_CREAT)
    shard_bytes = rng.choice([20 * row_values(0).nbytes, 2**20])
    with FeatureStore(root, FINGERPRINT).writer({"name": "made up"}, shard_bytes=shard_bytes) as writer:
        while True:
            for _ in range(rng.randint(1, 60)):
                writer.add(row_key(number), row_values(number), n_frames=3, flags=number)
                number += 1
            writer.flush()
            os.pwrite(note, struct.pack("<q", number), 0)


def write_overlapping(root: str, rows: int, seed: int) -> None:
    """Writes all of the rows in an order of its own."""
    numbers = random.Random(seed).sample(range(rows), rows)
    with FeatureStore(root, FINGERPRINT).writer({"name": "made up"}) as writer:
        for count, number in enumerate(numbers):
            writer.add(row_key(number), row_values(number), n_frames=3, flags=number)
            if count % 7 == 0:
                writer.flush()


def read_until_complete(root: str, rows: int) -> None:
    """Reads whatever is there, over and over, until all rows are; fails if one is wrong or goes away."""
    store, seen = FeatureStore(root, FINGERPRINT), set[int]()
    while len(seen) < rows:
        store.refresh()
        present = {number for number in range(rows) if row_key(number) in store}
        assert seen <= present, f"rows went away: {sorted(seen - present)}"
        for number in present:
            assert np.array_equal(store[row_key(number)].values, row_values(number)), f"row {number} is wrong"
        assert len(store) == len(present)
        seen = present


def read_until_stopped(root: str, rows: int, stop: str) -> None:
    """Reads all of the rows, over and over, through one old view and one that is refreshed."""
    old, store, rounds = FeatureStore(root, FINGERPRINT), FeatureStore(root, FINGERPRINT), 0
    while rounds < 3 or not Path(stop).exists():
        store.refresh()
        for number in range(rows):
            assert np.array_equal(store[row_key(number)].values, row_values(number))
            assert np.array_equal(old[row_key(number)].values, row_values(number))
        rounds += 1


def hold_a_part(folder: str, ready: str) -> None:
    """Holds a temporary file until it is killed."""
    with part_file(Path(folder)) as (_, file):
        file.write(b"half a shard")
        file.flush()
        Path(ready).write_text("ready")
        signal.pause()


def repair_until_step(root: str, fingerprint: str, last: int) -> None:
    """Repairs a store, and dies before the `last`-th change that it makes to the disk."""
    steps = itertools.count(1)

    def preceded(change: Callable[..., object]) -> Callable[..., object]:
        def step(*arguments: object, **options: object) -> object:
            if next(steps) == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return change(*arguments, **options)

        return step

    for name in ("fsync", "replace", "unlink", "rename"):
        setattr(os, name, preceded(getattr(os, name)))
    repair(FeatureStore(root, fingerprint))


def look_up(database: str, folder: str, seed: int) -> None:
    """Looks all of a folder's files up, in an order of its own, some at a time."""
    files = sorted(Path(folder).iterdir())
    random.Random(seed).shuffle(files)
    for start in range(0, len(files), 10):
        some = files[start : start + 10]
        values = StatCache(database).lookup_many(some, lambda path: {"content": path.read_text()})
        assert [value["content"] for value in values] == [path.read_text() for path in some]


def start(name: str, *arguments: object) -> int:
    """Forks a process that does one of the above; its exit code says whether it went well."""
    number = os.fork()
    if number:
        return number
    status = 1
    try:
        globals()[name](*arguments)
        status = 0
    except BaseException as error:
        print(f"{name}: {error!r}", file=sys.stderr, flush=True)
    os._exit(status)


def wait(process: int) -> int:
    """Waits for a process and gives its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def main() -> None:
    """Answers ["start", name, ...] with a process id and ["wait", id] with an exit code."""
    # The first array takes seconds where pandas is installed: pyarrow imports it.
    pa.array([1])
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        print(start(*arguments) if command == "start" else wait(*arguments), flush=True)


if __name__ == "__main__":
    main()
