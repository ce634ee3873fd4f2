"""The frame of encoders without frames: one vector of functionals an utterance, computed in numpy."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lpgnet.feature_extractors.errors import EncoderError, ItemError
from lpgnet.feature_extractors.items import Embedding, Item, checked_waveforms, waveform_flags
from lpgnet.feature_extractors.registry import unknown_model
from lpgnet.feature_extractors.spec import EncoderSpec, Settings, make_spec


def functionals_spec(name: str, known: list[str], settings: Settings, sampling_rate: int) -> EncoderSpec:
    """Make the spec of an encoder that has one layer, pools by itself and computes in float64 or as it likes.

    The settings that a config gives to every encoder are taken for what they mean here, so that swapping encoders
    stays one override; those that ask for what is not there are errors.
    """
    if name.partition(":")[2] not in known:
        raise unknown_model(name, known)
    if settings.layers not in ("last", "all") or settings.pooling != "mean":
        raise EncoderError(f"{name} gives one vector an utterance: it takes layers 'last' or 'all' and pooling 'mean'")
    own = replace(settings, layers="last", precision="fp32", max_seconds=Settings.max_seconds)
    return make_spec(name, "audio", own, sampling_rate, {"functionals": name})


class FunctionalsEncoder:
    """Embeds a waveform as one vector; subclasses compute it and say how short a waveform may be."""

    minimum_seconds: float

    def __init__(self, spec: EncoderSpec, width: int) -> None:
        self.spec, self.width = spec, width
        self.n_layers = 1

    @property
    def sampling_rate(self) -> int:
        """The rate in Hz of the waveforms it takes."""
        return self.spec.sampling_rate or 0

    @abstractmethod
    def describe(self, waveform: np.ndarray) -> np.ndarray:
        """Compute the vector `(width,)` of a waveform `(samples,)` that is long enough."""

    def lengths(self, items: Sequence[Item]) -> list[int]:
        """Count the samples of each waveform."""
        return [len(waveform) for waveform in checked_waveforms(items)]

    def encode(self, items: Sequence[Item], batch_budget: int | None = None) -> list[Embedding]:
        """Return one embedding an item; there are no batches, so `batch_budget` changes nothing. Raises `ItemError`."""
        embeddings = [self._encode_one(waveform) for waveform in checked_waveforms(items)]
        bad = {i: "the encoder gives NaN" for i, e in enumerate(embeddings) if not np.isfinite(e.values).all()}
        if bad:
            raise ItemError(bad)
        return embeddings

    def _encode_one(self, waveform: np.ndarray) -> Embedding:
        flags = waveform_flags(waveform)
        short = round(self.minimum_seconds * self.sampling_rate) - len(waveform)
        if short > 0:
            waveform, flags = np.pad(waveform, (0, short)), flags | {"padded"}
        values = self.describe(waveform.astype(np.float32)).astype(np.float32).reshape(1, -1)
        return Embedding(values, 1, flags)
