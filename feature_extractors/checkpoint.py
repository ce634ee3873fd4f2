"""A Hugging Face checkpoint as files: found locally, in the hub's cache or on the hub, read without torch."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from reprlib import repr as shown

from lpgnet.feature_extractors.adapters import Adapter, is_tuned, read_adapter
from lpgnet.feature_extractors.errors import EncoderError
from lpgnet.feature_extractors.hub_errors import hub_error, quiet_hub
from lpgnet.feature_extractors.spec import DigestFile, JsonObject, read_json

# In the order in which transformers looks for them: one file, or an index that names several.
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
INDEX_FILES = tuple(f"{name}.index.json" for name in WEIGHT_FILES)
FAST_TOKENIZER = "tokenizer.json"
TOKENIZER_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
VOCABULARIES = ("vocab.txt", "vocab.json", "merges.txt", "*.model", "*.vocab", "*.bpe.codes", "*.bpe", "tiktoken*")
PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")
# Architectures that pad every input to one length, and whose encoder can do without.
FIXED_TYPES = frozenset({"whisper"})
# Architectures whose last hidden state is what leaves the last block, unless an entry of their config says otherwise:
# a norm or an adapter behind it. Proved by tests.
UNNORMED_TYPES = frozenset(
    {
        *("bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta"),
        *("data2vec-audio", "hubert", "unispeech", "unispeech-sat", "wav2vec2", "wav2vec2-bert", "wavlm"),
    }
)
_BEHIND_THE_BLOCKS = ("do_stable_layer_norm", "add_adapter")
DEPTH_FIELDS = ("encoder_layers", "num_hidden_layers", "n_layers", "num_layers")
# By these settings of a feature extractor an input is padded to one length.
_FIXED_SETTINGS = ("n_samples", "max_length")
# Says where a checkpoint was and what wrote it, not what it computes.
VOLATILE = frozenset({"_name_or_path", "transformers_version", "processor_class"})
# Numbers of a config.json are bounded far beyond any encoder's, so that a hostile one takes no memory and no time:
# encoders have up to some 130 blocks, each of which is an object; transformers makes a table of the labels.
MOST_BLOCKS = 1024
MOST_LABELS = 10**6
LARGEST_NUMBER = 10**8
# No model hears outside of them (Hz).
SAMPLING_RATES = range(1_000, 1_000_001)
_COUNTS_BLOCKS = re.compile(r"(?!.*(?:size|dim|width|vocab|channel)).*(?:layer|block|depth|group|repeat)")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's folder, what its config says, the files that its weights are loaded from, and what tuning adds."""

    name: str
    folder: Path
    config: JsonObject
    weights: tuple[Path, ...]
    adapter: Adapter | None = None

    @property
    def preprocessor(self) -> JsonObject | None:
        """Read the feature extractor's settings; None for a model that has none (of text)."""
        for file in map(self.folder.joinpath, PREPROCESSORS):
            settings = read_json(self.name, file) if file.is_file() else {}
            settings = settings.get("feature_extractor", settings)
            if not isinstance(settings, dict):
                raise EncoderError(f"{self.name}: {file} has no object as feature_extractor; get the checkpoint again")
            if "sampling_rate" in settings:
                if type(rate := settings["sampling_rate"]) is not int or rate not in SAMPLING_RATES:
                    raise EncoderError(
                        f"{self.name}: {file} has the sampling_rate {rate!r:.60}, which is no whole number from"
                        f" {SAMPLING_RATES[0]} to {SAMPLING_RATES[-1]} (Hz); get the checkpoint again"
                    )
                return {key: value for key, value in settings.items() if key not in VOLATILE}
        return None

    @property
    def depth(self) -> int | None:
        """How many blocks it has; None if the config does not say."""
        depths = (self.config.get(key) for key in DEPTH_FIELDS)
        return next((depth for depth in depths if type(depth) is int and depth > 0), None)

    @property
    def ends_in_a_block(self) -> bool:
        """Whether the last hidden state is what leaves the last block."""
        behind = any(self.config.get(entry) for entry in _BEHIND_THE_BLOCKS)
        # DeBERTa-v2 may have a convolution behind its first block.
        return self.config.get("model_type") in UNNORMED_TYPES and not behind and self.depth != 1

    @property
    def can_be_tight(self) -> bool:
        """Whether the model pads its input to one length, and can do without."""
        return self.config.get("model_type") in FIXED_TYPES

    @property
    def must_be_full(self) -> bool:
        """Whether the model pads its input to one length, and cannot do without."""
        return not self.can_be_tight and any(setting in (self.preprocessor or {}) for setting in _FIXED_SETTINGS)

    @property
    def tokenizer_files(self) -> list[Path]:
        """Find the files that determine the tokens; empty for a model without tokenizer.

        Where there is a `tokenizer.json`, vocabularies beside it are not read, so a copy without them is equal.
        """
        if (self.folder / FAST_TOKENIZER).is_file():
            return _existing_files(self.folder, (FAST_TOKENIZER, *TOKENIZER_SETTINGS))
        vocabularies = _existing_files(self.folder, VOCABULARIES)
        return vocabularies + _existing_files(self.folder, TOKENIZER_SETTINGS) if vocabularies else []

    def content(self, digest: DigestFile) -> JsonObject:
        """Describe the model for a fingerprint: its config and the digests of its weights and of its own code."""
        config = {key: value for key, value in self.config.items() if key not in VOLATILE}
        code = sorted(self.folder.glob("*.py")) if "auto_map" in config else []
        content: JsonObject = {
            "config": config,
            "weights": [digest(file) for file in self.weights],
            "code": [digest(file) for file in code],
        }
        return content | ({"adapter": self.adapter.content(content, digest)} if self.adapter else {})


