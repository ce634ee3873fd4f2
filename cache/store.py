"""The feature store: a folder of shards for one encoder, read as a mapping from content keys to rows."""

import contextlib
import json
import logging
import operator
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType

import numpy as np

from lpgnet.cache.copies import ShardCache
from lpgnet.cache.errors import MissingRowError, OutdatedShardError, ShardGoneError, StoreError
from lpgnet.cache.index import Index, key_array
from lpgnet.cache.keys import KEY_BYTES, check_key
from lpgnet.cache.layout import FLAGS, Layout
from lpgnet.cache.places import as_root, open_place
from lpgnet.cache.shards import SHARD_BYTES, Row, Shard, ShardBuilder, ShardName

FINGERPRINT = re.compile(r"[0-9a-f]{8,128}")
# One shard waits for the disk while the next is written; more would only take memory.
_BACKGROUND_SHARDS = 2
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Damage:
    """A shard that is not, or not wholly, as it was written.

    Attributes:
        shard: its file name.
        reason: what is wrong, for people.
        rows: how many of its rows cannot be read.
        outdated: it may be sound, but is in the format of an earlier version.
    """

    shard: str
    reason: str
    rows: int
    outdated: bool = False


@dataclass(frozen=True)
class _View:
    """What a reader sees until it refreshes: shards in order of name, and the index over them."""

    shards: tuple[Shard, ...]
    index: Index
    damaged: tuple[Damage, ...]


