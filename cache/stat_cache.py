"""What is known of files that have not changed: path, size, times and inode to a small JSON object.

Of files elsewhere: address and version.
"""

import contextlib
import json
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import xxhash

from lpgnet.cache.errors import StoreError

_log = logging.getLogger(__name__)
_WAIT_SECONDS = 30.0
_ATTEMPTS = 3
_BATCH_SIZE = 500
# A file that changed just before it was read may change again without its time changing: the clocks of file
# systems tick in up to two seconds (FAT).
_SETTLED_NS = 2_000_000_000
_CREATE = """CREATE TABLE IF NOT EXISTS files
(path BLOB PRIMARY KEY, stat TEXT, value TEXT, digest TEXT) WITHOUT ROWID"""

JsonObject = dict[str, Any]
Compute = Callable[[Path], JsonObject]
# The value of a key, and the state of the file that it is of; an empty one is not to be remembered.
_ComputeKey = Callable[[bytes], tuple[JsonObject, str]]
_Record = tuple[bytes, str, str, str]
_T = TypeVar("_T")


@dataclass(frozen=True)
class _Entry:
    """One line of the database; the digest is over the other three."""

    path: bytes
    stat: str
    value: str

    @property
    def digest(self) -> str:
        return xxhash.xxh3_128_hexdigest(repr((self.path, self.stat, self.value)).encode())


class StatCache:
    """Remembers what was computed from a file until the file may have changed. Any doubt computes anew.

    A doubt is: another size, modification time, change time or inode; a change less than two seconds before the
    file was read; an entry that is not as it was written; a database that cannot be read. Several processes and
    machines may use one database: it is a plain sqlite3 file with a rollback journal, since a write-ahead log
    works on one machine only. A database that cannot be opened or written costs time and nothing else.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def lookup(self, file: Path, compute: Compute) -> JsonObject:
        """Return what `compute(file)` gives, or gave when the file was as it is now.

        Args:
            file: the file.
            compute: gives a small JSON object.

        Raises:
            StoreError: the file cannot be found, or does not hold still while it is read.
        """
        return self.lookup_many([file], compute)[0]

    def lookup_many(self, files: Iterable[Path], compute: Compute) -> list[JsonObject]:
        """Do as `lookup` for many files, each computed at most once.

        Args:
            files: the files.
            compute: gives a small JSON object of one file.

        Returns:
            An object a file, in the files' order.

        Raises:
            StoreError: a file cannot be found, or does not hold still while it is read.
        """
        paths = [os.path.abspath(file) for file in files]
        stats = {os.fsencode(path): _stat(path) for path in dict.fromkeys(paths)}
        values = self._look_up(stats, lambda path: _compute_still(os.fsdecode(path), compute))
        return [values[os.fsencode(path)] for path in paths]

    def lookup_versions(
        self, kind: str, versions: Mapping[str, str], compute: Callable[[str], tuple[JsonObject, bool]]
    ) -> dict[str, JsonObject]:
        """Do as `lookup_many` for files at addresses, of which the caller knows the versions.

        Args:
            kind: of the values, as several things may be known of one file.
            versions: by address, each such that another content has another version.
            compute: gives a small JSON object of one address, and whether it is to be remembered: not where the
                version has become another meanwhile.

        Returns:
            An object an address.
        """
        # No path has such a byte in it.
        keys = {f"\0{kind}\0{address}".encode(errors="surrogatepass"): address for address in versions}

        def compute_one(key: bytes) -> tuple[JsonObject, str]:
            value, is_sure = compute(keys[key])
            return value, versions[keys[key]] if is_sure else ""

        values = self._look_up({key: versions[address] for key, address in keys.items()}, compute_one)
        return {keys[key]: value for key, value in values.items()}

    def _look_up(self, stats: dict[bytes, str], compute: _ComputeKey) -> dict[bytes, JsonObject]:
        values = self._recall(stats)
        unknown = [key for key in stats if key not in values]
        for start in range(0, len(unknown), _BATCH_SIZE):
            values |= self._compute(unknown[start : start + _BATCH_SIZE], compute)
        return values

    def _recall(self, stats: dict[bytes, str]) -> dict[bytes, JsonObject]:
        """Return the values of the files that are as they were; a damaged entry is no entry."""
        nothing: list[_Record] = []
        rows = self._with_database(lambda database: _select(database, list(stats)), nothing)
        entries = [(_Entry(*row[:3]), row[3]) for row in rows]
        sound = [entry for entry, digest in entries if digest == entry.digest]
        return {entry.path: json.loads(entry.value) for entry in sound if stats[entry.path] == entry.stat}

    def _compute(self, paths: Sequence[bytes], compute: _ComputeKey) -> dict[bytes, JsonObject]:
        """Compute the values, and remember those that are done even when one fails."""
        values: dict[bytes, JsonObject] = {}
        settled: list[_Entry] = []
        try:
            for path in paths:
                values[path], stat = compute(path)
                if stat:
                    settled.append(_Entry(path, stat, json.dumps(values[path])))
        finally:
            rows = [(entry.path, entry.stat, entry.value, entry.digest) for entry in settled]
            if rows:
                self._with_database(lambda database: _insert(database, rows), None)
        return values

    def _with_database(self, work: Callable[[sqlite3.Connection], _T], default: _T) -> _T:
        """Return what `work` gives with the open database, in one transaction; `default` without one."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(sqlite3.connect(self.path, timeout=_WAIT_SECONDS)) as database, database:
                database.execute(_CREATE)
                return work(database)
        except (OSError, sqlite3.Error) as error:
            _log.warning("%s cannot be used (%s): files are read that need not be", self.path, error)
            if type(error) is sqlite3.DatabaseError:
                self._set_aside()
            return default

    def _set_aside(self) -> None:
        """Move a damaged database and its journal out of the way, for the next use to begin a new one."""
        for suffix in ("", "-journal"):
            path = f"{self.path}{suffix}"
            with contextlib.suppress(OSError):
                os.replace(path, f"{path}.damaged")


def _select(database: sqlite3.Connection, paths: Sequence[bytes]) -> list[_Record]:
    rows: list[_Record] = []
    for start in range(0, len(paths), _BATCH_SIZE):
        some = paths[start : start + _BATCH_SIZE]
        marks = ",".join("?" * len(some))
        rows += database.execute(f"SELECT path, stat, value, digest FROM files WHERE path IN ({marks})", some)
    return rows


def _insert(database: sqlite3.Connection, rows: Sequence[_Record]) -> None:
    database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows)


def _compute_still(path: str, compute: Compute) -> tuple[JsonObject, str]:
    """Compute the value, and the file's stat; an empty one if the file changed too recently to trust it."""
    for _ in range(_ATTEMPTS):
        started, stat = time.time_ns(), _stat(path)
        value = compute(Path(path))
        if _stat(path) == stat:
            changed = max(int(number) for number in stat.split()[1:3])
            return value, stat if changed + _SETTLED_NS <= started else ""
    raise StoreError(f"{path} changes while it is read: run again when it is complete")


def _stat(path: str) -> str:
    """Size, modification time, change time (ns) and inode.

    The change time betrays a file that was replaced or edited and given its old modification time back. On Windows it
    is the time of creation, which betrays replacing alone.
    """
    try:
        stat = os.stat(path)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"
