"""SDT (Ma et al., IEEE TMM 2024, arXiv 2310.20494), LPGNet's parent and the baseline to beat, as published.

Same inputs, outputs and checkpoint as LPGNet. An utterance that lacks a modality is handled as in LPGNet, since
SDT's authors had none. Shapes: B dialogues of up to L utterances, in one row of T turns inside (packing.py), M
modalities, P = M * M paths, width d, C classes.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lpgnet.model.base import EmotionModel, EmotionOutput, Inputs, Packed, Targets, by_name, describe_gates
from lpgnet.model.configuration import SDTConfig
from lpgnet.model.layers import Dropout, StackedLayerNorm, StackedLinear, initialize
from lpgnet.model.lpgnet import attend_in_dialogues, fuse
from lpgnet.model.packing import Layout, some
from lpgnet.model.ratings import RatingHeads


def sinusoidal_positions(length: int, size: int, device: torch.device) -> Tensor:
    """Fixed positions (length, size): sines of falling frequency at even dimensions, else cosines."""
    frequencies = torch.exp(torch.arange(0, size, 2, device=device) * (-math.log(10000.0) / size))
    angles = torch.arange(length, device=device)[:, None] * frequencies  # (L, d / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class SpeakerEmbedding(nn.Module):
    """A row per speaker and a zero row for who has none: padding, speakers not told, and those beyond the table."""

    def __init__(self, speakers: int, size: int) -> None:
        super().__init__()
        self.unknown = speakers
        self.table = nn.Embedding(speakers + 1, size, padding_idx=speakers)

    def forward(self, speakers: Tensor | None, mask: Tensor) -> Tensor:
        """Speakers (B, L), numbered by first appearance in the dialogue, or None if unknown -> (B, L, d)."""
        if speakers is None:
            speakers = torch.full(mask.shape, self.unknown, device=mask.device)
        known = mask & (speakers >= 0) & (speakers < self.unknown)
        rows: Tensor = self.table(speakers.masked_fill(~known, self.unknown))
        return rows


class PathEncoders(nn.Module):
    """One Transformer layer per path: queries of one modality, keys and values of another."""

    def __init__(self, config: SDTConfig) -> None:
        super().__init__()
        paths, d = len(config.paths), config.hidden_size
        self.heads = config.num_attention_heads
        self.query = StackedLinear(paths, d, d)
        self.key = StackedLinear(paths, d, d)
        self.value = StackedLinear(paths, d, d)
        self.context = StackedLinear(paths, d, d)
        self.feed_norm = StackedLayerNorm(paths, d)
        self.feed_in = StackedLinear(paths, d, d)
        self.feed_out = StackedLinear(paths, d, d)
        # Each of the authors' layers owns it, the first skips it and there is no second: it counts as parameters
        # and never learns.
        self.skipped_norm = StackedLayerNorm(paths, d).requires_grad_(False)
        self.dropout = Dropout(config.dropout)

    def forward(
        self, layout: Layout, queries: Tensor, sources: Tensor, key_mask: Tensor, rows: Tensor | None
    ) -> Tensor:
        """X_q and X_s (P, 1, T, d) with the sources' mask (P, 1, T) -> (P, 1, T, d), or of `rows` (K,) of T alone."""
        projected = self.query(queries), self.key(sources), self.value(sources)
        context = attend_in_dialogues(layout, *projected, key_mask, heads=self.heads)
        z = self.dropout(self.context(some(context, rows)), rows, len(layout)) + some(queries, rows)
        enhanced: Tensor = z + self.feed_out(F.gelu(self.feed_in(self.feed_norm(z)), approximate="tanh"))
        return enhanced


class SDTForEmotionRecognition(EmotionModel):
    """SDT with its heads and its loss."""

    config_class = SDTConfig
    config: SDTConfig

    def __init__(self, config: SDTConfig | None = None) -> None:
        super().__init__(config)
        config = self.config
        names, d = config.modality_names, config.hidden_size
        self.path_query, self.path_source = (list(side) for side in zip(*config.paths, strict=True))
        self.local = nn.ModuleDict({m: nn.Linear(config.input_sizes[m][1], d, bias=False) for m in names})
        self.speakers = SpeakerEmbedding(config.num_speakers, d) if config.speaker_embedding else None
        self.encoders = PathEncoders(config)
        self.path_gate = StackedLinear(len(config.paths), d, d, bias=False)
        self.refine = StackedLinear(len(names), len(names) * d, d)
        self.modality_gate = nn.Linear(d, d, bias=False) if len(names) > 1 else None
        self.dropout = Dropout(config.dropout)
        self.fused_head = nn.Linear(d, config.num_classes)
        self.branch_heads = StackedLinear(len(names), d, config.num_classes)
        self.apply(initialize)
        self.rating_heads = RatingHeads(d, len(names), len(config.dimensions)) if config.dimensions else None

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
            inputs, masks, mask, labels, return_gates, votes, ratings, targets_only: as in
                `LPGNetForEmotionRecognition.forward`.
            speakers: (B, L), numbered by first appearance in the dialogue, negative where the speaker is not told. Such
                speakers, those beyond the table, and all when None, are unknown and have no speaker embedding.

        Raises:
            ModelError: an embedding has not the sizes in the configuration, or the batch is empty or its tensors not of
                the same dialogues and utterances.
        """
        packed = self.pack(inputs, masks, mask, Targets(labels=labels, votes=votes, ratings=ratings), speakers)
        real = packed.real  # (M, 1, T)
        local = self._encode(packed, None if speakers is None else packed.layout.pack(speakers))  # (M, 1, T, d)
        queries, sources = local[self.path_query], local[self.path_source]  # (P, 1, T, d)
        rows = packed.learned() if targets_only and mask.device.type == "cpu" else None
        enhanced = self.encoders(packed.layout, queries, sources, real[self.path_source], rows)  # (P, 1, T, d)
        # From here on T is the number of turns that are needed.
        packed, turns = packed.only(rows), len(packed.layout)
        gates = self.path_gate(enhanced).sigmoid()
        grouped = (gates * enhanced).unflatten(0, (len(local), -1))  # (M, M, 1, T, d)
        refined = self.refine(grouped.movedim(1, 3).flatten(-2))  # (M, 1, T, d)
        scores = None if self.modality_gate is None else self.modality_gate(refined)
        fused, alpha = fuse(refined, scores, packed.real)  # (1, T, d) and (M, 1, T, d)
        hidden = self.dropout(refined.relu(), rows, turns)
        branches = by_name(self.config.modality_names, self.branch_heads(hidden))  # (1, T, C) by modality
        rated = None if self.rating_heads is None else self.rating_heads(fused, hidden)  # (1 + M, 1, T, R)
        described = describe_gates(list(branches), self.config.paths, alpha, gates, in_full=return_gates)
        return self.output(packed, self.fused_head(fused), branches, rated, hidden=fused, **described)

    def _encode(self, packed: Packed, speakers: Tensor | None) -> Tensor:
        """Project to d (a convolution of kernel 1), then add positions and speakers: (M, 1, T, d)."""
        local: Tensor = torch.stack([self.local[name](values) for name, values in packed.inputs.items()])
        positions = sinusoidal_positions(packed.layout.places.shape[1], local.shape[-1], local.device)
        local = local + positions.index_select(0, packed.layout.positions)
        if self.speakers is not None:
            local = local + self.speakers(speakers, packed.mask)
        local = self.dropout(local)
        return local.masked_fill(~packed.real[..., None], 0.0)
