"""What is tuned: an encoder with adapters, and the heads that its embeddings feed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lpgnet.feature_extractors.torch_encoder import TorchEncoder
from lpgnet.model import EmotionConfig, EmotionModel, load_model
from lpgnet.model.base import EmotionOutput, Inputs
from lpgnet.pipeline.embeddings.extraction import decode
from lpgnet.pipeline.embeddings.plan import Problem, Request
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.tuning.lora import adapter_parts, read_adapter, set_dropout, write_adapter

if TYPE_CHECKING:
    from peft import LoraConfig

    from lpgnet.feature_extractors import Item

# Where an encoder takes one waveform at a time, as is best for extraction on a CPU: some ten seconds of sound together
# are up to 1.7 times faster where gradients are computed too.
BATCH_SAMPLES = 160_000


class TuningModel(nn.Module):
    """Stands for an `EmotionModel` in training: its inputs are the places of utterances, which it embeds itself.

    Args:
        encoder: with adapters.
        adapters: what they were made by.
        head: takes the encoder's embeddings.
        requests: what is embedded; an input is a place in this list, (B, 1, 1, 1).
    """

    def __init__(
        self, encoder: TorchEncoder, adapters: LoraConfig, head: EmotionModel, requests: Sequence[Request]
    ) -> None:
        super().__init__()
        self.encoder, self.adapters, self.head, self.requests = encoder, adapters, head, requests
        (self.modality,) = head.config.modality_names

    @property
    def config(self) -> EmotionConfig:
        """That of the heads."""
        return self.head.config

    @property
    def device(self) -> torch.device:
        """Where the heads are."""
        return self.head.device

    @property
    def parts(self) -> nn.ModuleDict:
        """All that learns, and the statistics of the heads' inputs: what a checkpoint holds."""
        adapters = {name.replace(".", "/"): part for name, part in adapter_parts(self.encoder).items()}
        return nn.ModuleDict({"head": self.head, "adapters": nn.ModuleDict(adapters)})

    def loss_counts(
        self, labels: Tensor, mask: Tensor, masks: Mapping[str, Tensor], votes: Tensor | None = None
    ) -> Tensor:
        """Count what each loss term of a batch is divided by, as the heads do."""
        return self.head.loss_counts(labels, mask, masks, votes)

    def save_pretrained(self, folder: Path) -> None:
        """Write the heads as a model is written, and the adapters beside them."""
        self.head.save_pretrained(folder)
        self.save_adapter(folder)

    def save_adapter(self, folder: Path) -> None:
        """Write the adapters."""
        write_adapter(folder, self.encoder, self.adapters)

    def restore(self, folder: Path) -> None:
        """Take what `save_pretrained` wrote."""
        self.head.load_state_dict(load_model(folder).state_dict())
        read_adapter(folder, self.encoder)

    def train(self, mode: bool = True) -> TuningModel:
        """Turn dropout on before the adapters and the heads; the encoder itself runs as when it embeds."""
        super().train(mode)
        set_dropout(self.encoder, on=mode)
        return self

    def forward(self, inputs: Inputs, *args: Any, **targets: Any) -> EmotionOutput:
        """Embed utterances and predict, as the heads' `forward` does from embeddings."""
        places = torch.cat([rows.flatten() for rows in inputs[self.modality]]).long().tolist()
        items = [read_item(self.requests[place], self.encoder.sampling_rate) for place in places]
        embeddings = self.encoder.embed(items, self.encoder.budget or BATCH_SAMPLES)
        output: EmotionOutput = self.head({self.modality: embeddings[:, None]}, *args, **targets)
        return output


def read_item(request: Request, sampling_rate: int | None) -> Item:
    """Return what an encoder takes for an utterance.

    Raises:
        PipelineError: its sound cannot be read.
    """
    item = decode(request, sampling_rate)
    if isinstance(item, Problem):
        raise PipelineError(f"utterance {request.utterance_id}: {item.message}; run the features stage, which skips it")
    return item
