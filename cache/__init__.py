"""A feature store shared by processes and machines that survives crashes and never serves a wrong number."""

from cache.errors import DamagedRowError, MissingRowError, StoreError
from cache.exchange import ExportReport, ImportReport, export_rows, import_rows
from cache.keys import audio_key, file_digest, text_key
from cache.maintenance import (
    CompactReport,
    GcReport,
    RepairReport,
    StoreInfo,
    VerifyReport,
    compact,
    gc,
    info,
    list_stores,
    repair,
    verify,
)
from cache.shards import Row
from cache.stat_cache import StatCache
from cache.store import Damage, FeatureStore, StoreWriter

__all__ = [
    "CompactReport",
    "Damage",
    "DamagedRowError",
    "ExportReport",
    "FeatureStore",
    "GcReport",
    "ImportReport",
    "MissingRowError",
    "RepairReport",
    "Row",
    "StatCache",
    "StoreError",
    "StoreInfo",
    "StoreWriter",
    "VerifyReport",
    "audio_key",
    "compact",
    "export_rows",
    "file_digest",
    "gc",
    "import_rows",
    "info",
    "list_stores",
    "repair",
    "text_key",
    "verify",
]
