"""Configurations of the three models: every choice is a field, kept in `config.json`.

LPGNet (He and Xiao, arXiv 2508.08925) publishes its parts and their order. The sizes, rates and loss weights
below are chosen here, those of `SDTConfig` are its authors'; whoever learns better changes a field and no code.
"""

import dataclasses
from dataclasses import field
from typing import Any, ClassVar

from torch import nn
from transformers import PretrainedConfig

from lpgnet.model.distillation import LossSettings
from lpgnet.model.errors import ModelError

INHERITED_FIELDS = {field.name for field in dataclasses.fields(PretrainedConfig)}


class EmotionConfig(PretrainedConfig):
    """What every model of this package needs to know.

    Any further keyword becomes an attribute and is kept in `config.json`: a caller may store its label map, its
    encoders or a calibration temperature beside the model.

    Attributes:
        input_sizes: number of layers and width of each modality's embedding, `{"text": [K, D], ...}`.
        modalities: those that the model uses, in the order of its parameters; all of them by default.
        dropout: probability of every dropout.
        fused_weight, branch_weight, distillation_weight: the loss weights g1, g2 and g3.
        temperature: T of the distillation.
        detach_teacher: whether the fused head learns nothing from the distillation.
        temperature_squared: whether the distillation is multiplied by T^2.
        class_weights: weight of each class in the cross-entropies, by class number; null: all equal.

    Raises:
        ModelError: a field has a value that no model can be built with.
    """

    input_sizes: dict[str, list[int]] = field(default_factory=dict)
    modalities: list[str] | None = None
    dropout: float = 0.5
    fused_weight: float = 1.0
    branch_weight: float = 1.0
    distillation_weight: float = 1.0
    temperature: float = 1.0
    detach_teacher: bool = True
    temperature_squared: bool = True
    class_weights: list[float] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Fill in the modalities and check the fields."""
        super().__post_init__(**kwargs)
        self.input_sizes = {name: [int(size) for size in sizes] for name, sizes in self.input_sizes.items()}
        # JSON objects are written with sorted keys, so the order of the modalities needs a list of its own.
        self.modalities = list(self.input_sizes) if self.modalities is None else list(self.modalities)
        self.check()

    def check(self) -> None:
        """Raise ModelError for a field that no model can be built with."""
        for name, sizes in self.input_sizes.items():
            _require(len(sizes) == 2 and min(sizes) > 0, f"input_sizes.{name} is {sizes}: give [layers, width]")
        for name in self.modality_names:
            _require(name in self.input_sizes, f"modality '{name}' has no input_sizes: give [layers, width] for it")
            _require(_is_module_name(name), f"modality '{name}' cannot name a part of a model: choose another name")
        _require(0 <= self.dropout < 1, f"dropout is {self.dropout}: give a number from 0 up to, not including, 1")
        _require(self.temperature > 0, f"temperature is {self.temperature}: give a number above 0")
        _require(
            self.class_weights is None or len(self.class_weights) == self.num_classes,
            f"class_weights has {len(self.class_weights or [])} numbers for {self.num_classes} classes",
        )

    @property
    def modality_names(self) -> list[str]:
        """The modalities that the model uses, in the order of its parameters."""
        return self.modalities or []

    @property
    def num_classes(self) -> int:
        """C, the number of emotions."""
        return len(self.id2label or {})

    @property
    def loss_settings(self) -> LossSettings:
        """The loss of step 8 with this configuration's weights."""
        return LossSettings(
            fused_weight=self.fused_weight,
            branch_weight=self.branch_weight,
            distillation_weight=self.distillation_weight,
            temperature=self.temperature,
            detach_teacher=self.detach_teacher,
            temperature_squared=self.temperature_squared,
            class_weights=tuple(self.class_weights) if self.class_weights else None,
        )

    def to_diff_dict(self) -> dict[str, Any]:
        """Keep our own fields even where they are defaults: a later default must not change a checkpoint."""
        values = self.to_dict()
        ours = {field.name for field in dataclasses.fields(self)} - INHERITED_FIELDS | {
            "id2label",
            "label2id",
        }
        return super().to_diff_dict() | {name: values[name] for name in sorted(ours)}


