"""Long conversations: windows of turns whose results meet without a jump."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lpgnet.model import EmotionModel, build_model
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.evaluation.inference import FUSED, Prediction, predict_dialogues, predict_in_windows
from lpgnet.pipeline.training.dialogues import Dialogue
from lpgnet.pipeline.training.labels import NO_LABEL

TURNS = 90


@pytest.fixture(scope="module")
def model() -> EmotionModel:
    torch.manual_seed(0)
    return build_model("lpgnet", input_sizes={"text": [1, 8], "audio": [2, 6]}, num_labels=3, hidden_size=16).eval()


@pytest.fixture(scope="module")
def dialogue() -> Dialogue:
    generator = torch.Generator().manual_seed(1)
    return Dialogue(
        "long",
        tuple(Utterance("long", f"u{n}") for n in range(TURNS)),
        {
            "text": torch.randn(TURNS, 1, 8, generator=generator),
            "audio": torch.randn(TURNS, 2, 6, generator=generator),
        },
        {name: torch.rand(TURNS, generator=generator) > 0.1 for name in ("text", "audio")},
        torch.full((TURNS,), NO_LABEL),
        torch.randint(0, 3, (TURNS,), generator=generator),
        torch.zeros(TURNS, 3),
        {},
    )


def values(predictions: list[Prediction]) -> np.ndarray:
    return np.array([prediction.probabilities[FUSED] for prediction in predictions])


def test_one_window_is_the_whole(model: EmotionModel, dialogue: Dialogue) -> None:
    assert predict_in_windows(model, dialogue, window=TURNS, overlap=10) == predict_dialogues(model, [dialogue])


@pytest.mark.parametrize(("window", "overlap"), [(40, 20), (40, 0), (41, 13), (89, 44)])
def test_windows_cover_every_turn_once(model: EmotionModel, dialogue: Dialogue, window: int, overlap: int) -> None:
    predictions = predict_in_windows(model, dialogue, window=window, overlap=overlap)
    assert [prediction.utterance_id for prediction in predictions] == [u.utterance_id for u in dialogue.utterances]
    np.testing.assert_allclose(values(predictions).sum(axis=1), 1, atol=1e-5)
    assert all(sum(prediction.weights.values()) == pytest.approx(1, abs=1e-5) for prediction in predictions)


def test_results_do_not_jump_at_a_seam(model: EmotionModel, dialogue: Dialogue) -> None:
    """Against the model that reads all: its error changes from turn to turn no more at the seams than elsewhere.

    In windows that are set side by side it does jump.
    """
    whole = values(predict_dialogues(model, [dialogue]))
    jumps = {}
    for overlap in (0, 20):
        error = values(predict_in_windows(model, dialogue, window=40, overlap=overlap)) - whole
        jumps[overlap] = np.abs(np.diff(error, axis=0)).max(axis=1)
    seams = [39, 49, 79]
    assert jumps[0][seams].max() > 2 * np.median(jumps[0])
    assert jumps[20].max() < jumps[0][seams].max()


def test_the_fade_is_even(model: EmotionModel, dialogue: Dialogue) -> None:
    """In the overlap of the first two windows, worked out from the two predictions by hand."""

    def window(start: int, end: int) -> np.ndarray:
        part = replace(
            dialogue,
            utterances=dialogue.utterances[start:end],
            inputs={name: rows[start:end] for name, rows in dialogue.inputs.items()},
            present={name: rows[start:end] for name, rows in dialogue.present.items()},
            labels=dialogue.labels[start:end],
            speakers=dialogue.speakers[start:end],
        )
        return values(predict_dialogues(model, [part]))

    found = values(predict_in_windows(model, dialogue, window=60, overlap=4))
    first, second = window(0, 60), window(30, 90)
    share = (np.arange(30) + 1)[:, None] / 31
    np.testing.assert_allclose(found[30:60], (1 - share) * first[30:] + share * second[:30], atol=1e-6)
    np.testing.assert_allclose(found[:30], first[:30], atol=1e-6)
    np.testing.assert_allclose(found[60:], second[30:], atol=1e-6)


@pytest.fixture(scope="module")
def voiced() -> EmotionModel:
    """A model that looks at whose turns are whose."""
    torch.manual_seed(0)
    fields = {"voice_neighbours": True, "speaker_turn_bias": True, "hidden_size": 16}
    model = build_model("lpgnet", input_sizes={"text": [1, 8], "audio": [2, 6]}, num_labels=3, **fields).eval()
    model.voice_bias.data.uniform_(-2, 2)
    return model


def test_a_turn_without_a_speaker_stays_without_one_in_every_window(voiced: EmotionModel, dialogue: Dialogue) -> None:
    """The first window ends before the first speaker is told, the last begins after another one has been."""
    speakers = torch.tensor([-1] * 30 + [0] * 20 + [1, -1, 2] * 13 + [1])
    told = replace(dialogue, speakers=speakers)
    found = values(predict_in_windows(voiced, told, window=30, overlap=0))
    for start in (0, 30, 60):
        # Equal but for the names, which nobody looks at.
        alone = voiced(
            {name: rows[None, start : start + 30] for name, rows in told.inputs.items()},
            {name: rows[None, start : start + 30] for name, rows in told.present.items()},
            torch.ones(1, 30, dtype=torch.bool),
            speakers=speakers[None, start : start + 30],
        )
        expected = alone.logits[0].softmax(-1).detach().numpy()
        np.testing.assert_allclose(found[start : start + 30], expected, atol=1e-6)


def test_one_name_for_everybody_is_one_voice(voiced: EmotionModel, dialogue: Dialogue) -> None:
    """As where a reader or a transcript has nothing better: numbers like any, and other than those of no name."""
    one, nobody = (replace(dialogue, speakers=torch.full((TURNS,), number)) for number in (0, -1))
    found = [values(predict_dialogues(voiced, [each])) for each in (one, nobody)]
    assert np.isfinite(found).all() and not np.allclose(found[0], found[1])
