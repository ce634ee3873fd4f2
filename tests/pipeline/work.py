"""Work for other processes, in a module that imports little."""

import time
from pathlib import Path

from lpgnet.pipeline.errors import UsageError


def fail_on_two(number: int) -> None:
    if number == 2:
        raise UsageError("number 2 cannot be done")


def touch(file: Path) -> None:
    file.touch()


def begin_and_wait(file: Path) -> None:
    """Tell by a file that the work has begun, and do nothing for a minute."""
    file.touch()
    time.sleep(60)
