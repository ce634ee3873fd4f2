"""Files that appear whole or not at all: locked temporary names, fsync, rename, fsync of the folder.

On Windows (not run there) an open file can be neither renamed nor removed, which is all that a lock is for here, and
folders need no fsync of their own. A shard that somebody has mapped cannot be removed there either: an error says so.
"""

import contextlib
import errno
import functools
import os
import re
import secrets
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lpgnet.cache.errors import StoreError

if sys.platform != "win32":
    import fcntl

PART_SUFFIX = ".part"
# Parts of this project: browsers, too, name what they have not downloaded yet `video.mp4.part`.
_PART = re.compile(r"\.[0-9a-f]{32}-[0-9a-f]+\.part")
# A shard is written in seconds. What another machine left untouched for a day has no owner any more.
ABANDONED_SECONDS = 24 * 3600


@functools.cache
def machine_name() -> str:
    """Return a name for this machine since it was started: locks of one kernel are certain, others' may not be."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        return f"{uuid.getnode():032x}"
    return text.strip().replace("-", "")


def sync_folder(folder: Path) -> None:
    """Make names that were added to or taken from a folder durable."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create a folder with its parents, durably, and refuse one that cannot be written to.

    Raises:
        StoreError: it cannot be created or is read-only.
    """
    with readable_errors(folder, "create"):
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for path in reversed(missing):
            sync_folder(path.parent)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StoreError(f"{folder} is read-only: its rows can be read, but none can be added")


@contextlib.contextmanager
def part_file(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Open a new temporary file, locked by its owner's life; it is removed at the end unless it was renamed by then.

    Args:
        folder: where the file appears.

    Yields:
        Its path and the open file.
    """
    path, file = _open_part(folder)
    try:
        yield path, file
    finally:
        # Closing may write what is buffered, and fail again on a full disk: the part goes either way.
        try:
            with contextlib.suppress(OSError):
                file.close()
        finally:
            path.unlink(missing_ok=True)


def publish(part: Path, file: BinaryIO, target: Path, *, durable: bool = True) -> None:
    """Give a written part its final name. When this returns its content is on the disk, whole.

    Args:
        part: the temporary name.
        file: the open part.
        target: the final name, in the same folder.
        durable: False leaves the name to the caller's next `sync_folder`: until then a power failure may take it.
    """
    file.flush()
    os.fsync(file.fileno())
    if sys.platform == "win32":
        file.close()
    os.replace(part, target)
    if durable:
        sync_folder(target.parent)


def publish_bytes(target: Path, content: bytes) -> None:
    """Write a small file durably and whole, instead of one of the same name.

    Raises:
        StoreError: the disk is full or the folder read-only.
    """
    with readable_errors(target.parent, "write to"), part_file(target.parent) as (part, file):
        file.write(content)
        publish(part, file, target)


def remove_abandoned(folder: Path) -> int:
    """Remove the parts of writers that died, and no other file.

    Args:
        folder: the store's, or one of the user's that others write to.

    Returns:
        How many there were.
    """
    parts = [entry for entry in os.scandir(folder) if _PART.fullmatch(entry.name)]
    regular = (Path(part.path) for part in parts if part.is_file(follow_symlinks=False))
    return sum(_remove_if_abandoned(part) for part in regular)


@contextlib.contextmanager
def readable_errors(folder: Path, action: str) -> Iterator[None]:
    """Turn an operating system's error into a StoreError that says what to do.

    Args:
        folder: what the error is about.
        action: what was tried, such as "write to".

    Raises:
        StoreError: the block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = "free some space and run again" if full else "check the folder's permissions and its disk"
        reason = error.strerror or str(error)
        message = f"cannot {action} {folder}: {reason}; rows confirmed before are safe, {advice}"
        raise StoreError(message) from error


def _open_part(folder: Path) -> tuple[Path, BinaryIO]:
    while True:
        path = folder / f".{machine_name()}-{secrets.token_hex(8)}{PART_SUFFIX}"
        file = open(path, "xb")  # noqa: SIM115 - the caller's context closes it
        # A file system without locks still works; what a dead writer leaves there stays.
        with contextlib.suppress(OSError):
            lock(file, wait=True)
        # Between creation and lock somebody may have taken the file for abandoned.
        if path.exists():
            return path, file
        file.close()


def lock(file: BinaryIO, *, wait: bool) -> None:
    """Lock a file until it is closed or this process dies. On Windows its being open does that.

    Raises:
        OSError: another process holds it, or the file system has no locks.
    """
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def _remove_if_abandoned(path: Path) -> bool:
    """Remove a part whose lock is free: its owner is dead, for the kernel drops a dead owner's locks.

    Process numbers are not asked, since they are used again and mean nothing on another machine. A network
    mount may keep locks to one machine; there only age tells.
    """
    try:
        with open(path, "rb+") as file:
            lock(file, wait=False)
            ours = path.name.startswith(f".{machine_name()}-")
            if not ours and time.time() - path.stat().st_mtime < ABANDONED_SECONDS:
                return False
            if sys.platform == "win32":
                file.close()
            path.unlink()
            return True
    except OSError:
        return False
