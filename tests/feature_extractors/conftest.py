"""Tiny checkpoints of every architecture with random weights, and waveforms to feed them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from lpgnet.feature_extractors import Embedding

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
CONVOLUTIONS = {"conv_dim": (8,) * 7, "num_conv_pos_embedding_groups": 2, "num_feat_extract_layers": 7}
WAV2VEC = SIZES | CONVOLUTIONS | {"num_conv_pos_embeddings": 16, "vocab_size": 8}
GROUP = {"feat_extract_norm": "group", "do_stable_layer_norm": False}
LAYER = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
WHISPER_SECONDS = 4

# Name: configuration class without "Config", and its fields.
AUDIO: dict[str, tuple[str, dict[str, Any]]] = {
    "wav2vec2_group": ("Wav2Vec2", WAV2VEC | GROUP),
    "wav2vec2_layer": ("Wav2Vec2", WAV2VEC | LAYER),
    "hubert_group": ("Hubert", WAV2VEC | GROUP),
    "hubert_layer": ("Hubert", WAV2VEC | LAYER),
    "hubert_batch_norm": ("Hubert", WAV2VEC | LAYER | {"conv_pos_batch_norm": True}),
    "wavlm_group": ("WavLM", WAV2VEC | GROUP),
    "wavlm_layer": ("WavLM", WAV2VEC | LAYER),
    "unispeech": ("UniSpeech", WAV2VEC | GROUP),
    "unispeech_sat": ("UniSpeechSat", WAV2VEC | GROUP),
    "data2vec": ("Data2VecAudio", SIZES | CONVOLUTIONS | {"conv_pos_kernel_size": 7, "vocab_size": 8}),
    "wav2vec2_bert": ("Wav2Vec2Bert", SIZES | {"feature_projection_input_dim": 160, "conv_depthwise_kernel_size": 5}),
    "whisper": (
        "Whisper",
        {
            "d_model": 16,
            "encoder_layers": 3,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 24,
            "decoder_ffn_dim": 24,
            "max_source_positions": WHISPER_SECONDS * 50,
            "max_target_positions": 8,
            "vocab_size": 20,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
        },
    ),
    # Not in the table of batched architectures: run one at a time.
    "conformer": ("Wav2Vec2Conformer", WAV2VEC | LAYER | {"conv_depthwise_kernel_size": 5}),
    "adapter": ("Wav2Vec2", WAV2VEC | GROUP | {"add_adapter": True, "num_adapter_layers": 1, "output_hidden_size": 12}),
}

WORDS = tuple("abcdefghijklmnopqrstuvwxyz")
TEXT_SIZES = SIZES | {"vocab_size": 40, "pad_token_id": 1, "type_vocab_size": 2}
POSITIONS = {"max_position_embeddings": 34}
TEXT: dict[str, tuple[str, dict[str, Any]]] = {
    "roberta": ("Roberta", TEXT_SIZES | POSITIONS | {"type_vocab_size": 1}),
    "xlm_roberta": ("XLMRoberta", TEXT_SIZES | POSITIONS | {"type_vocab_size": 1}),
    "camembert": ("Camembert", TEXT_SIZES | POSITIONS | {"type_vocab_size": 1}),
    "bert": ("Bert", TEXT_SIZES | POSITIONS),
    "albert": ("Albert", TEXT_SIZES | POSITIONS | {"embedding_size": 8}),
    "electra": ("Electra", TEXT_SIZES | POSITIONS | {"embedding_size": 8}),
    "distilbert": (
        "DistilBert",
        {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 24, "vocab_size": 40, "pad_token_id": 1, **POSITIONS},
    ),
    "mpnet": ("MPNet", TEXT_SIZES | POSITIONS),
    "deberta": ("Deberta", TEXT_SIZES | POSITIONS | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    "deberta_v2": (
        "DebertaV2",
        TEXT_SIZES
        | POSITIONS
        | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 8, "conv_kernel_size": 3},
    ),
    "modernbert": ("ModernBert", TEXT_SIZES | {"max_position_embeddings": 32, "local_attention": 8}),
    # Not in the table of batched architectures: run one at a time.
    "t5": (
        "T5",
        {"d_model": 16, "num_layers": 3, "num_heads": 2, "d_kv": 8, "d_ff": 24, "vocab_size": 40, "pad_token_id": 1},
    ),
}

Checkpoints = Callable[[str], Path]


def feature_extractor(name: str) -> Any:
    """The stock feature extractor of a tiny audio checkpoint."""
    if name == "whisper":
        return transformers.WhisperFeatureExtractor(chunk_length=WHISPER_SECONDS)
    if name == "wav2vec2_bert":
        return transformers.SeamlessM4TFeatureExtractor(padding_value=1)
    return transformers.Wav2Vec2FeatureExtractor(return_attention_mask=not name.endswith("group"))


def word_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, `<s> a </s>` and `<s> a </s></s> b </s>`."""
    vocabulary = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B:1 </s>:1", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", sep_token="</s>", pad_token="<pad>",
        unk_token="<unk>", model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def shaken(model: Any) -> Any:
    """Larger weights than a fresh model's, so that what should not matter would show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.3 if parameter.ndim > 1 else 0.1
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
        for buffer_name, buffer in model.named_buffers():
            if "running_mean" in buffer_name:
                buffer.add_(0.5)
    return model.eval()


def build(kind: str, fields: dict[str, Any]) -> Any:
    """A model of random weights from its configuration's name and fields."""
    config = getattr(transformers, f"{kind}Config")(**fields)
    torch.manual_seed(0)
    return shaken(transformers.AutoModel.from_config(config))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    """The folder of a tiny checkpoint by its name in `AUDIO` or `TEXT`; made once a session."""
    root = tmp_path_factory.mktemp("checkpoints")

    def folder(name: str) -> Path:
        path = root / name
        if not path.exists():
            kind, fields = (AUDIO | TEXT)[name]
            build(kind, fields).save_pretrained(path)
            (feature_extractor(name) if name in AUDIO else word_tokenizer()).save_pretrained(path)
        return path

    return folder


@pytest.fixture(scope="session")
def plain() -> Callable[[Path], Any]:
    """The model of a folder as transformers loads it, in evaluation mode."""

    def load(folder: Path) -> Any:
        config = json.loads((folder / "config.json").read_text())
        model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        return model.get_encoder() if config.get("is_encoder_decoder") else model

    return load


def voice(samples: int, seed: int = 0) -> np.ndarray:
    """A gliding tone with noise, off center as cheap microphones are; float32 `(samples,)`."""
    random = np.random.default_rng(seed)
    time = np.arange(samples) / 16_000
    tone = np.sin(2 * np.pi * (120 + 40 * random.random()) * time + 3 * np.sin(5 * time)) * random.uniform(0.05, 0.4)
    return (tone + 0.02 * random.standard_normal(samples) + 0.01).astype(np.float32)


def least_cosine(found: Sequence[Embedding], expected: Sequence[Embedding]) -> float:
    """The least cosine between two encodings of the same items, over all items and layers."""
    rows, others = (np.concatenate([one.values for one in encoded]) for encoded in (found, expected))
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(others, axis=1)
    return float(((rows * others).sum(1) / norms).min())


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    """The norm of the difference relative to the norm of what is expected."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
