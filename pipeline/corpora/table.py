"""The `table` reader: a CSV, TSV or JSON Lines file with one utterance a row and named columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lpgnet.pipeline.corpora.base import PublishedCounts, ReadCorpus, one_file
from lpgnet.pipeline.corpora.columns import read_rows, wanted_columns
from lpgnet.pipeline.corpora.text import TABLE_SUFFIXES, named_rows, read_utf8

VERSION = 2
PUBLISHED_COUNTS: PublishedCounts = {}


def read(
    root: str,
    *,
    table: str | None = None,
    columns: Mapping[str, str] | None = None,
    ranges: Mapping[str, Sequence[float]] | None = None,
) -> ReadCorpus:
    """Read a corpus from one table.

    Rows of one dialogue are put together, in the order of the file. Empty cells are null, except an empty text, which
    stays an empty text so that it can be reported. Columns that are no field of the manifest go to `extra`.

    Args:
        root: folder of the corpus; the audio paths of the table are relative to it.
        table: the table's path in that folder; None: the only `.csv`, `.tsv` or `.jsonl` file there.
        columns: name of the column for each field of the manifest that has another name in the table, as in
            `{utterance_id: id}`. Without a column for `utterance_id`, ids are made: `<dialogue_id>_001`, `_002`, ...
            Votes are in one column, `votes`, or in one for each code, `votes.ang`.
        ranges: the lowest and the highest rating that raters could give, as in `{valence: [1, 5]}`; of a dimension
            that is left out, those of its ratings.

    Raises:
        PipelineError: the table is not there, is not UTF-8, lacks a column, or a row is wrong; names file and line.
        UsageError: `columns` names a field that the manifest does not have, or `ranges` is none.
    """
    path = _table_path(root, table)
    wanted = wanted_columns(columns, ranges)
    rows = [(f"line {line}", row) for line, row in named_rows(read_utf8(path), path)]
    return read_rows(rows, wanted, source=str(path), version=VERSION)


def sources(root: str, *, table: str | None = None, **_: object) -> list[Path]:
    """Return the files that the manifest depends on: the table."""
    return [_table_path(root, table)]


def _table_path(root: str, table: str | None) -> Path:
    return one_file(root, table, option="table", what="table", suffixes=TABLE_SUFFIXES)
