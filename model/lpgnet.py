"""LPGNet (He and Xiao, arXiv 2508.08925), from the embeddings of a dialogue's utterances to their emotions.

The parts and their order are the paper's; the equations' bodies, the sizes and the recipe are not public and
are chosen here. The numbers in the comments are the steps of the model:

0. standardise and mix layers      3. masks                           6. gate 2: fuse the modalities
1. local encoding                  4. two-stage residual enhancement  7. heads
2. four parallel attentions        5. gate 1: refine each modality    8. self-distillation loss

Shapes: B dialogues of up to L utterances, M modalities, P paths (query <- source; four with text and audio),
S paths per query, h heads, width d, C classes. Paths and modalities are leading axes, so that a step is one
operation for all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init

from lpgnet.model.base import EmotionModel, EmotionOutput, InputMix, StackedLayerNorm, StackedLinear, by_name
from lpgnet.model.configuration import LPGNetConfig


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    key_mask: Tensor,
    *,
    heads: int,
    causal: bool = False,
    slopes: Tensor | None = None,
) -> Tensor:
    """Attention of every path in one call; a query that has no key left gets a zero context.

    Args:
        queries, keys, values: (P, B, L, d).
        key_mask: (P, B, L) bool, true where the source has an utterance.
        heads: h.
        causal: whether a query sees no later key.
        slopes: (P, h), taken off the scores per turn of distance; or None.

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
    if slopes is not None:
        mask = _distance_bias(slopes, length)[:, None].to(queries.dtype).masked_fill(~mask, -torch.inf)

    def split(x: Tensor) -> Tensor:
        return x.unflatten(-1, (heads, -1)).transpose(2, 3).flatten(0, 1)  # (P * B, h, L, d / h)

    context = F.scaled_dot_product_attention(split(queries), split(keys), split(values), mask.flatten(0, 1))
    context = context.unflatten(0, (paths, batch)).masked_fill(~has_key, 0.0)  # (P, B, h, L, d / h)
    return context.transpose(2, 3).flatten(-2)  # (P, B, L, d)


def _distance_bias(slopes: Tensor, length: int) -> Tensor:
    """Minus slope times distance in turns, (P, h) -> (P, h, L, L)."""
    turns = torch.arange(length, device=slopes.device)
    return -slopes[..., None, None] * (turns[:, None] - turns).abs()


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


