"""Loading a Hugging Face checkpoint's encoder: every weight from the files, none left to chance, no code run."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from logging import ERROR
from typing import Any

import torch
import transformers

from lpgnet.feature_extractors.adapters import merge
from lpgnet.feature_extractors.checkpoint import Checkpoint
from lpgnet.feature_extractors.errors import EncoderError, one_line
from lpgnet.feature_extractors.padding import fold_weight_norms
from lpgnet.feature_extractors.spec import EncoderSpec, JsonObject

# Masking vectors are made only for training; without them a checkpoint need not have one.
TRAINING_ONLY = ("mask_time_prob", "mask_feature_prob")


def load_model(checkpoint: Checkpoint, *, trust_remote_code: bool) -> transformers.PreTrainedModel:
    """Load a checkpoint's encoder in float32, ready for inference.

    Args:
        checkpoint: where its files are.
        trust_remote_code: whether code that comes with it may run.

    Raises:
        EncoderError: it cannot be loaded, or weights are missing or of another shape.
    """
    options = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    with quiet(), _readable_errors(checkpoint):
        config = transformers.AutoConfig.from_pretrained(checkpoint.folder, **options)
        for field in TRAINING_ONLY:
            if hasattr(config, field):
                setattr(config, field, 0.0)
        model, report = transformers.AutoModel.from_pretrained(
            checkpoint.folder,
            config=config,
            dtype=torch.float32,
            weights_only=True,
            output_loading_info=True,
            **_without_pooler(config),
            **options,
        )
    _refuse_incomplete(checkpoint, report)
    encoder: transformers.PreTrainedModel = (
        model.get_encoder() if getattr(config, "is_encoder_decoder", False) else model
    )
    if checkpoint.adapter:
        merge(encoder, checkpoint.adapter)
    fold_weight_norms(encoder)
    return encoder


def load_preprocessor(auto: Any, checkpoint: Checkpoint, spec: EncoderSpec, what: str) -> Any:
    """Load what turns text or audio into a model's input.

    Args:
        auto: the class of transformers that finds it, such as `AutoTokenizer`.
        checkpoint: where its files are.
        spec: says whether code that comes with it may run.
        what: its name for people.

    Raises:
        EncoderError: it cannot be loaded.
    """
    try:
        with quiet():
            return auto.from_pretrained(
                checkpoint.folder, local_files_only=True, trust_remote_code=spec.trust_remote_code
            )
    # Its class may be unknown, its files may be damaged, a library that it needs may be missing.
    except Exception as error:
        raise EncoderError(f"{spec.name}: its {what} cannot be loaded: {one_line(error)}") from error


def _without_pooler(config: transformers.PreTrainedConfig) -> dict[str, bool]:
    """Leave the pooling head out where that can be said: it is never used, and not every checkpoint has its weights."""
    model_class = transformers.AutoModel._model_mapping.get(type(config), None)
    accepts = isinstance(model_class, type) and "add_pooling_layer" in inspect.signature(model_class).parameters
    return {"add_pooling_layer": False} if accepts else {}


def _refuse_incomplete(checkpoint: Checkpoint, report: JsonObject) -> None:
    absent = sorted(report["missing_keys"])
    unfit = sorted(str(key[0] if isinstance(key, tuple) else key) for key in report["mismatched_keys"])
    for keys, what in (
        (absent, "lacks weights of the encoder"),
        (unfit, "has weights of another shape than config.json"),
    ):
        if keys:
            raise EncoderError(
                f"{checkpoint.name}: {checkpoint.weights[0]} {what} ({', '.join(keys[:3])}"
                f"{', ...' if len(keys) > 3 else ''}, {len(keys)} in all); none is made up: get the checkpoint again"
            )


@contextmanager
def _readable_errors(checkpoint: Checkpoint) -> Iterator[None]:
    """Turn whatever a checkpoint can make transformers raise into one line about the checkpoint."""
    try:
        yield
    # transformers, safetensors and torch share no base of the exceptions that a bad file raises.
    except Exception as error:
        text = one_line(error)
        if "trust_remote_code" in str(error):
            advice = "it brings its own code, which runs only with trust_remote_code: true (read the code first)"
        elif "weights_only" in str(error) or "Unpickl" in type(error).__name__:
            advice = (
                f"{checkpoint.weights[0].name} holds more than tensors and could run code: convert it to safetensors"
            )
        else:
            advice = f"it cannot be loaded: {text}"
        raise EncoderError(f"{checkpoint.name}: {advice}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Show no progress bar and no table of unused heads while loading; what matters is raised."""
    logging = transformers.utils.logging
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(ERROR)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
