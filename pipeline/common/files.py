"""Small files: reading text and JSON, and writing a file that appears whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_origin

from lpgnet.pipeline.errors import PipelineError, failed_file

if TYPE_CHECKING:
    from cattrs import Converter


Record = TypeVar("Record")
_ADVICE = "delete it and run again the stage that writes it"
# Deeper values end the program wherever they are walked; what the project writes and reads has less than ten levels.
JSON_LEVELS = 64
# Longer whole numbers are no floats (OverflowError), and from 4,300 digits on Python does not read or print them.
JSON_DIGITS = 300


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
    from cattrs.v import format_exception

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
    from cattrs.cols import list_structure_factory

    converter = Converter(forbid_extra_keys=True)
    for kind in (bool, int, float, str):
        converter.register_structure_hook(kind, _as_written)

    @converter.register_structure_hook_factory(lambda kind: get_origin(kind) is list)
    def _(kind: type, converter: Converter) -> Callable[[object, type], object]:
        structure = list_structure_factory(kind, converter)
        return lambda values, kind: structure(_as_written(values, list), kind)

    return converter


def _as_written(value: object, kind: type) -> object:
    """Make no text of a number, no list of a text and so on: JSON has all these types itself."""
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise TypeError(f"not {kind.__name__}")
    return value


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


def read_text(path: Path) -> str:
    """Read a UTF-8 text file.

    Raises:
        PipelineError: the file is missing or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
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
