"""Whether a recording is like what a model was trained on, by how far its embeddings lie from those of training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lpgnet.model import EmotionConfig, EmotionModel
from lpgnet.pipeline.common.files import from_json

if TYPE_CHECKING:
    from lpgnet.pipeline.training.dialogues import Dialogue

# A recording is unlike training where it is this far beyond a development dialogue (standard deviations).
FAR = 5.0
# The least that dialogues, and turns within one, are taken to deviate, as shares of the mean distance: development
# dialogues are few, and often of the voices that the model was trained on.
LEAST_DIALOGUE_DEVIATION, LEAST_TURN_DEVIATION = 0.2, 0.5


@dataclass(frozen=True)
class Distances:
    """How far the development dialogues lie from training in one modality, by `EmotionModel.distances`.

    Attributes:
        mean: over all turns.
        dialogue_deviation: standard deviation of dialogues' own means, beyond what their turns explain.
        turn_deviation: standard deviation of turns within a dialogue.
    """

    mean: float
    dialogue_deviation: float
    turn_deviation: float

    def limit(self, turns: int) -> float:
        """The mean distance beyond which a recording of so many turns is unlike the training: fewer may lie farther."""
        dialogue = max(self.dialogue_deviation, LEAST_DIALOGUE_DEVIATION * self.mean)
        turn = max(self.turn_deviation, LEAST_TURN_DEVIATION * self.mean)
        return self.mean + FAR * math.hypot(dialogue, turn / math.sqrt(turns))


def measure_distances(model: EmotionModel, dialogues: Sequence[Dialogue]) -> dict[str, Distances]:
    """Measure how far dialogues lie from training, in each modality that any of their turns has."""
    found = {name: list(_by_dialogue(model, name, dialogues)) for name in model.config.modality_names}
    return {name: _summarize(turns) for name, turns in found.items() if turns}


def _by_dialogue(model: EmotionModel, modality: str, dialogues: Sequence[Dialogue]) -> Iterator[np.ndarray]:
    """Yield the distances of each dialogue's turns that have the modality, where there are any."""
    for dialogue in dialogues:
        if (has := dialogue.present[modality]).any():
            yield model.distances(modality, dialogue.values(modality)[has]).double().numpy()


def _summarize(dialogues: Sequence[np.ndarray]) -> Distances:
    turns = np.concatenate(dialogues)
    within = sum(float(((own - own.mean()) ** 2).sum()) for own in dialogues) / max(len(turns) - len(dialogues), 1)
    means = np.array([own.mean() for own in dialogues])
    between = float(means.var(ddof=1)) - within * len(dialogues) / len(turns) if len(dialogues) > 1 else 0.0
    values = (float(turns.mean()), math.sqrt(max(between, 0.0)), math.sqrt(within))
    # The last digits depend on the machine.
    return Distances(*(round(value, 4) for value in values))


def read_distances(model: EmotionConfig, folder: Path) -> dict[str, Distances]:
    """Read what a model of some folder keeps of its development dialogues, by modality; old ones keep nothing.

    Raises:
        PipelineError: a value is wrong; names the file and the key.
    """
    return from_json(model.distances, dict[str, Distances], where=f"{folder / 'config.json'}: key 'distances'")


def unlike_training(model: EmotionModel, dialogue: Dialogue, known: Mapping[str, Distances]) -> list[str]:
    """Warn where a dialogue is unlike anything that the model was trained on; at most one line."""
    checked = [name for name in model.config.modality_names if name in known]
    found = [(name, turns) for name in checked for turns in _by_dialogue(model, name, [dialogue])]
    far = [
        f"{name} at distance {turns.mean():.2f}, where up to {limit:.2f} is usual"
        for name, turns in found
        if turns.mean() > (limit := known[name].limit(len(turns)))
    ]
    if not far:
        return []
    return [f"warning: unlike anything this model was trained on ({'; '.join(far)}): its labels may mean nothing"]
