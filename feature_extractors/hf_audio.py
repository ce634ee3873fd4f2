"""Audio models of Hugging Face: which front end an architecture has, and the encoder made of them."""

from torch import Tensor, nn
from transformers import AutoFeatureExtractor, PreTrainedConfig

from lpgnet.feature_extractors.audio_encoder import (
    AudioEncoder,
    FeatureExtractor,
    FilterBankFrontEnd,
    FixedLengthFrontEnd,
    FrontEnd,
    UnbatchedFrontEnd,
    WaveformFrontEnd,
)
from lpgnet.feature_extractors.checkpoint import FIXED_TYPES, Checkpoint
from lpgnet.feature_extractors.errors import EncoderError
from lpgnet.feature_extractors.layer_hooks import LayerHooks, find_blocks
from lpgnet.feature_extractors.padding import Lengths, make_padding_invariant
from lpgnet.feature_extractors.spec import EncoderSpec
from lpgnet.feature_extractors.torch_encoder import last_hidden_state
from lpgnet.feature_extractors.weights import load_model, load_preprocessor
from lpgnet.feature_extractors.whisper import TightFrontEnd
from lpgnet.feature_extractors.windows import Frames

# Architectures whose padded batches are proved exact by tests; any other runs one utterance at a time.
WAVEFORM_TYPES = frozenset({"wav2vec2", "hubert", "wavlm", "data2vec-audio", "unispeech", "unispeech-sat"})
FEATURE_TYPES = frozenset({"wav2vec2-bert"})
# Kaldi filter banks: frames of 400 samples every 160, then two of them side by side.
FBANK_WINDOW, FBANK_HOP = 400, 160
# Added to the variance by transformers' own feature extractors.
NORMALIZATION_EPSILON = 1e-7
# Long enough for one frame of any model that reads filter banks or samples.
SAFE_MINIMUM_SECONDS = 0.1
# This model cuts its input at so many filter-bank frames of 10 ms.
SPECTROGRAM_TRANSFORMER = "audio-spectrogram-transformer"


def load_audio(checkpoint: Checkpoint, spec: EncoderSpec, device: str) -> AudioEncoder:
    """Load the encoder of an audio checkpoint."""
    extractor: FeatureExtractor = load_preprocessor(AutoFeatureExtractor, checkpoint, spec, "feature extractor")
    model = load_model(checkpoint, trust_remote_code=spec.trust_remote_code)
    config = model.config
    if not isinstance(getattr(config, "hidden_size", None), int):
        raise EncoderError(f"{spec.name}: {config.model_type} is no encoder with one hidden size")
    front_end = _front_end(model, config, extractor, tight=spec.window == "tight")
    hooks = LayerHooks(find_blocks(model, getattr(config, "num_hidden_layers", None)), spec.layers, spec.name)
    return AudioEncoder(spec, model, hooks, front_end, width=_width(config, spec), device=device)


def _width(config: PreTrainedConfig, spec: EncoderSpec) -> int:
    adapted = spec.layers == "last" and getattr(config, "add_adapter", False)
    return int(config.output_hidden_size if adapted else config.hidden_size)


def _front_end(model: nn.Module, config: PreTrainedConfig, extractor: FeatureExtractor, *, tight: bool) -> FrontEnd:
    kind = None if getattr(config, "add_adapter", False) else config.model_type
    if kind in WAVEFORM_TYPES:
        return _waveforms(model, config, extractor)
    if kind in FEATURE_TYPES:
        stride = extractor.stride
        receptive = FBANK_WINDOW + (stride - 1) * FBANK_HOP
        return FilterBankFrontEnd(model, extractor, Frames(stride * FBANK_HOP, receptive))
    if kind in FIXED_TYPES:
        front_end = TightFrontEnd if tight else FixedLengthFrontEnd
        return front_end(model, extractor, extractor.n_samples // config.max_source_positions)
    rate = extractor.sampling_rate
    longest = extractor.max_length * rate // 100 if kind == SPECTROGRAM_TRANSFORMER else None
    return UnbatchedFrontEnd(
        model, extractor, int(SAFE_MINIMUM_SECONDS * rate), getattr(extractor, "n_samples", longest)
    )


def _waveforms(model: nn.Module, config: PreTrainedConfig, extractor: FeatureExtractor) -> WaveformFrontEnd:
    lengths = Lengths()
    make_padding_invariant(model, lengths)

    def call(values: Tensor, samples: Tensor | None) -> Tensor:
        mask = None if samples is None else _sample_mask(values, samples)
        return last_hidden_state(model, input_values=values, attention_mask=mask)

    frames = Frames.of_convolutions(config.conv_kernel, config.conv_stride)
    return WaveformFrontEnd(call, frames, lengths, NORMALIZATION_EPSILON if extractor.do_normalize else None)


def _sample_mask(values: Tensor, samples: Tensor) -> Tensor:
    counts = samples.new_ones(values.shape[1]).cumsum(0)  # 1, 2, ...
    return (counts <= samples.unsqueeze(1)).long()
