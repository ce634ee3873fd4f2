"""The `model` section of the configuration, made of the networks' own configurations: each field is declared there."""

import re
from dataclasses import MISSING, Field, dataclass, field, fields, make_dataclass
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

from lpgnet.model import CONFIG_TYPES, EmotionConfig

# What the pipeline fills in: from the corpus, its encoders, and other sections.
FILLED_IN = frozenset(
    {
        *("input_sizes", "modalities", "id2label", "label_map", "encoders", "text_context_turns"),
        *("audio_trim", "audio_silence", "calibration_temperature", "class_weights", "trained_on", "distances"),
        *("label_smoothing", "contrast_weight", "ranges"),
    }
)
# `name, other: what it is`, with the lines that go on with it.
_ATTRIBUTE = re.compile(r"^ {8}([\w, ]+): (.*(?:\n {9,}.*)*)", re.MULTILINE)

ModelType = Literal["lpgnet", "sdt", "concat", "text", "audio"]


@dataclass
class ModelChoice:
    """Which network.

    Attributes:
        type: lpgnet, or a baseline: sdt, concat, text (LPGNet on text alone), audio (LPGNet on audio alone)
        modalities: inputs of the model
    """

    type: ModelType = "lpgnet"
    modalities: list[Literal["text", "audio"]] = field(default_factory=lambda: ["text", "audio"])

    @property
    def kind(self) -> str:
        """The name of the network that the type stands for."""
        return "lpgnet" if self.type in ("text", "audio") else self.type

    def settings(self) -> dict[str, Any]:
        """The fields that are set and that the network has: one configuration serves a table of several networks."""
        known = set(settable_fields(CONFIG_TYPES[self.kind]))
        return {name: value for name, value in vars(self).items() if value is not None and name in known}


def settable_fields(kind: type[EmotionConfig]) -> list[str]:
    """The fields of a network's configuration that a user sets."""
    return [entry.name for entry in fields(kind) if entry.name not in FILLED_IN]


def model_config_of(base: type) -> type:
    """Extend a dataclass by every field of every network; null keeps the network's own default."""
    texts = _documented()
    names = list(dict.fromkeys(name for kind in CONFIG_TYPES.values() for name in settable_fields(kind)))
    added = [(name, _type_of(name) | None, field(default=None)) for name in names]
    made = make_dataclass("ModelConfig", added, bases=(base,))
    # Where it is found by that name, by other processes too.
    made.__module__ = __name__
    lines = "".join(f"        {name}: {texts[name]} (null: {_defaults(name)})\n" for name in names)
    made.__doc__ = f"{(base.__doc__ or '').rstrip()}\n{lines}    "
    return made


def _documented() -> dict[str, str]:
    """What the networks' docstrings say of each field."""
    classes = [parent for kind in CONFIG_TYPES.values() for parent in kind.__mro__ if parent.__doc__]
    return {
        name.strip(): " ".join(text.split()).rstrip(".")
        for parent in reversed(classes)
        for listed, text in _ATTRIBUTE.findall(parent.__doc__ or "")
        for name in listed.split(",")
    }


def _owners(name: str) -> dict[str, Field[Any]]:
    """By network, the field of that name."""
    found = {kind: {entry.name: entry for entry in fields(config)} for kind, config in CONFIG_TYPES.items()}
    return {kind: entries[name] for kind, entries in found.items() if name in entries}


def _type_of(name: str) -> Any:
    return get_type_hints(CONFIG_TYPES[next(iter(_owners(name)))])[name]


def _defaults(name: str) -> str:
    """The default, or each network's where they differ or some lack the field."""
    defaults = {kind: entry.default for kind, entry in _owners(name).items() if entry.default is not MISSING}
    values = {kind: str(value).lower() if isinstance(value, bool) else value for kind, value in defaults.items()}
    if len(values) == len(CONFIG_TYPES) and len(set(values.values())) == 1:
        return str(next(iter(values.values())))
    return ", ".join(f"{kind} {value}" for kind, value in values.items())


if TYPE_CHECKING:
    ModelConfig = ModelChoice
else:
    ModelConfig = model_config_of(ModelChoice)
