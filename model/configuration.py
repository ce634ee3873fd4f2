"""Configurations of the three models, which need no torch: every choice is a field, kept in `config.json`.

LPGNet (He and Xiao, arXiv 2508.08925) publishes its parts and their order. The sizes, rates and loss weights
below are chosen here, those of `SDTConfig` are its authors'; whoever learns better changes a field and no code.
"""

import json
import math
import sys
from dataclasses import asdict, dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from reprlib import repr as shown
from types import UnionType
from typing import Annotated, Any, ClassVar, Self, get_args, get_origin, get_type_hints

from lpgnet.model.errors import ModelError
from lpgnet.model.files import write_whole

# What the values of a field are called to people.
_KINDS: dict[Any, str] = {
    bool: "true or false",
    str: "text",
    list: "a list",
    dict: "an object, a value under each name",
}
# What `config.json` has besides the fields: the type, and in those of version 0.1.0 what transformers added.
FURTHER_KEYS = (
    "model_type",
    *("_name_or_path", "architectures", "chunk_size_feed_forward", "dtype", "is_encoder_decoder", "label2id"),
    *("output_attentions", "output_hidden_states", "problem_type", "return_dict", "transformers_version"),
)
# Sizes are bounded far beyond what is realistic, so that a wrong or hostile number takes no memory and no time.
# Encoders have up to some 130 layers of up to 8,192 numbers, which the pooling mean_std doubles.
MOST_LAYERS = 1024
LARGEST_WIDTH = 2**17
# LPGNet has 256 and SDT 1,024.
LARGEST_HIDDEN_SIZE = 8192
# SDT's paper has three, and the attention paths are as many as their square.
MOST_MODALITIES = 16
# The finest sets of emotions have some dozens.
MOST_CLASSES = 1024
# Turns: few dialogues have more.
LONGEST_CONTEXT = 1000
MOST_SPEAKERS = 1024
MOST_LOCAL_LAYERS = 16
CONTEXT_NORMS = ("batch", "layer")
# Four hours, in seconds.
LONGEST_UTTERANCE = 14_400
AUDIO_TRIMS = ("none", "speech")
GROUPS = ("corpus", "session", "speaker", "dialogue")
MOST_DIMENSIONS = 16
# Scales go to 7 or 100.
FARTHEST_RATING = 1e9
DIMENSION_LOSSES = ("ccc", "mse")
AUDIO_SILENCE = {"lead", "trail", "share"}
# Numbers of a whole model: LPGNet has 3 million, and 33 million with a hidden_size of 1,024.
MOST_NUMBERS = 2**31
# What calibration finds lies between 0.1 and 10; far below, logits divided by it are beyond float32.
COLDEST, HOTTEST = 0.01, 100.0
# A config.json has some thousand bytes.
LARGEST_FILE = 2**24


@dataclass(frozen=True, kw_only=True)
class Range:
    """The numbers that a field takes, in the type of the field: `Annotated[int, Range(...)]`.

    Attributes:
        needs: what to give instead of a number that is not among them.
        least, most: the smallest and the largest one.
        above, below: bounds that are not among them.
    """

    needs: str
    least: float = -sys.float_info.max
    most: float = sys.float_info.max
    above: float = -math.inf
    below: float = math.inf

    def __contains__(self, value: float) -> bool:
        return self.least <= value <= self.most and self.above < value < self.below


def _up_to(most: int, *, least: int = 1) -> Range:
    return Range(needs=f"a whole number of at least {least} and at most {most}", least=least, most=most)


HiddenSize = Annotated[int, _up_to(LARGEST_HIDDEN_SIZE)]
Width = Annotated[int, _up_to(LARGEST_WIDTH)]
Turns = Annotated[int, _up_to(LONGEST_CONTEXT, least=0)]
KernelSize = Annotated[int, _up_to(LONGEST_CONTEXT)]
Speakers = Annotated[int, _up_to(MOST_SPEAKERS)]
LocalLayers = Annotated[int, _up_to(MOST_LOCAL_LAYERS)]
Probability = Annotated[float, Range(needs="a number from 0 up to, not including, 1", least=0, below=1)]
Seconds = Annotated[float, Range(needs=f"a number from 0 to {LONGEST_UTTERANCE}", least=0, most=LONGEST_UTTERANCE)]
Weight = Annotated[float, Range(needs="a number of at least 0", least=0)]
Temperature = Annotated[float, Range(needs="a number above 0", above=0)]
Calibration = Annotated[
    float, Range(needs=f"a number from {COLDEST:g} to {HOTTEST:g}; 1 changes nothing", least=COLDEST, most=HOTTEST)
]


