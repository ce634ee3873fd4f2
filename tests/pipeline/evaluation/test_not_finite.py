"""No probability that is not one: a model that computes nan says so, and a file that holds one is refused."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lpgnet.model import EmotionModel, build_model
from lpgnet.pipeline.errors import NotFiniteError, PipelineError
from lpgnet.pipeline.evaluation.inference import predict_dialogues, predict_in_windows
from lpgnet.pipeline.evaluation.predictions import read_predictions
from tests.pipeline.predicted import outcome, write_run
from tests.pipeline.tensors import make_corpus


@pytest.fixture
def model() -> EmotionModel:
    torch.manual_seed(0)
    return build_model("lpgnet", input_sizes={"text": [1, 4], "audio": [2, 4]}, num_labels=2, hidden_size=16).eval()


def test_weights_too_large_for_float32_give_no_prediction(model: EmotionModel) -> None:
    with torch.no_grad():
        model.feed_out.weight.fill_(3e38)
    assert model.feed_out.weight.isfinite().all()
    with pytest.raises(
        NotFiniteError, match=r"utterance d000\.0: the model gives it probabilities that are not finite"
    ):
        predict_dialogues(model, make_corpus("text", dialogues=2).dialogues)


def test_the_utterance_whose_embedding_is_extreme_is_named(model: EmotionModel) -> None:
    dialogue = make_corpus("text", dialogues=1).dialogues[0]
    text = dialogue.inputs["text"].clone()
    text[5] = math.inf
    hurt = replace(dialogue, inputs={**dialogue.inputs, "text": text})
    for predict in (predict_dialogues, lambda *given: predict_in_windows(given[0], given[1][0], window=4, overlap=2)):
        with pytest.raises(NotFiniteError, match=r"utterance d000\.\d"):
            predict(model, [hurt])


@pytest.mark.parametrize("temperature", [0.0, math.nan])
def test_a_temperature_that_spoils_them_is_found(temperature: float, model: EmotionModel) -> None:
    with pytest.raises(NotFiniteError):
        predict_dialogues(model, make_corpus("text", dialogues=2).dialogues, temperature=temperature)


def change(path: Path, key: str, value: Any) -> None:
    """Give the second row another value under a key such as `probabilities.fused.no`."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    *parents, last = key.split(".")
    inside = lines[1]
    for name in parents:
        inside = inside[name]
    inside[last] = value
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


KEYS = [
    *("utterance_id", "dialogue_id", "speaker", "condition", "speaker_seen", "text_seen", "true"),
    *("probabilities", "probabilities.fused", "probabilities.fused.no", "modality_weights", "modality_weights.text"),
]


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1, 1.5, 10**400, [], {}, [None], {"fused": {}}], ids=str)
@pytest.mark.parametrize("key", KEYS)
def test_a_prediction_that_is_none_is_refused_with_its_line(key: str, value: Any, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [outcome("d.1", 0, 0), outcome("d.2", 1, 0), outcome("d.3", 1, 1)])
    path = folder / "predictions.jsonl"
    change(path, key, value)
    if (key, value) == ("modality_weights", {}):
        return  # of a model without gate 2
    with pytest.raises(PipelineError, match=r"predictions\.jsonl, line 2"):
        read_predictions(path)
