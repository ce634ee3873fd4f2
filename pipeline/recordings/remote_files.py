"""Recordings at fsspec addresses: which there are, whether one has changed, and fetching one."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

from lpgnet.cache.addresses import filesystem, without_secrets
from lpgnet.pipeline.common.files import check_driver
from lpgnet.pipeline.corpora.limits import MAX_RECORDING_BYTES
from lpgnet.pipeline.errors import PipelineError, kind_and_words
from lpgnet.pipeline.recordings.transcripts import first_transcript

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_Info = Mapping[str, Any]


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

    def transcript_of(self, address: str) -> str | None:
        """Find the transcript that stands beside a recording."""
        folder, _, name = address.rpartition("/")
        found = first_transcript(name, self._folder(folder).__contains__)
        return f"{folder}/{found}" if found else None

    def version(self, address: str) -> str:
        """Tell what is there by its tag and size, or else by all that its file system knows of it.

        Raises:
            PipelineError: it cannot be asked.
        """
        info = self._info(address)
        tag = info.get("ETag") or info.get("etag")
        return f"{tag} {info['size']}" if tag else hashlib.sha256(repr(sorted(info.items())).encode()).hexdigest()

    def size(self, address: str) -> int:
        """Return the size of a file, 0 where it is not there (bytes).

        Raises:
            PipelineError: it cannot be asked.
        """
        return int(self._info(address).get("size") or 0)

    def _info(self, address: str) -> _Info:
        """What a listing says of a file, nothing where it is not there: that is told when it is to be labelled."""
        folder, _, name = address.rpartition("/")
        if name in (listed := self._folder(folder)):
            return listed[name]
        files, path = _file_system(address)
        try:
            return dict(files.info(path))
        except FileNotFoundError:
            return {}
        except Exception as error:
            raise _failed(address, error) from None


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


def fetch(address: str, folder: Path) -> Path:
    """Copy a file at an address into a folder, under its own name.

    Raises:
        PipelineError: it cannot be read, or is larger than recordings are.
    """
    target = folder / PurePosixPath(address).name
    with open_at(address) as file, target.open("wb") as copy:
        shutil.copyfileobj(_Bounded(file, address), copy, 2**20)
    return target


class _Bounded:
    """A file that refuses to be longer than recordings are."""

    def __init__(self, file: BinaryIO, address: str) -> None:
        self._file, self._address = file, address
        self._left = MAX_RECORDING_BYTES

    def read(self, size: int) -> bytes:
        found = self._file.read(size)
        self._left -= len(found)
        if self._left < 0:
            raise PipelineError(f"{self._address}: has more than {MAX_RECORDING_BYTES:,} bytes; split it")
        return found


def _list_folder(address: str) -> dict[str, _Info]:
    """The files of a folder by name; none where it cannot be listed, as by HTTP."""
    files, path = _file_system(address)
    try:
        return {PurePosixPath(info["name"]).name: info for info in files.ls(path, detail=True)}
    except Exception:
        return {}


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
    return PipelineError(f"{address}: cannot be read ({without_secrets(kind_and_words(error))})")
