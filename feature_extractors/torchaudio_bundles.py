"""The family `torchaudio`: pretrained bundles of `torchaudio.pipelines`, their weights kept in torch's own cache."""

import os
from pathlib import Path
from types import ModuleType
from typing import Any

from lpgnet.feature_extractors.errors import EncoderError, one_line
from lpgnet.feature_extractors.items import Encoder
from lpgnet.feature_extractors.registry import unknown_model
from lpgnet.feature_extractors.spec import DigestFile, EncoderSpec, Settings, make_spec

SAMPLING_RATE = 16_000
URL = "https://download.pytorch.org/torchaudio/models/"
# The weight file of each bundle, so that a fingerprint needs no torch; a test compares it with torchaudio.
BUNDLES = {
    "WAV2VEC2_BASE": "wav2vec2_fairseq_base_ls960.pth",
    "WAV2VEC2_LARGE": "wav2vec2_fairseq_large_ls960.pth",
    "WAV2VEC2_LARGE_LV60K": "wav2vec2_fairseq_large_lv60k.pth",
    "WAV2VEC2_XLSR53": "wav2vec2_fairseq_large_xlsr53.pth",
    "WAV2VEC2_XLSR_300M": "wav2vec2_xlsr_300m.pth",
    "WAV2VEC2_XLSR_1B": "wav2vec2_xlsr_1b.pth",
    "WAV2VEC2_XLSR_2B": "wav2vec2_xlsr_2b.pth",
    "WAV2VEC2_ASR_BASE_960H": "wav2vec2_fairseq_base_ls960_asr_ls960.pth",
    "WAV2VEC2_ASR_LARGE_LV60K_960H": "wav2vec2_fairseq_large_lv60k_asr_ls960.pth",
    "HUBERT_BASE": "hubert_fairseq_base_ls960.pth",
    "HUBERT_LARGE": "hubert_fairseq_large_ll60k.pth",
    "HUBERT_XLARGE": "hubert_fairseq_xlarge_ll60k.pth",
    "HUBERT_ASR_LARGE": "hubert_fairseq_large_ll60k_asr_ls960.pth",
    "WAVLM_BASE": "wavlm_base.pth",
    "WAVLM_BASE_PLUS": "wavlm_base_plus.pth",
    "WAVLM_LARGE": "wavlm_large.pth",
}
# Torchaudio normalizes with `layer_norm`, whose default this is.
NORMALIZATION_EPSILON = 1e-5


class TorchaudioFamily:
    """Resolves and loads `torchaudio:` names."""

    def models(self) -> list[str]:
        """List the models by name."""
        return list(BUNDLES)

    def resolve(self, model: str, name: str, settings: Settings, digest: DigestFile) -> EncoderSpec:
        """Make the spec of a model, as `Family.resolve` says."""
        if model not in BUNDLES:
            raise unknown_model(name, self.models())
        weights = _weights(model, name)
        return make_spec(name, "audio", settings, SAMPLING_RATE, {"bundle": model, "weights": [digest(weights)]})

    def layers_of_all(self, model: str, spec: EncoderSpec) -> tuple[int, ...] | None:
        """Find a spec's layers among all, as `LayeredFamily.layers_of_all` says; `last` may be normed."""
        return spec.layers if isinstance(spec.layers, tuple) else None

    def load(self, model: str, spec: EncoderSpec, device: str) -> Encoder:
        """Load the encoder of a spec, as `Family.load` says."""
        pipelines = _pipelines(spec.name)
        bundle = getattr(pipelines, model)
        try:
            network = bundle.get_model(dl_kwargs={"weights_only": True})
        # A damaged file may raise anything; what torchaudio refuses to load strictly is a RuntimeError.
        except Exception as error:
            raise EncoderError(f"{spec.name}: {_find_cached(model)} cannot be loaded: {one_line(error)}") from error
        return _encoder(spec, bundle, network, device)


def _encoder(spec: EncoderSpec, bundle: Any, network: Any, device: str) -> Encoder:
    from torch import Tensor

    from lpgnet.feature_extractors.audio_encoder import AudioEncoder, WaveformFrontEnd
    from lpgnet.feature_extractors.layer_hooks import LayerHooks
    from lpgnet.feature_extractors.padding import Lengths, fold_weight_norms, make_padding_invariant
    from lpgnet.feature_extractors.windows import Frames

    # The wrapper would normalize a whole padded batch at once; we normalize each utterance.
    network = network.model if bundle._normalize_waveform else network
    lengths = Lengths()
    make_padding_invariant(network, lengths)
    fold_weight_norms(network)
    layers = [(layer.kernel_size, layer.stride) for layer in network.feature_extractor.conv_layers]

    def call(values: Tensor, samples: Tensor | None) -> Tensor:
        states: Tensor = network.encoder(*network.feature_extractor(values, samples))
        return states

    front_end = WaveformFrontEnd(
        call,
        Frames.of_convolutions(*zip(*layers, strict=True)),
        lengths,
        NORMALIZATION_EPSILON if bundle._normalize_waveform else None,
        # Torchaudio's WavLM takes no mask.
        batched=bundle._model_type != "WavLM",
    )
    hooks = LayerHooks(network.encoder.transformer.layers, spec.layers, spec.name)
    width = network.encoder.feature_projection.projection.out_features
    return AudioEncoder(spec, network, hooks, front_end, width=width, device=device)


def _pipelines(name: str) -> ModuleType:
    try:
        from torchaudio import pipelines
    # An extension that does not fit torch's build raises OSError or RuntimeError rather than ImportError.
    except (ImportError, OSError, RuntimeError) as error:
        raise EncoderError(
            f"{name}: torchaudio cannot be loaded ({one_line(error, limit=120)}): install the torchaudio of the same"
            " version and build as torch"
        ) from error
    module: ModuleType = pipelines
    return module


def _find_cached(model: str) -> Path:
    """Where `torch.hub` keeps a bundle's weights."""
    cache = os.getenv("XDG_CACHE_HOME", "~/.cache")
    home = os.getenv("TORCH_HOME", os.path.join(cache, "torch"))
    return Path(home).expanduser() / "hub" / "checkpoints" / BUNDLES[model]


def _weights(model: str, name: str) -> Path:
    file = _find_cached(model)
    if not file.is_file():
        from torch.hub import download_url_to_file

        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            download_url_to_file(URL + file.name, str(file))
        except OSError as error:
            raise EncoderError(
                f"{name} is not cached and cannot be downloaded ({one_line(error, limit=100)}): put {file.name} from"
                f" {URL} into {file.parent}; librosa:prosody needs no network"
            ) from error
    return file
