"""Looking after stores: what they hold, whether it is sound, and keeping them small. Nothing here is needed to read."""

import contextlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from lpgnet.cache.errors import DamagedRowError, NotAShardError, OutdatedShardError, ShardGoneError, shard_gone
from lpgnet.cache.layout import Layout
from lpgnet.cache.places import as_root, list_folders
from lpgnet.cache.shards import SHARD_BYTES, Shard, ShardBuilder, ShardName
from lpgnet.cache.store import FINGERPRINT, Damage, FeatureStore


@dataclass(frozen=True)
class StoreInfo:
    """What a store holds.

    Attributes:
        fingerprint: the encoder's.
        description: what its first writer said of the encoder.
        shards: how many there are.
        rows: how many keys have a row.
        duplicates: rows that another shard's row stands in front of.
        bytes: size of the shards on disk.
        frames: encoder frames behind all rows, duplicates left out.
        hours: hours that the frames span, if the description has `seconds_per_frame`; else None.
        oldest_ns: when the first shard was published, in nanoseconds since 1970; None in an empty store.
        newest_ns: the same for the last shard.
        flags: how many keys have a row with each flag; of rows that are not "checked" none is known.
        damaged: shards that cannot be opened.
        outdated: shards of an earlier version, which a repair converts.
    """

    fingerprint: str
    description: dict[str, object]
    shards: int
    rows: int
    duplicates: int
    bytes: int
    frames: int
    hours: float | None
    oldest_ns: int | None
    newest_ns: int | None
    flags: dict[str, int]
    damaged: int
    outdated: int


@dataclass(frozen=True)
class VerifyReport:
    """What checking every byte of a store found; it is sound when `bad` is empty."""

    shards: int
    rows: int
    bad: tuple[Damage, ...]


@dataclass(frozen=True)
class RepairReport:
    """What a repair did.

    Attributes:
        set_aside: shards that were moved to the folder of damaged ones.
        saved: sound rows in them that were copied to a new shard.
        lost: rows that must be computed again.
        converted: sound shards of an earlier version that were written anew in the present one.
    """

    set_aside: tuple[Damage, ...]
    saved: int
    lost: int
    converted: int


@dataclass(frozen=True)
class GcReport:
    """What dropping rows did, or would do in a dry run.

    Attributes:
        kept: rows that are needed.
        dropped: rows that are not.
        bytes_freed: what that saves on disk.
        skipped: shards left alone because a row to be kept is damaged: repair the store first.
    """

    kept: int
    dropped: int
    bytes_freed: int
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class CompactReport:
    """What merging did: shards before and after, and shards left alone because they are damaged."""

    before: int
    after: int
    bytes_freed: int
    skipped: tuple[str, ...]


def list_stores(root: Path | str) -> list[str]:
    """List the fingerprints of the stores in a folder or at an address, sorted; none if it does not exist.

    Args:
        root: of all stores.
    """
    return sorted(name for name in list_folders(as_root(root)) if FINGERPRINT.fullmatch(name))


def info(store: FeatureStore) -> StoreInfo:
    """Say what the store holds, without checking any row.

    Args:
        store: the store, which is refreshed.
    """
    store.refresh()
    shards, description, frames = store.shards, store.description, store.frame_count()
    seconds = description.get("seconds_per_frame")
    published = sorted(name.published_ns for shard in shards if (name := ShardName.parse(shard.name)))
    return StoreInfo(
        fingerprint=store.fingerprint,
        description=description,
        shards=len(shards),
        rows=len(store),
        duplicates=sum(map(len, shards)) - len(store),
        bytes=sum(shard.nbytes for shard in shards),
        frames=frames,
        hours=frames * seconds / 3600 if isinstance(seconds, int | float) else None,
        oldest_ns=published[0] if published else None,
        newest_ns=published[-1] if published else None,
        flags=store.flag_counts(),
        damaged=sum(not damage.outdated for damage in store.damaged),
        outdated=sum(damage.outdated for damage in store.damaged),
    )