@dataclass(kw_only=True)
class LossConfig:
    """The loss of step 8.

    Attributes:
        fused_weight, branch_weight, distillation_weight: the loss weights g1, g2 and g3.
        temperature: T of the distillation.
        detach_teacher: whether the fused head learns nothing from the distillation.
        temperature_squared: whether the distillation is multiplied by T^2.
        class_weights: weight of each class in the cross-entropies and the contrast, by class number; null: all equal.
        label_smoothing: share of each target that is spread over all classes alike.
        contrast_weight: weight of the supervised contrast of the fused representation; 0: there is none.
        contrast_temperature: what the cosines of the contrast are divided by.
        dimension_weight: weight of what the heads for `dimensions` learn, beside that of the emotions.
        dimension_loss: ccc (1 - the concordance correlation coefficient) or mse (mean squared error), of ratings from
            -1 to 1.

    Raises:
        ModelError: a field has a value that no model can be built with.
    """

    fused_weight: Weight = 1.0
    branch_weight: Weight = 1.0
    distillation_weight: Weight = 1.0
    temperature: Temperature = 1.0
    detach_teacher: bool = True
    temperature_squared: bool = True
    class_weights: list[Weight] | None = None
    label_smoothing: Probability = 0.0
    contrast_weight: Weight = 0.0
    contrast_temperature: Temperature = 0.1
    dimension_weight: Weight = 0.5
    dimension_loss: str = "ccc"

    def __post_init__(self) -> None:
        """Refuse a field of the wrong type or out of its range."""
        hints = get_type_hints(type(self), include_extras=True)
        for entry in fields(self):
            _check_value(entry.name, getattr(self, entry.name), hints[entry.name])
        loss = self.dimension_loss
        _require(
            loss in DIMENSION_LOSSES, f"dimension_loss is {shown(loss)}: give one of {', '.join(DIMENSION_LOSSES)}"
        )


