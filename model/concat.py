"""The plain baseline: a linear layer on the concatenated embeddings of one utterance, without any context."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lpgnet.model.base import EmotionModel, EmotionOutput, Inputs, Targets
from lpgnet.model.configuration import ConcatConfig
from lpgnet.model.layers import Dropout, initialize
from lpgnet.model.ratings import RatingHeads


class ConcatForEmotionRecognition(EmotionModel):
    """Step 0 of LPGNet, then one linear layer; a missing modality is zero, which is its mean.

    It has no branch heads and no gates: `branch_logits` and `modality_weights` are empty. A contrast is of the
    concatenated embeddings, and only the weights that mix their layers can learn from it.
    """

    config_class = ConcatConfig
    config: ConcatConfig

    def __init__(self, config: ConcatConfig | None = None) -> None:
        super().__init__(config)
        config = self.config
        width = sum(config.input_sizes[m][1] for m in config.modality_names)
        self.dropout = Dropout(config.dropout)
        self.fused_head = nn.Linear(width, config.num_classes)
        self.apply(initialize)
        self.rating_heads = RatingHeads(width, 0, len(config.dimensions)) if config.dimensions else None

    @property
    def branch_names(self) -> list[str]:
        """None: there are no branch heads."""
        return []

    def forward(
        self,
        inputs: Inputs,
        masks: Mapping[str, Tensor],
        mask: Tensor,
        labels: Tensor | None = None,
        speakers: Tensor | None = None,
        return_gates: bool = False,
        votes: Tensor | None = None,
        ratings: Mapping[str, Tensor] | None = None,
        targets_only: bool = False,
    ) -> EmotionOutput:
        """Predict the emotion of every utterance.

        Args:
            inputs, masks, mask, labels, votes, ratings: as in `LPGNetForEmotionRecognition.forward`.
            speakers, return_gates, targets_only: ignored: there are neither speakers nor gates, and little to save.

        Raises:
            ModelError: an embedding has not the sizes in the configuration, or the batch is empty or its tensors not of
                the same dialogues and utterances.
        """
        packed = self.pack(inputs, masks, mask, Targets(labels=labels, votes=votes, ratings=ratings))
        joined = self.dropout(torch.cat(list(packed.inputs.values()), dim=-1))  # (1, T, sum of D_m)
        rated = None if self.rating_heads is None else self.rating_heads(joined)  # (1, 1, T, R)
        return self.output(packed, self.fused_head(joined), {}, rated, hidden=joined)
