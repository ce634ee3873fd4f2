"""A model's predictions on dialogues, by one process or several, in the order of the dialogues."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import TYPE_CHECKING

import torch

from lpgnet.model import EmotionModel
from lpgnet.pipeline.common.threads import threads_for
from lpgnet.pipeline.errors import NotFiniteError
from lpgnet.pipeline.training.dialogues import NOT_TOLD, Dialogue, by_appearance, collate_for
from lpgnet.pipeline.training.labels import NO_LABEL

if TYPE_CHECKING:
    from accelerate import Accelerator

FUSED = "fused"


@dataclass(frozen=True)
class Prediction:
    """A model's prediction for one utterance.

    Attributes:
        label: index of the true class, -100 for none.
        probabilities: of each class, by head: `fused` and the branch heads.
        weights: of each modality in gate 2; empty if the model has no gate 2.
        dimensions: valence, arousal and dominance by the fused head, in the corpus's own units; empty if the model
            has no heads for them.
        shares: of the raters' votes among the classes, (C,); empty where nobody voted for a class.
        ratings: by the raters, in the corpus's own units; only the dimensions that they rated.
    """

    utterance_id: str
    dialogue_id: str
    label: int
    probabilities: dict[str, list[float]]
    weights: dict[str, float]
    dimensions: dict[str, float] = field(default_factory=dict)
    shares: tuple[float, ...] = ()
    ratings: dict[str, float] = field(default_factory=dict)

    def guess(self, head: str = FUSED) -> int:
        """Return the index of the class that a head finds most likely."""
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
    """Predict every utterance of the dialogues.

    Dialogues of similar length share a batch, so that little of it is padding; the batches are the same for any number
    of processes.

    Args:
        model: is switched to evaluation mode.
        dialogues: the dialogues to predict.
        accelerator: divides the batches among its processes; each process gets all predictions.
        batch_size: dialogues per batch.
        temperature: divides the logits before the softmax (calibration).

    Returns:
        One prediction per utterance, in the order of the dialogues.

    Raises:
        NotFiniteError: a probability is not finite; names the utterance. Every process raises it.
    """
    rank, size = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    model.eval()
    by_length = sorted(dialogues, key=len)
    batches = [by_length[start : start + batch_size] for start in range(0, len(by_length), batch_size)]
    with threads_for(model):
        predictions = [one for batch in batches[rank::size] for one in _predict_batch(model, batch, temperature)]
    if size > 1:
        from accelerate.utils import gather_object

        predictions = gather_object(predictions)
    _refuse_not_finite(predictions)
    by_id = {prediction.utterance_id: prediction for prediction in predictions}
    return [by_id[utterance.utterance_id] for dialogue in dialogues for utterance in dialogue.utterances]


def _refuse_not_finite(predictions: Sequence[Prediction]) -> None:
    for prediction in predictions:
        numbers = [*prediction.probabilities.values(), prediction.weights.values(), prediction.dimensions.values()]
        if not all(isfinite(sum(values)) for values in numbers):
            raise NotFiniteError(
                f"utterance {prediction.utterance_id}: the model gives it probabilities that are not finite; look for "
                "extreme values in its embeddings, and train the model again if other utterances have them too"
            )


def _predict_batch(model: EmotionModel, dialogues: Sequence[Dialogue], temperature: float) -> Iterator[Prediction]:
    batch = collate_for(dialogues, model.device)
    output = model(batch.inputs, batch.masks, batch.mask, speakers=batch.speakers)
    heads = {FUSED: output.logits, **output.branch_logits}
    # As lists: to take single numbers out of tensors takes longer than the model does.
    probabilities = {name: (logits.float() / temperature).softmax(-1).tolist() for name, logits in heads.items()}
    weights = {name: values.float().tolist() for name, values in output.modality_weights.items()}
    dimensions = {name: values.tolist() for name, values in output.dimensions.items()}
    for row, dialogue in enumerate(dialogues):
        labels, shares = dialogue.labels.tolist(), [_shares(votes) for votes in dialogue.votes.tolist()]
        ratings = {name: values.tolist() for name, values in dialogue.ratings.items()}
        for column, utterance in enumerate(dialogue.utterances):
            yield Prediction(
                utterance_id=utterance.utterance_id,
                dialogue_id=dialogue.dialogue_id,
                label=labels[column],
                probabilities={name: values[row][column] for name, values in probabilities.items()},
                weights={name: values[row][column] for name, values in weights.items()},
                dimensions={name: values[row][column] for name, values in dimensions.items()},
                shares=shares[column],
                ratings={name: values[column] for name, values in ratings.items() if isfinite(values[column])},
            )


def _shares(votes: Sequence[float]) -> tuple[float, ...]:
    total = sum(votes)
    return tuple(vote / total for vote in votes) if total else ()


def predict_in_windows(
    model: EmotionModel, dialogue: Dialogue, *, window: int, overlap: int, temperature: float = 1.0
) -> list[Prediction]:
    """Predict a dialogue of any length in constant memory, in overlapping windows of turns.

    Where two windows overlap, one fades into the other, so that results do not jump between windows.

    Args:
        model: is switched to evaluation mode.
        dialogue: the dialogue to predict.
        window: turns that the model reads at once; a shorter dialogue is read whole.
        overlap: turns that a window shares with the one before, at most half of the window.
        temperature: divides the logits before the softmax (calibration).

    Returns:
        One prediction per utterance.
    """
    if len(dialogue) <= window:
        return predict_dialogues(model, [dialogue], temperature=temperature)
    found: list[Prediction] = []
    for start in (*range(0, len(dialogue) - window, window - overlap), len(dialogue) - window):
        predictions = predict_dialogues(model, [_excerpt(dialogue, start, start + window)], temperature=temperature)
        shared = len(found) - start
        faded = [
            _fade(*pair, (n + 1) / (shared + 1)) for n, pair in enumerate(zip(found[start:], predictions, strict=False))
        ]
        found[start:] = [*faded, *predictions[shared:]]
    return found


def _excerpt(dialogue: Dialogue, start: int, end: int) -> Dialogue:
    """Cut successive utterances out of a dialogue; speakers are renumbered by first appearance."""
    speakers = [None if speaker == NOT_TOLD else speaker for speaker in dialogue.speakers[start:end].tolist()]
    return replace(
        dialogue,
        utterances=dialogue.utterances[start:end],
        inputs={name: values[start:end] for name, values in dialogue.inputs.items()},
        present={name: values[start:end] for name, values in dialogue.present.items()},
        labels=dialogue.labels[start:end],
        votes=dialogue.votes[start:end],
        ratings={name: values[start:end] for name, values in dialogue.ratings.items()},
        speakers=by_appearance(speakers),
        standards={name: one.cut(start, end) for name, one in dialogue.standards.items()},
    )


def _fade(before: Prediction, after: Prediction, share: float) -> Prediction:
    """Mix the predictions of two windows for one utterance; `share` is the weight of the later one."""

    def mixed(old: float, new: float) -> float:
        return (1 - share) * old + share * new

    return replace(
        after,
        probabilities={
            head: [mixed(*pair) for pair in zip(before.probabilities[head], values, strict=True)]
            for head, values in after.probabilities.items()
        },
        weights={name: mixed(before.weights[name], value) for name, value in after.weights.items()},
        dimensions={name: mixed(before.dimensions[name], value) for name, value in after.dimensions.items()},
    )


def labelled(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Return the predictions of utterances that have a class."""
    return [prediction for prediction in predictions if prediction.label != NO_LABEL]


def temperature_of(model: EmotionModel) -> float:
    """Return the temperature that divides the model's logits before the softmax."""
    return model.config.calibration_temperature
