"""Encoders by name: a waveform or a text in, an embedding out, the same alone and in any batch.

Nothing heavy is imported until an encoder is loaded, so that specs and names cost a fraction of a second.
"""

from lpgnet.feature_extractors.contract import CheckResult, check_encoder
from lpgnet.feature_extractors.errors import EncoderError, ItemError
from lpgnet.feature_extractors.hub_errors import hub_reason, quiet_hub
from lpgnet.feature_extractors.items import Embedding, Encoder, Item, TextItem
from lpgnet.feature_extractors.registry import (
    Family,
    LayeredFamily,
    list_encoders,
    load_encoder,
    resolve_all_layers,
    resolve_precision,
    resolve_spec,
)
from lpgnet.feature_extractors.spec import EncoderSpec, Settings, digest_file, make_spec

__all__ = [
    "CheckResult",
    "Embedding",
    "Encoder",
    "EncoderError",
    "EncoderSpec",
    "Family",
    "Item",
    "ItemError",
    "LayeredFamily",
    "Settings",
    "TextItem",
    "check_encoder",
    "digest_file",
    "hub_reason",
    "list_encoders",
    "load_encoder",
    "make_spec",
    "quiet_hub",
    "resolve_all_layers",
    "resolve_precision",
    "resolve_spec",
]
