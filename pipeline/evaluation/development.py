"""The development scores that the epoch is chosen by."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from lpgnet.model import EmotionModel
from lpgnet.pipeline.evaluation.calibration import fit_temperature
from lpgnet.pipeline.evaluation.inference import predict_dialogues
from lpgnet.pipeline.evaluation.metrics import NAMES, measure, total_confusion
from lpgnet.pipeline.training.dialogues import Dialogue
from lpgnet.pipeline.training.trainer import Development

if TYPE_CHECKING:
    from accelerate import Accelerator


def measure_development(
    model: EmotionModel,
    dialogues: Sequence[Dialogue],
    classes: Sequence[str],
    batch_size: int,
    accelerator: Accelerator,
) -> Development:
    """Measure a model on the development dialogues, which the processes divide among themselves.

    Returns:
        The scores, and a function that fits the calibration temperature to these dialogues.
    """
    predictions = predict_dialogues(model, dialogues, accelerator=accelerator, batch_size=batch_size)
    metrics = measure(total_confusion(predictions, classes), classes)
    scores = {name: getattr(metrics, name) for name in NAMES}
    return Development(scores, partial(fit_temperature, predictions))
