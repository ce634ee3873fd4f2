"""Lists of recordings: Parquet or JSON Lines with a column `recording`, and perhaps one `transcript`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from lpgnet.pipeline.common.files import is_address, open_regular, parse_object, read_text
from lpgnet.pipeline.common.remote_files import open_at
from lpgnet.pipeline.corpora.manifest import MANIFEST_FILE
from lpgnet.pipeline.errors import PipelineError, failed_file, kind_and_words
from lpgnet.pipeline.recordings.remote_files import fetch

RECORDING, TRANSCRIPT = "recording", "transcript"
# Rows of a Parquet file that are in memory at once.
_ROWS = 10_000


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
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise PipelineError(f"{where}: has no path or address in the column '{column}'; write one")
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
        with _opened(file) as stream, pq.ParquetFile(stream) as parquet:
            columns = [name for name in (RECORDING, TRANSCRIPT) if name in parquet.schema_arrow.names]
            if RECORDING not in columns:
                raise PipelineError(f"{file}: has no column '{RECORDING}'; name the column of paths so")
            number = 0
            for batch in parquet.iter_batches(batch_size=_ROWS, columns=columns, use_threads=False):
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


def _no_parquet(file: str, error: Exception) -> PipelineError:
    return PipelineError(f"{file}: cannot be read as Parquet ({kind_and_words(error)}); write it again")
