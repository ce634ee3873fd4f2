"""Where embeddings are kept, by the configuration: a store in a folder or at an address, and the stat cache."""

from __future__ import annotations

from pathlib import Path

from lpgnet.cache import FeatureStore, ShardCache
from lpgnet.cache.places import as_root
from lpgnet.pipeline.common.stamps import STAT_CACHE_FILE
from lpgnet.pipeline.config import FeaturesConfig


def open_store(features: FeaturesConfig, fingerprint: str, *, read: bool = True) -> FeatureStore:
    """Open the store of an encoder.

    Args:
        features: says where all stores are.
        fingerprint: the encoder's.
        read: False for a process that only adds rows.

    Raises:
        StoreError: it cannot be read.
    """
    cache = shard_cache(features.cache_folder, features.cache_gigabytes)
    return FeatureStore(features.store, fingerprint, cache, read=read)


def stat_cache_file(features: FeaturesConfig) -> Path:
    """Return the file of the stat cache, which is on this machine: in the store, or where copies of its shards are."""
    return stat_cache_of(features.store, shard_cache(features.cache_folder, features.cache_gigabytes))


def stat_cache_of(store: str, cache: ShardCache) -> Path:
    """Return the file of the stat cache of a store, as `stat_cache_file` does."""
    root = as_root(store)
    return (root if isinstance(root, Path) else cache.root) / STAT_CACHE_FILE


def shard_cache(folder: str | None, gigabytes: float) -> ShardCache:
    """Say where copies of shards at an address are kept on this machine; None: where each machine keeps such things."""
    return ShardCache(Path(folder).expanduser() if folder else None, gigabytes)
