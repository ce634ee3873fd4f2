"""Emotion recognition in conversations: LPGNet, the SDT baseline and a linear one behind one interface.

Each name is imported when it is first used: a configuration needs no torch.

>>> from lpgnet.model import build_model
>>> model = build_model("lpgnet", input_sizes={"text": [1, 768], "audio": [13, 768]}, num_labels=4)
>>> model.num_parameters()
2961945
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lpgnet.model.base import EmotionModel, EmotionOutput
    from lpgnet.model.concat import ConcatForEmotionRecognition
    from lpgnet.model.configuration import (
        CONFIG_TYPES,
        ConcatConfig,
        EmotionConfig,
        LossConfig,
        LPGNetConfig,
        SDTConfig,
    )
    from lpgnet.model.distillation import LossTerms, loss_counts, self_distillation
    from lpgnet.model.errors import ModelError
    from lpgnet.model.lpgnet import LPGNetForEmotionRecognition
    from lpgnet.model.registry import MODEL_TYPES, build_model, load_model
    from lpgnet.model.sdt import SDTForEmotionRecognition

__all__ = [
    "CONFIG_TYPES",
    "MODEL_TYPES",
    "ConcatConfig",
    "ConcatForEmotionRecognition",
    "EmotionConfig",
    "EmotionModel",
    "EmotionOutput",
    "LPGNetConfig",
    "LPGNetForEmotionRecognition",
    "LossConfig",
    "LossTerms",
    "ModelError",
    "SDTConfig",
    "SDTForEmotionRecognition",
    "build_model",
    "load_model",
    "loss_counts",
    "self_distillation",
]

_MODULES = {
    "base": ("EmotionModel", "EmotionOutput"),
    "concat": ("ConcatForEmotionRecognition",),
    "configuration": ("CONFIG_TYPES", "ConcatConfig", "EmotionConfig", "LPGNetConfig", "LossConfig", "SDTConfig"),
    "distillation": ("LossTerms", "loss_counts", "self_distillation"),
    "errors": ("ModelError",),
    "lpgnet": ("LPGNetForEmotionRecognition",),
    "registry": ("MODEL_TYPES", "build_model", "load_model"),
    "sdt": ("SDTForEmotionRecognition",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'lpgnet.model' has no attribute '{name}'")
    return getattr(import_module(f"lpgnet.model.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
