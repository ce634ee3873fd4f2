"""Emotion recognition in conversations: what `import lpgnet` gives. Each name is imported when it is first used.

>>> from lpgnet import EmotionPipeline
>>> rows = EmotionPipeline.from_pretrained("work/demo/runs/default")("call.wav")  # doctest: +SKIP
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lpgnet.cache import FeatureStore
    from lpgnet.feature_extractors import list_encoders, load_encoder
    from lpgnet.model import LPGNetConfig, LPGNetForEmotionRecognition, load_model
    from lpgnet.pipeline.labelling.emotion_pipeline import EmotionPipeline

__version__ = "0.1.0"
__all__ = [
    "EmotionPipeline",
    "FeatureStore",
    "LPGNetConfig",
    "LPGNetForEmotionRecognition",
    "__version__",
    "list_encoders",
    "load_encoder",
    "load_model",
]

# In a checkout the other packages stand beside this folder; installed, they stand in it.
if not Path(__file__).with_name("pipeline").exists():
    __path__.append(str(Path(__file__).parents[1]))

_MODULES = {
    "EmotionPipeline": "lpgnet.pipeline.labelling.emotion_pipeline",
    "FeatureStore": "lpgnet.cache",
    "LPGNetConfig": "lpgnet.model",
    "LPGNetForEmotionRecognition": "lpgnet.model",
    "list_encoders": "lpgnet.feature_extractors",
    "load_encoder": "lpgnet.feature_extractors",
    "load_model": "lpgnet.model",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: `import lpgnet` alone loads no torch."""
    if name not in _MODULES:
        raise AttributeError(f"module 'lpgnet' has no attribute '{name}'")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
