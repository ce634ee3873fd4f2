"""Work for other processes, in a module that imports little."""

import time
from contextlib import suppress
from pathlib import Path

from lpgnet.pipeline.errors import PipelineError, UsageError
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


def begin_and_wait(file: Path) -> None:
    """Tell by a file that the work has begun, and do nothing for a minute."""
    file.touch()
    time.sleep(60)
