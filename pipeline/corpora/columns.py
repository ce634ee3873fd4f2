"""Rows with named columns -> utterances: what `table` shares with every reader of rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from lpgnet.pipeline.common.files import parse_json
from lpgnet.pipeline.corpora.base import ReadCorpus, inside_root
from lpgnet.pipeline.corpora.manifest import Utterance, utterance_from
from lpgnet.pipeline.corpora.ratings import (
    DIMENSIONS,
    Ranges,
    check_in_range,
    check_ranges,
    majority,
    number_in,
    votes_in,
)
from lpgnet.pipeline.corpora.text import Cell, Row
from lpgnet.pipeline.errors import PipelineError, UsageError, did_you_mean, shorten

_FIELDS = tuple(entry.name for entry in fields(Utterance) if entry.name != "extra")
_SECONDS = ("start", "end")
# `votes` is a column of all the votes for an utterance, `votes.ang` one of how many there are for that code.
_VOTES = "votes"
_OF_CODE = "votes."
_SEPARATORS = re.compile(r"[;,|]")
# How many voted for a code, written beside it.
_COUNTED = re.compile(r"[:=]\s*[\d.]+(?=[;,|\s]|$)")


@dataclass(frozen=True)
class Columns:
    """What the user said of the columns.

    Attributes:
        named: the column of a field of the manifest, or of the votes for a code (`votes.ang`).
        ranges: the lowest and the highest rating that raters could give, by dimension.
    """

    named: Mapping[str, str]
    ranges: Ranges


def wanted_columns(columns: object, ranges: object) -> Columns:
    """Check the options `columns` and `ranges` of a reader of rows.

    Args:
        columns: `{field: column}`, where a field may be `votes.<code>`; or None.
        ranges: `{dimension: [lowest, highest]}`; or None.

    Raises:
        UsageError: they are not; names the key.
    """
    named = {} if columns is None else columns
    if not isinstance(named, Mapping):
        raise UsageError(f"corpus.options.columns: give {{field: column}}, not {columns!r:.60}")
    for name, column in named.items():
        _check_name(name)
        if not isinstance(column, str):
            raise UsageError(f"corpus.options.columns.{name}: give the name of a column in quotes, not {column!r:.60}")
    return Columns(named, _checked_ranges({} if ranges is None else ranges))


def _check_name(name: object) -> None:
    if name not in _FIELDS and not _is_of_code(name):
        raise UsageError(
            f"corpus.options.columns: the manifest has no field '{name}'{did_you_mean(str(name), _FIELDS)};"
            f" its fields are {', '.join(_FIELDS)}; votes.CODE is how many raters voted for a code"
        )


def _is_of_code(name: object) -> bool:
    return isinstance(name, str) and name.startswith(_OF_CODE) and name != _OF_CODE


def _checked_ranges(ranges: Any) -> Ranges:
    try:
        check_ranges(ranges, where="corpus.options.ranges")
    except PipelineError as error:
        raise UsageError(str(error)) from None
    return {name: (float(low), float(high)) for name, (low, high) in ranges.items()}


def read_rows(
    rows: Iterable[tuple[str, Row]],
    columns: Columns,
    *,
    source: str,
    version: int,
    own: Sequence[str] | None = None,
) -> ReadCorpus:
    """Make the utterances that rows describe.

    Rows of one dialogue are put together, in their order. Empty cells are null, except an empty text. Columns that are
    no field of the manifest go to `extra`. The range of a dimension that `columns.ranges` does not tell is the lowest
    and the highest of its ratings, with a warning. A column that is only called like a dimension, and holds no numbers,
    stays in `extra`, and so does one that is only called votes, and holds nothing but numbers. Where there are
    votes and no column for `label`, the label is the code with the most votes, or none.

    Args:
        rows: each with its place in the source, such as `line 3`.
        columns: what the user said of them.
        source: what errors call the whole, such as a table's path.
        version: of the reader.
        own: the columns that the source has, where the reader has added others; None: those of the rows.

    Raises:
        PipelineError: there are no rows, a column is missing, or a row is wrong; names source, place and column.
    """
    rows = list(rows)
    known = list({name: None for _, row in rows for name in row})
    _check_known(columns, known, source, own=known if own is None else own)
    placed = _placed(columns, known, source)
    ranges, warnings = _ranges(rows, placed, columns, source)
    others = _others(rows, placed, columns, ranges)
    placed = {name: column for name, column in placed.items() if name not in others}
    return ReadCorpus(_utterances(rows, placed, ranges, source), warnings, version, ranges)


def _others(rows: Sequence[tuple[str, Row]], placed: Mapping[str, str], columns: Columns, ranges: Ranges) -> set[str]:
    """Return the fields whose columns are only called like them: dimensions without a range, and votes in numbers."""
    held = {name: [row.get(placed[name]) for _, row in rows] for name in (_VOTES, *DIMENSIONS) if name in placed}
    cells = {name: [cell for cell in values if cell not in (None, "")] for name, values in held.items()}
    counted = _VOTES not in columns.named and all(number_in(cell) is not None for cell in cells.get(_VOTES, []))
    return {name for name, values in cells.items() if values and (counted if name == _VOTES else name not in ranges)}


def _check_known(columns: Columns, known: Sequence[str], source: str, *, own: Sequence[str]) -> None:
    if not known:
        raise PipelineError(f"{source}: has no rows")
    needed = {name: name for name in ("dialogue_id", *columns.ranges)} | dict(columns.named)
    for name, column in needed.items():
        if column not in known and (column != name or name in ("dialogue_id", *columns.ranges)):
            raise PipelineError(
                f"{source}: has no column '{column}' for {name}{did_you_mean(column, own)}; its columns are"
                f" {shorten(own, most=20)}; map names in corpus.options.columns"
            )


def _placed(columns: Columns, known: Sequence[str], source: str) -> dict[str, str]:
    """Return the column of each field, and of the votes for each code, that the rows have."""
    renamed = set(columns.named.values())
    of_codes = [column for column in known if _is_of_code(column) and column not in renamed]
    wanted = {name: name for name in (*_FIELDS, *of_codes)} | dict(columns.named)
    placed = {name: column for name, column in wanted.items() if column in known}
    if _VOTES in placed and any(map(_is_of_code, placed)):
        raise PipelineError(
            f"{source}: has votes in column '{placed[_VOTES]}' and in a column for each code; leave out one of the two"
        )
    return placed


def _ranges(
    rows: Sequence[tuple[str, Row]], placed: Mapping[str, str], columns: Columns, source: str
) -> tuple[Ranges, list[str]]:
    """Return the ranges that the user gave, those of the ratings for the other dimensions, and what to tell of them."""
    ranges, warnings = dict(columns.ranges), []
    for name in DIMENSIONS:
        if name in placed and name not in ranges:
            ratings = _ratings(rows, placed[name], source, named=name in columns.named)
            ends = (min(ratings), max(ratings)) if len(set(ratings)) > 1 else None
            ranges |= {name: ends} if ends else {}
            warnings += [_about_range(name, placed[name], ends, source)] if ratings else []
    return ranges, warnings


def _ratings(rows: Sequence[tuple[str, Row]], column: str, source: str, *, named: bool) -> list[float]:
    """Return the ratings in a column; none where nobody named it for a dimension and it holds no number."""
    cells = [(f"{source}, {place}, column '{column}'", row[column]) for place, row in rows if column in row]
    if not named and all(number_in(cell) is None for _, cell in cells):
        return []
    ratings = (_rating(cell, where=where) for where, cell in cells)
    return [rating for rating in ratings if rating is not None]


def _about_range(name: str, column: str, ends: tuple[float, float] | None, source: str) -> str:
    advice = f"set corpus.options.ranges: {{{name}: [lowest, highest]}} to what the raters could give"
    if ends is None:
        return f"{source}: all ratings in column '{column}' are equal, so {name} is left out; {advice}"
    return f"{source}: the range of {name} is taken from its ratings, {ends[0]:g} to {ends[1]:g}; {advice}"


def _utterances(
    rows: Iterable[tuple[str, Row]], placed: Mapping[str, str], ranges: Ranges, source: str
) -> list[Utterance]:
    dialogues: dict[str, list[Utterance]] = {}
    places: dict[str, str] = {}
    for place, row in rows:
        where = f"{source}, {place}"
        values = _values(row, placed, ranges, where=where)
        turns = dialogues.setdefault(values.get("dialogue_id") or "", [])
        if "utterance_id" not in values:
            values["utterance_id"] = f"{values.get('dialogue_id')}_{len(turns) + 1:03d}"
        utterance = utterance_from(values, where=where)
        first = places.setdefault(utterance.utterance_id, place)
        if first != place:
            raise PipelineError(
                f"{where}: utterance_id '{utterance.utterance_id}' is already used in {first}; ids must be unique"
            )
        turns.append(utterance)
    return [utterance for turns in dialogues.values() for utterance in turns]


def _values(row: Row, placed: Mapping[str, str], ranges: Ranges, *, where: str) -> dict[str, Any]:
    """Return the fields of the manifest in one row, the rest of the row under `extra`."""
    values: dict[str, Any] = {
        name: _parse(name, row[column], ranges, where=f"{where}, column '{column}'")
        for name, column in placed.items()
        if column in row
    }
    if values.get("audio") is not None:
        inside_root(values["audio"], where=where)
    of_codes = {name: values.pop(name) for name in list(values) if _is_of_code(name)}
    if of_codes:
        values[_VOTES] = _cast({name.removeprefix(_OF_CODE): count for name, count in of_codes.items()})
    if "label" not in placed and values.get(_VOTES):
        values["label"] = majority(values[_VOTES])
    values["extra"] = _extra({column: cell for column, cell in row.items() if column not in placed.values()})
    return values


def _extra(cells: dict[str, Any]) -> dict[str, Any]:
    """Merge an object named `extra`, which a manifest has, with the cells that are not fields of the manifest."""
    inner = cells.pop("extra") if isinstance(cells.get("extra"), dict) else {}
    return {**inner, **{column: None if cell == "" else cell for column, cell in cells.items()}}


def _parse(name: str, cell: Cell, ranges: Ranges, *, where: str) -> object:
    if name == _VOTES:
        return _votes(cell, where=where)
    if name in DIMENSIONS:
        return _rating_within(name, cell, ranges, where=where)
    if _is_of_code(name):
        return votes_in(cell, where=where)
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


def _rating(cell: Cell, *, where: str) -> float | None:
    if cell is None or cell == "":
        return None
    rating = number_in(cell)
    if rating is None:
        raise PipelineError(f"{where}: {cell!r:.60} is not a rating; give a number, or nothing where there is none")
    return rating


def _rating_within(name: str, cell: Cell, ranges: Ranges, *, where: str) -> float | None:
    rating = _rating(cell, where=where)
    if rating is not None:
        check_in_range(name, rating, ranges, where=where)
    return rating


def _votes(cell: Cell, *, where: str) -> dict[str, float] | None:
    """Return the votes in one cell: an object of them by code, a list of codes, or codes with separators."""
    if isinstance(cell, str) and cell.lstrip()[:1] in ("{", "["):
        cell = parse_json(cell, where=where)
    if isinstance(cell, dict):
        return _cast({code: votes_in(count, where=f"{where}, code '{code:.40}'") for code, count in cell.items()})
    codes = _codes(cell, where=where)
    for text in [cell] if isinstance(cell, str) else codes:
        _refuse_counted(text, where=where)
    return _cast(Counter(codes))


def _refuse_counted(text: str, *, where: str) -> None:
    if _COUNTED.search(text):
        raise PipelineError(
            f"{where}: {text!r:.60} counts votes; give a column for each code, such as votes.ang, or"
            ' {"ang": 2}, or each vote: ang;ang'
        )


def _codes(cell: Cell, *, where: str) -> list[str]:
    """Return the codes that raters named, each as often as it was named."""
    if isinstance(cell, str):
        parts = _SEPARATORS.split(cell) if _SEPARATORS.search(cell) else cell.split()
        return [part.strip() for part in parts if part.strip()]
    named = cell if isinstance(cell, list) else [] if cell is None else [cell]
    for code in named:
        if isinstance(code, bool) or not isinstance(code, str | int | float):
            raise PipelineError(f"{where}: {code!r:.60} is not a code; give {{code: votes}} or a list of codes")
    return [str(code) for code in named]


def _cast(votes: Mapping[str, float]) -> dict[str, float] | None:
    """Return the votes that were cast; None where nobody voted."""
    return {code: count for code, count in votes.items() if count} or None