def verify(store: FeatureStore) -> VerifyReport:
    """Read every byte: the digest of every file and of every row, and the index entry of every row.

    Args:
        store: the store.

    Returns:
        What is damaged; reading on is safe all the same.
    """
    store = _reopen(store)
    checked = (_check_shard(store, shard.name) or _check_index(store, shard) for shard in store.shards)
    closed = (_check_shard(store, damage.shard, damage) if damage.outdated else damage for damage in store.damaged)
    strays = [Damage(name, reason, 0) for name, reason in store.place.strays()]
    bad = [*filter(None, closed), *strays, *filter(None, checked)]
    return VerifyReport(len(store.shards) + len(store.damaged), len(store), tuple(bad))


def repair(store: FeatureStore) -> RepairReport:
    """Move damaged shards to the folder `damaged`, never deleting one, and keep the sound rows in them.

    Sound shards of an earlier version are converted, one after another: the new shard is durable before the old one
    goes, so a kill at any moment leaves every row there.

    Args:
        store: the store.

    Returns:
        What was set aside, saved, lost and converted.

    Raises:
        StoreError: the disk is full or the folder read-only; no row that could be read is lost.
    """
    store.place.make()
    found = verify(store).bad
    bad = tuple(damage for damage in found if not damage.outdated)
    for damage in found:
        if damage.outdated:
            _convert(store, damage.shard)
    saved, suspects = 0, list[bytes | None]()
    for damage in bad:
        sound, lost = _save_rows(store, damage)
        store.place.set_aside(damage.shard)
        saved, suspects = saved + sound, suspects + lost
    store.refresh()
    n_lost = sum(key is None or store.index.locate(key) is None for key in suspects)
    return RepairReport(bad, saved, n_lost, len(found) - len(bad))


def gc(store: FeatureStore, needed: Collection[bytes], *, dry_run: bool = True) -> GcReport:
    """Drop the rows whose keys are not needed. Readers that have the store open keep what they see.

    Args:
        store: the store.
        needed: the keys to keep, of every manifest that there is.
        dry_run: only say what would be dropped.

    Returns:
        What was dropped, or would be.

    Raises:
        StoreError: the disk is full or the folder read-only; every needed row is still there. Or shards of an earlier
            version are to be converted first.
    """
    wanted, current = set(needed), _reopen(store)
    current.require_converted()
    kept = dropped = freed = 0
    skipped = []
    for shard in current.shards:
        indices = [index for index in range(len(shard)) if shard.key(index) in wanted]
        if len(indices) < len(shard):
            try:
                freed += _shrink(store, shard, indices, dry_run=dry_run)
            except DamagedRowError:
                skipped.append(shard.name)
                indices = list(range(len(shard)))
        kept, dropped = kept + len(indices), dropped + len(shard) - len(indices)
    store.refresh()
    return GcReport(kept, dropped, freed, tuple(skipped))


def compact(store: FeatureStore, shard_bytes: int = SHARD_BYTES) -> CompactReport:
    """Merge shards of less than half of `shard_bytes` into full ones. Readers are undisturbed.

    The merged shard is durable before the old ones go, so a kill at any moment leaves every row there, some twice.

    Args:
        store: the store.
        shard_bytes: bytes of values in a full shard.

    Returns:
        How many shards there were and are, and what that frees.

    Raises:
        StoreError: the disk is full or the folder read-only; nothing was lost. Or shards of an earlier version are to
            be converted first.
    """
    store.place.make()
    current = _reopen(store)
    current.require_converted()
    before, skipped = current.shards, []
    groups: dict[Layout, list[Shard]] = {}
    for shard in before:
        if shard.nbytes >= shard_bytes // 2:
            continue
        if shard.damaged_rows():
            skipped.append(shard.name)
        else:
            groups.setdefault(shard.layout, []).append(shard)
    for layout, shards in groups.items():
        if len(shards) > 1:
            _copy(store, layout, [(shard, range(len(shard))) for shard in shards], shard_bytes)
            store.place.remove([shard.name for shard in shards])
    store.refresh()
    freed = sum(shard.nbytes for shard in before) - sum(shard.nbytes for shard in store.shards)
    return CompactReport(len(before), len(store.shards), freed, tuple(skipped))