class MaskedBatchNorm(nn.Module):
    """A batch normalisation per path over its real utterances; fewer than two use the running statistics."""

    momentum = 0.1
    epsilon = 1e-5
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, paths: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(paths, 1, 1, size))
        self.bias = nn.Parameter(torch.empty(paths, 1, 1, size))
        self.register_buffer("running_mean", torch.empty(paths, 1, 1, size))
        self.register_buffer("running_var", torch.empty(paths, 1, 1, size))

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """(P, B, L, d) with `real` (P, B, L) bool -> (P, B, L, d) in float32."""
        x = x.float()
        mean, variance = self._statistics(x, real) if self.training else (self.running_mean, self.running_var)
        scale = self.weight * (variance + self.epsilon).rsqrt()
        return torch.addcmul(self.bias - mean * scale, x, scale)

    def _statistics(self, x: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        count = real.sum((1, 2)).view(-1, 1, 1, 1)  # (P, 1, 1, 1)
        weight = real[..., None] / count.clamp_min(1)  # (P, B, L, 1)
        mean = (x * weight).sum((1, 2), keepdim=True)  # (P, 1, 1, d)
        variance = ((x - mean).square() * weight).sum((1, 2), keepdim=True)
        enough = count >= 2
        mean = torch.where(enough, mean, self.running_mean)
        variance = torch.where(enough, variance, self.running_var)
        self._update(mean, variance, count)
        return mean, variance

    @torch.no_grad()
    def _update(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Move the running statistics; those of a path with too few utterances move towards themselves."""
        unbiased = torch.where(count >= 2, variance * count / (count - 1).clamp_min(1), variance)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(unbiased, self.momentum)


@dataclass(frozen=True)
class Encoded:
    """What LPGNet makes of a batch: H (B, L, d), H_m, gate 2 alpha (M, B, L, d), gate 1 (P, B, L, d)."""

    fused: Tensor
    refined: Tensor
    alpha: Tensor
    path_gates: Tensor


class LPGNetPreTrainedModel(EmotionModel):
    """Configuration and initialisation of LPGNet's own modules."""

    config_class = LPGNetConfig
    config: LPGNetConfig
    base_model_prefix = "lpgnet"

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, MaskedBatchNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)
        elif isinstance(module, LPGNetModel) and module.raw_slopes is not None:
            # Slopes 1/4 .. 1/256 over the heads, as fixed ones are in ALiBi (Press et al., arXiv 2108.12409).
            heads = self.config.num_attention_heads
            slopes = 2.0 ** (-8.0 * torch.arange(1, heads + 1) / heads)
            init.copy_(module.raw_slopes, slopes.expm1().log().expand_as(module.raw_slopes))


class LPGNetModel(LPGNetPreTrainedModel):
    """Steps 0 to 6: from embeddings to the fused vector of every utterance."""

    def __init__(self, config: LPGNetConfig) -> None:
        super().__init__(config)
        names, d = config.modality_names, config.hidden_size
        self.path_query, self.path_source = (list(side) for side in zip(*config.paths, strict=True))
        paths, modalities = len(config.paths), len(names)
        projections = paths if config.projections_per_path else modalities
        self.mixes = nn.ModuleDict({m: InputMix(*config.input_sizes[m]) for m in names})
        self.local = nn.ModuleDict({m: nn.Conv1d(config.input_sizes[m][1], d, config.kernel_size) for m in names})
        self.query = StackedLinear(projections, d, d)
        self.key_value = StackedLinear(projections, d, 2 * d)
        self.raw_slopes = nn.Parameter(torch.empty(paths, config.num_attention_heads)) if config.distance_bias else None
        self.context = StackedLinear(paths, d, d)
        self.context_norm = MaskedBatchNorm(paths, d)
        self.feed_norm = StackedLayerNorm(paths, d)
        self.feed_in = StackedLinear(paths, d, d)
        self.feed_out = StackedLinear(paths, d, d)
        self.path_gate = StackedLinear(paths, d, d, bias=False) if config.path_gate else None
        self.refine = StackedLinear(modalities, paths // modalities * d, d)
        gated = config.modality_gate and modalities > 1
        self.modality_gate = nn.Linear(d, d, bias=False) if gated else None
        self.dropout = nn.Dropout(config.dropout)
        # This part alone loads from a whole model's checkpoint too.
        self._keys_to_ignore_on_load_unexpected = [r"^fused_head\.", r"^branch_heads\."]
        self.post_init()

    def forward(self, inputs: Mapping[str, Tensor], masks: Mapping[str, Tensor], mask: Tensor) -> Encoded:
        """Encode a batch of dialogues; see `LPGNetForEmotionRecognition.forward` for the arguments."""
        present = self.present(inputs, masks, mask)
        mixed = self.mix_inputs(inputs, present)  # 0
        real = torch.stack(list(present.values()))  # (M, B, L)
        local = self._encode(mixed, real)  # 1, (M, B, L, d)
        context = self._attend(local, real)  # 2 and 3, (P, B, L, d)
        enhanced = self._enhance(local[self.path_query], context, real[self.path_query])  # 4, (P, B, L, d)
        gates, refined = self._refine(enhanced)  # 5, (P, B, L, d) and (M, B, L, d)
        scores = None if self.modality_gate is None else self.modality_gate(refined)
        fused, alpha = fuse(refined, scores, real)  # 6, (B, L, d) and (M, B, L, d)
        return Encoded(fused, refined, alpha, gates)

    def _encode(self, mixed: Mapping[str, Tensor], real: Tensor) -> Tensor:
        """1. X_m = Dropout(Conv1d_k(U_m)); what is padded or missing is zero before and after."""
        reach = self.config.kernel_size - 1
        left = reach if self.config.causal else reach // 2
        encoded = []
        for name, values in mixed.items():
            padded = F.pad(values.transpose(1, 2), (left, reach - left))  # (B, D_m, L + k - 1)
            encoded.append(self.local[name](padded).transpose(1, 2))  # (B, L, d)
        return self.dropout(torch.stack(encoded)).masked_fill(~real[..., None], 0.0)

    def _attend(self, local: Tensor, real: Tensor) -> Tensor:
        """2 and 3. Every path's attention: (M, B, L, d) -> (P, B, L, d)."""
        queries = self._project(self.query, local, self.path_query)
        keys, values = self._project(self.key_value, local, self.path_source).chunk(2, dim=-1)
        return attend(
            queries,
            keys,
            values,
            real[self.path_source],
            heads=self.config.num_attention_heads,
            causal=self.config.causal,
            slopes=None if self.raw_slopes is None else F.softplus(self.raw_slopes),
        )

    def _project(self, layer: StackedLinear, local: Tensor, modality_of_path: list[int]) -> Tensor:
        if self.config.projections_per_path:
            return layer(local[modality_of_path])
        return layer(local)[modality_of_path]

    def _enhance(self, local: Tensor, context: Tensor, real: Tensor) -> Tensor:
        """4. Z = X_q + Dropout(LeakyReLU(BatchNorm(Conv1x1(context)))), H = Z + FFN(LayerNorm(Z))."""
        normed = self.context_norm(self.context(context), real)
        z = local + self.dropout(F.leaky_relu(normed))
        return z + self.feed_out(F.gelu(self.feed_in(self.feed_norm(z))))

    def _refine(self, enhanced: Tensor) -> tuple[Tensor, Tensor]:
        """5. G = sigmoid(W H) * H per path, H_m = W_m [G of the paths into m] + b."""
        gates = torch.ones_like(enhanced) if self.path_gate is None else self.path_gate(enhanced).sigmoid()
        modalities = len(self.mixes)
        grouped = (gates * enhanced).unflatten(0, (modalities, -1))  # (M, S, B, L, d)
        joined = grouped.movedim(1, 3).flatten(-2)  # (M, B, L, S * d)
        return gates, self.refine(joined)


class LPGNetForEmotionRecognition(LPGNetPreTrainedModel):
    """LPGNet with its heads and its loss.

    Example:
        >>> config = LPGNetConfig(input_sizes={"text": [1, 8], "audio": [3, 6]}, num_labels=4, hidden_size=16)
        >>> model = LPGNetForEmotionRecognition(config).eval()
        >>> mask = torch.ones(1, 5, dtype=torch.bool)
        >>> inputs = {"text": torch.randn(1, 5, 1, 8), "audio": torch.randn(1, 5, 3, 6)}
        >>> model(inputs, {"text": mask, "audio": mask}, mask).logits.shape
        torch.Size([1, 5, 4])
    """

    def __init__(self, config: LPGNetConfig) -> None:
        super().__init__(config)
        self.lpgnet = LPGNetModel(config)
        self.dropout = nn.Dropout(config.dropout)
        self.fused_head = nn.Linear(config.hidden_size, config.num_classes)
        self.branch_heads = StackedLinear(len(config.modality_names), config.hidden_size, config.num_classes)
        self.post_init()

    @property
    def mixes(self) -> nn.ModuleDict:  # type: ignore[override]
        """Step 0 of each modality."""
        return self.lpgnet.mixes

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        mask: Tensor,
        labels: Tensor | None = None,
        speakers: Tensor | None = None,
        return_gates: bool = False,
    ) -> EmotionOutput:
        """Predict the emotion of every utterance.

        Args:
            inputs: embeddings (B, L, K_m, D_m) by modality, finite everywhere. A modality that is not there
                is missing in the whole batch; one that the model does not use is ignored.
            masks: (B, L) bool by modality, true where the utterance has it.
            mask: (B, L) bool, true for a real utterance.
            labels: (B, L) class numbers, -100 where there is none; with them the output has a loss.
            speakers: ignored: LPGNet knows no speakers.
            return_gates: whether the output has both gates in full.

        Raises:
            ModelError: an embedding has not the sizes in the configuration.
        """
        encoded = self.lpgnet(inputs, masks, mask)
        logits = self.fused_head(encoded.fused)  # 7, (B, L, C)
        branches = self.branch_heads(self.dropout(encoded.refined.relu()))  # (M, B, L, C)
        return self.output(  # 8
            logits,
            by_name(self.config.modality_names, branches),
            labels,
            mask,
            self.present(inputs, masks, mask),
            **self.describe_gates(encoded.alpha, encoded.path_gates, return_gates),
        )
