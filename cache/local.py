"""The shards of an encoder in a folder of this machine or of a shared mount."""

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from lpgnet.cache.errors import NotAShardError, StoreError, shard_gone
from lpgnet.cache.files import (
    make_folder,
    part_file,
    publish,
    publish_bytes,
    readable_errors,
    remove_abandoned,
    sync_folder,
)
from lpgnet.cache.place import DAMAGED_FOLDER, DESCRIPTION_NAME
from lpgnet.cache.shards import Shard, ShardName

_BLOCK_BYTES = 2**24


class Folder:
    """A `Place` that is a folder: shards are mapped from where they lie."""

    def __init__(self, root: Path, fingerprint: str) -> None:
        """Name the folder.

        Raises:
            StoreError: it is a link.
        """
        self.folder, self._fingerprint = root / fingerprint, fingerprint
        self.where = str(self.folder)
        if self.folder.is_symlink():
            raise StoreError(f"{self.folder} is a link; a store's rows lie in its own folder")

    def names(self) -> set[str]:
        """List the files that have a shard's name."""
        try:
            with os.scandir(self.folder) as entries:
                files = {entry.name for entry in entries if entry.is_file(follow_symlinks=False)}
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise StoreError(f"cannot read {self.folder}: {error.strerror}") from error
        return {name for name in files if ShardName.parse(name)}

    def strays(self) -> Iterator[tuple[str, str]]:
        """Yield files that end as shards do but have no shard's name, links and folders."""
        for path in sorted(self.folder.glob("*.arrow")):
            if path.is_file() and not path.is_symlink():
                if not ShardName.parse(path.name):
                    yield path.name, "not a shard's name; nobody reads it"
            # What is not there any more was merged or converted meanwhile.
            elif os.path.lexists(path):
                yield path.name, "a link or folder where a shard should be; nobody reads it"

    def open(self, names: Collection[str]) -> Iterator[tuple[str, Shard | StoreError]]:
        """Map shards into memory."""
        for name in names:
            try:
                yield name, Shard(self.folder / name, self._fingerprint)
            except FileNotFoundError:
                yield name, shard_gone(self.folder / name)
            except NotAShardError as error:
                yield name, error

    def blocks(self, name: str) -> Iterator[bytes]:
        """Read a file."""
        with self.file(name) as path, readable_errors(self.folder, "read"), open(path, "rb") as file:
            while block := file.read(_BLOCK_BYTES):
                yield block

    @contextlib.contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """Give the file itself."""
        path = self.folder / name
        if path.is_symlink():
            raise NotAShardError(f"{path} is a link")
        if not path.exists():
            raise shard_gone(path)
        yield path

    def size(self, name: str) -> int:
        """Return the bytes of a shard."""
        return (self.folder / name).stat().st_size

    def make(self) -> None:
        """Create the folder, and remove the parts of writers that died."""
        make_folder(self.folder)
        remove_abandoned(self.folder)

    @contextlib.contextmanager
    def new_file(self) -> Iterator[tuple[Path, BinaryIO]]:
        """Open a part in the folder."""
        with readable_errors(self.folder, "write to"), part_file(self.folder) as part:
            yield part

    def publish(self, part: Path, file: BinaryIO, name: str, *, durable: bool = True) -> None:
        """Rename a part, once its content is on the disk."""
        publish(part, file, self.folder / name, durable=durable)

    def settle(self) -> None:
        """Make the names in the folder durable."""
        with readable_errors(self.folder, "write to"):
            sync_folder(self.folder)

    def description(self) -> bytes | None:
        """Read the description."""
        try:
            return (self.folder / DESCRIPTION_NAME).read_bytes()
        except OSError:
            return None

    def describe(self, content: bytes) -> None:
        """Write the description, unless there is one."""
        if not (self.folder / DESCRIPTION_NAME).exists():
            publish_bytes(self.folder / DESCRIPTION_NAME, content)

    def set_aside(self, name: str) -> None:
        """Rename a file."""
        target = self.folder / DAMAGED_FOLDER
        make_folder(target)
        free = next(path for i in range(10**6) if not (path := target / f"{name}{f'.{i}' if i else ''}").exists())
        # Another repair may have moved it first.
        with readable_errors(self.folder, "repair"), contextlib.suppress(FileNotFoundError):
            (self.folder / name).rename(free)
            sync_folder(target)
            sync_folder(self.folder)

    def remove(self, names: Collection[str]) -> None:
        """Remove shards; who has them mapped goes on reading them."""
        with readable_errors(self.folder, "remove merged shards from"):
            for name in names:
                (self.folder / name).unlink(missing_ok=True)
            sync_folder(self.folder)
