"""The shards of an encoder at an address: heads are read from there, whole shards through copies on this machine."""

import contextlib
import datetime
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pyarrow as pa

from lpgnet.cache.addresses import address_errors, check_address, filesystem
from lpgnet.cache.copies import Copies, ShardCache
from lpgnet.cache.errors import DamagedRowError, NotAShardError, StoreError, shard_gone
from lpgnet.cache.files import ABANDONED_SECONDS, make_folder
from lpgnet.cache.place import DAMAGED_FOLDER, DESCRIPTION_NAME
from lpgnet.cache.shards import Shard, ShardName, head_bytes, shard_errors

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_SUFFIX = ".arrow"
# Of a shard so many pieces of such a size are read at a time: more than one connection gives, in little memory.
_PIECES, _PIECE_BYTES = 4, 2**24


class RemoteShard(Shard):
    """A shard of which the columns before the values are read, and the rest when the first row is."""

    def __init__(self, place: "Address", name: str, head: bytes, nbytes: int, fingerprint: str) -> None:
        """Read the head.

        Args:
            place: where the shard lies.
            name: the shard's.
            head: the first bytes of the file, up to the values at least.
            nbytes: size of the file.
            fingerprint: the encoder that its rows must be of.

        Raises:
            NotAShardError: as `Shard` does.
        """
        self.name, self.where, self._place = name, f"{place.where}/{name}", place
        self._damage: DamagedRowError | None = None
        with shard_errors(self.where):
            self._read(pa.py_buffer(head), nbytes, fingerprint)

    def file_digest(self) -> str:
        """Compute the digest of the copy."""
        return self._copy().file_digest()

    def raw(self, index: int, key: bytes) -> tuple[np.ndarray, int, int]:
        """Read a row from the copy, which is fetched again if it is damaged.

        Raises:
            DamagedRowError: the bytes are not those that were written.
            ShardGoneError: the shard was merged into another, or dropped.
        """
        try:
            return self._copy().raw(index, key)
        except DamagedRowError:
            if self._damage or self._place.is_sound_copy(self):
                raise
        self._place.drop_copy(self)
        return self._copy().raw(index, key)

    def _copy(self) -> Shard:
        if self._damage:
            raise self._damage
        try:
            return self._place.copy(self)
        except DamagedRowError as error:
            self._damage = error
            raise


