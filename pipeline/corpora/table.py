"""The `table` reader: a CSV, TSV or JSON Lines file with one utterance a row and named columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from lpgnet.pipeline.corpora.base import PublishedCounts, ReadCorpus, inside_root, one_file
from lpgnet.pipeline.corpora.manifest import Utterance, utterance_from
from lpgnet.pipeline.corpora.ratings import DIMENSIONS
from lpgnet.pipeline.corpora.text import TABLE_SUFFIXES, Cell, Row, named_rows, read_utf8
from lpgnet.pipeline.errors import PipelineError, UsageError, did_you_mean, shorten

VERSION = 1
PUBLISHED_COUNTS: PublishedCounts = {}
_FIELDS = tuple(entry.name for entry in fields(Utterance) if entry.name not in ("extra", "votes", *DIMENSIONS))
_SECONDS = ("start", "end")


def read(root: str, *, table: str | None = None, columns: Mapping[str, str] | None = None) -> ReadCorpus:
    """Read a corpus from one table.

    Rows of one dialogue are put together, in the order of the file. Empty cells are null, except an empty text, which
    stays an empty text so that it can be reported. Columns that are no field of the manifest go to `extra`.

    Args:
        root: folder of the corpus; the audio paths of the table are relative to it.
        table: the table's path in that folder; None: the only `.csv`, `.tsv` or `.jsonl` file there.
        columns: name of the column for each field of the manifest that has another name in the table, as in
            `{utterance_id: id}`. Without a column for `utterance_id`, ids are made: `<dialogue_id>_001`, `_002`, ...

    Raises:
        PipelineError: the table is not there, is not UTF-8, lacks a column, or a row is wrong; names file and line.
        UsageError: `columns` names a field that the manifest does not have.
    """
    path = _table_path(root, table)
    renamed = _column_of_field(columns or {})
    rows = list(named_rows(read_utf8(path), path))
    _check_columns(renamed, known=list({name: None for _, row in rows for name in row}), path=path)
    return ReadCorpus(utterances=_utterances(rows, renamed, path), warnings=[], version=VERSION)


def sources(root: str, *, table: str | None = None, columns: Mapping[str, str] | None = None) -> list[Path]:
    """Return the files that the manifest depends on: the table."""
    return [_table_path(root, table)]


def _table_path(root: str, table: str | None) -> Path:
    return one_file(root, table, option="table", what="table", suffixes=TABLE_SUFFIXES)


def _column_of_field(columns: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(columns, Mapping):
        raise UsageError(f"corpus.options.columns: give {{field: column}}, not {columns!r:.60}")
    for name, column in columns.items():
        if name not in _FIELDS:
            raise UsageError(
                f"corpus.options.columns: the manifest has no field '{name}'{did_you_mean(name, _FIELDS)};"
                f" its fields are {', '.join(_FIELDS)}"
            )
        if not isinstance(column, str):
            raise UsageError(f"corpus.options.columns.{name}: give the name of a column in quotes, not {column!r:.60}")
    return {name: columns.get(name, name) for name in _FIELDS}


def _check_columns(renamed: Mapping[str, str], *, known: list[str], path: Path) -> None:
    if not known:
        raise PipelineError(f"{path}: has no rows")
    for name, column in renamed.items():
        if column not in known and (column != name or name == "dialogue_id"):
            raise PipelineError(
                f"{path}: has no column '{column}' for {name}{did_you_mean(column, known)}; its columns are"
                f" {shorten(known, most=20)}; map names in corpus.options.columns"
            )


def _utterances(rows: Iterable[tuple[int, Row]], renamed: Mapping[str, str], path: Path) -> list[Utterance]:
    dialogues: dict[str, list[Utterance]] = {}
    lines: dict[str, int] = {}
    for line, row in rows:
        where = f"{path}, line {line}"
        values = _values(row, renamed, where=where)
        turns = dialogues.setdefault(values.get("dialogue_id") or "", [])
        if "utterance_id" not in values:
            values["utterance_id"] = f"{values.get('dialogue_id')}_{len(turns) + 1:03d}"
        utterance = utterance_from(values, where=where)
        first = lines.setdefault(utterance.utterance_id, line)
        if first != line:
            raise PipelineError(
                f"{where}: utterance_id '{utterance.utterance_id}' is already used in line {first}; ids must be unique"
            )
        turns.append(utterance)
    return [utterance for turns in dialogues.values() for utterance in turns]


def _values(row: Row, renamed: Mapping[str, str], *, where: str) -> dict[str, Any]:
    """Return the fields of the manifest in one row, the rest of the row under `extra`."""
    values: dict[str, Any] = {
        name: _parse(name, row[column], where=f"{where}, column '{column}'")
        for name, column in renamed.items()
        if column in row
    }
    if values.get("audio") is not None:
        inside_root(values["audio"], where=where)
    values["extra"] = _extra({column: cell for column, cell in row.items() if column not in renamed.values()})
    return values


def _extra(cells: dict[str, Any]) -> dict[str, Any]:
    """Merge an object named `extra`, which a manifest has, with the cells that are not fields of the manifest."""
    inner = cells.pop("extra") if isinstance(cells.get("extra"), dict) else {}
    return {**inner, **{column: None if cell == "" else cell for column, cell in cells.items()}}


def _parse(name: str, cell: Cell, *, where: str) -> str | float | None:
    if cell is None or (cell == "" and name != "text"):
        return None
    if isinstance(cell, bool | list | dict):
        raise PipelineError(f"{where}: {cell!r} is not a value for {name}")
    if name in _SECONDS:
        return _number(cell, float, what="seconds", where=where)
    if name == "channel":
        return _number(cell, int, what="a channel number", where=where)
    return str(cell)


def _number(cell: str | float, kind: type[int] | type[float], *, what: str, where: str) -> float:
    try:
        number = kind(cell)
    except (ValueError, OverflowError):
        raise PipelineError(f"{where}: '{cell}' is not {what}") from None
    if isinstance(cell, float) and number != cell:
        raise PipelineError(f"{where}: {cell} is not {what}")
    return number
