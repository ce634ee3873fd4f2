"""Where embeddings are kept, by the configuration: a store in a folder or at an address, and the stat cache."""

from __future__ import annotations

from pathlib import Path

from lpgnet.cache import FeatureStore
from lpgnet.pipeline.common.stamps import STAT_CACHE_FILE
from lpgnet.pipeline.config import FeaturesConfig


def open_store(features: FeaturesConfig, fingerprint: str) -> FeatureStore:
    """Open the store of an encoder.

    Args:
        features: says where all stores are.
        fingerprint: the encoder's.

    Raises:
        StoreError: it cannot be read.
    """
    return FeatureStore(features.store, fingerprint)


def stat_cache_file(features: FeaturesConfig) -> Path:
    """Return the file of the stat cache, which lies on this machine."""
    return Path(features.store) / STAT_CACHE_FILE
