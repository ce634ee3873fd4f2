"""The family `opensmile`: functionals of the openSMILE toolkit, an extra with a license of its own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from lpgnet.feature_extractors.errors import EncoderError
from lpgnet.feature_extractors.functionals import FunctionalsEncoder, functionals_spec
from lpgnet.feature_extractors.items import Encoder
from lpgnet.feature_extractors.spec import DigestFile, EncoderSpec, Settings

if TYPE_CHECKING:
    import opensmile

SAMPLING_RATE = 16_000
LICENSE = "openSMILE is free for research and private use only; commercial use needs a license of audEERING GmbH"


class OpenSmileFamily:
    """Resolves and loads `opensmile:` names."""

    def models(self) -> list[str]:
        """List the models by name."""
        return ["eGeMAPSv02"]

    def resolve(self, model: str, name: str, settings: Settings, digest: DigestFile) -> EncoderSpec:
        """Make the spec of a model, as `Family.resolve` says."""
        spec = functionals_spec(name, self.models(), settings, SAMPLING_RATE)
        logging.getLogger(__name__).warning("%s: %s", name, LICENSE)
        return spec

    def load(self, model: str, spec: EncoderSpec, device: str) -> Encoder:
        """Load the encoder of a spec, as `Family.load` says."""
        try:
            import opensmile
        except ImportError as error:
            raise EncoderError(f"{spec.name} needs openSMILE: pip install 'lpgnet[opensmile]' ({LICENSE})") from error
        smile = opensmile.Smile(
            feature_set=opensmile.FeatureSet[model], feature_level=opensmile.FeatureLevel.Functionals
        )
        return OpenSmileEncoder(spec, smile)


class OpenSmileEncoder(FunctionalsEncoder):
    """One vector an utterance, in the order of `smile.feature_names`."""

    # Its windows of 60 ms and the smoothing over three of them need so much to give every functional.
    minimum_seconds = 0.5

    def __init__(self, spec: EncoderSpec, smile: opensmile.Smile) -> None:
        super().__init__(spec, smile.num_features)
        self.smile = smile

    def describe(self, waveform: np.ndarray) -> np.ndarray:
        """Compute the functionals `(88,)` for eGeMAPSv02."""
        return np.asarray(self.smile.process_signal(waveform, SAMPLING_RATE).to_numpy()[0])
