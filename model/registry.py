"""Models by the name that `config.json` gives as `model_type`: build a new one, load a trained one."""

from pathlib import Path
from typing import Any

from lpgnet.model.base import CONFIG_FILE, EmotionModel
from lpgnet.model.concat import ConcatForEmotionRecognition
from lpgnet.model.configuration import MOST_NUMBERS, config_type, read_config
from lpgnet.model.errors import ModelError
from lpgnet.model.lpgnet import LPGNetForEmotionRecognition
from lpgnet.model.sdt import SDTForEmotionRecognition

MODEL_TYPES: dict[str, type[EmotionModel]] = {
    kind.config_class.model_type: kind
    for kind in (LPGNetForEmotionRecognition, SDTForEmotionRecognition, ConcatForEmotionRecognition)
}


def build_model(model_type: str, *, num_labels: int | None = None, **fields: Any) -> EmotionModel:
    """Build a model with fresh weights.

    Args:
        model_type: "lpgnet", "sdt" or "concat".
        num_labels: how many classes it has, where they have no names (`id2label`) yet.
        fields: of the model's configuration.

    Raises:
        ModelError: the type or a field is unknown, or a field has a value that no model can be built with.
    """
    if num_labels is not None:
        fields["id2label"] = {number: f"LABEL_{number}" for number in range(num_labels)}
    config = config_type(model_type).from_dict(fields)
    kind = MODEL_TYPES[model_type]
    if (numbers := sum(values.numel() for values in kind.sketch(config).state_dict().values())) > MOST_NUMBERS:
        raise ModelError(f"a model of {numbers} numbers is too large: lower hidden_size, kernel_size or input_sizes")
    return kind(config)


def load_model(folder: str | Path) -> EmotionModel:
    """Load the model in a folder, of whichever type its `config.json` names, in evaluation mode.

    Raises:
        ModelError: the folder has no readable configuration or weights, or they do not fit each other.
    """
    config = read_config(Path(folder) / CONFIG_FILE)
    return MODEL_TYPES[config.model_type].from_pretrained(folder)
