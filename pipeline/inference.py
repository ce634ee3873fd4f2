"""A model's predictions on dialogues, one process's or several's, in the dialogues' order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from model import EmotionModel
from pipeline.dialogues import NO_LABEL, Dialogue, collate

if TYPE_CHECKING:
    from accelerate import Accelerator

FUSED = "fused"


@dataclass(frozen=True)
class Prediction:
    """What a model says of one utterance.

    Attributes:
        label: class number, -100 for none.
        probabilities: of each class, by head: `fused` and the branch heads.
        weights: of each modality in gate 2; empty where the model has none.
    """

    utterance_id: str
    dialogue_id: str
    label: int
    probabilities: dict[str, list[float]]
    weights: dict[str, float]

    def guess(self, head: str = FUSED) -> int:
        """The class number that a head finds likeliest."""
        values = self.probabilities[head]
        return values.index(max(values))


@torch.inference_mode()
def predict_dialogues(
    model: EmotionModel,
    dialogues: Sequence[Dialogue],
    *,
    accelerator: Accelerator | None = None,
    batch_size: int = 16,
    temperature: float = 1.0,
) -> list[Prediction]:
    """Predict every utterance of the dialogues; with several processes each takes a share and all get all.

    Args:
        temperature: the logits are divided by it before the softmax (calibration).
    """
    rank, size = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    model.eval()
    mine = dialogues[rank::size]
    predictions = [
        prediction
        for start in range(0, len(mine), batch_size)
        for prediction in _predict_batch(model, mine[start : start + batch_size], temperature)
    ]
    if size > 1:
        from accelerate.utils import gather_object

        predictions = gather_object(predictions)
    by_id = {prediction.utterance_id: prediction for prediction in predictions}
    return [by_id[utterance.utterance_id] for dialogue in dialogues for utterance in dialogue.utterances]


def _predict_batch(model: EmotionModel, dialogues: Sequence[Dialogue], temperature: float) -> Iterator[Prediction]:
    batch = collate(dialogues).to(model.device)
    output = model(batch.inputs, batch.masks, batch.mask, speakers=batch.speakers)
    heads = {FUSED: output.logits, **output.branch_logits}
    probabilities = {name: (logits.float() / temperature).softmax(-1).cpu() for name, logits in heads.items()}
    weights = {name: values.float().cpu() for name, values in (output.modality_weights or {}).items()}
    for row, dialogue in enumerate(dialogues):
        for column, utterance in enumerate(dialogue.utterances):
            yield Prediction(
                utterance_id=utterance.utterance_id,
                dialogue_id=dialogue.dialogue_id,
                label=int(dialogue.labels[column]),
                probabilities={name: values[row, column].tolist() for name, values in probabilities.items()},
                weights={name: float(values[row, column]) for name, values in weights.items()},
            )


def labelled(predictions: Sequence[Prediction]) -> list[Prediction]:
    """The predictions of utterances that have a class."""
    return [prediction for prediction in predictions if prediction.label != NO_LABEL]
