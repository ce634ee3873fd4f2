"""Copies, on this machine, of shards that lie elsewhere: each is fetched once, and those long unread make room."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import xxhash

from lpgnet.cache.errors import DamagedRowError, NotAShardError
from lpgnet.cache.files import (
    PART_SUFFIX,
    lock,
    make_folder,
    part_file,
    publish,
    readable_errors,
    remove_abandoned,
)
from lpgnet.cache.shards import Shard, ShardName

# How often a copy that is read from is marked as such (seconds).
_MARK_SECONDS = 1.0
# A copy may be damaged on the way, or on this machine's disk, and be right the next time.
_ATTEMPTS = 2
_LOCKS = 64
_SHARD_SUFFIX = ".arrow"
# Below the folder that people name, where there may be files of theirs.
_COPIES = "copies"
_log = logging.getLogger(__name__)

Fetch = Callable[[], Iterable[bytes]]


@dataclass(frozen=True)
class ShardCache:
    """Where this machine keeps copies of shards that lie at addresses, for all stores and processes together.

    Attributes:
        folder: None takes `lpgnet/store` in the user's folder for caches, on whichever machine this is used.
        gigabytes: the most that the copies take; a single shard is kept whatever its size.
    """

    folder: Path | None = None
    gigabytes: float = 20.0

    @property
    def root(self) -> Path:
        """The folder on this machine."""
        return self.folder or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lpgnet" / "store"

    @property
    def copies(self) -> Path:
        """The folder of the copies, in which nobody else's files are."""
        return self.root / _COPIES

    @property
    def bytes(self) -> int:
        """The most that the copies take."""
        return int(self.gigabytes * 1e9)


@dataclass
class _Copy:
    """A copy that is mapped, and when it was last marked as read."""

    shard: Shard
    marked: float = 0.0

    def is_there(self) -> bool:
        """Say whether the file is there, and mark it as read; both now and then only."""
        now = time.monotonic()
        if now - self.marked > _MARK_SECONDS:
            try:
                os.utime(self.shard.path)
            except FileNotFoundError:
                return False
            except OSError:
                pass  # a folder that cannot be written to keeps what it has
            self.marked = now
        return True


