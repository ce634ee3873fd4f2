"""Models by the name that `config.json` gives as `model_type`: build a new one, load a trained one."""

import dataclasses
import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lpgnet.model.base import EmotionModel
from lpgnet.model.concat import ConcatForEmotionRecognition
from lpgnet.model.errors import ModelError
from lpgnet.model.lpgnet import LPGNetForEmotionRecognition
from lpgnet.model.sdt import SDTForEmotionRecognition

MODEL_TYPES: dict[str, type[EmotionModel]] = {
    "lpgnet": LPGNetForEmotionRecognition,
    "sdt": SDTForEmotionRecognition,
    "concat": ConcatForEmotionRecognition,
}


def build_model(model_type: str, **fields: Any) -> EmotionModel:
    """Build a model with fresh weights.

    Args:
        model_type: "lpgnet", "sdt" or "concat".
        fields: of the model's configuration, besides `num_labels`. What a checkpoint should carry beyond them is set
            on `model.config` afterwards.

    Raises:
        ModelError: the type or a field is unknown, or a field has a value that no model can be built with.
    """
    model_class = _model_class(model_type)
    known = [field.name for field in dataclasses.fields(model_class.config_class)] + ["num_labels"]
    for name in fields:
        if name not in known:
            raise ModelError(f"a {model_type} model has no field '{name}'{_suggestion(name, known)}")
    if not fields.get("input_sizes"):
        raise ModelError("input_sizes is empty: give [layers, width] of at least one modality")
    return model_class(model_class.config_class(**fields))


def load_model(folder: str | Path) -> EmotionModel:
    """Load the model in a folder, of whichever type its `config.json` names, in evaluation mode.

    Raises:
        ModelError: the folder has no readable configuration or weights, or they do not fit each other.
    """
    path = Path(folder) / "config.json"
    try:
        model_type = json.loads(path.read_text(encoding="utf-8")).get("model_type")
    except FileNotFoundError as error:
        raise ModelError(f"{folder}: no config.json there: give the folder of a trained model") from error
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{path}: not a readable configuration: {error}") from error
    return _model_class(str(model_type)).from_pretrained(folder)


def _model_class(model_type: str) -> type[EmotionModel]:
    if model_type not in MODEL_TYPES:
        known = ", ".join(MODEL_TYPES)
        suggestion = _suggestion(model_type, list(MODEL_TYPES))
        raise ModelError(f"there is no model type '{model_type}'{suggestion}; there are {known}")
    return MODEL_TYPES[model_type]


def _suggestion(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f": did you mean '{close[0]}'?" if close else ""
