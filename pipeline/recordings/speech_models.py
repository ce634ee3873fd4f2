"""Models that write down what is said, loaded as the encoders are: every weight from the files, no code run."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from lpgnet.pipeline.errors import PipelineError, UsageError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

FAMILY = "hf:"
# What a model hears at once that does not say how much it takes (seconds).
LONGEST_SECONDS = 30.0


@dataclass(frozen=True)
class SpeechModel:
    """A CTC or a sequence-to-sequence model of speech with what goes before and after it.

    Attributes:
        name: as the user gave it, `hf:owner/model` or `hf:./folder`.
        writes_frames: it is a CTC model, which gives a distribution over characters for every frame.
        precision: `fp32` or `bf16`.
    """

    name: str
    model: PreTrainedModel
    tokenizer: Any
    feature_extractor: Any
    writes_frames: bool
    device: str
    precision: str

    @property
    def network(self) -> Any:
        """The model as one whose class is known by what it can do, not by its type."""
        return self.model

    @property
    def sampling_rate(self) -> int:
        """Samples per second of what it hears."""
        return int(self.feature_extractor.sampling_rate)

    @property
    def pads_to_window(self) -> bool:
        """Whether it hears windows of one length (Whisper), however little is said in them."""
        return "whisper" in str(self.model.config.model_type)

    @property
    def window_seconds(self) -> float:
        """The longest that it hears at once."""
        return float(self.feature_extractor.chunk_length) if self.pads_to_window else LONGEST_SECONDS

    @property
    def writes_timestamps(self) -> bool:
        """Whether it is a Whisper that can tell when each word is said."""
        return self.pads_to_window and hasattr(self._settings, "no_timestamps_token_id")

    @property
    def _settings(self) -> Any:
        """How it writes; a CTC model has none."""
        return getattr(self.model, "generation_config", None)

    @cached_property
    def languages(self) -> dict[str, int]:
        """Code and token of each language that it can be told to write; none where it has one language alone."""
        if not self.writes_timestamps or not getattr(self._settings, "is_multilingual", True):
            return {}
        known: dict[str, int] = getattr(self._settings, "lang_to_id", None) or {}
        return {name.strip("<|>"): token for name, token in known.items()}

    def check_language(self, language: str | None) -> None:
        """Refuse a language that the model does not write.

        Raises:
            UsageError: it is unknown, or the model cannot be told one; names those that it knows.
        """
        if language is None or language in self.languages:
            return
        if self.languages:
            known = ", ".join(self.languages)
            hint = did_you_mean(language, self.languages)
            raise UsageError(f"key 'language': {self.name} does not know '{language}'{hint}; it knows {known}")
        english_alone = getattr(self._settings, "is_multilingual", None) is False
        if not (english_alone and language == "en"):
            raise UsageError(
                f"key 'language': {self.name} writes one language alone and cannot be told '{language}'; leave the key "
                "out, or name a multilingual model such as hf:openai/whisper-small"
            )

    def inputs(self, waveforms: Sequence[np.ndarray], *, padding: bool | str) -> dict[str, Tensor]:
        """Turn waveforms `(samples,)` into the model's inputs, in full precision."""
        import torch

        with torch.autocast("cpu", enabled=False):
            extracted = self.feature_extractor(
                list(waveforms), sampling_rate=self.sampling_rate, return_tensors="pt", padding=padding
            )
        return {name: values.to(self.device) for name, values in extracted.items()}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the model without gradients, in its precision, and without the library's warnings.

        Raises:
            PipelineError: the model fails, as one does whose settings do not fit its weights.
        """
        import torch

        from lpgnet.feature_extractors.weights import quiet

        autocast = torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.precision == "bf16")
        with torch.inference_mode(), autocast, quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                yield
            # What settings that do not fit can make the library raise.
            except (ValueError, TypeError, LookupError, RuntimeError, AttributeError, ArithmeticError) as error:
                reason = " ".join(str(error).split())[:200]
                raise PipelineError(f"{self.name}: cannot be run ({reason}); name another model") from error


def load_speech_model(name: str, *, device: str, precision: str = "fp32") -> SpeechModel:
    """Load a model with a head that writes text.

    Args:
        name: `hf:owner/model` or `hf:./folder`.
        device: as torch names it.
        precision: `fp32`, `bf16`, or `auto`, which is bf16 where the device has instructions for it.

    Returns:
        The model, ready to be used.

    Raises:
        PipelineError: there is no such model, it writes no text, or weights are missing.
        EncoderError: its files cannot be found.
    """
    if not name.startswith(FAMILY):
        raise PipelineError(f"'{name}': name a model of transformers, as hf:openai/whisper-small or hf:./folder")
    from transformers import AutoConfig, AutoFeatureExtractor, AutoTokenizer

    from lpgnet.feature_extractors import resolve_precision
    from lpgnet.feature_extractors.checkpoint import find_checkpoint
    from lpgnet.feature_extractors.weights import quiet

    checkpoint = find_checkpoint(name.removeprefix(FAMILY), name)
    try:
        with quiet():
            config = AutoConfig.from_pretrained(checkpoint.folder, local_files_only=True)
            model, writes_frames = _load_head(checkpoint.folder, config, name)
            tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, local_files_only=True)
            extractor = AutoFeatureExtractor.from_pretrained(  # type: ignore[no-untyped-call]
                checkpoint.folder, local_files_only=True
            )
    except PipelineError:
        raise
    # transformers, safetensors and torch share no base of the exceptions that bad files raise.
    except Exception as error:
        raise PipelineError(f"{name}: cannot be loaded ({' '.join(str(error).split())[:200]})") from error
    resolved = resolve_precision(precision, device)
    return SpeechModel(name, model.eval().to(device), tokenizer, extractor, writes_frames, device, resolved)


def _load_head(folder: Any, config: Any, name: str) -> tuple[Any, bool]:
    import torch
    from transformers import AutoModelForCTC, AutoModelForSpeechSeq2Seq

    heads = {"ForCTC": AutoModelForCTC, "ForConditionalGeneration": AutoModelForSpeechSeq2Seq}
    named = [head for architecture in config.architectures or [] for head in heads if architecture.endswith(head)]
    if not named:
        raise PipelineError(
            f"{name}: is {', '.join(config.architectures or ['a model of an unknown kind'])}, which writes no text; "
            "name a CTC model or a sequence-to-sequence model such as Whisper"
        )
    model, report = heads[named[0]].from_pretrained(
        folder, config=config, dtype=torch.float32, local_files_only=True, weights_only=True, output_loading_info=True
    )
    absent = sorted(report["missing_keys"]) + sorted(map(str, report["mismatched_keys"]))
    if absent:
        raise PipelineError(f"{name}: lacks {len(absent)} weights ({', '.join(absent[:3])}); download the model again")
    return model, named[0] == "ForCTC"
