"""Emotion recognition in conversations: LPGNet, the SDT baseline and a linear one behind one interface.

>>> model = build_model("lpgnet", input_sizes={"text": [1, 768], "audio": [13, 768]}, num_labels=4)
>>> model.num_parameters()
2961945
"""

from lpgnet.model.base import EmotionModel, EmotionOutput
from lpgnet.model.concat import ConcatForEmotionRecognition
from lpgnet.model.configuration import ConcatConfig, EmotionConfig, LPGNetConfig, SDTConfig
from lpgnet.model.distillation import LossSettings, LossTerms, loss_counts, self_distillation
from lpgnet.model.errors import ModelError
from lpgnet.model.lpgnet import LPGNetForEmotionRecognition, LPGNetModel
from lpgnet.model.registry import MODEL_TYPES, build_model, load_model
from lpgnet.model.sdt import SDTForEmotionRecognition

__all__ = [
    "MODEL_TYPES",
    "ConcatConfig",
    "ConcatForEmotionRecognition",
    "EmotionConfig",
    "EmotionModel",
    "EmotionOutput",
    "LPGNetConfig",
    "LPGNetForEmotionRecognition",
    "LPGNetModel",
    "LossSettings",
    "LossTerms",
    "ModelError",
    "SDTConfig",
    "SDTForEmotionRecognition",
    "build_model",
    "load_model",
    "loss_counts",
    "self_distillation",
]
