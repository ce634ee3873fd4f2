"""How a row lies in a shard: shape, number format, Arrow types, the bits of its flags and its digest."""

import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import xxhash

from lpgnet.cache.errors import StoreError

DTYPES: dict[str, np.dtype] = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2"), "bfloat16": np.dtype("<u2")}
_ARROW = {"float32": pa.float32(), "float16": pa.float16(), "bfloat16": pa.uint16()}
_ROW = struct.Struct("<16sqIQ")
_LIMIT = 2**31 - 1
# What the bits of a row's flags say of the sound or text behind it, from the lowest bit on. "checked" tells that the
# others were looked for: imported rows and those of earlier versions lack it. Higher bits are free.
FLAGS = ("checked", "silent", "clipped", "padded", "windowed")

if sys.byteorder != "little":
    raise ImportError("the feature store maps little-endian numbers and needs a little-endian processor")


@dataclass(frozen=True)
class Layout:
    """The form that all rows of a shard share.

    Attributes:
        dtype: "float32", "float16" or "bfloat16": the numbers on disk.
        layers: layers of the encoder in a row.
        width: numbers per layer.
        frames: True for rows (n_frames, layers, width), False for pooled rows (layers, width).
    """

    dtype: str
    layers: int
    width: int
    frames: bool

    def __post_init__(self) -> None:
        sizes = (self.layers, self.width)
        if self.dtype not in DTYPES or not isinstance(self.frames, bool):
            raise StoreError(f"a store holds {', '.join(DTYPES)}, not {self.dtype!r}")
        if not all(type(size) is int and 0 < size <= _LIMIT for size in sizes):
            raise StoreError(f"a row needs at least one layer and one number, not {sizes}")

    @classmethod
    def of(cls, values: np.ndarray, dtype: str) -> "Layout":
        """Return the layout of one row.

        Args:
            values: (layers, width) or (n_frames, layers, width).
            dtype: the numbers on disk.

        Raises:
            StoreError: another shape, or numbers that a store does not hold.
        """
        if values.ndim not in (2, 3):
            raise StoreError(f"a row is (layers, width) or (n_frames, layers, width), not {values.shape}")
        layers, width = values.shape[-2:]
        return cls(dtype, layers, width, frames=values.ndim == 3)

    @property
    def shape(self) -> str:
        """The shape of a row in words, for messages."""
        return f"({'n_frames, ' if self.frames else ''}{self.layers}, {self.width})"

    @property
    def stored(self) -> np.dtype:
        """The numpy type of the numbers on disk (bfloat16 as the uint16 of its bits)."""
        return DTYPES[self.dtype]

    def tag(self, fingerprint: str | None) -> bytes:
        """Return what a row's digest covers besides the row, so that none is read in another form or store.

        Args:
            fingerprint: the encoder's; None in the previous format, which did not cover it.
        """
        form = f"{self.dtype} {self.layers} {self.width} {self.frames}"
        return (form if fingerprint is None else f"{form} {fingerprint}").encode()

    def fits(self, values: np.ndarray) -> bool:
        """Say whether `values` has the shape of this layout's rows."""
        return values.shape[-2:] == (self.layers, self.width) and values.ndim == 2 + self.frames

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Convert numbers to those that are stored.

        Args:
            values: floating point, of any shape.

        Returns:
            The same shape in the type on disk.

        Raises:
            StoreError: not floating point, or a finite number that the stored type cannot hold.
        """
        if values.dtype.kind != "f":
            raise StoreError(f"values are floating point, not {values.dtype}")
        if self.dtype == "float32" and values.dtype == np.float32:
            return values
        with np.errstate(over="ignore"):
            stored = _to_bfloat16(values) if self.dtype == "bfloat16" else values.astype(self.stored)
        if np.any(np.isfinite(values) & ~np.isfinite(self.decode(stored))):
            largest = np.nanmax(np.abs(values))
            raise StoreError(f"{self.dtype} cannot hold {largest:g}; store these embeddings as float32")
        return stored

    def decode(self, stored: np.ndarray) -> np.ndarray:
        """Convert stored numbers to what a reader gets: themselves, or a float32 copy where they are bfloat16.

        Args:
            stored: what `encode` gave, of any shape.
        """
        if self.dtype != "bfloat16":
            return stored
        values = (stored.astype(np.uint32) << 16).view(np.float32)
        values.setflags(write=False)
        return values

    def arrow(self, flat: np.ndarray, offsets: np.ndarray | None) -> pa.Array:
        """Make the Arrow column of values without a copy: a fixed-size list per row or frame.

        Args:
            flat: (numbers,) of all rows together.
            offsets: (rows + 1,) first frame of every row and one past the last; None for pooled rows.
        """
        leaf = pa.Array.from_buffers(_ARROW[self.dtype], flat.size, [None, pa.py_buffer(flat)])
        lists = pa.FixedSizeListArray.from_arrays(leaf, self.width)
        lists = pa.FixedSizeListArray.from_arrays(lists, self.layers)
        if offsets is None:
            return lists
        return pa.LargeListArray.from_arrays(pa.array(offsets), lists)

    def arrow_type(self) -> pa.DataType:
        """Return the Arrow type of the column of values."""
        lists = pa.list_(pa.list_(_ARROW[self.dtype], self.width), self.layers)
        return pa.large_list(lists) if self.frames else lists


def flag_bits(names: Iterable[str]) -> int:
    """Return the bits of flags; a name that is not in `FLAGS` has none.

    Args:
        names: such as "silent".
    """
    return sum(1 << bit for bit, name in enumerate(FLAGS) if name in set(names))


def row_digest(tag: bytes, key: bytes, n_frames: int, flags: int, stored: np.ndarray) -> int:
    """Compute the xxh3 (64 bits) of everything a row says: its key, form, encoder, counts and numbers.

    The key takes part, so that a right row under a wrong key is as damaged as a wrong row.

    Args:
        tag: what the layout gave for the encoder.
        key: 16 bytes.
        n_frames: encoder frames the values come from.
        flags: the row's bits.
        stored: the numbers on disk, of any shape.
    """
    values = xxhash.xxh3_64_intdigest(stored.data)
    return xxhash.xxh3_64_intdigest(_ROW.pack(key, n_frames, flags, values) + tag)


def _to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Take the upper half of float32, rounded to the nearest and ties to even."""
    with np.errstate(over="ignore"):
        bits = values.astype(np.float32).view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1)).astype(np.uint32)) >> 16
    # Rounding could carry a NaN over into infinity: cut it off and keep it quiet instead.
    return np.where(np.isnan(values), (bits >> 16) | 0x40, rounded).astype(np.uint16)
