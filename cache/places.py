"""Which kind of place a root is: a folder of this machine, or an address."""

from pathlib import Path

from lpgnet.cache.addresses import address_errors, filesystem, is_address, without_local_scheme
from lpgnet.cache.copies import ShardCache
from lpgnet.cache.local import Folder
from lpgnet.cache.place import Place


def as_root(root: Path | str) -> Path | str:
    """Return a folder as a path, and an address as it is."""
    return str(root) if is_address(str(root)) else Path(without_local_scheme(str(root)))


def open_place(root: Path | str, fingerprint: str, cache: ShardCache) -> Place:
    """Return the place of an encoder's shards.

    Args:
        root: as `as_root` gave it.
        fingerprint: the encoder's.
        cache: where copies of shards at an address are kept.

    Raises:
        StoreError: it cannot be one.
    """
    if isinstance(root, Path):
        return Folder(root, fingerprint)
    # Most stores are folders, and need nothing of this.
    from lpgnet.cache.remote import Address

    return Address(root, fingerprint, cache)


def list_folders(root: Path | str) -> list[str]:
    """List the names of the folders in a root, links left out; none if it does not exist.

    Raises:
        StoreError: the address does not answer.
    """
    if isinstance(root, Path):
        return [e.name for e in root.iterdir() if e.is_dir() and not e.is_symlink()] if root.is_dir() else []
    try:
        with address_errors(root, "list"):
            found = filesystem(root).ls(root.partition("://")[2].rstrip("/"), detail=True)
    except FileNotFoundError:
        return []
    return [str(one["name"]).rstrip("/").rpartition("/")[2] for one in found if one["type"] == "directory"]
