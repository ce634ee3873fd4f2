"""Files at fsspec addresses: which there are, and whether one has changed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

from lpgnet.cache.addresses import filesystem
from lpgnet.pipeline.common.files import check_driver
from lpgnet.pipeline.errors import PipelineError, kind_and_words

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# What file systems call a tag of the content, and the time when a file was last written.
_TAGS = ("ETag", "etag")
_TIMES = ("mtime", "modified", "last_modified", "LastModified", "updated")
# A file that was written just before may be written again without its time changing: some tell no seconds, and clocks
# of two machines differ.
_SETTLED_SECONDS = 120.0
# A page of a web server is no list of its files.
_UNLISTED = ("http://", "https://")


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a file without reading it; of millions at once.

    Attributes:
        version: by its tag or time and its size, or else by all that its file system knows of it.
        is_sure: whether that is another whenever the content is.
        size: in bytes.
    """

    version: str
    is_sure: bool
    size: int


class RemoteFiles:
    """What there is at addresses, asked for once a folder: a request for every recording would take longer than it."""

    def __init__(self) -> None:
        self._folder = cache(_list_folder)

    def is_file(self, address: str) -> bool:
        """Tell whether it is a file, and not a folder.

        Raises:
            PipelineError: nothing is there, or it cannot be asked.
        """
        files, path = _file_system(address)
        try:
            return bool(files.info(path)["type"] == "file")
        except Exception as error:
            raise _failed(address, error) from None

    def below(self, address: str) -> Iterator[tuple[str, str]]:
        """Give the files below a folder, as addresses and as paths relative to it, sorted.

        Raises:
            PipelineError: it cannot be listed.
        """
        files, path = _file_system(address)
        try:
            found = sorted(files.find(path))
        except Exception as error:
            raise _failed(address, error) from None
        for file in found:
            below = file.removeprefix(path).lstrip("/")
            yield f"{address.rstrip('/')}/{below}", below

    def names(self, folder: str) -> Collection[str]:
        """Return the names of the files in a folder; none where it is not there, or nothing lists it, as by HTTP.

        Raises:
            PipelineError: it cannot be listed now.
        """
        return self._folder(folder.rstrip("/")).keys()

    def version(self, address: str) -> str:
        """Tell what is there by its tag or time and its size, or else by all that its file system knows of it.

        Raises:
            PipelineError: it cannot be asked.
        """
        return self._known(address).version

    def sure_versions(self, addresses: Iterable[str]) -> dict[str, str]:
        """Return the versions of those files of which it is certain that another content has another version.

        What cannot be asked is left out: whoever reads it says why.
        """
        found = dict[str, _Known]()
        for address in addresses:
            with suppress(PipelineError):
                found[address] = self._known(address)
        return {address: known.version for address, known in found.items() if known.is_sure}

    def size(self, address: str) -> int:
        """Return the size of a file, 0 where it is not there (bytes).

        Raises:
            PipelineError: it cannot be asked.
        """
        return self._known(address).size

    def _known(self, address: str) -> _Known:
        """What a listing says of a file, nothing where it is not there: that is told when it is to be read."""
        folder, _, name = address.rpartition("/")
        return self._folder(folder).get(name) or _ask(address)


def has_version(address: str, version: str) -> bool:
    """Ask whether a file is still what `RemoteFiles` said: one request, for a file that has just been read."""
    try:
        return _ask(address).version == version
    except PipelineError:
        return False


@contextmanager
def open_at(address: str) -> Iterator[BinaryIO]:
    """Open a file at an address for reading.

    Raises:
        PipelineError: it cannot be opened, or not read in the block; names the address, and no secret.
    """
    files, path = _file_system(address)
    try:
        with files.open(path, "rb") as file:
            yield file
    except PipelineError:
        raise
    except Exception as error:
        raise _failed(address, error) from None


def _list_folder(address: str) -> dict[str, _Known]:
    """The files of a folder by name; none where it is not there, or nothing lists it, as by HTTP.

    Raises:
        PipelineError: it cannot be listed now: what is not seen may be there all the same.
    """
    files, path = _file_system(address)
    try:
        return {PurePosixPath(info["name"]).name: _known_by(info) for info in files.ls(path, detail=True)}
    except (FileNotFoundError, NotADirectoryError, NotImplementedError):
        return {}
    except Exception as error:
        if address.startswith(_UNLISTED):
            return {}
        raise _failed(address, error) from None


def _ask(address: str) -> _Known:
    files, path = _file_system(address)
    try:
        return _known_by(files.info(path))
    except FileNotFoundError:
        return _known_by({})
    except Exception as error:
        raise _failed(address, error) from None


def _known_by(info: Mapping[str, Any]) -> _Known:
    size, is_file = int(info.get("size") or 0), info.get("type") == "file"
    if tag := _first(info, _TAGS):
        # A weak tag is that of all contents that mean the same.
        return _Known(f"{tag} {size}", is_file and not str(tag).startswith("W/"), size)
    if written := _seconds(_first(info, _TIMES)):
        return _Known(f"{written} {size}", is_file and time.time() - written > _SETTLED_SECONDS, size)
    return _Known(hashlib.sha256(repr(sorted(info.items())).encode()).hexdigest(), False, size)


def _first(info: Mapping[str, Any], names: Iterable[str]) -> object:
    return next((info[name] for name in names if info.get(name)), None)


def _seconds(written: object) -> float | None:
    """Return a time as seconds; None of a text and of a time without its zone, which may be any."""
    if isinstance(written, datetime):
        return written.timestamp() if written.tzinfo else None
    return float(written) if isinstance(written, int | float) else None


def _file_system(address: str) -> tuple[AbstractFileSystem, str]:
    """Return what reads an address, and the path by which it knows what is there.

    Raises:
        MissingExtraError: it is not installed; says what to install.
        PipelineError: the address has a login or a query in it.
    """
    check_driver(address)
    files = filesystem(address)
    return files, str(files._strip_protocol(address))


def _failed(address: str, error: Exception) -> PipelineError:
    if isinstance(error, FileNotFoundError):
        return PipelineError(f"{address}: no such recording")
    return PipelineError(f"{address}: cannot be read ({kind_and_words(error)})")