def find_checkpoint(model: str, name: str) -> Checkpoint:
    """Find the checkpoint of a folder, or of a model of the hub, downloaded when it is not cached yet; tuned or not."""
    folder = Path(os.path.expanduser(model))  # as it is where there is no such user
    if folder.is_dir() and is_tuned(folder):
        adapter = read_adapter(folder, name)
        if is_tuned(Path(adapter.base_folder)):
            raise EncoderError(f"{name}: {adapter.base} is tuned itself; tune the encoder that it was made from")
        return replace(find_checkpoint(adapter.base_folder, name), adapter=adapter)
    if not folder.is_dir():
        folder = _hub_folder(model, name)
    config = folder / "config.json"
    if not config.is_file():
        raise EncoderError(f"{name}: {folder} is no checkpoint, it has no config.json")
    content = read_json(name, config)
    _refuse_absurd(name, config, content)
    return Checkpoint(name, folder, content, _weights(folder, name))


def _refuse_absurd(name: str, file: Path, content: JsonObject) -> None:
    """Refuse a number that no encoder has, before anything is built of it."""
    waiting: list[tuple[str, object]] = list(content.items())
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.items()
        elif isinstance(value, list):
            waiting += [(key, inner) for inner in value]
        elif isinstance(value, int) and abs(value) > (most := _most(key)):
            raise EncoderError(f"{name}: {file}: {key[:60]} is {shown(value)}; no encoder has more than {most}")


def _most(key: str) -> int:
    if key == "num_labels":
        return MOST_LABELS
    return MOST_BLOCKS if _COUNTS_BLOCKS.match(key[:60]) else LARGEST_NUMBER


def _existing_files(folder: Path, patterns: Iterable[str]) -> list[Path]:
    return sorted(file for pattern in patterns for file in folder.glob(pattern))


def _weights(folder: Path, name: str) -> tuple[Path, ...]:
    for single, index in zip(WEIGHT_FILES, INDEX_FILES, strict=True):
        if (folder / single).is_file():
            return (folder / single,)
        if (folder / index).is_file():
            return _shards(folder / index, name)
    raise EncoderError(f"{name}: {folder} has no weights, neither {' nor '.join(WEIGHT_FILES)}")


def _shards(index: Path, name: str) -> tuple[Path, ...]:
    names = read_json(name, index).get("weight_map")
    shards = sorted({str(shard) for shard in names.values()}) if isinstance(names, dict) else []
    # Looked up among the folder's names, so that none of them leads out of it.
    present = {file.name for file in index.parent.iterdir()}
    missing = [shard for shard in shards if shard not in present]
    if missing or not shards:
        listed = ", ".join(ascii(shard)[1:-1] for shard in missing[:3]) or "none at all"
        raise EncoderError(f"{name}: {index} names weights that are not there: {listed}")
    return tuple(index.parent / shard for shard in shards)


def _hub_folder(model: str, name: str) -> Path:
    if model.startswith((".", "/", "~")) or model.count("/") > 1 or "\\" in model:
        raise EncoderError(f"{name}: there is no folder {model}; a name of the hub is written hf:owner/model")
    return _find_cached(model) or _download(model, name)


def _find_cached(model: str) -> Path | None:
    """Find the hub cache's folder of a model, when all that is needed is in it."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(model, local_files_only=True))
        _weights(folder, model)
    except (LocalEntryNotFoundError, HFValidationError, EncoderError):
        return None
    prepared = any((folder / file).is_file() for file in PREPROCESSORS) or _existing_files(folder, TOKENIZER_SETTINGS)
    return folder if prepared and (folder / "config.json").is_file() else None


def _download(model: str, name: str) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    try:
        with quiet_hub():
            files = HfApi().list_repo_files(model)
            return Path(snapshot_download(model, allow_patterns=needed_files(files)))
    # Anything may go wrong between here and the hub: no route, a proxy, no permission, a full disk.
    except Exception as error:
        raise hub_error(name, model, error) from error


def needed_files(files: Iterable[str]) -> list[str]:
    """Choose, of a repository's files, those that an encoder is made of; safetensors rather than `.bin`."""
    top = [file for file in files if "/" not in file]
    small = [file for file in top if file.endswith((".json", ".txt", ".model", ".py", ".codes"))]
    safe = [file for file in top if file.startswith("model") and file.endswith(".safetensors")]
    return small + (safe or [file for file in top if file.startswith("pytorch_model") and file.endswith(".bin")])