@dataclass(kw_only=True)
class EmotionConfig(LossConfig):
    """What every model of this package needs to know, and what its checkpoint says of its making.

    Attributes:
        input_sizes: number of layers and width of each modality's embedding, `{"text": [K, D], ...}`.
        modalities: those that the model uses, in the order of its parameters; null: all of them.
        standardise: corpus, or session, speaker or dialogue where whoever feeds the model first standardizes each
            embedding by all turns of the same one, so that a result depends on all of them.
        dropout: probability of every dropout.
        dimensions: what is predicted on a scale beside the emotions: some of valence, arousal and dominance.
        ranges: the lowest and the highest rating of each of them in the corpus that the model was trained on.
        id2label: the emotions by class number, from 0.
        label_map: the emotion of each label code of the corpus that it was trained on; null: an ignored code.
        encoders: what made the embeddings of each modality, as its encoder describes itself.
        text_context_turns: turns before an utterance that its text embedding has seen (turns).
        audio_trim: none, or speech where each utterance was cut to its first and last speech before it was embedded.
        audio_silence: what was not speech in the audio that it was trained on: the medians before (`lead`) and after
            (`trail`) the words of an utterance (seconds), and the `share` of all; empty where that is not known.
        calibration_temperature: what the logits are divided by before the softmax.
        trained_on: what it was trained on and what it scored, as whoever trained it describes that.
        distances: how far the embeddings of other dialogues of its corpus lie from those of training, by modality, as
            whoever trained it measured with `EmotionModel.distances`.
    """

    model_type: ClassVar[str]

    input_sizes: dict[str, list[Width]] = field(default_factory=lambda: {"text": [1, 768], "audio": [1, 768]})
    modalities: list[str] | None = None
    standardise: str = "corpus"
    dropout: Probability = 0.5
    dimensions: list[str] = field(default_factory=list)
    ranges: dict[str, list[float]] = field(default_factory=dict)
    id2label: dict[int, str] = field(default_factory=lambda: dict(enumerate(("angry", "happy", "neutral", "sad"))))
    label_map: dict[str, str | None] = field(default_factory=dict)
    encoders: dict[str, dict[str, Any]] = field(default_factory=dict)
    text_context_turns: Turns = 0
    audio_trim: str = "none"
    audio_silence: dict[str, Seconds] = field(default_factory=dict)
    calibration_temperature: Calibration = 1.0
    trained_on: dict[str, Any] = field(default_factory=dict)
    distances: dict[str, dict[str, Weight]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Fill in the modalities and check the fields."""
        super().__post_init__()
        self.input_sizes = {name: list(sizes) for name, sizes in self.input_sizes.items()}
        # JSON objects are written with sorted keys, so the order of the modalities needs a list of its own.
        self.modalities = list(self.input_sizes) if self.modalities is None else list(self.modalities)
        self._check_inputs()
        self._check_classes()
        self._check_dimensions()
        self._check_audio()

    def _check_inputs(self) -> None:
        sizes, names = self.input_sizes, self.modality_names
        _require(bool(sizes), "input_sizes is empty: give [layers, width] of at least one modality")
        _require(
            len(sizes) <= MOST_MODALITIES, f"input_sizes has {len(sizes)} modalities: give {MOST_MODALITIES} at most"
        )
        for name, size in sizes.items():
            fits = len(size) == 2 and size[0] <= MOST_LAYERS
            _require(fits, f"input_sizes.{name} is {shown(size)}: give [layers, width], {MOST_LAYERS} layers at most")
        _require(len(names) == len(set(names)) > 0, f"modalities is {shown(names)}: give at least one, and each once")
        for name in names:
            _require(name in sizes, f"modality {shown(name)} has no input_sizes: give [layers, width] for it")
            _require(name.isidentifier(), f"modality {shown(name)} cannot name a part of a model: choose another name")
        by = self.standardise
        _require(by in GROUPS, f"standardise is {shown(by)}: give one of {', '.join(GROUPS)}")

    def _check_classes(self) -> None:
        # A key of a JSON object is a string.
        names = {str(key): name for key, name in self.id2label.items()}
        numbered = len(names) > 0 and names.keys() == {str(number) for number in range(len(names))}
        _require(numbered, f"id2label has the classes {shown(list(names))}: number them from 0 on")
        _require(len(names) <= MOST_CLASSES, f"id2label has {len(names)} classes: give {MOST_CLASSES} at most")
        self.id2label = {number: names[str(number)] for number in range(len(names))}
        weights = self.class_weights
        _require(
            weights is None or len(weights) == self.num_classes,
            f"class_weights has {len(weights or [])} numbers for {self.num_classes} classes",
        )

    def _check_dimensions(self) -> None:
        names = self.dimensions
        _require(len(names) == len(set(names)) <= MOST_DIMENSIONS, f"dimensions is {shown(names)}: give each once")
        for name in names:
            _require(name.isidentifier(), f"dimension {shown(name)} cannot name a column: choose another name")
            _require(name in self.ranges, f"dimension {shown(name)} has no range: give [lowest, highest] in ranges")
        for name, ends in self.ranges.items():
            is_range = len(ends) == 2 and all(abs(end) < FARTHEST_RATING for end in ends) and ends[0] < ends[1]
            _require(is_range, f"ranges.{name} is {shown(ends)}: give [lowest, highest]")

    def _check_audio(self) -> None:
        trim, silence = self.audio_trim, self.audio_silence
        _require(trim in AUDIO_TRIMS, f"audio_trim is {shown(trim)}: give one of {', '.join(AUDIO_TRIMS)}")
        _require(
            silence.keys() in (set(), AUDIO_SILENCE),
            f"audio_silence has {shown(list(silence))}: give lead, trail and share, or nothing",
        )

    @property
    def modality_names(self) -> list[str]:
        """The modalities that the model uses, in the order of its parameters."""
        return self.modalities or []

    @property
    def rated(self) -> dict[str, tuple[float, float]]:
        """The lowest and the highest rating of each dimension, in the order of the heads."""
        return {name: (self.ranges[name][0], self.ranges[name][1]) for name in self.dimensions}

    @property
    def num_classes(self) -> int:
        """C, the number of emotions."""
        return len(self.id2label)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make a configuration of the fields by name.

        Raises:
            ModelError: a field is unknown, or has a value that no model can be built with.
        """
        known = [entry.name for entry in fields(cls)]
        if unknown := [name for name in values if name not in known]:
            close = _suggestion(unknown[0], known)
            raise ModelError(f"a {cls.model_type} model has no field {shown(unknown[0])}{close}")
        try:
            return cls(**values)
        except (TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"a field has a value of the wrong type: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Every field, defaults too (a later default must not change a checkpoint), and the type of the model."""
        return {"model_type": self.model_type, **asdict(self)}


@dataclass(kw_only=True)
class LPGNetConfig(EmotionConfig):
    """LPGNet, its ablations and its variants.

    Attributes:
        hidden_size: d, the width after the convolution.
        num_attention_heads: h; it divides `hidden_size`.
        kernel_size: utterances that the local encoding sees, this one included.
        local_layers: layers of the local encoding; those after the first are residual convolutions over 3 utterances.
        voice_neighbours: the local encoding also sees the turn before and after of the same voice and of another one,
            where speakers are told; who they are is never known.
        causal: no result depends on a later utterance of the dialogue.
        distance_bias: take a learned non-negative slope times the distance in turns off each attention score.
        speaker_turn_bias: add a learned number to each attention score between turns of the same voice, and another
            one between those of two, where speakers are told.
        context_norm: what normalizes the attended context, batch (over the utterances of a step) or layer (each
            utterance by itself).
        intra_modal, cross_modal: keep the paths within, and between, the modalities.
        path_gate: gate 1; without it G = H.
        modality_gate: gate 2; without it the present modalities weigh the same.
        projections_per_path: queries, keys and values projected for each path instead of once per modality.
    """

    model_type: ClassVar[str] = "lpgnet"

    hidden_size: HiddenSize = 256
    num_attention_heads: HiddenSize = 4
    kernel_size: KernelSize = 3
    local_layers: LocalLayers = 1
    voice_neighbours: bool = False
    causal: bool = False
    distance_bias: bool = False
    speaker_turn_bias: bool = False
    context_norm: str = "batch"
    intra_modal: bool = True
    cross_modal: bool = True
    path_gate: bool = True
    modality_gate: bool = True
    projections_per_path: bool = False

    def __post_init__(self) -> None:
        """Check the fields of LPGNet too."""
        super().__post_init__()
        _check_heads(self.hidden_size, self.num_attention_heads)
        _require(
            bool(self.paths),
            "no path is left: set intra_modal to true, or cross_modal with two modalities or more",
        )
        norm = self.context_norm
        _require(norm in CONTEXT_NORMS, f"context_norm is {shown(norm)}: give one of {', '.join(CONTEXT_NORMS)}")
        _require(
            not self.causal or self.standardise == "corpus",
            f"standardise is {self.standardise}, which needs later turns too: set it to corpus, or causal to false",
        )

    @property
    def paths(self) -> list[tuple[int, int]]:
        """The attention paths as (query, source) numbers of modalities, those of one query together."""
        return [path for path in _pairs(self) if (self.intra_modal if path[0] == path[1] else self.cross_modal)]


@dataclass(kw_only=True)
class SDTConfig(EmotionConfig):
    """SDT (Ma et al., arXiv 2310.20494), which LPGNet is measured against, as its authors built it.

    Attributes:
        hidden_size: d, an even number.
        num_attention_heads: heads of each of the encoders, one per ordered pair of modalities.
        speaker_embedding: whether the model knows who speaks.
        num_speakers: rows of the speaker table besides the one for padding, which further speakers share.
    """

    model_type: ClassVar[str] = "sdt"

    hidden_size: HiddenSize = 1024
    num_attention_heads: HiddenSize = 8
    speaker_embedding: bool = True
    num_speakers: Speakers = 2
    detach_teacher: bool = False
    temperature_squared: bool = False

    def __post_init__(self) -> None:
        """Check the fields of SDT too."""
        super().__post_init__()
        _check_heads(self.hidden_size, self.num_attention_heads)
        _require(self.hidden_size % 2 == 0, f"hidden_size is {self.hidden_size}: the positions need an even one")

    @property
    def paths(self) -> list[tuple[int, int]]:
        """The attention paths as (query, source) numbers of modalities, those of one query together."""
        return _pairs(self)


@dataclass(kw_only=True)
class ConcatConfig(EmotionConfig):
    """A linear layer on an utterance's concatenated embeddings: no context, no gates, no distillation."""

    model_type: ClassVar[str] = "concat"


CONFIG_TYPES: dict[str, type[EmotionConfig]] = {
    kind.model_type: kind for kind in (LPGNetConfig, SDTConfig, ConcatConfig)
}


def config_type(model_type: str) -> type[EmotionConfig]:
    """The configuration's class by the model's type.

    Raises:
        ModelError: there is no such type; names the nearest one.
    """
    if model_type not in CONFIG_TYPES:
        close = _suggestion(model_type, list(CONFIG_TYPES))
        raise ModelError(f"there is no model type {shown(model_type)}{close}; there are {', '.join(CONFIG_TYPES)}")
    return CONFIG_TYPES[model_type]


def read_config(path: Path) -> EmotionConfig:
    """Read `config.json`, of whichever type of model it names.

    Raises:
        ModelError: it is not there, cannot be read, or no model can be built with it.
    """
    values = _read_object(path)
    try:
        kind = config_type(str(values.get("model_type")))
        return kind.from_dict({name: value for name, value in values.items() if name not in FURTHER_KEYS})
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _read_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ModelError(f"{path.parent}: no {path.name} there: give the folder of a trained model")
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError(f"it has more than {LARGEST_FILE} bytes")
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not a readable configuration: {error}") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path}: not a readable configuration: it holds no JSON object")
    return values


def write_config(path: Path, config: EmotionConfig) -> None:
    """Write `config.json`, whole or not at all.

    Raises:
        ModelError: a field that was set since has a value that would be refused, or the folder cannot be written to.
    """
    values = json.dumps(replace(config).to_dict(), indent=2, sort_keys=True)
    write_whole(path, f"{values}\n".encode())


def _suggestion(name: str, known: list[str]) -> str:
    close = get_close_matches(name[:100], known, n=1)
    return f": did you mean '{close[0]}'?" if close else ""


def _check_value(name: str, value: Any, hint: Any) -> None:
    """Check a value, and those inside it, against the type of the field and the range that is in it."""
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind is UnionType and value is not None:
        _check_value(name, value, parts[0])
    elif kind is Annotated:
        number, numbers = parts
        is_number = isinstance(value, int if number is int else int | float) and not isinstance(value, bool)
        _require(is_number and value in numbers, f"{name} is {shown(value)}: give {numbers.needs}")
    elif kind in _KINDS:
        _require(isinstance(value, kind), f"{name} is {shown(value)}: give {_KINDS[kind]}")
    if kind is dict:
        for key, inner in value.items():
            _check_value(f"{name}.{key}", inner, parts[1])
    if kind is list:
        for number, inner in enumerate(value):
            _check_value(f"{name}[{number}]", inner, parts[0])


def _check_heads(hidden_size: int, heads: int) -> None:
    divides = hidden_size % heads == 0
    _require(divides, f"num_attention_heads is {heads} and must divide hidden_size, {hidden_size}")


def _pairs(config: EmotionConfig) -> list[tuple[int, int]]:
    numbers = range(len(config.modality_names))
    return [(query, source) for query in numbers for source in numbers]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ModelError(message)