def _reopen(store: FeatureStore) -> FeatureStore:
    """Map the store anew: a file that was damaged since is not read through a mapping of its old size."""
    return FeatureStore(store.root, store.fingerprint, store.cache)


def _check_shard(store: FeatureStore, name: str, outdated: Damage | None = None) -> Damage | None:
    """Find what is wrong with a shard as it is now; nothing if it was merged or converted meanwhile.

    Args:
        store: the shard's.
        name: the shard's.
        outdated: what is known of one of an earlier version: that it is one.
    """
    parsed = ShardName.parse(name)
    try:
        shard = _map(store, name, outdated=outdated is not None)
    except ShardGoneError:
        return None
    except NotAShardError as error:
        return Damage(name, str(error), parsed.rows if parsed else 0)
    rows = len(shard.damaged_rows())
    if rows:
        return Damage(name, f"{rows} of {len(shard)} rows are not as they were written", rows)
    if not parsed or parsed.rows != len(shard) or parsed.digest != shard.file_digest():
        return Damage(name, "the rows are sound, but bytes around them are not as they were written", 0)
    return outdated


def _map(store: FeatureStore, name: str, *, outdated: bool = False) -> Shard:
    """Open a shard, of the present or of an earlier version, as it is now: no copy from before is taken."""
    with store.place.file(name) as path, contextlib.suppress(FileNotFoundError):
        return Shard(path, None if outdated else store.fingerprint, where=f"{store.where}/{name}")
    raise shard_gone(f"{store.where}/{name}")


def _map_any(store: FeatureStore, name: str) -> Shard:
    try:
        return _map(store, name)
    except OutdatedShardError:
        return _map(store, name, outdated=True)


def _check_index(store: FeatureStore, shard: Shard) -> Damage | None:
    """Report a shard with a key that the index does not find."""
    lost = int((store.index.find(shard.keys) < 0).sum())
    return Damage(shard.name, f"{lost} rows are not in the index", lost) if lost else None


def _convert(store: FeatureStore, name: str) -> None:
    """Write a sound shard of an earlier version anew in the present format."""
    # Another repair may have converted it first.
    with contextlib.suppress(ShardGoneError):
        shard = _map(store, name, outdated=True)
        _copy(store, shard.layout, [(shard, range(len(shard)))], SHARD_BYTES)
        store.place.remove([name])


def _save_rows(store: FeatureStore, damage: Damage) -> tuple[int, list[bytes | None]]:
    """Copy a damaged shard's sound rows; return how many, and the keys of the others, as far as known."""
    try:
        shard = _map_any(store, damage.shard)
    except (NotAShardError, ShardGoneError):
        return 0, [None] * damage.rows
    bad = set(shard.damaged_rows())
    sound = [index for index in range(len(shard)) if index not in bad]
    _copy(store, shard.layout, [(shard, sound)], SHARD_BYTES)
    return len(sound), [shard.key(index) for index in bad]


def _shrink(store: FeatureStore, shard: Shard, indices: Sequence[int], *, dry_run: bool) -> int:
    """Replace a shard by one with the given rows alone; return how many bytes that frees."""
    if dry_run:
        return shard.nbytes * (len(shard) - len(indices)) // len(shard)
    names = _copy(store, shard.layout, [(shard, indices)], SHARD_BYTES)
    store.place.remove([shard.name])
    return shard.nbytes - sum(map(store.place.size, names))


def _copy(store: FeatureStore, layout: Layout, sources: Sequence[tuple[Shard, Sequence[int]]], size: int) -> list[str]:
    """Copy rows, every key once and every row checked, into new shards of at most `size` bytes of values."""
    builder, names, seen = ShardBuilder(layout, store.fingerprint, size), list[str](), set[bytes]()
    for shard, indices in sources:
        for index in indices:
            key = shard.key(index)
            stored, n_frames, flags = shard.raw(index, key)
            if key in seen:
                continue
            seen.add(key)
            if not builder.has_room(stored):
                names.append(builder.publish(store.place))
            builder.append(key, stored, n_frames, flags)
    return [*names, builder.publish(store.place)] if len(builder) else names
