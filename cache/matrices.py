"""A matrix of embeddings and, beside it, the list of whose they are: `mine.npy` with `mine.txt`, `.json` or `.csv`."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lpgnet.cache.errors import StoreError

# A million ids take some 20 MB; what is larger is no list of ids.
_MOST_BYTES = 2**28
ID_COLUMNS = ("utterance_id", "id")


def find_ids(matrix: Path) -> Path:
    """Find the list of ids of a matrix: the file of its name that ends in .txt, .json or .csv.

    Args:
        matrix: the .npy file.

    Raises:
        StoreError: there is none, or there are several.
    """
    found = [path for suffix in _PARSERS if (path := matrix.with_suffix(suffix)).is_file()]
    names = " or ".join(matrix.with_suffix(suffix).name for suffix in _PARSERS)
    if not found:
        raise StoreError(f"{matrix} does not say whose its rows are: list the utterance ids in {names} beside it")
    if len(found) > 1:
        raise StoreError(f"{matrix}: {found[0].name} and {found[1].name} both lie beside it; leave one there")
    return found[0]


def read_matrix(file: Path) -> dict[str, np.ndarray]:
    """Read a matrix with its ids; its numbers stay on the disk until they are used, and nothing is unpickled.

    Args:
        file: a .npy file of `(utterances, width)` or `(utterances, layers, width)`.

    Returns:
        The row of each id.

    Raises:
        StoreError: the list is missing, or does not fit the rows; names the file.
    """
    listed = find_ids(file)
    ids = _read_ids(listed)
    matrix = np.lib.format.open_memmap(file, mode="r")
    if matrix.ndim not in (2, 3):
        raise StoreError(f"{file} is {matrix.shape}, not (utterances, width) or (utterances, layers, width)")
    if len(matrix) != len(ids):
        raise StoreError(f"{file} has {len(matrix)} rows and {listed.name} {len(ids)} ids: list one a row, in order")
    return dict(zip(ids, matrix, strict=True))


def _read_ids(file: Path) -> list[str]:
    if file.stat().st_size > _MOST_BYTES:
        raise StoreError(f"{file} is no list of utterance ids: it has more than {_MOST_BYTES >> 20} MB")
    ids = _PARSERS[file.suffix](file.read_text(encoding="utf-8-sig"), file)
    if twice := [name for name, count in Counter(ids).items() if count > 1]:
        raise StoreError(f"{file}: {twice[0]!r} stands there twice; every row is another utterance's")
    return ids


def _lines(text: str, _: Path) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _json(text: str, file: Path) -> list[str]:
    ids = json.loads(text)
    if not isinstance(ids, list) or not all(isinstance(name, str) for name in ids):
        raise StoreError(f'{file} is no list of utterance ids, such as ["first", "second"]')
    return ids


def _column(text: str, file: Path) -> list[str]:
    rows = csv.DictReader(io.StringIO(text))
    column = next((name for name in ID_COLUMNS if name in (rows.fieldnames or ())), None)
    if column is None:
        raise StoreError(f"{file} has no column {' or '.join(ID_COLUMNS)} in its first line")
    return [row[column] or "" for row in rows]


_PARSERS: dict[str, Callable[[str, Path], list[str]]] = {".txt": _lines, ".json": _json, ".csv": _column}
