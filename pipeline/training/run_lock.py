"""One training in a run's folder at a time: a lock beside the folder, free as soon as its process is gone."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from lpgnet.cache.files import lock
from lpgnet.pipeline.common.console import say
from lpgnet.pipeline.errors import PipelineError

LONGEST_LINE = 200


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Keep all other processes from training in a run's folder.

    The lock is one of the kernel (flock). On NFS the server keeps it for all machines, since Linux 2.6.12; on a mount
    with nolock or local_lock it keeps out the processes of the same machine only.

    Raises:
        PipelineError: another process trains there; says which, since when, and how to name another run.
    """
    # Beside the folder: a run of another configuration renames that, and must have the lock to do so.
    path = folder.with_name(f".{folder.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with _open_locked(path, folder) as file:
        file.truncate(0)
        now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        file.write(f"process {os.getpid()} on {platform.node()} since {now}\n".encode())
        file.flush()
        try:
            yield
        finally:
            # Windows removes no open file; there the next one takes it.
            with suppress(OSError):
                path.unlink()


def _open_locked(path: Path, folder: Path) -> BinaryIO:
    while True:
        file = open(path, "a+b")  # noqa: SIM115 (the caller's context closes it)
        try:
            lock(file, wait=False)
        except (BlockingIOError, PermissionError):
            with file:
                raise _held(folder, file) from None
        except OSError as error:
            say(f"{path}: this file system has no locks ({error.strerror}); see that nothing else trains in {folder}")
        if _is_still(path, file):
            return file
        file.close()


def _is_still(path: Path, file: BinaryIO) -> bool:
    """Tell whether the file is still there: who had the lock may have removed it before this process got it."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def _held(folder: Path, file: BinaryIO) -> PipelineError:
    file.seek(0)
    line = file.read(LONGEST_LINE).decode(errors="replace").partition("\n")[0]
    who = line if line.isprintable() and line else "another process"
    return PipelineError(
        f"{folder}: is being trained by {who}; wait for it, or name another run with --run NAME "
        "(in crossval another experiment with --name NAME, in search another study with --search.study NAME)"
    )