class FeatureStore:
    """The rows of one encoder, in `<root>/<fingerprint>/`, which need not exist yet.

    A reader sees the shards that were published when it was opened or last refreshed, whatever others write, merge
    or delete meanwhile. Every row is checked against its digest every time it is read, not only the first: it
    costs no more than copying the row, and a page that was good an hour ago may have been read from the disk again
    since. It can be passed to other processes, which open it anew.

    While shards of an earlier version are there, no key is called absent: its row may be in one of them. What would
    say so raises a `StoreError` that advises the repair which converts them.
    """

    def __init__(
        self, root: Path | str, fingerprint: str, cache: ShardCache | None = None, *, read: bool = True
    ) -> None:
        """Open the store.

        Args:
            root: the folder of all stores, or their address, such as s3://bucket/prefix.
            fingerprint: the encoder's.
            cache: where copies of shards at an address are kept on this machine.
            read: False never looks for rows, and seems empty: for one of many processes that only add what somebody
                found missing, who would each read of every shard that the others write.

        Raises:
            StoreError: the fingerprint is not lowercase hexadecimal, its folder is a link, or the address does not
                answer.
        """
        if not FINGERPRINT.fullmatch(fingerprint):
            raise StoreError(f"a fingerprint is 8 to 128 lowercase hexadecimal digits, not {fingerprint!r}")
        self.root, self.fingerprint, self.cache, self._reads = as_root(root), fingerprint, cache, read
        self.place = open_place(self.root, fingerprint, cache or ShardCache())
        self._view = _View((), Index.build([]), ())
        self.refresh()

    def __reduce__(self) -> tuple[Callable[[], "FeatureStore"], tuple[()]]:
        return partial(FeatureStore, self.root, self.fingerprint, self.cache, read=self._reads), ()

    def __len__(self) -> int:
        return len(self._view.index)

    def __contains__(self, key: bytes) -> bool:
        found = self._view.index.locate(check_key(key)) is not None
        if not found:
            self.require_converted()
        return found

    def __getitem__(self, key: bytes) -> Row:
        """Read the row of a key.

        Args:
            key: 16 bytes.

        Raises:
            MissingRowError: no shard has it.
            DamagedRowError: its bytes are not those that were written.
        """
        view = self._view
        try:
            return self._row(check_key(key))
        except ShardGoneError:
            return self._find_again(key, view)

    def read(self, keys: Iterable[bytes]) -> Iterator[Row]:
        """Read many rows.

        Args:
            keys: 16 bytes each.

        Yields:
            The rows in the keys' order.

        Raises:
            MissingRowError: no shard has a key.
            DamagedRowError: a row's bytes are not those that were written.
        """
        view = self._view
        wanted = [check_key(key) for key in keys]
        shards, rows = view.index.locations(view.index.find(key_array(wanted)))
        for key, shard, row in zip(wanted, shards.tolist(), rows.tolist(), strict=True):
            if shard < 0:
                raise self._missing_row(key)
            try:
                found = view.shards[shard].row(row, key)
            except ShardGoneError:
                found = self._find_again(key, view)
            yield found

    def missing(self, keys: Iterable[bytes]) -> list[bytes]:
        """Return those of the keys that have no row: every one once, in their order.

        Args:
            keys: 16 bytes each.

        Raises:
            StoreError: a key is not 16 bytes, or its row may be in a shard of an earlier version.
        """
        unique = list(dict.fromkeys(keys))
        if not set(map(len, unique)) <= {KEY_BYTES}:
            raise StoreError(f"every key is {KEY_BYTES} bytes")
        absent = self._view.index.find(key_array(unique)) < 0
        if absent.any():
            self.require_converted()
        return [unique[index] for index in np.flatnonzero(absent).tolist()]

    def keys(self) -> Iterator[bytes]:
        """Return all keys, in ascending order."""
        content = self._view.index.keys.tobytes()
        return (content[start : start + KEY_BYTES] for start in range(0, len(content), KEY_BYTES))

    @property
    def where(self) -> str:
        """The folder or address of its shards, for people."""
        return self.place.where

    @property
    def folder(self) -> Path:
        """The folder of its shards on this machine: the store's own, or that of the copies of what is at an address."""
        return self.place.folder

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The shards that this reader sees, in order of name."""
        return self._view.shards

    @property
    def index(self) -> Index:
        """Where the row of every key lies among the shards that this reader sees."""
        return self._view.index

    @property
    def damaged(self) -> tuple[Damage, ...]:
        """The shards that could not be opened; the rows of all others are served."""
        return self._view.damaged

    @property
    def description(self) -> dict[str, object]:
        """What the first writer said of the encoder; empty when nobody has, or the file is damaged or another's."""
        try:
            content = json.loads(self.place.description() or b"")
        except (ValueError, RecursionError):
            return {}
        own = isinstance(content, dict) and content.get("fingerprint", self.fingerprint) == self.fingerprint
        return content if own else {}

    def frame_count(self) -> int:
        """Count the encoder frames behind the rows of all keys together."""
        return sum(int(counts.sum()) for counts in self._served([shard.n_frames for shard in self.shards]))

    def flag_counts(self) -> dict[str, int]:
        """Count the keys whose row has each flag, by the names in `FLAGS`."""
        served = list(self._served([shard.flags for shard in self.shards]))
        return {name: sum(int((bits >> bit & 1).sum()) for bits in served) for bit, name in enumerate(FLAGS)}

    def require_converted(self) -> None:
        """Refuse a store with shards of an earlier version.

        Raises:
            StoreError: says how they are converted.
        """
        if outdated := sum(damage.outdated for damage in self.damaged):
            raise StoreError(
                f"{self.where}: {outdated} shards are in the format of an earlier version; run `lpgnet cache repair "
                f"--store {self.root}` once, which converts them (nothing is computed again)"
            )

    def _served(self, columns: Sequence[memoryview]) -> Iterator[np.ndarray]:
        """Yield, of a column of every shard, the numbers of the rows that are served."""
        shards, rows = self.index.shards, self.index.rows
        return (np.asarray(column)[rows[shards == index]] for index, column in enumerate(columns))

    def refresh(self) -> None:
        """See what others have published or merged since. Rows already handed out stay as they are."""
        if not self._reads:
            return
        known: dict[str, Shard | Damage | None] = {shard.name: shard for shard in self._view.shards}
        known |= {damage.shard: damage for damage in self._view.damaged}
        found: dict[str, Shard | Damage | None] = {}
        # A merge publishes first and deletes then, so one listing may miss both the old shard and the new.
        # The listing after it cannot: go on until a listing brings nothing new.
        rounds = 0
        while (fresh := self.place.names() - found.keys()) or rounds < 2:
            found |= {name: known[name] for name in fresh & known.keys()} | self._open(fresh - known.keys())
            rounds += 1
        ordered = [found[name] for name in sorted(found)]
        shards = tuple(item for item in ordered if isinstance(item, Shard))
        damaged = tuple(item for item in ordered if isinstance(item, Damage))
        if shards != self._view.shards or damaged != self._view.damaged:
            self._view = _View(shards, Index.build([shard.keys for shard in shards]), damaged)

    def writer(
        self, description: Mapping[str, object], dtype: str = "float32", shard_bytes: int = SHARD_BYTES
    ) -> "StoreWriter":
        """Make a writer, to be used in a `with` statement; there may be many, in many processes and machines.

        Args:
            description: what people should know of the encoder; kept in `encoder.json` by the first writer.
            dtype: "float32", "float16" or "bfloat16", the numbers on disk.
            shard_bytes: bytes of values after which a shard is published by itself.

        Raises:
            StoreError: the folder cannot be created or written to.
        """
        return StoreWriter(self, description, dtype=dtype, shard_bytes=shard_bytes)

    def _find_again(self, key: bytes, old: _View) -> Row:
        """Read a row whose shard went away after it was listed: by now another has it, unless it was dropped."""
        # Once is enough for all rows of a view, unless shards have gone since.
        if self._view is not old:
            with contextlib.suppress(ShardGoneError):
                return self._row(key)
        self.refresh()
        return self._row(key)

    def _row(self, key: bytes) -> Row:
        view = self._view
        location = view.index.locate(key)
        if location is None:
            raise self._missing_row(key)
        return view.shards[location[0]].row(location[1], key)

    def _missing_row(self, key: bytes) -> MissingRowError:
        self.require_converted()
        return MissingRowError(f"{self.where} has no row {key.hex()}: compute the features first")

    def _open(self, names: Collection[str]) -> dict[str, Shard | Damage | None]:
        """Return the shards; what is wrong with them; or None for those that were merged into others meanwhile."""
        return {
            name: opened if isinstance(opened, Shard) else _damage(name, opened)
            for name, opened in self.place.open(names)
        }


