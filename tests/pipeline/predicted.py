"""Made-up predictions, as a run folder keeps them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lpgnet.pipeline.evaluation.inference import Prediction
from lpgnet.pipeline.evaluation.predictions import PREDICTIONS_FILE, Outcome, write_predictions

CLASSES = ["no", "yes"]


def outcome(
    utterance_id: str,
    truth: int,
    guess: int,
    *,
    speaker: str | None = None,
    condition: str | None = None,
    speaker_seen: bool = False,
    text_seen: bool | None = None,
    **rated: Any,
) -> Outcome:
    """A prediction on the utterance `dialogue.turn`, of two classes; `rated` are dimensions, shares and ratings."""
    probabilities = [0.75, 0.25] if guess == 0 else [0.25, 0.75]
    weights = {"text": 0.5, "audio": 0.5}
    dialogue_id = utterance_id.partition(".")[0]
    prediction = Prediction(utterance_id, dialogue_id, truth, {"fused": probabilities}, weights, **rated)
    return Outcome(prediction, speaker, condition, speaker_seen, text_seen)


def write_run(folder: Path, run: Sequence[Outcome], classes: Sequence[str] = CLASSES) -> Path:
    """A run folder that holds just the predictions."""
    folder.mkdir(parents=True)
    write_predictions(folder / PREDICTIONS_FILE, run, classes)
    return folder
