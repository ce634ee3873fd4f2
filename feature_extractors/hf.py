"""The family `hf`: a model of the Hugging Face hub, of its cache, or of a local folder; audio or text by its files."""

from lpgnet.feature_extractors.checkpoint import FIXED_TYPES, Checkpoint, find_checkpoint
from lpgnet.feature_extractors.errors import EncoderError
from lpgnet.feature_extractors.items import Encoder
from lpgnet.feature_extractors.spec import DigestFile, EncoderSpec, Settings, check_layers, make_spec

KNOWN_MODELS = (
    "facebook/wav2vec2-base",
    "facebook/wav2vec2-large-lv60",
    "facebook/wav2vec2-xls-r-300m",
    "facebook/hubert-base-ls960",
    "facebook/hubert-large-ll60k",
    "microsoft/wavlm-base-plus",
    "microsoft/wavlm-large",
    "facebook/data2vec-audio-base",
    "facebook/w2v-bert-2.0",
    "openai/whisper-base",
    "FacebookAI/roberta-base",
    "FacebookAI/roberta-large",
    "FacebookAI/xlm-roberta-base",
    "google-bert/bert-base-uncased",
    "microsoft/deberta-v3-base",
    "microsoft/mpnet-base",
    "answerdotai/ModernBERT-base",
)


class HuggingFaceFamily:
    """Resolves and loads `hf:` names."""

    def models(self) -> list[str]:
        """List the models by name."""
        return list(KNOWN_MODELS)

    def resolve(self, model: str, name: str, settings: Settings, digest: DigestFile) -> EncoderSpec:
        """Make the spec of a model, as `Family.resolve` says."""
        checkpoint = find_checkpoint(model, name)
        preprocessor, tokenizer = checkpoint.preprocessor, checkpoint.tokenizer_files
        if preprocessor is None and not tokenizer:
            raise EncoderError(
                f"{name}: {checkpoint.folder} has neither a preprocessor_config.json (audio) nor a tokenizer (text)"
            )
        _check_depth(checkpoint, settings)
        content = checkpoint.content(digest)
        if preprocessor is not None:
            _check_window(checkpoint, settings)
            rate, tight = preprocessor["sampling_rate"], checkpoint.can_be_tight
            content |= {"preprocessing": preprocessor}
            return make_spec(name, "audio", settings, rate, content, can_be_tight=tight)
        return make_spec(name, "text", settings, None, content | {"tokenizer": [digest(f) for f in tokenizer]})

    def layers_of_all(self, model: str, spec: EncoderSpec) -> tuple[int, ...] | None:
        """Find a spec's layers among all, as `LayeredFamily.layers_of_all` says."""
        if isinstance(spec.layers, tuple):
            return spec.layers
        return (-1,) if find_checkpoint(model, spec.name).ends_in_a_block else None

    def load(self, model: str, spec: EncoderSpec, device: str) -> Encoder:
        """Load the encoder of a spec, as `Family.load` says."""
        checkpoint = find_checkpoint(model, spec.name)
        if spec.modality == "audio":
            from lpgnet.feature_extractors.hf_audio import load_audio

            return load_audio(checkpoint, spec, device)
        from lpgnet.feature_extractors.hf_text import load_text

        return load_text(checkpoint, spec, device)


def _check_window(checkpoint: Checkpoint, settings: Settings) -> None:
    if settings.window == "tight" and checkpoint.must_be_full:
        raise EncoderError(
            f"{checkpoint.name}: window: tight is for {', '.join(sorted(FIXED_TYPES))};"
            f" {checkpoint.config.get('model_type')} takes whole windows only, so leave it at full"
        )


def _check_depth(checkpoint: Checkpoint, settings: Settings) -> None:
    if checkpoint.depth is not None:
        check_layers(settings.layers, checkpoint.depth, checkpoint.name)
