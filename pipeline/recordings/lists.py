"""Lists of recordings: Parquet or JSON Lines with a column `recording`, and perhaps one `transcript`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, BinaryIO

from lpgnet.cache.addresses import without_local_scheme
from lpgnet.pipeline.common.files import is_address, open_regular, parse_object, read_text
from lpgnet.pipeline.common.remote_files import open_at
from lpgnet.pipeline.corpora.manifest import MANIFEST_FILE
from lpgnet.pipeline.errors import PipelineError, failed_file, kind_and_words
from lpgnet.pipeline.recordings.remote_files import fetch

if TYPE_CHECKING:
    import pyarrow as pa

RECORDING, TRANSCRIPT = "recording", "transcript"
# Rows of a Parquet file that are in memory at once.
_ROWS = 1_000
# Longer than any path; what Parquet packs small may be long, and stand in each of millions of rows (bytes).
_LONGEST = 4_096
# Longer than any name in a folder (bytes).
_LONGEST_NAME = 255


@dataclass(frozen=True)
class ListedRecording:
    """A row of a list: paths as they are written there, or addresses."""

    recording: str
    transcript: str | None


def is_list(file: str) -> bool:
    """Tell whether a file or address is a list of recordings, by its suffix; a manifest is none."""
    path = PurePosixPath(file)
    return path.suffix.lower() in (".parquet", ".jsonl") and path.name != MANIFEST_FILE


def read_list(file: str) -> Iterator[ListedRecording]:
    """Read a list, row by row; columns that it has beside are ignored.

    Args:
        file: a local file or an address.

    Raises:
        PipelineError: it cannot be read, or a row names no recording; names the file and the row.
    """
    rows = _parquet_rows(file) if file.lower().endswith(".parquet") else _json_rows(file)
    for where, values in rows:
        yield ListedRecording(_path(values, RECORDING, where) or "", _path(values, TRANSCRIPT, where))


def _path(values: dict[str, Any], column: str, where: str) -> str | None:
    value = values.get(column)
    if value is None and column == TRANSCRIPT:
        return None
    if not isinstance(value, str) or not PurePosixPath(without_local_scheme(value).strip()).stem or "\0" in value:
        raise PipelineError(f"{where}: has no path or address in the column '{column}'; write one")
    parts = value.encode("utf-8", "surrogatepass").split(b"/")
    if len(value) > _LONGEST or max(map(len, parts)) > _LONGEST_NAME:
        raise PipelineError(f"{where}: has more letters in the column '{column}' than any path; write a shorter one")
    return value


def _opened(file: str) -> AbstractContextManager[BinaryIO]:
    return open_at(file) if is_address(file) else open_regular(file)


def _json_rows(file: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(_text(file).split("\n"), start=1):
        if line.strip():
            where = f"{file}, line {number}"
            yield where, parse_object(line, where=where)


def _text(file: str) -> str:
    if not is_address(file):
        return read_text(Path(file))
    with TemporaryDirectory(prefix="lpgnet-") as folder:
        copy = fetch(file, Path(folder))
        try:
            return read_text(copy)
        except PipelineError as error:
            raise PipelineError(str(error).replace(str(copy), file)) from None


def _parquet_rows(file: str) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with _opened(file) as stream:
            columns = _columns(pq.read_schema(stream), file)
            # As dictionaries, in which a value that is in many rows is there once.
            parquet, number = pq.ParquetFile(stream, read_dictionary=columns), 0
            for batch in parquet.iter_batches(batch_size=_ROWS, columns=columns, use_threads=False):
                _refuse_long(batch, f"{file}, row {number + 1}")
                for values in batch.to_pylist():
                    number += 1
                    yield f"{file}, row {number}", values
    except PipelineError:
        raise
    except OSError as error:
        # What Arrow cannot parse is an error of the operating system to it, without a number.
        if error.errno is not None:
            raise failed_file(error, file) from None
        raise _no_parquet(file, error) from None
    except (ValueError, pa.ArrowException) as error:
        raise _no_parquet(file, error) from None


def _columns(schema: pa.Schema, file: str) -> list[str]:
    """Name the columns of a list that are read; one that is empty throughout has no type."""
    import pyarrow as pa

    if RECORDING not in schema.names:
        raise PipelineError(f"{file}: has no column '{RECORDING}'; name the column of paths so")
    named = {name: schema.field(name).type for name in (RECORDING, TRANSCRIPT) if name in schema.names}
    kinds = {name: kind.value_type if pa.types.is_dictionary(kind) else kind for name, kind in named.items()}
    for name, kind in kinds.items():
        empty = name == TRANSCRIPT and pa.types.is_null(kind)
        if not (empty or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise PipelineError(f"{file}, row 1: has no path or address in the column '{name}'; write one")
    return [name for name, kind in kinds.items() if not pa.types.is_null(kind)]


def _refuse_long(batch: pa.RecordBatch, where: str) -> None:
    """Refuse values that are no paths before each row has one of its own, from the row on that `where` names."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        values = column.dictionary if isinstance(column, pa.DictionaryArray) else column
        if (pc.max(pc.binary_length(values)).as_py() or 0) > _LONGEST:
            raise PipelineError(f"{where}: has, or a row after it, more letters in the column '{name}' than any path")


def _no_parquet(file: str, error: Exception) -> PipelineError:
    return PipelineError(f"{file}: cannot be read as Parquet ({kind_and_words(error)}); write it again")
