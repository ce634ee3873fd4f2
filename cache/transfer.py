"""Copying a store to another place: whole shards, as they are, and only those that bring something."""

from collections.abc import Iterable, Iterator

from lpgnet.cache.copies import copy_blocks
from lpgnet.cache.shards import Shard
from lpgnet.cache.store import Damage, FeatureStore

# A file may be damaged on the way, and right the next time.
_ATTEMPTS = 2


def lacking(source: FeatureStore, target: FeatureStore) -> list[Shard]:
    """List the shards of a store that have a row which another store lacks.

    Args:
        source: the store, which is refreshed.
        target: the other, which is refreshed too.

    Raises:
        StoreError: one cannot be read, or has shards of an earlier version.
    """
    for store in (source, target):
        store.refresh()
        store.require_converted()
    return [shard for shard in source.shards if (target.index.find(shard.keys) < 0).any()]


def copy_shards(
    source: FeatureStore, target: FeatureStore, shards: Iterable[Shard]
) -> Iterator[tuple[Shard, Damage | None]]:
    """Copy shards into another store, under the same names: who is interrupted goes on where it was.

    Args:
        source: the store.
        target: the other, of the same encoder.
        shards: those of `source` that `lacking` found.

    Yields:
        Each shard once it is there, or with what is wrong with it.

    Raises:
        StoreError: one of the places cannot be read or written; what was copied stays.
    """
    target.place.make()
    if content := source.place.description():
        target.place.describe(content)
    for shard in shards:
        yield shard, None if _copy(source, target, shard.name) else _damage(shard)
    target.refresh()


def _copy(source: FeatureStore, target: FeatureStore, name: str) -> bool:
    """Copy a file; say whether it holds what its name promises."""
    for _ in range(_ATTEMPTS):
        with target.place.new_file() as (part, file):
            if copy_blocks(source.place.blocks(name), file, name):
                target.place.publish(part, file, name)
                return True
    return False


def _damage(shard: Shard) -> Damage:
    return Damage(shard.name, "does not hold what its name promises; repair that store", len(shard))
