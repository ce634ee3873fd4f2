"""A feature store shared by processes and machines that survives crashes and never serves a wrong number."""

from lpgnet.cache.addresses import AddressError, MissingDriverError
from lpgnet.cache.copies import ShardCache
from lpgnet.cache.errors import DamagedRowError, MissingRowError, StoreError
from lpgnet.cache.exchange import ExportReport, ImportReport, export_rows, import_rows
from lpgnet.cache.keys import audio_key, file_digest, text_key
from lpgnet.cache.layers import StoredRows
from lpgnet.cache.layout import FLAGS, flag_bits
from lpgnet.cache.maintenance import (
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
from lpgnet.cache.matrices import find_ids
from lpgnet.cache.shards import Row
from lpgnet.cache.stat_cache import StatCache
from lpgnet.cache.store import Damage, FeatureStore, StoreWriter
from lpgnet.cache.transfer import copy_shards, lacking

__all__ = [
    "FLAGS",
    "AddressError",
    "CompactReport",
    "Damage",
    "DamagedRowError",
    "ExportReport",
    "FeatureStore",
    "GcReport",
    "ImportReport",
    "MissingDriverError",
    "MissingRowError",
    "RepairReport",
    "Row",
    "ShardCache",
    "StatCache",
    "StoreError",
    "StoreInfo",
    "StoreWriter",
    "StoredRows",
    "VerifyReport",
    "audio_key",
    "compact",
    "copy_shards",
    "export_rows",
    "file_digest",
    "find_ids",
    "flag_bits",
    "gc",
    "import_rows",
    "info",
    "lacking",
    "list_stores",
    "repair",
    "text_key",
    "verify",
]
