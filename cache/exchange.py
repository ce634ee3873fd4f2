"""Taking rows out of a store and precomputed ones in, by utterance id: safetensors, npz, npy, a folder for `datasets`.

Which key belongs to which utterance is the caller's knowledge; it passes a mapping from id to key.
"""

import contextlib
import csv
import io
import json
import math
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from lpgnet.cache.errors import StoreError
from lpgnet.cache.files import make_folder, part_file, publish, publish_bytes, readable_errors, sync_folder
from lpgnet.cache.layers import StoredRows
from lpgnet.cache.layout import FLAGS, Layout
from lpgnet.cache.matrices import read_matrix
from lpgnet.cache.place import DESCRIPTION_NAME
from lpgnet.cache.shards import Row
from lpgnet.cache.store import FeatureStore, StoreWriter

FORMATS = ("safetensors", "npz", "datasets")
# An hour of frames of one layer, 768 wide, in float32 is half of this. A file that claims more per utterance is
# refused before any memory is asked for.
ROW_BYTES = 2**30
_FILE_BYTES = 500 * 2**20
_BATCH_ROWS = 256
_ROWS_NAME = "lpgnet.rows"
_CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/*.parquet
---
# Utterance embeddings

{rows} rows of form {shape}: `id`, `n_frames`, `flags` ({flags}) and `values`.
What the encoder was stands in `{description}`; its fingerprint is `{fingerprint}`.
"""


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote: rows, and the ids whose key has no row in the store."""

    rows: int
    missing: tuple[str, ...]


@dataclass(frozen=True)
class ImportReport:
    """What an import took in.

    Attributes:
        added: rows that are new in the store.
        present: rows that the store had already.
        unknown: ids in the file that the caller has no key for; they are left out.
        missing: ids that the caller has a key for and the file no row.
    """

    added: int
    present: int
    unknown: tuple[str, ...]
    missing: tuple[str, ...]


def export_rows(store: FeatureStore | StoredRows, target: Path, ids: Mapping[str, bytes], form: str) -> ExportReport:
    """Write the rows of the given utterances, in their order, as float32 or float16.

    Args:
        store: where the rows are.
        target: a file for "safetensors" and "npz"; for "datasets" a folder with Parquet files and a card, which
            `datasets.load_dataset` opens and the hub takes as it is.
        ids: the key of every utterance id.
        form: one of `FORMATS`.

    Returns:
        How many rows were written, and which ids have none.

    Raises:
        StoreError: a damaged row, an id that cannot be a name, or a target that exists or cannot be written.
    """
    writers = {"safetensors": _write_safetensors, "npz": _write_npz, "datasets": _write_datasets}
    if form not in writers:
        raise StoreError(f"no such format: {form}; there are {', '.join(FORMATS)}")
    if target.exists():
        raise StoreError(f"{target} exists: give a new name")
    absent = set(store.missing(ids.values()))
    present = {name: key for name, key in ids.items() if key not in absent}
    if not present:
        raise StoreError(f"{store.where} has no row of the {len(ids)} utterances")
    for name in present:
        _check_id(name)
    make_folder(target.parent)
    with readable_errors(target.parent, "write to"):
        writers[form](store, target, present)
    return ExportReport(len(present), tuple(name for name, key in ids.items() if key in absent))


def import_rows(
    file: Path,
    store: FeatureStore,
    keys: Mapping[str, bytes],
    description: Mapping[str, object],
    dtype: str = "float32",
) -> ImportReport:
    """Add precomputed embeddings to a store.

    Args:
        file: a .safetensors or .npz file with an array per utterance id: (width,), (layers, width) or
            (n_frames, layers, width). Counts of frames and flags are taken from a file that `export_rows` wrote; else
            the flags are 0, and so are the frames of pooled rows, which stands for unknown. Or a .npy file with a row
            per utterance, (width,) or (layers, width), and the list of their ids beside it (see `find_ids`).
        store: where to add them.
        keys: the key of every utterance id.
        description: what people should know of the embeddings.
        dtype: the numbers on disk.

    Returns:
        What was added, was there already, and did not match.

    Raises:
        StoreError: not such a file, objects that would have to be unpickled, a row too large, shapes that differ, or
            no row of an utterance that has a key.
    """
    openers = {".npz": _open_npz, ".safetensors": _open_safetensors, ".npy": _open_matrix}
    if file.suffix not in openers:
        raise StoreError(f"{file} is neither .npz, .safetensors nor .npy")
    with _import_errors(file), openers[file.suffix](file) as source:
        known = set(source.names)
        names = [name for name in source.names if name in keys]
        if not names:
            raise StoreError(f"{file}: {_fits_nothing(source.names, keys)}")
        absent = set(store.missing(keys[name] for name in names))
        with store.writer(description, dtype=dtype) as writer:
            for name in names:
                if keys[name] in absent:
                    _import_row(writer, keys[name], source, name)
    missing = tuple(name for name in keys if name not in known)
    return ImportReport(len(absent), len(names) - len(absent), tuple(sorted(known - keys.keys())), missing)


def _fits_nothing(names: Sequence[str], keys: Mapping[str, bytes]) -> str:
    """Say why no row can be taken: by both sides' first ids, it shows how they are written."""
    there, here = (f", such as {next(iter(side))!r:.60}" if side else "" for side in (names, keys))
    return f"none of its {len(names)} rows{there} is of the {len(keys)} utterances{here}"


@dataclass(frozen=True)
class _Source:
    """An open file of embeddings: the ids in it, how to read one, and (n_frames, flags) where they are known."""

    names: tuple[str, ...]
    read: Callable[[str], np.ndarray]
    counts: Mapping[str, tuple[int, int]]


@contextlib.contextmanager
def _import_errors(file: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    wrong = (
        *(OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError),
        *(EOFError, zipfile.BadZipFile, NotImplementedError, csv.Error),
    )
    try:
        yield
    except StoreError:
        raise
    except (*wrong, SafetensorError) as error:
        reason = str(error) or type(error).__name__
        raise StoreError(f"{file} cannot be imported: {reason.splitlines()[0]}") from error


def _import_row(writer: StoreWriter, key: bytes, source: _Source, name: str) -> None:
    values = source.read(name)
    if values.ndim == 1:
        values = values[np.newaxis]
    n_frames, flags = source.counts.get(name, (len(values) if values.ndim == 3 else 0, 0))
    try:
        writer.add(key, values, n_frames=n_frames, flags=flags)
    except StoreError as error:
        raise StoreError(f"utterance {name}: {error}") from error


@contextlib.contextmanager
def _open_npz(file: Path) -> Iterator[_Source]:
    with zipfile.ZipFile(file) as archive:
        members = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
        counts = _read_member(archive, _ROWS_NAME) if _ROWS_NAME in archive.namelist() else b"{}"
        yield _Source(tuple(members), lambda name: _read_npy(archive, members[name]), _parse_counts(counts))


@contextlib.contextmanager
def _open_safetensors(file: Path) -> Iterator[_Source]:
    from safetensors import safe_open

    # The library checks every offset of the header against the size of the file.
    with safe_open(file, framework="np") as tensors:
        counts = (tensors.metadata() or {}).get(_ROWS_NAME, "{}")
        yield _Source(tuple(tensors.keys()), tensors.get_tensor, _parse_counts(counts))


@contextlib.contextmanager
def _open_matrix(file: Path) -> Iterator[_Source]:
    rows = read_matrix(file)
    yield _Source(tuple(rows), rows.__getitem__, {})


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    size = archive.getinfo(name).file_size
    if size > ROW_BYTES:
        raise StoreError(f"{archive.filename}: {name} claims {size} bytes, more than any utterance has")
    with archive.open(name) as member:
        return member.read(size)


def _read_npy(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Read an array whose header is believed only as far as there are bytes for it, and never unpickled."""
    content = io.BytesIO(_read_member(archive, name))
    version = np.lib.format.read_magic(content)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, fortran, dtype = read_header[version](content)
    if dtype.hasobject:
        raise StoreError(f"{archive.filename}: {name} holds pickled objects, which are never loaded")
    count, rest = math.prod(shape), content.getbuffer()[content.tell() :]
    if count * dtype.itemsize != len(rest):
        raise StoreError(f"{archive.filename}: {name} claims {shape} numbers and has {len(rest)} bytes")
    return np.frombuffer(rest, dtype).reshape(shape, order="F" if fortran else "C")


def _parse_counts(text: str | bytes) -> dict[str, tuple[int, int]]:
    return {name: (int(n_frames), int(flags)) for name, (n_frames, flags) in json.loads(text).items()}


def _write_safetensors(store: FeatureStore | StoredRows, target: Path, ids: Mapping[str, bytes]) -> None:
    from safetensors.numpy import save_file

    rows = dict(zip(ids, store.read(ids.values()), strict=True))
    counts = json.dumps({name: (row.n_frames, row.flags) for name, row in rows.items()})
    with part_file(target.parent) as (part, file):
        save_file({name: row.values for name, row in rows.items()}, part, metadata={_ROWS_NAME: counts})
        publish(part, file, target)


def _write_npz(store: FeatureStore | StoredRows, target: Path, ids: Mapping[str, bytes]) -> None:
    """One row at a time, so that a store of any size fits through."""
    counts = {}
    with part_file(target.parent) as (part, file):
        with zipfile.ZipFile(file, "w") as archive:
            for name, row in zip(ids, store.read(ids.values()), strict=True):
                counts[name] = row.n_frames, row.flags
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, row.values, allow_pickle=False)
            archive.writestr(_ROWS_NAME, json.dumps(counts))
        publish(part, file, target)


def _write_datasets(store: FeatureStore | StoredRows, target: Path, ids: Mapping[str, bytes]) -> None:
    """Written beside the target and renamed, so that it appears whole."""
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        (folder / "data").mkdir()
        _write_parquet(store, folder / "data", ids)
        publish_bytes(folder / DESCRIPTION_NAME, json.dumps(store.description, indent=2).encode())
        publish_bytes(folder / "README.md", _card(store, ids).encode())
        folder.chmod(0o755)
        folder.rename(target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    sync_folder(target.parent)


def _write_parquet(store: FeatureStore | StoredRows, folder: Path, ids: Mapping[str, bytes]) -> None:
    """Files of about the size that the hub advises, each readable by itself."""
    import pyarrow.parquet as pq

    batches = _batches(store, ids)
    batch = next(batches, None)
    index = 0
    while batch is not None:
        path, size = folder / f"train-{index:05d}.parquet", 0
        with pq.ParquetWriter(path, batch.schema) as writer:
            while batch is not None and size < _FILE_BYTES:
                writer.write_batch(batch)
                size, batch = size + batch.nbytes, next(batches, None)
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
        index += 1


def _batches(store: FeatureStore | StoredRows, ids: Mapping[str, bytes]) -> Iterator[pa.RecordBatch]:
    """Yield the rows as Arrow columns, some at a time: float16 if all are, else float32."""
    half = {shard.layout.dtype for shard in store.shards} == {"float16"}
    names = list(ids)
    first = next(store.read([ids[names[0]]]))
    layout = Layout.of(first.values, "float16" if half else "float32")
    for start in range(0, len(names), _BATCH_ROWS):
        some = names[start : start + _BATCH_ROWS]
        rows = list(store.read(ids[name] for name in some))
        yield _batch(layout, some, rows)


def _batch(layout: Layout, names: list[str], rows: list[Row]) -> pa.RecordBatch:
    encoded = [layout.encode(row.values) for row in rows]
    flat = np.concatenate([values.reshape(-1) for values in encoded])
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64) if layout.frames else None
    columns = {
        "id": pa.array(names, pa.string()),
        "n_frames": pa.array([row.n_frames for row in rows], pa.int64()),
        "flags": pa.array([row.flags for row in rows], pa.uint32()),
        "values": layout.arrow(flat, offsets),
    }
    return pa.RecordBatch.from_pydict(columns)


def _card(store: FeatureStore | StoredRows, ids: Mapping[str, bytes]) -> str:
    first = next(iter(store.read([next(iter(ids.values()))])))
    return _CARD.format(
        rows=len(ids),
        shape=first.values.shape[-2:],
        flags=", ".join(f"{1 << bit}: {name}" for bit, name in enumerate(FLAGS)),
        description=DESCRIPTION_NAME,
        fingerprint=store.fingerprint,
    )


def _check_id(name: str) -> None:
    """Refuses an id that would climb out of the folder into which somebody unpacks the file."""
    parts = name.replace("\\", "/").split("/")
    if not name or "\0" in name or ".." in parts or not parts[0] or name in (_ROWS_NAME, "__metadata__"):
        raise StoreError(f"the utterance id {name!r} cannot be the name of an array in a file")