def _damage(name: str, error: StoreError) -> Damage | None:
    if isinstance(error, ShardGoneError):
        return None
    outdated = isinstance(error, OutdatedShardError)
    if not outdated:
        _log.warning("%s; its rows count as missing until the store is repaired", error)
    parsed = ShardName.parse(name)
    return Damage(name, str(error), parsed.rows if parsed else 0, outdated)


class StoreWriter:
    """Adds rows to a store. Not for several threads at once; every process takes a writer of its own.

    Rows wait in memory until a shard's worth is there, `flush` is called or the `with` block ends, also by an
    exception: what was computed is worth keeping. A full shard is published in the background while the next one
    fills, so an encoder need not wait for the disk; an error of that shows at a later `add` or `flush`.
    """

    def __init__(self, store: FeatureStore, description: Mapping[str, object], *, dtype: str, shard_bytes: int) -> None:
        self._store, self._dtype, self._shard_bytes = store, dtype, shard_bytes
        self._layout: Layout | None = None
        self._builder: ShardBuilder | None = None
        self._spare: list[ShardBuilder] = []
        self._background = ThreadPoolExecutor(_BACKGROUND_SHARDS, "publish")
        self._publishing: list[tuple[ShardBuilder, Future[str] | None]] = []
        self._unsynced = False
        store.place.make()
        store.place.describe(_encode_description(description))

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.flush()
        except StoreError:
            # An error that is on its way already says more than that the last rows could not be saved either.
            if error is None:
                raise
        finally:
            self._background.shutdown()

    def add(self, key: bytes, values: np.ndarray, *, n_frames: int, flags: int = 0) -> None:
        """Add a row, unless the store or this writer has one for the key.

        Args:
            key: 16 bytes.
            values: floating point (layers, width), or (n_frames, layers, width); copied.
            n_frames: encoder frames the values come from.
            flags: the bits of `FLAGS` (see `flag_bits`), and up to 27 of the caller's above them.

        Raises:
            StoreError: a shape or number that does not fit, or the disk is full.
        """
        values = np.asarray(values)
        layout = self._layout_for(values)
        n_frames, flags = operator.index(n_frames), operator.index(flags)
        if not 0 <= n_frames < 2**63 or not 0 <= flags < 2**32:
            raise StoreError(f"row {key.hex()}: {n_frames} frames and flags {flags:#x} are out of range")
        if layout.frames and n_frames != len(values):
            raise StoreError(f"row {key.hex()}: {len(values)} frames of values, but n_frames is {n_frames}")
        if self._is_known(check_key(key)):
            return
        stored, self._layout = layout.encode(values), layout
        if self._builder is not None and not self._builder.has_room(stored):
            self._publish_in_background(self._builder)
        if self._builder is None:
            self._builder = ShardBuilder(layout, self._store.fingerprint, self._shard_bytes)
        self._builder.append(key, stored, n_frames, flags)

    def flush(self) -> None:
        """Publish the waiting rows. When this returns they survive any crash, and the store sees them.

        Raises:
            StoreError: the disk is full or the folder read-only; the rows still wait, flushed ones are safe.
        """
        self._wait_until(0)
        if self._builder is not None and len(self._builder):
            self._builder.publish(self._store.place)
        elif self._unsynced:
            self._store.place.settle()
        self._unsynced = False
        self._store.refresh()

    def _is_known(self, key: bytes) -> bool:
        if self._builder is not None and key in self._builder.keys:
            return True
        # Not `in`, which may refuse: what another machine's earlier version writes meanwhile stops no work here.
        published = self._store.index.locate(key) is not None
        return published or any(key in builder.keys for builder, _ in self._publishing)

    def _publish_in_background(self, full: ShardBuilder) -> None:
        """Publish a full shard in the background, and go on with an emptied one."""
        self._wait_until(_BACKGROUND_SHARDS - 1)
        self._publishing.append((full, self._submit(full)))
        self._builder, self._unsynced = self._spare.pop() if self._spare else None, True

    def _wait_until(self, left: int) -> None:
        """Wait until so many shards are left in the background; those that failed are tried again the next time."""
        try:
            while len(self._publishing) > left:
                builder, future = self._publishing[0]
                future = future or self._submit(builder)
                self._publishing[0] = builder, future
                future.result()
                del self._publishing[0]
                self._spare.append(builder)
                self._store.refresh()
        except BaseException:
            self._settle()
            raise

    def _settle(self) -> None:
        """Wait, after an error, for what is in the background, and keep the shards that still have their rows."""
        wait([future for _, future in self._publishing if future is not None])
        self._spare += [builder for builder, _ in self._publishing if not len(builder)]
        self._publishing = [(builder, None) for builder, _ in self._publishing if len(builder)]

    def _submit(self, builder: ShardBuilder) -> Future[str]:
        return self._background.submit(builder.publish, self._store.place, durable=False)

    def _layout_for(self, values: np.ndarray) -> Layout:
        """Return the layout of this row, which must be that of the rows before it: an encoder has only one."""
        known = self._layout
        if known is None and self._store.shards:
            known = replace(self._store.shards[0].layout, dtype=self._dtype)
        if known is not None and not known.fits(values):
            raise StoreError(f"{self._store.where} holds rows of {known.shape}, not {values.shape}")
        return known or Layout.of(values, self._dtype)


def _encode_description(description: Mapping[str, object]) -> bytes:
    try:
        return json.dumps(dict(description), indent=2, ensure_ascii=False).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise StoreError(f"a description is plain JSON: {error}") from error
