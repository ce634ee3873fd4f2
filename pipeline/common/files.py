"""Small files: reading text and JSON, and writing a file that appears whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import stat
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from lpgnet.pipeline.errors import PipelineError

if TYPE_CHECKING:
    from cattrs import Converter


Record = TypeVar("Record")
# More than the manifest of a million utterances has, and less than memory (bytes).
MAX_TEXT_BYTES = 2**30
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_json(path: Path, kind: type[Record]) -> Record:
    """Read what `write_json` wrote.

    Args:
        path: a JSON file.
        kind: what it holds: a dataclass, or a container of dataclasses such as `dict[str, Score]`.

    Raises:
        PipelineError: the file is missing or damaged; names the file and the field.
    """
    return from_json(parse_object(read_text(path), where=str(path)), kind, where=str(path))


def from_json(values: object, kind: type[Record], *, where: str) -> Record:
    """Build what `to_json` took apart; `where` names the file in errors.

    Raises:
        PipelineError: a field is missing, unknown or of the wrong type.
    """
    from cattrs import transform_error

    try:
        return _converter().structure(values, kind)
    except Exception as error:
        problems = "; ".join(transform_error(error, path=""))
        raise PipelineError(f"{where}: {problems}; run again the stage that writes it") from None


def write_json(path: Path, value: object) -> None:
    """Write a dataclass, or a container of them, as JSON, whole or not at all."""
    write_atomically(path, json.dumps(to_json(value), indent=2) + "\n")


def to_json(value: object) -> object:
    """Take a dataclass, or a container of them, apart into dictionaries, lists, numbers and strings."""
    return _converter().unstructure(value)


@cache
def _converter() -> Converter:
    # Imported late: a stage that has nothing to do reads no such file.
    from cattrs import Converter

    return Converter(forbid_extra_keys=True)


def parse_object(line: str, *, where: str) -> dict[str, Any]:
    """Parse one JSON object; `where` names the file and the line in errors.

    Raises:
        PipelineError: the line is not a JSON object.
    """
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise PipelineError(f"{where}: is not JSON ({error.msg} at column {error.colno})") from None
    if not isinstance(values, dict):
        raise PipelineError(f"{where}: is not a JSON object")
    return values


def is_address(root: str) -> bool:
    """Tell whether a root is an fsspec address such as `memory://corpus` rather than a local folder."""
    return "://" in root


def open_regular(path: Path | str) -> BinaryIO:
    """Open a local file for reading; files that people name are opened here and nowhere else.

    What is no regular file may give nothing for ever (a pipe), give for ever (a device), or act when it is opened.

    Raises:
        OSError: there is none, it is no regular file or it may not be read; `strerror` says so in words.
    """
    try:
        _check_regular(os.stat(path), path)
        file = open(path, "rb", opener=_open_without_waiting)  # noqa: SIM115 - the caller's context closes it
    except ValueError:
        raise OSError(errno.EINVAL, "no file can have this name", str(path)) from None
    try:
        # The name may mean another file by now.
        _check_regular(os.fstat(file.fileno()), path)
    except OSError:
        file.close()
        raise
    return file


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _check_regular(found: os.stat_result, path: Path | str) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "special")
        raise OSError(errno.EINVAL, f"it is {kind}, and only regular files are read", str(path))


def read_regular(path: Path | str, *, limit: int = MAX_TEXT_BYTES) -> bytes:
    """Read a whole local file, as long as it says that it is: the kernel's own files say 0 and may never end.

    Raises:
        OSError: as `open_regular` does, or it has more than `limit` bytes.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise OSError(errno.EFBIG, f"it has {size:,} bytes, and at most {limit:,} are read", str(path))
        return file.read(size)


def read_text(path: Path) -> str:
    """Read a UTF-8 text file.

    Raises:
        PipelineError: the file is missing, cannot be read or is not UTF-8.
    """
    try:
        return read_regular(path).decode("utf-8-sig")
    except FileNotFoundError:
        raise PipelineError(f"{path}: no such file; run the stage that writes it first") from None
    except OSError as error:
        raise PipelineError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise PipelineError(f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8") from None


def write_atomically(path: Path, text: str) -> None:
    """Write a text file whole or not at all: a temporary name, then a rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    # The same bytes on every system.
    temporary.write_text(text, encoding="utf-8", newline="\n")
    os.replace(temporary, path)
