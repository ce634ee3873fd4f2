"""What the tests of the store share: made-up rows, a store of them, and small or read-only disks."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from store_rows import FINGERPRINT, row_key, row_values

from lpgnet.cache import FeatureStore


@pytest.fixture
def filled(tmp_path: Path) -> Callable[..., FeatureStore]:
    """Makes a store in which every range of row numbers is a shard of its own."""

    def fill(*ranges: range, frames: bool = False, dtype: str = "float32") -> FeatureStore:
        store = FeatureStore(tmp_path / "store", FINGERPRINT)
        for numbers in ranges:
            with store.writer({"name": "made up"}, dtype=dtype) as writer:
                for number in numbers:
                    values = row_values(number, frames=frames)
                    writer.add(row_key(number), values, n_frames=len(values) if frames else 3, flags=number)
        return store

    return fill


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one mebibyte, where mounting is allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


class Processes:
    """Starts the functions of store_processes.py as processes of their own."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("store_processes.py")
        root = str(script.parents[2])
        self._server = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": root},
        )

    def start(self, name: str, *arguments: object) -> int:
        """Starts a function and gives its process id."""
        return self._ask("start", name, *map(_plain, arguments))

    def wait(self, process: int) -> int:
        """Waits for a process and gives its exit code, or minus the signal that ended it."""
        return self._ask("wait", process)

    def close(self) -> None:
        """Ends the process that starts the others."""
        self._server.communicate()

    def _ask(self, *command: object) -> int:
        assert self._server.stdin and self._server.stdout
        self._server.stdin.write(json.dumps(command) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())


def _plain(argument: object) -> object:
    return str(argument) if isinstance(argument, Path) else argument


@pytest.fixture(scope="session")
def processes() -> Iterator[Processes]:
    """The one process that all others are forked from."""
    started = Processes()
    yield started
    started.close()