class Copies:
    """The copies of one encoder's shards.

    A shard's name holds the digest of its file, so a copy serves for the shard wherever that lies. A copy that is
    removed while it is mapped stays readable, and takes its room until it is read from again.

    Attributes:
        folder: where the copies lie.
    """

    def __init__(self, cache: ShardCache, fingerprint: str, where: str) -> None:
        """Name the folder.

        Args:
            cache: the folder of all copies, and how much they may take.
            fingerprint: the encoder's.
            where: the address of the shards.
        """
        self._cache, self._fingerprint, self._where = cache, fingerprint, where
        self.folder = cache.copies / fingerprint
        self._held: dict[str, _Copy] = {}
        self._fetched: set[str] = set()
        self._told = False

    def open(self, name: str, size: int, fetch: Fetch) -> Shard:
        """Map the copy of a shard, which is fetched where there is none.

        Args:
            name: the shard's.
            size: bytes of its file.
            fetch: gives its bytes.

        Raises:
            DamagedRowError: the bytes are not those that its name promises, twice.
            StoreError: it cannot be fetched, or not be kept here.
        """
        copy = self._held.get(name)
        if copy is None or not copy.is_there():
            copy = self._held[name] = _Copy(self._obtain(name, size, fetch))
        return copy.shard

    def drop(self, name: str) -> None:
        """Remove a copy: it is damaged."""
        self._held.pop(name, None)
        self._fetched.discard(name)
        (self.folder / name).unlink(missing_ok=True)

    def keep(self, part: Path, file: BinaryIO, name: str) -> None:
        """Make a copy of what was just written."""
        with readable_errors(self.folder, "write to"):
            publish(part, file, self.folder / name, durable=False)
            with self._lock("room"):
                self._make_room(name)

    @contextlib.contextmanager
    def reserve(self, size: int) -> Iterator[tuple[Path, BinaryIO]]:
        """Open a temporary file of a size, for which others make room."""
        make_folder(self.folder)
        with readable_errors(self.folder, "write to"), contextlib.ExitStack() as stack:
            with self._lock("room"):
                part, file = stack.enter_context(part_file(self.folder))
                file.truncate(size)
                self._make_room(part.name)
            yield part, file

    def _obtain(self, name: str, size: int, fetch: Fetch) -> Shard:
        path = self.folder / name
        make_folder(self.folder)
        # Of several processes that want it one fetches it.
        with self._lock(str(xxhash.xxh32_intdigest(name.encode()) % _LOCKS)):
            try:
                return self._map(path)
            except FileNotFoundError:
                pass
            except NotAShardError:
                self.drop(name)
            return self._fetch(name, size, fetch)

    def _map(self, path: Path, name: str | None = None) -> Shard:
        return Shard(path, self._fingerprint, where=f"{self._where}/{name or path.name}")

    def _fetch(self, name: str, size: int, fetch: Fetch) -> Shard:
        self._tell_of_repetition(name)
        for _ in range(_ATTEMPTS):
            with self.reserve(size) as (part, file):
                if copy_blocks(fetch(), file, name):
                    file.flush()
                    # Mapped before others see it, who may need its room at once.
                    shard = self._map(part, name)
                    publish(part, file, self.folder / name, durable=False)
                    shard.path = self.folder / name
                    self._fetched.add(name)
                    return shard
        raise DamagedRowError(
            f"{self._where}/{name} does not hold what its name promises: run `lpgnet cache repair --store "
            f"{self._where.rpartition('/')[0]}`, then compute its rows again"
        )

    def _tell_of_repetition(self, name: str) -> None:
        if name in self._fetched and not self._told:
            self._told = True
            _log.warning(
                "shards of %s are downloaded again and again, as %s may hold %g GB: raise features.cache_gigabytes",
                self._where,
                self._cache.root,
                self._cache.gigabytes,
            )

    def _make_room(self, wanted: str) -> None:
        """Remove the copies that were not read for longest until all, and the files to come, fit; all but one."""
        folders = [folder for folder in self._cache.copies.iterdir() if folder.is_dir() and not folder.is_symlink()]
        for folder in folders:
            remove_abandoned(folder)
        files = [file for folder in folders for file in _sizes(folder)]
        excess = sum(size for _, size, _ in files) - self._cache.bytes
        for _, size, path in sorted(files):
            if excess > 0 and path.name != wanted and ShardName.parse(path.name):
                path.unlink(missing_ok=True)
                excess -= size
        self._held = {name: copy for name, copy in list(self._held.items()) if copy.shard.path.exists()}

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        folder = self._cache.copies / "locks"
        make_folder(folder)
        with open(folder / name, "ab") as file:
            # Without locks two processes may fetch a shard twice, or keep a little too much.
            with contextlib.suppress(OSError):
                lock(file, wait=True)
            yield


def copy_blocks(blocks: Iterable[bytes], file: BinaryIO, name: str) -> bool:
    """Write a shard's bytes to a file; say whether they are those that its name promises."""
    digest, parsed = xxhash.xxh3_128(), ShardName.parse(name)
    for block in blocks:
        digest.update(block)
        file.write(block)
    file.truncate()
    return parsed is not None and digest.hexdigest() == parsed.digest


def _sizes(folder: Path) -> Iterator[tuple[int, int, Path]]:
    """Yield when each copy, and each that is being fetched, was last read, its bytes and its path."""
    for entry in os.scandir(folder):
        with contextlib.suppress(FileNotFoundError):
            if entry.name.endswith((_SHARD_SUFFIX, PART_SUFFIX)) and entry.is_file(follow_symlinks=False):
                stat = entry.stat(follow_symlinks=False)
                yield stat.st_mtime_ns, stat.st_size, Path(entry.path)
