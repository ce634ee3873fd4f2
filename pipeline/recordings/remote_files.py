"""Recordings at fsspec addresses: which there are, whether one has changed, and fetching one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from lpgnet.pipeline.common.files import is_address, open_binary
from lpgnet.pipeline.corpora.limits import MAX_RECORDING_BYTES
from lpgnet.pipeline.errors import MissingExtraError, PipelineError, kind_and_words
from lpgnet.pipeline.recordings.transcripts import first_transcript

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
            PipelineError: nothing is there.
        """
        info = self._info(address)
        tag = info.get("ETag") or info.get("etag")
        if tag:
            return f"{tag} {info['size']}"
        files, path = _file_system(address)
        return str(files.ukey(path))

    def size(self, address: str) -> int:
        """Return the size of a file (bytes).

        Raises:
            PipelineError: nothing is there.
        """
        return int(self._info(address)["size"] or 0)

    def _info(self, address: str) -> _Info:
        folder, _, name = address.rpartition("/")
        if name in (listed := self._folder(folder)):
            return listed[name]
        files, path = _file_system(address)
        try:
            info: _Info = files.info(path)
        except Exception as error:
            raise _failed(address, error) from None
        return info


def fetch(address: str, folder: Path) -> Path:
    """Copy a file at an address into a folder, under its own name.

    Raises:
        PipelineError: it cannot be read, or is larger than recordings are.
    """
    target = folder / PurePosixPath(address).name
    try:
        with open_binary(address) as file, target.open("wb") as copy:
            shutil.copyfileobj(_Bounded(file, address), copy, 2**20)
    except PipelineError:
        raise
    except Exception as error:
        raise _failed(address, error) from None
    return target


class _Bounded:
    """A file that refuses to be longer than recordings are."""

    def __init__(self, file: Any, address: str) -> None:
        self._file, self._address, self._left = file, address, MAX_RECORDING_BYTES

    def read(self, size: int) -> bytes:
        found: bytes = self._file.read(size)
        self._left -= len(found)
        if self._left < 0:
            raise PipelineError(f"{self._address}: has more than {MAX_RECORDING_BYTES:,} bytes; split it")
        return found


def _list_folder(address: str) -> dict[str, _Info]:
    """The files of a folder by name; none where it cannot be listed, as by HTTP."""
    files, path = _file_system(f"{address}/")
    try:
        return {PurePosixPath(info["name"]).name: info for info in files.ls(path, detail=True)}
    except Exception:
        return {}


def _file_system(address: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it.

    Raises:
        PipelineError: the address has a login or parameters in it, or no such file system is installed.
    """
    from fsspec.core import url_to_fs

    check_address(address)
    try:
        files, path = url_to_fs(address)
    except ImportError as error:
        raise MissingExtraError(
            f"{address.partition('://')[0]}://: {' '.join(str(error).split())}; pip install 'lpgnet[s3]' for s3://"
        ) from None
    except Exception as error:
        raise _failed(address, error) from None
    return files, path


def check_address(address: str) -> None:
    """Refuse an address that may have a password in it, without saying it.

    Raises:
        PipelineError: it has a login or parameters.
    """
    scheme, _, rest = address.partition("://")
    if is_address(address) and ("@" in rest.partition("/")[0] or "?" in rest):
        raise PipelineError(
            f"an address of {scheme}:// has a login or parameters in it, which could be seen by others; take them "
            "out, and give credentials by the environment"
        )


def _failed(address: str, error: Exception) -> PipelineError:
    if isinstance(error, FileNotFoundError):
        return PipelineError(f"{address}: no such recording")
    return PipelineError(f"{address}: cannot be read ({kind_and_words(error)})")
