"""Text files as they come: encodings told apart, and the rows of CSV, TSV and JSON Lines with their line numbers."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from lpgnet.pipeline.common.files import is_address, parse_object, read_regular
from lpgnet.pipeline.common.spreadsheets import meant
from lpgnet.pipeline.errors import PipelineError, did_you_mean, shorten

# UTF-32's little-endian mark begins with UTF-16's, so it stands first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What one cell of a table holds; CSV and TSV have strings only.
Cell: TypeAlias = str | int | float | list[object] | dict[str, object] | None
Row: TypeAlias = Mapping[str, Cell]

# A table of a million utterances has less.
MOST_BYTES = 2_000_000_000
_DELIMITERS = ",;\t"
_LINE_END = re.compile(r"\r\n|\n|\r")
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl")


def read_bytes(path: Path, *, most: int = MOST_BYTES) -> bytes:
    """Read a whole file of up to `most` bytes; of a pipe or a device nothing is read, as it may have no end.

    Raises:
        PipelineError: the file is missing, too large, no regular file, or cannot be read.
    """
    try:
        return path.read_bytes() if is_address(str(path)) else read_regular(path, limit=most)
    except FileNotFoundError:
        raise PipelineError(f"{path}: no such file") from None
    except OSError as error:
        raise PipelineError(f"{path}: cannot be read ({error.strerror or error})") from None


def read_utf8(path: Path) -> str:
    """Read UTF-8 text, with or without a byte order mark; line ends stay as they are.

    Raises:
        PipelineError: the file is missing or is not UTF-8.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PipelineError(f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8") from None


def read_any_text(path: Path, *, most: int = MOST_BYTES) -> tuple[str, list[str]]:
    """Read text of unknown encoding: by its byte order mark, else UTF-8, UTF-16 or, as a last resort, cp1252.

    Args:
        path: the file.
        most: the most bytes that it may have.

    Returns:
        The text, line ends as they are, and a warning where the encoding was guessed.

    Raises:
        PipelineError: the file is missing or too large, or is not text in any of these.
    """
    data = read_bytes(path, most=most)
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), None) or _unmarked(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise PipelineError(f"{path}: is not text in {encoding} (byte {error.start}); save it as UTF-8") from None
    if "\0" in text:
        raise PipelineError(f"{path}: is not a text file (it holds null characters)")
    if encoding in ("cp1252", "latin-1"):
        return text, [f"{path}: is not UTF-8, so it was read as {encoding}; save it as UTF-8 if letters look wrong"]
    return text, []


def split_lines(text: str) -> list[str]:
    """Split a text into lines, whichever system wrote it; unlike `splitlines`, no control character ends one."""
    return _LINE_END.split(text)


def _unmarked(data: bytes) -> str:
    # Latin letters in UTF-16 have a zero as every other byte; it is the high one.
    head = data[:1000]
    for encoding, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[0::2])):
        if len(data) % 2 == 0 and zeros.count(0) * 2 > len(zeros):
            return encoding
    return next((name for name in ("utf-8", "cp1252") if _decodes(data, name)), "latin-1")


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def named_rows(text: str, path: Path) -> Iterator[tuple[int, Row]]:
    """Read the rows of a table by the names of its columns, each with the line at which it begins (from 1).

    The suffix of `path` tells the format: `.jsonl` holds a JSON object a line, `.tsv` is separated by tabs, anything
    else by whichever of comma, semicolon and tab its header has most of. Cells of CSV and TSV are strings, without the
    apostrophe that keeps a spreadsheet from running them.

    Raises:
        PipelineError: a row has too many or too few cells, a quote is not closed, the header has a column without a
            name or a name twice, or a line is not JSON.
    """
    if path.suffix.lower() == ".jsonl":
        return _json_rows(text, path)
    return _cell_rows(text, path)


def cell(row: Row, column: str, *, where: str) -> str:
    """Return a cell of a row without spaces around it, as text; empty where it is null.

    Args:
        row: by column.
        column: one that the table must have.
        where: the file and line, for the error.

    Raises:
        PipelineError: the table has no such column.
    """
    if column not in row:
        raise PipelineError(f"{where}: the table has no column '{column}'{did_you_mean(column, row)}")
    return "" if row[column] is None else str(row[column]).strip()


def _json_rows(text: str, path: Path) -> Iterator[tuple[int, Row]]:
    for line_number, line in enumerate(split_lines(text), start=1):
        if line.strip():
            yield line_number, parse_object(line, where=f"{path}, line {line_number}")


def _cell_rows(text: str, path: Path) -> Iterator[tuple[int, Row]]:
    rows = _cells(text, path, delimiter=_delimiter(text, path))
    header_line, header = next(rows, (1, []))
    _check_header(header, where=f"{path}, line {header_line}")
    for line, cells in rows:
        if len(cells) != len(header):
            raise PipelineError(
                f"{path}, line {line}: has {len(cells)} cells where the header has {len(header)};"
                " put cells with separators or line breaks in double quotes"
            )
        yield line, dict(zip(header, cells, strict=True))


def _delimiter(text: str, path: Path) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    header = _LINE_END.split(text.lstrip(), maxsplit=1)[0]
    return max(_DELIMITERS, key=header.count)


def _cells(text: str, path: Path, *, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise PipelineError(f"{path}, line {line}: is not a row of a table ({error})") from None
        if cells is None:
            return
        if cells:
            yield line, [meant(cell) for cell in cells]
        line = reader.line_num + 1


def _check_header(header: list[str], *, where: str) -> None:
    if not header:
        raise PipelineError(f"{where}: the table is empty; its first line names the columns")
    if "" in header:
        raise PipelineError(f"{where}: column {header.index('') + 1} has no name; name it or remove it")
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise PipelineError(f"{where}: columns named twice: {shorten(twice)}; give each its own name")
