"""What the models share: inputs, outputs, initialisation, loss, and loading that leaves no weight random."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from lpgnet.model.configuration import EmotionConfig
from lpgnet.model.distillation import LossTerms, loss_counts, self_distillation
from lpgnet.model.errors import ModelError


@dataclass
class EmotionOutput(ModelOutput):
    """What a model gives for a batch of dialogues.

    Attributes:
        loss: scalar, the terms normalised by this batch's own counts; only with labels.
        logits: (B, L, C) of the head that predicts. What stands at padding means nothing.
        branch_logits: (B, L, C) by modality, of the heads that serve training; empty without such heads.
        modality_weights: (B, L) by modality, the mean of gate 2 over the dimensions; empty without gates.
        loss_terms: the loss's sums and counts; only with labels.
        modality_gates: gate 2, (B, L, d) by modality; only on request.
        path_gates: gate 1, (B, L, d) by path, as in "text<-audio"; only on request.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    branch_logits: dict[str, Tensor] | None = None
    modality_weights: dict[str, Tensor] | None = None
    loss_terms: LossTerms | None = None
    modality_gates: dict[str, Tensor] | None = None
    path_gates: dict[str, Tensor] | None = None


class StackedLinear(nn.Module):
    """`copies` linear layers side by side: (copies, ..., in) -> (copies, ..., out) in one product."""

    def __init__(self, copies: int, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(copies, in_features, out_features))
        self.bias = nn.Parameter(torch.empty(copies, 1, out_features)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Apply layer i to x[i]."""
        rows = x.flatten(1, -2)  # (copies, N, in)
        out = torch.bmm(rows, self.weight) if self.bias is None else torch.baddbmm(self.bias, rows, self.weight)
        return out.unflatten(1, x.shape[1:-1])


class StackedLayerNorm(nn.Module):
    """`copies` layer normalisations side by side: (copies, B, L, d) -> the same."""

    def __init__(self, copies: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(copies, 1, 1, size))
        self.bias = nn.Parameter(torch.empty(copies, 1, 1, size))

    def forward(self, x: Tensor) -> Tensor:
        """Apply normalisation i to x[i]."""
        return torch.addcmul(self.bias, nn.functional.layer_norm(x, x.shape[-1:]), self.weight)


class InputMix(nn.Module):
    """Step 0: standardise each layer and dimension of an embedding, then mix its layers by softmax weights.

    The statistics are buffers and travel with the checkpoint. With one layer there is nothing to learn.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.empty(layers, width))
        self.register_buffer("std", torch.empty(layers, width))
        self.layer_weights = nn.Parameter(torch.empty(layers)) if layers > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, K, D) -> (B, L, D), in float32.

        Both are one weighted sum over the layers, sum_k (w_k / std_k) (x_k - mean_k), taken layer by layer: the
        input is the model's largest tensor by far, and no copy of it is made.
        """
        if self.layer_weights is None:
            return (x[:, :, 0].float() - self.mean[0]) / self.std[0]
        scale = self.layer_weights.float().softmax(0)[:, None] / self.std  # (K, D)
        mixed = -(scale * self.mean).sum(0)
        for layer, layer_scale in zip(x.unbind(2), scale, strict=True):
            mixed = torch.addcmul(mixed, layer.float(), layer_scale)
        return mixed


class EmotionModel(PreTrainedModel):
    """Base of the models: one call, one initialisation, one loss, one checkpoint layout."""

    config_class = EmotionConfig
    config: EmotionConfig
    main_input_name = "inputs"
    mixes: nn.ModuleDict

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise one module as torch does its linear layers; what was loaded is left alone."""
        if isinstance(module, InputMix):
            init.zeros_(module.mean)
            init.ones_(module.std)
            if module.layer_weights is not None:
                init.zeros_(module.layer_weights)
        elif isinstance(module, nn.Linear | nn.Conv1d):
            _init_uniform(module, fan_in=module.weight[0].numel())
        elif isinstance(module, StackedLinear):
            _init_uniform(module, fan_in=module.weight.shape[1])
        elif isinstance(module, StackedLayerNorm | nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)

    def standardize_(self, modality: str, mean: Tensor, std: Tensor) -> None:
        """Set the statistics that a modality's embeddings are standardised with.

        Args:
            modality: one of the model's modalities.
            mean: (K, D), over the training utterances that have the modality.
            std: (K, D); a dimension that never varies (0) is centred and not scaled.

        Raises:
            ModelError: the statistics are not finite or their shapes not those of the modality.
        """
        if modality not in self.mixes:
            raise ModelError(f"the model has no modality '{modality}' to standardise")
        mix = self._mix(modality)
        if mean.shape != mix.mean.shape or std.shape != mix.std.shape:
            sizes = f"{tuple(mean.shape)} and {tuple(std.shape)}"
            raise ModelError(f"{modality}: statistics of shapes {sizes} do not fit inputs of {tuple(mix.mean.shape)}")
        if not (mean.isfinite().all() and std.isfinite().all()):
            raise ModelError(f"{modality}: statistics that are not finite: does any training utterance have it?")
        mix.mean.copy_(mean)
        # The deviation of a constant is rounding noise, not always 0.
        mix.std.copy_(torch.where(std > 1e-6 * mean.abs(), std, 1.0))

    def loss_counts(self, labels: Tensor, mask: Tensor, masks: Mapping[str, Tensor]) -> Tensor:
        """Count what each loss term of a batch is divided by, (terms,), without running the model."""
        return loss_counts(labels, mask, masks, self.branch_names, self.config.loss_settings)

    @property
    def branch_names(self) -> list[str]:
        """The modalities that have a branch head."""
        return self.config.modality_names

    def present(self, inputs: Mapping[str, Tensor], masks: Mapping[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
        """Which utterances have which modality of the model, (B, L) bool; none if the batch lacks it."""
        nowhere = torch.zeros_like(mask)
        return {m: masks[m] & mask if m in inputs else nowhere for m in self.config.modality_names}

    def mix_inputs(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Step 0 for every modality: (B, L, D_m), zero where the utterance lacks it."""
        mixed = {}
        for name, real in present.items():
            values = inputs[name] if name in inputs else self._absent(name, real)
            self._check_shape(name, values)
            mixed[name] = self._mix(name)(values).masked_fill(~real[..., None], 0.0)
        return mixed

    def output(
        self,
        logits: Tensor,
        branch_logits: dict[str, Tensor],
        labels: Tensor | None,
        mask: Tensor,
        present: Mapping[str, Tensor],
        **further: Any,
    ) -> EmotionOutput:
        """Collect the output, with the loss when there are labels."""
        terms = None
        if labels is not None:
            settings = self.config.loss_settings
            terms = self_distillation(logits, branch_logits, labels, mask, present, settings)
        return EmotionOutput(
            loss=None if terms is None else terms.normalise(),
            logits=logits,
            branch_logits=branch_logits,
            loss_terms=terms,
            **further,
        )

    def describe_gates(self, alpha: Tensor, path_gates: Tensor, in_full: bool) -> dict[str, Any]:
        """The output's fields on the gates, from alpha (M, B, L, d) and gate 1 (P, B, L, d)."""
        names = self.config.modality_names
        described: dict[str, Any] = {"modality_weights": by_name(names, alpha.detach().mean(-1))}
        if in_full:
            paths = [f"{names[query]}<-{names[source]}" for query, source in self.config.paths]
            described["modality_gates"] = by_name(names, alpha)
            described["path_gates"] = by_name(paths, path_gates)
        return described

    @classmethod
    def from_pretrained(cls, folder: str | Path, *args: Any, **kwargs: Any) -> Self:  # type: ignore[override]
        """Load a model; unlike the inherited method it never initialises what the checkpoint lacks.

        Raises:
            ModelError: the weights are missing, unreadable, or not those of the configuration.
        """
        kwargs = {"use_safetensors": True} | kwargs | {"output_loading_info": True}
        try:
            loaded: Any = super().from_pretrained(folder, *args, **kwargs)
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(f"{folder}: cannot load the model: {_first_line(error)}") from error
        model, report = loaded
        for problem in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
            if report[problem]:
                names = ", ".join(sorted(str(name) for name in report[problem])[:3])
                raise ModelError(f"{folder}: the weights do not fit config.json ({problem}: {names})")
        return model

    def _mix(self, name: str) -> InputMix:
        return cast(InputMix, self.mixes[name])

    def _absent(self, name: str, real: Tensor) -> Tensor:
        layers, width = self.config.input_sizes[name]
        return self._mix(name).mean.new_zeros(*real.shape, layers, width)

    def _check_shape(self, name: str, values: Tensor) -> None:
        expected = self.config.input_sizes[name]
        if values.dim() != 4 or list(values.shape[2:]) != expected:
            raise ModelError(f"{name}: inputs of shape {tuple(values.shape)}, but the model takes (B, L, *{expected})")


def by_name(names: list[str], stacked: Tensor) -> dict[str, Tensor]:
    """Name the rows of a stack of modalities or paths."""
    return dict(zip(names, stacked, strict=True))


def _init_uniform(module: nn.Linear | nn.Conv1d | StackedLinear, fan_in: int) -> None:
    bound = 1 / math.sqrt(fan_in)
    init.uniform_(module.weight, -bound, bound)
    if module.bias is not None:
        init.uniform_(module.bias, -bound, bound)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
