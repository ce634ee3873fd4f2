"""Where the shards of one encoder lie, as what reads and writes them sees it: in a folder or at an address."""

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from lpgnet.cache.errors import StoreError
    from lpgnet.cache.shards import Shard

DESCRIPTION_NAME = "encoder.json"
DAMAGED_FOLDER = "damaged"


class Place(Protocol):
    """Where the shards and the description of one encoder lie. Nothing need be there yet.

    Attributes:
        where: the folder or the address, for people.
        folder: a folder on this machine: the store's own, or that of the copies of what lies at an address.
    """

    where: str
    folder: Path

    def names(self) -> set[str]:
        """List the files that have a shard's name.

        Raises:
            StoreError: they cannot be listed.
        """
        ...

    def strays(self) -> Iterator[tuple[str, str]]:
        """Yield what nobody reads although its name ends as that of a shard, and why."""
        ...

    def open(self, names: Collection[str]) -> Iterator[tuple[str, "Shard | StoreError"]]:
        """Yield shards by their names, or what is wrong with them; ShardGoneError of those that are gone.

        Raises:
            StoreError: the place itself cannot be read.
        """
        ...

    def blocks(self, name: str) -> Iterator[bytes]:
        """Read a file as it is now.

        Raises:
            ShardGoneError: it is gone.
            StoreError: it cannot be read.
        """
        ...

    def file(self, name: str) -> AbstractContextManager[Path]:
        """Have a file of this machine, for the time of a block, that holds what the named one holds now.

        Raises:
            ShardGoneError: it is gone.
            StoreError: it cannot be read.
        """
        ...

    def size(self, name: str) -> int:
        """Return the bytes of a shard that is there."""
        ...

    def make(self) -> None:
        """Get ready to be written to, and remove what writers left that died.

        Raises:
            StoreError: it cannot be written to.
        """
        ...

    def new_file(self) -> AbstractContextManager[tuple[Path, BinaryIO]]:
        """Open a temporary file on this machine, which is to be published or else goes at the end of the block.

        Raises:
            StoreError: the disk is full or read-only.
        """
        ...

    def publish(self, part: Path, file: BinaryIO, name: str, *, durable: bool = True) -> None:
        """Let what is in a new file appear as a whole, under a name, to all readers.

        Args:
            part: the path of the new file.
            file: the same, open.
            name: the shard's.
            durable: False leaves to the next `settle` that it survives a power failure.

        Raises:
            StoreError: it cannot be written.
        """
        ...

    def settle(self) -> None:
        """Make what was published survive a power failure."""
        ...

    def description(self) -> bytes | None:
        """Return what the description holds, or None where there is none."""
        ...

    def describe(self, content: bytes) -> None:
        """Write the description, unless there is one.

        Raises:
            StoreError: it cannot be written.
        """
        ...

    def set_aside(self, name: str) -> None:
        """Move a file to the folder of damaged ones, under a name that is free; another may have moved it first."""
        ...

    def remove(self, names: Collection[str]) -> None:
        """Remove shards, as far as they are there."""
        ...
