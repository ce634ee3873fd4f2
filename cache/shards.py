"""Shards: immutable Arrow IPC streams of rows, built in memory, published whole, read through a memory map.

A shard is a schema, one record batch and Arrow's end mark, so `datasets.Dataset.from_file`, pyarrow and polars
open it. Here Arrow only writes: its parser can crash on damaged bytes (pyarrow 26 does). The layout and the number of
rows are read from the metadata, where the columns lie follows from both, and every row carries a digest; so neither a
damaged nor a forged schema or record batch can move a number or make this reader allocate memory.
"""

import contextlib
import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa
import xxhash

from lpgnet.cache.errors import DamagedRowError, NotAShardError, OutdatedShardError, StoreError
from lpgnet.cache.keys import KEY_BYTES
from lpgnet.cache.layout import Layout, row_digest

if TYPE_CHECKING:
    from lpgnet.cache.place import Place

SHARD_BYTES = 64 * 2**20
_NAME = re.compile(r"([0-9a-f]{16})-[0-9a-f]{16}-([1-9][0-9]{0,11})-([0-9a-f]{32})\.arrow")
_METADATA = b"lpgnet.shard"
# Arrow's stream: every message begins with a mark and the size of its metadata; a size of 0 ends it.
_MARK = b"\xff\xff\xff\xff"
_END = _MARK + bytes(4)
# Those of a schema take less than one kilobyte.
_METADATA_BYTES = 2**16
# More than the metadata of shards take that this writes, and bytes of a row's columns before the values.
_USUAL_METADATA_BYTES, _HEAD_BYTES = 2**13, KEY_BYTES + 8 + 4 + 8 + 8
# Version 2 says which encoder the rows are of, in the metadata and in every row's digest. A repair rewrites version 1.
_VERSION, _PREVIOUS = 2, 1
# What bytes that are no shard can raise on the way through Arrow, JSON and numpy.
_UNREADABLE = (StoreError, OSError, pa.ArrowException, ValueError, KeyError, TypeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the store.

    Attributes:
        values: (layers, width), or (n_frames, layers, width) where frames are kept; read-only. A view of the
            memory map, float32 or float16 as stored, or a float32 copy of bfloat16.
        n_frames: encoder frames the values come from.
        flags: bits, as the writer set them; the lowest are those of `FLAGS`.
    """

    values: np.ndarray
    n_frames: int
    flags: int


@dataclass(frozen=True)
class ShardName:
    """What a shard's file name says: when it was published, how many rows it has, the xxh3 of the file."""

    published_ns: int
    rows: int
    digest: str

    @classmethod
    def parse(cls, name: str) -> "ShardName | None":
        """Read a file name; None for a name that no shard has."""
        match = _NAME.fullmatch(name)
        return cls(int(match[1], 16), int(match[2]), match[3]) if match else None

    def text(self) -> str:
        """Make the file name: in order of time, and unique for every shard of every writer."""
        return f"{self.published_ns:016x}-{secrets.token_hex(8)}-{self.rows}-{self.digest}.arrow"


class Shard:
    """A published shard, mapped into memory. It stays readable when its file is deleted.

    Attributes:
        name: its file name.
        where: its path or address, for people.
        nbytes: size of the file in bytes.
        layout: the form of its rows.
        keys: (rows,) of numpy type S16; take single keys from it by `key(index)`.
        n_frames: (rows,) encoder frames behind each row.
        flags: (rows,) the rows' bits.
    """

    def __init__(self, path: Path, fingerprint: str | None, *, where: str | None = None) -> None:
        """Map the file.

        Args:
            path: the shard.
            fingerprint: the encoder that its rows must be of; None reads a shard of the previous format, which does
                not say.
            where: the path or address of which the file is a copy.

        Raises:
            FileNotFoundError: it is gone.
            OutdatedShardError: it is in the previous format.
            NotAShardError: it is too damaged to find the rows in it, no shard at all, or another encoder's.
        """
        self.path, self.where = path, where or str(path)
        self.name = where.rpartition("/")[2] if where else path.name
        with shard_errors(self.where):
            with pa.memory_map(str(path)) as file:
                buffer = file.read_buffer()
            self._read(buffer, buffer.size, fingerprint)

    def __len__(self) -> int:
        return len(self.keys)

    def file_digest(self) -> str:
        """Compute the xxh3 (128 bits) of the whole file, to be compared with the one in its name."""
        return xxhash.xxh3_128_hexdigest(self._buffer)

    def key(self, index: int) -> bytes:
        """Return the key of a row, trailing zeros included (numpy's own items lose them)."""
        return bytes(self._key_bytes[KEY_BYTES * index : KEY_BYTES * (index + 1)])

    def row(self, index: int, key: bytes) -> Row:
        """Read a row, checked against its digest and the key that it was asked for.

        Args:
            index: the row's within the shard.
            key: 16 bytes.

        Raises:
            DamagedRowError: the bytes are not those that were written.
        """
        stored, n_frames, flags = self.raw(index, key)
        return Row(self.layout.decode(stored), n_frames, flags)

    def raw(self, index: int, key: bytes) -> tuple[np.ndarray, int, int]:
        """Read a row as `row` does, with the numbers as they are stored.

        Args:
            index: the row's within the shard.
            key: 16 bytes.

        Returns:
            The numbers (layers, width) or (n_frames, layers, width), n_frames and flags.

        Raises:
            DamagedRowError: the bytes are not those that were written.
        """
        stored = self._stored(index)
        n_frames, flags = self.n_frames[index], self.flags[index]
        if row_digest(self._tag, key, n_frames, flags, stored) != self._digests[index]:
            message = f"row {index} of {self.where} is damaged: repair the store, then compute it again"
            raise DamagedRowError(message)
        return stored, n_frames, flags

    def damaged_rows(self) -> list[int]:
        """Return the indices of all rows that are not as they were written."""
        return [index for index in range(len(self)) if not self._is_sound(index)]

    def _is_sound(self, index: int) -> bool:
        try:
            self.raw(index, self.key(index))
        except DamagedRowError:
            return False
        return True

    def _stored(self, index: int) -> np.ndarray:
        rows = index if self._offsets is None else slice(self._offsets[index], self._offsets[index + 1])
        return np.asarray(self._values[rows])

    def _read(self, buffer: pa.Buffer, nbytes: int, fingerprint: str | None) -> None:
        """Read what the file says of itself, and set views of its columns.

        Args:
            buffer: the file, or of its bytes the first: at least the columns before the values.
            nbytes: size of the whole file.
            fingerprint: as when it is opened.
        """
        self._buffer, self.nbytes = buffer, nbytes
        self.layout, rows, frames, start = _open(buffer, fingerprint)
        self._tag = self.layout.tag(fingerprint)
        if buffer.size == nbytes and not (
            start + len(_END) <= nbytes and bytes(memoryview(buffer)[-len(_END) :]) == _END
        ):
            raise ValueError("it is cut off")
        self._columns(rows, frames, start)

    def _columns(self, rows: int, frames: int, start: int) -> None:
        """Set views of the columns; memoryviews where single numbers are read, as they give plain integers."""
        layout, body = self.layout, self.nbytes - start - len(_END)
        columns = _column_bytes(layout, rows, frames)
        if sum(map(_round_to_8, columns)) != body:
            raise ValueError(f"{rows} rows of {layout.shape} do not make {body} bytes")
        parts = []
        for size in columns:
            parts.append(self._buffer[start : start + size])
            start += _round_to_8(size)
        if start - _round_to_8(columns[-1]) > self._buffer.size:
            raise ValueError("its head is longer than that of any shard")
        keys, n_frames, flags, digests, *offsets, values = parts
        self._key_bytes = memoryview(keys)
        self.keys = np.frombuffer(keys, f"S{KEY_BYTES}")
        self.n_frames = memoryview(n_frames).cast("B").cast("q")
        self.flags = memoryview(flags).cast("B").cast("I")
        self._digests = memoryview(digests).cast("B").cast("Q")
        self._offsets = memoryview(offsets[0]).cast("B").cast("q") if offsets else None
        if self._buffer.size == self.nbytes:
            self._values: np.ndarray = np.frombuffer(values, layout.stored).reshape(-1, layout.layers, layout.width)


class ShardBuilder:
    """Rows waiting in memory to become a shard.

    Attributes:
        layout: the form of the rows.
        fingerprint: the encoder's that they are of.
        size: bytes of values after which a shard is full.
        keys: the keys of the waiting rows, in order.
    """

    def __init__(self, layout: Layout, fingerprint: str, size: int = SHARD_BYTES) -> None:
        self.layout, self.fingerprint, self.size = layout, fingerprint, size
        self._tag = layout.tag(fingerprint)
        self._values = np.empty(max(1, size // layout.stored.itemsize), layout.stored)
        self.clear()

    def clear(self) -> None:
        """Forget the waiting rows."""
        self.keys: dict[bytes, None] = {}
        self._counts: list[tuple[int, int, int]] = []
        self._ends = [0]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def nbytes(self) -> int:
        """Bytes of the waiting values."""
        return self._ends[-1] * self.layout.stored.itemsize

    def has_room(self, stored: np.ndarray) -> bool:
        """Say whether a row still fits; an empty builder takes a row of any size."""
        return not self.keys or self.nbytes + stored.nbytes <= self.size

    def append(self, key: bytes, stored: np.ndarray, n_frames: int, flags: int) -> None:
        """Copy a row to the waiting ones.

        Args:
            key: 16 bytes, not among the waiting.
            stored: what `Layout.encode` gave.
            n_frames: encoder frames the values come from.
            flags: the row's bits.
        """
        start, end = self._ends[-1], self._ends[-1] + stored.size
        if end > self._values.size:
            self._values = np.concatenate([self._values[:start], np.empty(stored.size, stored.dtype)])
        row = self._values[start:end]
        row.reshape(stored.shape)[...] = stored
        self._counts.append((n_frames, flags, row_digest(self._tag, key, n_frames, flags, row)))
        self._ends.append(end)
        self.keys[key] = None

    def publish(self, place: "Place", *, durable: bool = True) -> str:
        """Write the waiting rows as a shard and forgets them.

        Args:
            place: the store's.
            durable: when this returns the rows survive a power failure; without it, once the place is settled.

        Returns:
            The shard's file name.

        Raises:
            StoreError: the disk is full or the folder read-only; the rows still wait.
        """
        with place.new_file() as (part, file):
            digest = self._write(file)
            self._read_back(part, digest)
            name = ShardName(time.time_ns(), len(self), digest).text()
            place.publish(part, file, name, durable=durable)
        self.clear()
        return name

    def _write(self, file: BinaryIO) -> str:
        """Write the stream; return the digest of the bytes that went in."""
        batch, sink = self._batch(), _DigestingSink(file)
        # No `with`: where writing fails, closing would write the end mark and fail again.
        writer = pa.ipc.new_stream(pa.PythonFile(sink, "w"), batch.schema)
        writer.write_batch(batch)
        writer.close()
        file.flush()
        return sink.digest.hexdigest()

    def _batch(self) -> pa.RecordBatch:
        n_frames, flags, digests = zip(*self._counts, strict=True)
        keys = pa.py_buffer(b"".join(self.keys))
        offsets = self._offsets() if self.layout.frames else None
        columns = {
            "key": pa.Array.from_buffers(pa.binary(KEY_BYTES), len(self), [None, keys]),
            "n_frames": pa.array(n_frames, pa.int64()),
            "flags": pa.array(flags, pa.uint32()),
            "digest": pa.array(digests, pa.uint64()),
            "values": self.layout.arrow(self._values[: self._ends[-1]], offsets),
        }
        schema = _schema(self.layout, self._form(0 if offsets is None else int(offsets[-1])))
        return pa.RecordBatch.from_arrays(list(columns.values()), schema=schema)

    def _form(self, frames: int) -> dict[str, object]:
        """Return what the metadata says of the shard, to people and to `_open`."""
        head = {"version": _VERSION, "fingerprint": self.fingerprint, "rows": len(self), "stored_frames": frames}
        return head | asdict(self.layout)

    def _offsets(self) -> np.ndarray:
        return np.asarray(self._ends, np.int64) // (self.layout.layers * self.layout.width)

    def _read_back(self, part: Path, digest: str) -> None:
        """Refuse a file that does not hold the bytes that were written, or not where a reader looks for them."""
        shard = Shard(part, self.fingerprint)
        counts = list(zip(shard.n_frames, shard.flags, shard._digests, strict=True))
        same_offsets = shard._offsets is None or np.array_equal(np.asarray(shard._offsets), self._offsets())
        same_keys = bytes(shard._key_bytes) == b"".join(self.keys)
        ends = shard._is_sound(0) and shard._is_sound(len(self) - 1)
        if not (same_offsets and same_keys and ends and counts == self._counts and shard.file_digest() == digest):
            raise StoreError(f"{part} does not read as it was written: check the disk and pyarrow's version")


class _DigestingSink:
    """A file to write to that takes the digest of what passes."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.digest = file, xxhash.xxh3_128()

    def write(self, content: bytes | pa.Buffer) -> int:
        """Write all of the bytes; return how many."""
        self.digest.update(content)
        return self._file.write(content)


@contextlib.contextmanager
def shard_errors(where: str) -> Iterator[None]:
    """Say of bytes that are no shard which and why."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OutdatedShardError:
        message = f"{where} is in the format of an earlier version: `lpgnet cache repair` converts it"
        raise OutdatedShardError(message) from None
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NotAShardError(f"{where} is damaged or not a shard: {reason}") from error


def _open(buffer: pa.Buffer, fingerprint: str | None) -> tuple[Layout, int, int, int]:
    """Read the layout, the numbers of rows and of stored frames, and where the body of the record batch starts."""
    schema, end = _message(buffer, 0)
    form = _form(schema)
    _check_origin(form.pop("version"), form.pop("fingerprint", None), fingerprint)
    rows, frames = form.pop("rows"), form.pop("stored_frames")
    if type(rows) is not int or type(frames) is not int or rows < 1 or frames < 0:
        raise ValueError("its counts are not counts")
    layout = Layout(**form)
    if frames and not layout.frames:
        raise ValueError("its rows have frames and have none")
    _, start = _message(buffer, end)
    return layout, rows, frames, start


def _message(buffer: pa.Buffer, start: int) -> tuple[bytes, int]:
    """Return the metadata of the message that starts there, and where they end, which is where its body starts."""
    head = bytes(memoryview(buffer)[start : start + 8])
    size = int.from_bytes(head[4:], "little")
    if not head.startswith(_MARK) or not 0 < size <= _METADATA_BYTES:
        raise ValueError("it is not a stream of messages")
    end = start + len(head) + size
    return bytes(memoryview(buffer)[start + len(head) : end]), end


def _form(schema: bytes) -> dict[str, Any]:
    """Find what `ShardBuilder` says of the shard in a schema's metadata, in which every text follows its length."""
    start = schema.find(b'{"version"')
    if start < 4 or _METADATA not in schema:
        raise ValueError("it does not say what its rows are")
    size = int.from_bytes(schema[start - 4 : start], "little")
    return dict(json.loads(schema[start : start + size]))


def _check_origin(version: object, found: object, fingerprint: str | None) -> None:
    """Refuse another version of the format, and another encoder's rows."""
    if version == _PREVIOUS and fingerprint is not None:
        raise OutdatedShardError
    if version != (_PREVIOUS if fingerprint is None else _VERSION):
        raise ValueError("written by another version of the store")
    if found != fingerprint:
        raise ValueError(f"its rows are those of another encoder, {str(found)[:16]}")


def _schema(layout: Layout, form: Mapping[str, object]) -> pa.Schema:
    columns = {
        "key": pa.binary(KEY_BYTES),
        "n_frames": pa.int64(),
        "flags": pa.uint32(),
        "digest": pa.uint64(),
        "values": layout.arrow_type(),
    }
    return pa.schema(columns, metadata={_METADATA: json.dumps(form)})


def _column_bytes(layout: Layout, rows: int, frames: int) -> list[int]:
    """Bytes of every column's buffer in Arrow's order; columns without nulls have no others."""
    offsets = [8 * (rows + 1)] if layout.frames else []
    values = (frames if layout.frames else rows) * layout.layers * layout.width * layout.stored.itemsize
    return [KEY_BYTES * rows, 8 * rows, 4 * rows, 8 * rows, *offsets, values]


def head_bytes(name: str) -> int:
    """Return how many of the first bytes of a shard hold all its columns but the values, by what its name says."""
    parsed = ShardName.parse(name)
    return _USUAL_METADATA_BYTES + (parsed.rows if parsed else 0) * _HEAD_BYTES


def _round_to_8(size: int) -> int:
    """Arrow starts every buffer of a record batch at a multiple of 8 bytes."""
    return (size + 7) // 8 * 8