class Address:
    """A `Place` that is an address. Shards appear whole there under their final names, as objects do in S3."""

    def __init__(self, root: str, fingerprint: str, cache: ShardCache) -> None:
        """Name the address; nothing is read yet.

        Raises:
            StoreError: it may hold a secret.
        """
        self._root, self._fingerprint = check_address(root).rstrip("/"), fingerprint
        self.where = f"{self._root}/{fingerprint}"
        self._copies = Copies(cache, fingerprint, self.where)
        self.folder = self._copies.folder
        self._sizes: dict[str, int] = {}

    def names(self) -> set[str]:
        """List the objects that have a shard's name."""
        found = {name: size for name, size in self._list() if ShardName.parse(name)}
        # Added to what is known: another thread may be about to open what it listed before.
        self._sizes |= found
        return set(found)

    def strays(self) -> Iterator[tuple[str, str]]:
        """Yield objects that end as shards do but have no shard's name."""
        for name, _ in self._list():
            if name.endswith(_SUFFIX) and not ShardName.parse(name):
                yield name, "not a shard's name; nobody reads it"

    def open(self, names: Collection[str]) -> Iterator[tuple[str, Shard | StoreError]]:
        """Read the heads of shards, many at a time."""
        wanted = sorted(name for name in names if self._sizes[name])
        yield from ((name, NotAShardError(f"{self.where}/{name} is empty")) for name in names if not self._sizes[name])
        ends = [min(self._sizes[name], head_bytes(name)) for name in wanted]
        with address_errors(self.where, "read"):
            paths = [self._path(name) for name in wanted]
            heads = self._files.cat_ranges(paths, [0] * len(wanted), ends, on_error="return") if wanted else []
        for name, head in zip(wanted, heads, strict=True):
            yield name, self._opened(name, head)

    def _opened(self, name: str, head: bytes | Exception) -> Shard | StoreError:
        """Return a shard or what is wrong with it; that the address does not answer is no damage."""
        if isinstance(head, FileNotFoundError):
            return shard_gone(f"{self.where}/{name}")
        with address_errors(f"{self.where}/{name}", "read"):
            if isinstance(head, Exception):
                raise head
        try:
            return RemoteShard(self, name, bytes(head), self._sizes[name], self._fingerprint)
        except NotAShardError as error:
            return error

    def blocks(self, name: str) -> Iterator[bytes]:
        """Read an object, some pieces at a time."""
        size, path = self.size(name), self._path(name)
        for first in range(0, size, _PIECES * _PIECE_BYTES):
            starts = list(range(first, min(size, first + _PIECES * _PIECE_BYTES), _PIECE_BYTES))
            ends = [min(size, start + _PIECE_BYTES) for start in starts]
            with self._reading(name):
                yield from self._files.cat_ranges([path] * len(starts), starts, ends, on_error="raise")

    @contextlib.contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """Download an object to a temporary file; the copies are left as they are."""
        with self.new_file() as (part, file):
            for block in self.blocks(name):
                file.write(block)
            file.flush()
            yield part

    def size(self, name: str) -> int:
        """Ask for the bytes of an object."""
        with self._reading(name):
            return int(self._files.info(self._path(name))["size"])

    def copy(self, shard: Shard) -> Shard:
        """Map the copy of a shard, which is fetched where there is none.

        Raises:
            DamagedRowError: the object does not hold what its name promises.
            ShardGoneError: it is not there any more.
        """
        return self._copies.open(shard.name, shard.nbytes, lambda: self.blocks(shard.name))

    def is_sound_copy(self, shard: Shard) -> bool:
        """Say whether a shard's copy holds what the shard's name promises."""
        parsed = ShardName.parse(shard.name)
        return parsed is not None and self.copy(shard).file_digest() == parsed.digest

    def drop_copy(self, shard: Shard) -> None:
        """Remove a shard's copy."""
        self._copies.drop(shard.name)

    def make(self) -> None:
        """Create the folder of the copies, and end uploads that nobody goes on with."""
        make_folder(self.folder)
        # Not everybody who may write may list uploads.
        with contextlib.suppress(StoreError, FileNotFoundError), address_errors(self.where, "clean up"):
            self._end_uploads()

    @contextlib.contextmanager
    def new_file(self) -> Iterator[tuple[Path, BinaryIO]]:
        """Open a file among the copies."""
        with self._copies.reserve(0) as part:
            yield part

    def publish(self, part: Path, file: BinaryIO, name: str, *, durable: bool = True) -> None:
        """Upload a file; when this returns it is as durable as the storage is."""
        file.flush()
        size = part.stat().st_size
        self._put(part, name)
        if (found := self.size(name)) != size:
            raise StoreError(f"{self.where}/{name} has {found} bytes after {size} were written: run again")
        self._copies.keep(part, file, name)

    def settle(self) -> None:
        """Do nothing: what was published is durable."""

    def description(self) -> bytes | None:
        """Read the description."""
        try:
            with address_errors(self.where, "read"):
                return bytes(self._files.cat_file(self._path(DESCRIPTION_NAME)))
        except FileNotFoundError:
            return None

    def describe(self, content: bytes) -> None:
        """Write the description, or the one that is there once more: who may not write learns it before the work."""
        kept = self.description()
        with self.new_file() as (part, file):
            file.write(content if kept is None else kept)
            file.flush()
            self._put(part, DESCRIPTION_NAME)

    def set_aside(self, name: str) -> None:
        """Copy an object within the storage, then remove it."""
        with address_errors(self.where, "repair"), contextlib.suppress(FileNotFoundError):
            target = f"{DAMAGED_FOLDER}/{name}"
            taken = (f"{target}{f'.{i}' if i else ''}" for i in range(10**6))
            free = next(path for path in taken if not self._files.exists(self._path(path)))
            self._files.cp_file(self._path(name), self._path(free))
            self._files.rm_file(self._path(name))

    def remove(self, names: Collection[str]) -> None:
        """Remove objects."""
        with address_errors(self.where, "remove merged shards from"):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    self._files.rm_file(self._path(name))

    @property
    def _files(self) -> "AbstractFileSystem":
        # Asked for each time: a process that was forked needs one of its own.
        return filesystem(self._root)

    def _path(self, name: str) -> str:
        return f"{self.where.partition('://')[2]}/{name}"

    @contextlib.contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        where = f"{self.where}/{name}"
        try:
            with address_errors(where, "read"):
                yield
        except FileNotFoundError:
            raise shard_gone(where) from None

    def _list(self) -> list[tuple[str, int]]:
        """List the names and sizes of the objects."""
        try:
            with address_errors(self.where, "list"):
                found = self._files.ls(self.where.partition("://")[2], detail=True)
        except FileNotFoundError:
            return []
        return [(str(one["name"]).rpartition("/")[2], int(one["size"])) for one in found if one["type"] == "file"]

    def _put(self, part: Path, name: str) -> None:
        try:
            with address_errors(self.where, "write to"):
                self._files.put_file(str(part), self._path(name))
        except FileNotFoundError:
            raise StoreError(f"cannot write to {self.where}: there is no such bucket; create it first") from None

    def _end_uploads(self) -> None:
        """End the uploads to this store that were begun more than a day ago: their parts are kept, and paid for."""
        files = self._files
        if not hasattr(files, "call_s3"):
            return
        bucket, prefix, _ = files.split_path(self._path(""))
        found = files.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix)
        now = datetime.datetime.now(datetime.UTC)
        for upload in found.get("Uploads", []):
            if (now - upload["Initiated"]).total_seconds() > ABANDONED_SECONDS:
                files.call_s3("abort_multipart_upload", Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
