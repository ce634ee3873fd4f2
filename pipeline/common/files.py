"""Small files: reading text and JSON, and writing a file that appears whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from io import BufferedReader
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, get_origin

from lpgnet.pipeline.errors import MissingExtraError, PipelineError, UsageError, failed_file

if TYPE_CHECKING:
    from cattrs import Converter


Record = TypeVar("Record")
_JSON_TYPES: tuple[type, ...] = (bool, int, float, str, list)
_ADVICE = "delete it and run again the stage that writes it"
# Deeper values end the program wherever they are walked; what the project writes and reads has less than ten levels.
JSON_LEVELS = 64
# Longer whole numbers are no floats (OverflowError), and from 4,300 digits on Python does not read or print them.
JSON_DIGITS = 300
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
    text = read_text(path)
    try:
        values = parse_object(text, where=str(path))
    except PipelineError as error:
        raise PipelineError(f"{error}; {_ADVICE}") from None
    return from_json(values, kind, where=str(path))


def from_json(values: object, kind: type[Record], *, where: str) -> Record:
    """Build what `to_json` took apart; `where` names the file in errors.

    Raises:
        PipelineError: a field is missing, unknown or of the wrong type.
    """
    from cattrs import transform_error

    try:
        return _converter().structure(values, kind)
    except Exception as error:
        problems = "; ".join(transform_error(error, path="", format_exception=_reason))
        raise PipelineError(f"{where}: {problems}; {_ADVICE}") from None


def _reason(error: BaseException, kind: type | None) -> str:
    from cattrs.errors import CattrsError
    from cattrs.v import format_exception

    if type(error) in (Exception, CattrsError):  # by version; of a value that is none of those listed, in words
        return str(error).replace("literal typing.Literal", "")
    # What cattrs gets where an object should be has no keys.
    return "expected an object" if isinstance(error, AttributeError) else format_exception(error, kind)


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

    converter = Converter(forbid_extra_keys=True)
    for kind in _JSON_TYPES[:-1]:
        converter.register_structure_hook(kind, _as_written)
    converter.register_structure_hook_factory(_is_list, _list_hook)
    return converter


def _is_list(kind: Any) -> bool:
    return get_origin(kind) is list


def _list_hook(kind: type, converter: Converter) -> Callable[[object, type], object]:
    from cattrs.cols import list_structure_factory

    structure = list_structure_factory(kind, converter)
    return lambda values, kind: structure(_as_written(values, list), kind)


def _as_written(value: Any, kind: type) -> Any:
    """Make no text of a number, no list of a text and so on: JSON has all these types itself.

    Args:
        value: what JSON gave.
        kind: one of `_JSON_TYPES`, or a range of numbers derived from it.
    """
    written = next(base for base in _JSON_TYPES if issubclass(kind, base))
    if type(value) is not written and not (written is float and type(value) is int):
        raise TypeError(f"not {written.__name__}")
    return kind(value)


def parse_object(line: str, *, where: str) -> dict[str, Any]:
    """Parse one JSON object; `where` names the file and the line in errors.

    Raises:
        PipelineError: the line is not a JSON object, or exceeds the bounds of `parse_json`.
    """
    values = parse_json(line, where=where)
    if not isinstance(values, dict):
        raise PipelineError(f"{where}: is not a JSON object")
    return values


def parse_json(text: str, *, where: str, several_lines: bool = False) -> Any:
    """Parse JSON that anybody may have written; `where` names the file in errors, which add the line if several.

    Raises:
        PipelineError: it is not JSON, has more than `JSON_LEVELS` levels, or a whole number of more than `JSON_DIGITS`
            digits.
    """
    too_deep = PipelineError(f"{where}: is nested too deeply; at most {JSON_LEVELS} levels are read")
    try:
        value = json.loads(text, parse_int=_whole_number)
    except json.JSONDecodeError as error:
        place = f"{where}, line {error.lineno}" if several_lines else where
        raise PipelineError(f"{place}: is not JSON ({error.msg} at column {error.colno})") from None
    except RecursionError:
        raise too_deep from None
    except ValueError as error:
        raise PipelineError(f"{where}: {error}") from None
    if _is_deep(text, value):
        raise too_deep
    return value


def _whole_number(digits: str) -> int:
    if len(digits) > JSON_DIGITS:
        raise ValueError(f"has a number of {len(digits)} digits; at most {JSON_DIGITS} are read")
    return int(digits)


def _is_deep(text: str, value: object) -> bool:
    """Tell whether a value has more than `JSON_LEVELS` levels, without going into it as deeply as it does."""
    if text.count("[") + text.count("{") <= JSON_LEVELS:
        return False
    level = [value]
    for _ in range(JSON_LEVELS):
        level = [inner for outer in level for inner in _inside(outer)]
    return any(isinstance(inner, dict | list) for inner in level)


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def is_address(root: str) -> bool:
    """Tell whether a root is an fsspec address such as `memory://corpus` rather than a local folder, as file:// is."""
    if "://" not in root:
        return False
    # Imported late: few have an address.
    from lpgnet.cache import addresses

    return addresses.is_address(root)


def check_address(root: str, *, key: str) -> None:
    """Refuse an address with a login or a query in it, without repeating it: addresses get into reports and logs.

    Args:
        root: a folder or an address.
        key: of the configuration that gave it.

    Raises:
        UsageError: it has one.
    """
    from lpgnet.cache.addresses import AddressError, check_address

    if is_address(root):
        try:
            check_address(root)
        except AddressError as error:
            raise UsageError(f"key '{key}': {error}") from None


def check_driver(address: str) -> None:
    """Find out whether what reads an address is there.

    Raises:
        MissingExtraError: it is not installed, or not known; says what to install.
        PipelineError: the address has a login or a query in it.
    """
    from lpgnet.cache.addresses import AddressError, MissingDriverError, filesystem

    try:
        filesystem(address)
    except MissingDriverError as error:
        raise MissingExtraError(f"{address}: {error}") from None
    except AddressError as error:
        raise PipelineError(str(error)) from None


@contextmanager
def open_binary(file: str) -> Iterator[BinaryIO]:
    """Open a local file or an fsspec address for reading."""
    if is_address(file):
        import fsspec

        with fsspec.open(file, "rb") as stream:
            yield stream
    else:
        with open_regular(file) as stream:
            yield stream


def open_regular(path: Path | str) -> BufferedReader:
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
        raise failed_file(error, path) from None
    except UnicodeDecodeError as error:
        raise PipelineError(f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8") from None


def write_atomically(path: Path, text: str) -> None:
    """Write a text file whole or not at all: a temporary name, then a rename.

    A file name that is not text (half a character) is written as an escape, which JSON reads as what it was.

    Raises:
        PipelineError: it cannot be written; names the file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # The same bytes on every system.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise failed_file(error, path) from None


def set_aside(path: Path) -> Path:
    """Rename a file or folder to the first free of NAME~1, NAME~2, ..., and return its new path."""
    moved = next(name for n in count(1) if not (name := path.with_name(f"{path.name}~{n}")).exists())
    return path.rename(moved)


def name_near(name: str, *, beside: Path) -> str:
    """Return an encoder's name with the folder that it means, from whichever folder the command is run.

    Args:
        name: such as `hf:encoders/audio`.
        beside: the folder of the file that names it; the encoder is looked for in the current folder, in this one and
            in those above it.

    Returns:
        The name as it is where no folder is found.
    """
    family, _, model = name.partition(":")
    if family != "hf":
        return name
    from lpgnet.feature_extractors.adapters import find_folder

    return f"hf:{find_folder(model, beside=beside)}"
