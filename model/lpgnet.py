"""LPGNet (He and Xiao, arXiv 2508.08925), from the embeddings of a dialogue's utterances to their emotions.

The parts and their order are the paper's; the equations' bodies, the sizes and the recipe are not public and
are chosen here. The numbers in the comments are the steps of the model, which docs/model.md draws:

0. standardize and mix layers      3. masks                           6. gate 2: fuse the modalities
1. local encoding                  4. two-stage residual enhancement  7. heads
2. four parallel attentions        5. gate 1: refine each modality    8. self-distillation loss (distillation.py)

Shapes: B dialogues of up to L utterances, M modalities, P paths (query <- source; four with text and audio),
S paths per query, h heads, width d, C classes. Paths and modalities are leading axes, so that a step is one
operation for all of them. Inside, the dialogues lie end to end in one row of T turns (packing.py): (1, T) for (B, L).
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lpgnet.model.base import EmotionModel, EmotionOutput, Inputs, Packed, Targets, by_name, describe_gates
from lpgnet.model.configuration import LPGNetConfig
from lpgnet.model.layers import Dropout, MaskedBatchNorm, StackedLayerNorm, StackedLinear, initialize
from lpgnet.model.neighbors import VoiceNeighbors, neighbors, voices
from lpgnet.model.packing import Layout, some
from lpgnet.model.ratings import RatingHeads

# Utterances that a further local layer sees, this one included.
LOCAL_REACH = 3
# Share of the dialogues whose speakers are hidden in training, so that a model can do without them.
HIDDEN_SPEAKERS = 0.1


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    key_mask: Tensor,
    *,
    heads: int,
    causal: bool = False,
    slopes: Tensor | None = None,
    voice_bias: Tensor | None = None,
    speakers: Tensor | None = None,
) -> Tensor:
    """Attention of every path in one call; a query that has no key left gets a zero context.

    Args:
        queries, keys, values: (P, B, L, d).
        key_mask: (P, B, L) bool, true where the source has an utterance.
        heads: h.
        causal: whether a query sees no later key.
        slopes: (P, h), taken off the scores per turn of distance; or None.
        voice_bias: (P, h, 2), added to the scores of turns of the same voice, and of two voices; or None.
        speakers: (B, L), negative where the speaker is not told, for `voice_bias`.

    Returns:
        (P, B, L, d).
    """
    paths, batch, length, _ = queries.shape
    allowed = key_mask[:, :, None, None, :]  # (P, B, 1, 1, L)
    if causal:
        allowed = allowed & allowed.new_ones(length, length).tril()  # (P, B, 1, L, L)
    has_key = allowed.any(-1, keepdim=True)  # (P, B, 1, 1 or L, 1)
    # A softmax over no key is NaN, its gradient too: such a query looks at everything and is zeroed below.
    mask = allowed | ~has_key
    biases = [] if slopes is None else [_distance_bias(slopes, length)[:, None]]  # (P, 1, h, L, L)
    if voice_bias is not None and speakers is not None:
        biases.append(_voice_bias(voice_bias, speakers))  # (P, B, h, L, L)
    if biases:
        mask = sum(biases[1:], biases[0]).to(queries.dtype).masked_fill(~mask, -torch.inf)

    def split(x: Tensor) -> Tensor:
        by_head: Tensor = x.unflatten(-1, (heads, -1))  # (P, B, L, h, d / h)
        return by_head.transpose(2, 3).flatten(0, 1)  # (P * B, h, L, d / h)

    context: Tensor = F.scaled_dot_product_attention(split(queries), split(keys), split(values), mask.flatten(0, 1))
    context = context.unflatten(0, (paths, batch)).masked_fill(~has_key, 0.0)  # (P, B, h, L, d / h)
    return context.transpose(2, 3).flatten(-2)  # (P, B, L, d)


def attend_in_dialogues(
    layout: Layout,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    key_mask: Tensor,
    *,
    speakers: Tensor | None = None,
    **settings: Any,
) -> Tensor:
    """`attend` within each dialogue of a row, a group of dialogues at once: (P, 1, T, d) -> the same.

    Args:
        layout: of the row.
        queries, keys, values: (P, 1, T, d).
        key_mask: (P, 1, T) bool.
        speakers: (1, T).
        settings: of `attend`.
    """
    parts = zip(*(layout.split(x) for x in (queries, keys, values, key_mask)), strict=True)
    voices = [None] * len(layout.groups) if speakers is None else [part[0] for part in layout.split(speakers[None])]
    return layout.join([attend(*part, speakers=who, **settings) for part, who in zip(parts, voices, strict=True)])


def _distance_bias(slopes: Tensor, length: int) -> Tensor:
    """Minus slope times distance in turns, (P, h) -> (P, h, L, L)."""
    turns = torch.arange(length, device=slopes.device)
    return -slopes[..., None, None] * (turns[:, None] - turns).abs()


def _voice_bias(bias: Tensor, speakers: Tensor) -> Tensor:
    """The biases of turns of the same voice and of two voices, (P, h, 2) and (B, L) -> (P, B, h, L, L)."""
    same, other = voices(speakers, torch.ones_like(speakers, dtype=torch.bool))
    of_same, of_other = bias[:, None, ..., None, None].unbind(3)  # (P, 1, h, 1, 1)
    return of_same * same[:, None] + of_other * other[:, None]


def fuse(refined: Tensor, scores: Tensor | None, present: Tensor) -> tuple[Tensor, Tensor]:
    """Gate 2: weigh the modalities per dimension, a missing one by exactly 0; all alike where none is.

    Args:
        refined: H_m, (M, B, L, d).
        scores: W_g H_m, (M, B, L, d); None weighs the present modalities alike.
        present: (M, B, L) bool.

    Returns:
        H (B, L, d) and alpha (M, B, L, d).
    """
    missing, nobody = ~present[..., None], ~present.any(0)[..., None]  # (M, B, L, 1) and (B, L, 1)
    scores = torch.zeros_like(refined) if scores is None else scores
    alpha = scores.masked_fill(missing, -torch.inf).masked_fill(nobody, 0.0).softmax(0)
    return (alpha * refined).sum(0), alpha


class LPGNetForEmotionRecognition(EmotionModel):
    """LPGNet with its heads and its loss.

    Example:
        >>> config = LPGNetConfig(input_sizes={"text": [1, 8], "audio": [3, 6]}, hidden_size=16)
        >>> model = LPGNetForEmotionRecognition(config).eval()
        >>> mask = torch.ones(1, 5, dtype=torch.bool)
        >>> inputs = {"text": torch.randn(1, 5, 1, 8), "audio": torch.randn(1, 5, 3, 6)}
        >>> model(inputs, {"text": mask, "audio": mask}, mask).logits.shape
        torch.Size([1, 5, 4])
    """

    config_class = LPGNetConfig
    config: LPGNetConfig

    def __init__(self, config: LPGNetConfig | None = None) -> None:
        super().__init__(config)
        config = self.config
        names, sizes, d, classes = config.modality_names, config.input_sizes, config.hidden_size, config.num_classes
        self.path_query, self.path_source = (list(side) for side in zip(*config.paths, strict=True))
        paths, modalities = len(config.paths), len(names)
        projections = paths if config.projections_per_path else modalities
        self.local = nn.ModuleDict({m: nn.Conv1d(sizes[m][1], d, config.kernel_size) for m in names})
        self.query = StackedLinear(projections, d, d)
        self.key_value = StackedLinear(projections, d, 2 * d)
        self.raw_slopes = _raw_slopes(paths, config.num_attention_heads) if config.distance_bias else None
        self.context = StackedLinear(paths, d, d)
        self.context_norm = MaskedBatchNorm(paths, d) if config.context_norm == "batch" else StackedLayerNorm(paths, d)
        self.feed_norm = StackedLayerNorm(paths, d)
        self.feed_in = StackedLinear(paths, d, d)
        self.feed_out = StackedLinear(paths, d, d)
        self.path_gate = StackedLinear(paths, d, d, bias=False) if config.path_gate else None
        self.refine = StackedLinear(modalities, paths // modalities * d, d)
        gated = config.modality_gate and modalities > 1
        self.modality_gate = nn.Linear(d, d, bias=False) if gated else None
        self.dropout = Dropout(config.dropout)
        # Before the heads are there, so that a seed gives the weights that it gave in version 0.1.0.
        self.apply(initialize)
        self.fused_head = nn.Linear(d, classes).apply(initialize)
        self.branch_heads = StackedLinear(modalities, d, classes).apply(initialize)
        self.rating_heads = RatingHeads(d, modalities, len(config.dimensions)) if config.dimensions else None
        # Last, so that a seed gives the other weights as it does without them.
        self.further_local = nn.ModuleList(
            StackedLinear(modalities, LOCAL_REACH * d, d) for _ in range(config.local_layers - 1)
        ).apply(initialize)
        widths = {m: sizes[m][1] for m in names}
        self.neighbors = VoiceNeighbors(widths, d).apply(initialize) if config.voice_neighbours else None
        biases = torch.zeros(paths, config.num_attention_heads, 2)
        self.voice_bias = nn.Parameter(biases) if config.speaker_turn_bias else None
        self.register_load_state_dict_pre_hook(_rename_old_weights)  # type: ignore[no-untyped-call]

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
            inputs: embeddings (B, L, K_m, D_m) by modality, finite everywhere, or a list of the dialogues' own,
                (L_b, K_m, D_m). A modality that is not there is missing in the whole batch; one that the model does not
                use is ignored.
            masks: (B, L) bool by modality, true where the utterance has it.
            mask: (B, L) bool, true for a real utterance.
            labels: (B, L) class numbers, -100 where there is none; with any target the output has a loss.
            speakers: (B, L), any number per voice of a dialogue, negative where the speaker is not told; None: nowhere.
                Only `voice_neighbours` and `speaker_turn_bias` look at them, and at nothing but which are equal.
            return_gates: whether the output has both gates in full.
            votes: (B, L, C), shares of the raters' votes, learned instead of the label; zeros where there are none.
            ratings: (B, L) by dimension, in the units of `config.ranges`, NaN where there is none.
            targets_only: whether the loss is all that is wanted: what is given for turns without a target may then mean
                nothing, which saves what is computed for them alone.

        Raises:
            ModelError: an embedding has not the sizes in the configuration, or the batch is empty or its tensors not of
                the same dialogues and utterances.
        """
        packed = self.pack(inputs, masks, mask, Targets(labels=labels, votes=votes, ratings=ratings), speakers)  # 0
        speakers = self.told(speakers, mask)  # (B, L)
        places = None if self.neighbors is None else neighbors(speakers, mask, causal=self.config.causal)
        layout, real = packed.layout, packed.real  # (M, 1, T)
        local = self._encode(packed, None if places is None else layout.pack_places(places))  # 1, (M, 1, T, d)
        context = self._attend(layout, local, real, layout.pack(speakers))  # 2 and 3, (P, 1, T, d)
        # From here on turns are computed by themselves, and T is the number of those that are needed.
        rows = packed.learned() if targets_only and mask.device.type == "cpu" else None
        enhanced = self._enhance(local, context, real[self.path_query], rows)  # 4, (P, 1, T, d)
        packed, turns = packed.only(rows), len(layout)
        gates, refined = self._refine(enhanced)  # 5, (P, 1, T, d) and (M, 1, T, d)
        scores = None if self.modality_gate is None else self.modality_gate(refined)
        fused, alpha = fuse(refined, scores, packed.real)  # 6, (1, T, d) and (M, 1, T, d)
        branches = self.dropout(refined.relu(), rows, turns)
        logits, heads, rated = self._classify(fused, branches)  # 7, (1, T, C), (M, 1, T, C), (1 + M, 1, T, R)
        names = self.config.modality_names
        described = describe_gates(names, self.config.paths, alpha, gates, in_full=return_gates)
        branch_logits = by_name(names, heads)
        return self.output(packed, logits, branch_logits, rated, hidden=fused, **described)  # 8

    @property
    def reach(self) -> int:
        """How many turns before or after a turn the widest convolution looks at."""
        widest = max(self.config.kernel_size, LOCAL_REACH if len(self.further_local) else 1)
        return max(self._around(widest))

    def told(self, speakers: Tensor | None, mask: Tensor) -> Tensor:
        """The speakers, -1 where they are not told; in training those of some dialogues are hidden."""
        if speakers is None or (self.neighbors is None and self.voice_bias is None):
            return torch.full(mask.shape, -1, device=mask.device)
        told = mask & (speakers >= 0)
        if self.training:
            told = told & (torch.rand(len(mask), 1, device=mask.device) >= HIDDEN_SPEAKERS)
        return speakers.masked_fill(~told, -1)

    def _encode(self, packed: Packed, places: Tensor | None) -> Tensor:
        """1. X_m = Dropout(Conv1d_k(U_m)), and its variants; the empty and the missing are zero around every layer.

        Args:
            packed: with U_m, (1, T, D_m) by modality.
            places: of the neighbors of each turn, (1, T, 4), for `voice_neighbours`.
        """
        real, encoded = packed.real, []
        for name, values in packed.inputs.items():
            padded = F.pad(values.transpose(1, 2), self._around(self.config.kernel_size))  # (1, D_m, T + k - 1)
            encoded.append(self.local[name](padded).transpose(1, 2))  # (1, T, d)
        local: Tensor = torch.stack(encoded)
        if self.neighbors is not None:
            local = local + self.neighbors(packed.inputs, real, places)
        local = self.dropout(local).masked_fill(~real[..., None], 0.0)
        for layer in self.further_local:
            # Without a shift of its own, so that zero stays zero.
            normed = F.layer_norm(local, local.shape[-1:])
            windows = F.pad(normed, (0, 0, *self._around(LOCAL_REACH))).unfold(2, LOCAL_REACH, 1)  # (M, 1, T, d, 3)
            further = self.dropout(F.gelu(layer(windows.flatten(-2))))
            local = (local + further).masked_fill(~real[..., None], 0.0)
        return local

    def _around(self, reach: int) -> tuple[int, int]:
        """How many turns before the first and after the last a convolution over `reach` turns needs."""
        left = reach - 1 if self.config.causal else (reach - 1) // 2
        return left, reach - 1 - left

    def _attend(self, layout: Layout, local: Tensor, real: Tensor, speakers: Tensor) -> Tensor:
        """2 and 3. Every path's attention: (M, 1, T, d) -> (P, 1, T, d)."""
        queries = self._project(self.query, local, self.path_query)
        keys, values = self._project(self.key_value, local, self.path_source).chunk(2, dim=-1)
        return attend_in_dialogues(
            layout,
            queries,
            keys,
            values,
            real[self.path_source],
            heads=self.config.num_attention_heads,
            causal=self.config.causal,
            slopes=None if self.raw_slopes is None else F.softplus(self.raw_slopes),
            voice_bias=self.voice_bias,
            speakers=speakers,
        )

    def _project(self, layer: StackedLinear, local: Tensor, modality_of_path: list[int]) -> Tensor:
        per_path = self.config.projections_per_path
        projected: Tensor = layer(local[modality_of_path] if per_path else local)
        return projected if per_path else projected[modality_of_path]

    def _enhance(self, local: Tensor, context: Tensor, real: Tensor, rows: Tensor | None) -> Tensor:
        """4. Z = X_q + Dropout(LeakyReLU(BatchNorm(Conv1x1(context)))), H = Z + FFN(LayerNorm(Z)).

        Args:
            local: (M, 1, T, d).
            context, real: of each path, (P, 1, T, d) and (P, 1, T).
            rows: (K,), the turns that are needed; None for all. BatchNorm's statistics are those of all.
        """
        if isinstance(self.context_norm, MaskedBatchNorm):
            normed = self.context_norm(self.context(context), real, rows)
        else:
            normed = self.context_norm(self.context(some(context, rows)))
        dropped = self.dropout(F.leaky_relu(normed), rows, context.shape[2])
        z = some(local, rows)[self.path_query] + dropped
        enhanced: Tensor = z + self.feed_out(F.gelu(self.feed_in(self.feed_norm(z))))
        return enhanced

    def _refine(self, enhanced: Tensor) -> tuple[Tensor, Tensor]:
        """5. G = sigmoid(W H) * H per path, H_m = W_m [G of the paths into m] + b."""
        gates = torch.ones_like(enhanced) if self.path_gate is None else self.path_gate(enhanced).sigmoid()
        modalities = len(self.mixes)
        grouped = (gates * enhanced).unflatten(0, (modalities, -1))  # (M, S, 1, T, d)
        joined = grouped.movedim(1, 3).flatten(-2)  # (M, 1, T, S * d)
        return gates, self.refine(joined)

    def _classify(self, fused: Tensor, branches: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """7. z = Linear(H) predicts, z_m = Linear(Dropout(ReLU(H_m))) serve training; so for the dimensions."""
        rated = None if self.rating_heads is None else self.rating_heads(fused, branches)
        return self.fused_head(fused), self.branch_heads(branches), rated


def _raw_slopes(paths: int, heads: int) -> nn.Parameter:
    """Slopes 1/4 .. 1/256 over the heads behind a softplus, as fixed ones are in ALiBi (arXiv 2108.12409)."""
    slopes = 2.0 ** (-8.0 * torch.arange(1, heads + 1) / heads)
    return nn.Parameter(slopes.expm1().log().repeat(paths, 1))


def _rename_old_weights(module: nn.Module, weights: dict[str, Any], prefix: str, *_: Any) -> None:
    """Read checkpoints of version 0.1.0, whose weights of all parts but the heads stand under `lpgnet.`."""
    old = f"{prefix}lpgnet."
    for name in [name for name in weights if name.startswith(old)]:
        weights[prefix + name.removeprefix(old)] = weights.pop(name)
