"""Writing embeddings to the store, here and in the processes of Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lpgnet.cache import FeatureStore, StoreWriter, flag_bits
from lpgnet.pipeline.embeddings.plan import Request

if TYPE_CHECKING:
    from lpgnet.feature_extractors import Embedding, Encoder

# Long enough for a frame's length to within half a percent (seconds).
FRAME_PROBE_SECONDS = 5


def make_writer(store: FeatureStore, encoder: Encoder, dtype: str) -> StoreWriter:
    """Make a writer of an encoder's rows, which describes the encoder where nobody has.

    Args:
        store: the encoder's.
        encoder: its frame's length is part of the description.
        dtype: float32, float16 or bfloat16.
    """
    return store.writer(store.description or encoder.spec.to_dict() | _frame_length(encoder), dtype=dtype)


def add_row(writer: StoreWriter, request: Request, embedding: Embedding) -> None:
    """Add the row of a request, with what its encoder flagged."""
    flags = flag_bits({"checked", *embedding.flags})
    writer.add(request.key, embedding.values, n_frames=embedding.n_frames, flags=flags)


def _frame_length(encoder: Encoder) -> dict[str, float]:
    """Measure how long one frame is, on synthetic sound: what a store's hours of audio are counted by."""
    if encoder.sampling_rate is None:
        return {}
    sound = np.random.default_rng(0).normal(0, 0.1, FRAME_PROBE_SECONDS * encoder.sampling_rate).astype(np.float32)
    return {"seconds_per_frame": FRAME_PROBE_SECONDS / encoder.encode([sound])[0].n_frames}
