"""Models that write down what is said, loaded as the encoders are: every weight from the files, no code run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lpgnet.pipeline.errors import PipelineError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FAMILY = "hf:"


@dataclass(frozen=True)
class SpeechModel:
    """A CTC or a sequence-to-sequence model of speech with what goes before and after it.

    Attributes:
        name: as the user gave it, `hf:owner/model` or `hf:./folder`.
        writes_frames: it is a CTC model, which gives a distribution over characters for every frame.
    """

    name: str
    model: PreTrainedModel
    tokenizer: Any
    feature_extractor: Any
    writes_frames: bool
    device: str

    @property
    def sampling_rate(self) -> int:
        """Samples per second of what it hears."""
        return int(self.feature_extractor.sampling_rate)


def load_speech_model(name: str, *, device: str) -> SpeechModel:
    """Load a model with a head that writes text.

    Args:
        name: `hf:owner/model` or `hf:./folder`.
        device: as torch names it.

    Returns:
        The model, ready to be used.

    Raises:
        PipelineError: there is no such model, it writes no text, or weights are missing.
        EncoderError: its files cannot be found.
    """
    if not name.startswith(FAMILY):
        raise PipelineError(f"'{name}': name a model of transformers, as hf:openai/whisper-small or hf:./folder")
    from transformers import AutoConfig, AutoFeatureExtractor, AutoTokenizer

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
    return SpeechModel(name, model.eval().to(device), tokenizer, extractor, writes_frames, device)


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