class LPGNetConfig(EmotionConfig):
    """LPGNet and its ablations.

    Attributes:
        hidden_size: d, the width after the convolution.
        num_attention_heads: h; it divides `hidden_size`.
        kernel_size: utterances that the local encoding sees, this one included.
        causal: no result depends on a later utterance of the dialogue.
        distance_bias: take a learned non-negative slope times the distance in turns off each attention score.
        intra_modal, cross_modal: keep the paths within, and between, the modalities.
        path_gate: gate 1; without it G = H.
        modality_gate: gate 2; without it the present modalities weigh the same.
        projections_per_path: queries, keys and values projected for each path instead of once per modality.
    """

    model_type: ClassVar[str] = "lpgnet"

    hidden_size: int = 256
    num_attention_heads: int = 4
    kernel_size: int = 3
    causal: bool = False
    distance_bias: bool = False
    intra_modal: bool = True
    cross_modal: bool = True
    path_gate: bool = True
    modality_gate: bool = True
    projections_per_path: bool = False

    def check(self) -> None:
        """Raise ModelError for a field that no LPGNet can be built with."""
        super().check()
        _check_heads(self.hidden_size, self.num_attention_heads)
        _require(self.kernel_size > 0, f"kernel_size is {self.kernel_size}: give at least 1")
        _require(
            not self.modality_names or bool(self.paths),
            "no path is left: set intra_modal to true, or cross_modal with two modalities or more",
        )

    @property
    def paths(self) -> list[tuple[int, int]]:
        """The attention paths as (query, source) numbers of modalities, those of one query together."""
        numbers = range(len(self.modality_names))
        every = [(query, source) for query in numbers for source in numbers]
        return [path for path in every if (self.intra_modal if path[0] == path[1] else self.cross_modal)]


class SDTConfig(EmotionConfig):
    """SDT (Ma et al., arXiv 2310.20494), which LPGNet is measured against, as its authors built it.

    Attributes:
        hidden_size: d.
        num_attention_heads: heads of each of the encoders, one per ordered pair of modalities.
        speaker_embedding: whether the model knows who speaks.
        num_speakers: rows of the speaker table besides the one for padding, which further speakers share.
    """

    model_type: ClassVar[str] = "sdt"

    hidden_size: int = 1024
    num_attention_heads: int = 8
    speaker_embedding: bool = True
    num_speakers: int = 2
    detach_teacher: bool = False
    temperature_squared: bool = False

    def check(self) -> None:
        """Raise ModelError for a field that no SDT can be built with."""
        super().check()
        _check_heads(self.hidden_size, self.num_attention_heads)
        _require(self.hidden_size % 2 == 0, f"hidden_size is {self.hidden_size}: the positions need an even one")
        _require(self.num_speakers > 0, f"num_speakers is {self.num_speakers}: give at least 1")

    @property
    def paths(self) -> list[tuple[int, int]]:
        """The attention paths as (query, source) numbers of modalities, those of one query together."""
        numbers = range(len(self.modality_names))
        return [(query, source) for query in numbers for source in numbers]


class ConcatConfig(EmotionConfig):
    """A linear layer on an utterance's concatenated embeddings: no context, no gates, no distillation."""

    model_type: ClassVar[str] = "concat"


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ModelError(message)


def _check_heads(hidden_size: int, heads: int) -> None:
    divides = heads > 0 and hidden_size > 0 and hidden_size % heads == 0
    _require(divides, f"num_attention_heads is {heads} and must divide hidden_size, {hidden_size}")


def _is_module_name(name: str) -> bool:
    return name.isidentifier() and not hasattr(nn.ModuleDict(), name)
