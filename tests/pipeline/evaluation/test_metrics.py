"""Metrics agree with scikit-learn, and the bootstrap with a plain loop."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score

from lpgnet.pipeline.evaluation.inference import Prediction
from lpgnet.pipeline.evaluation.metrics import bootstrap_intervals, dialogue_confusions, draw_dialogues, scores

CLASSES = ["angry", "happy", "sad"]
PAIRS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40)


def prediction(dialogue: str, number: int, truth: int, guess: int) -> Prediction:
    probabilities = [0.1, 0.1, 0.1]
    probabilities[guess] = 0.8
    return Prediction(f"{dialogue}.{number}", dialogue, truth, {"fused": probabilities}, {})


@given(PAIRS)
def test_scores_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, guess = zip(*pairs, strict=True)
    predictions = [prediction("d", number, *pair) for number, pair in enumerate(pairs)]
    confusion = dialogue_confusions(predictions, CLASSES).sum(0)
    metrics = scores(confusion)
    seen = sorted(set(truth))
    assert np.array_equal(confusion, confusion_matrix(truth, guess, labels=[0, 1, 2]))
    assert np.isclose(metrics["wa"], accuracy_score(truth, guess))
    assert np.isclose(metrics["ua"], recall_score(truth, guess, labels=seen, average="macro", zero_division=0))
    assert np.isclose(metrics["weighted_f1"], f1_score(truth, guess, average="weighted", zero_division=0))
    assert np.isclose(metrics["macro_f1"], f1_score(truth, guess, average="macro", zero_division=0))
    assert np.allclose(metrics["f1"], f1_score(truth, guess, labels=[0, 1, 2], average=None, zero_division=0))


def test_unlabelled_utterances_count_in_no_metric() -> None:
    predictions = [prediction("d", 0, 1, 1), prediction("d", 1, -100, 2), prediction("e", 0, -100, 0)]
    confusions = dialogue_confusions(predictions, CLASSES)
    assert confusions.shape == (2, 3, 3)
    assert confusions.sum() == 1
    assert confusions[0, 1, 1] == 1


def test_bootstrap_draws_whole_dialogues() -> None:
    rng = np.random.default_rng(0)
    per_dialogue = rng.integers(0, 5, size=(7, 3, 3))
    drawn = draw_dialogues(per_dialogue, resamples=50, seed=3)
    counts = np.random.default_rng(3).multinomial(7, np.full(7, 1 / 7), size=50)
    plain = np.stack([sum(n * m for n, m in zip(row, per_dialogue, strict=True)) for row in counts])
    assert np.array_equal(drawn, plain)


def test_interval_holds_the_estimate_and_narrows_with_more_dialogues() -> None:
    rng = np.random.default_rng(1)

    def interval(dialogues: int) -> tuple[float, float]:
        truth = rng.integers(0, 3, size=(dialogues, 20))
        guess = np.where(rng.random((dialogues, 20)) < 0.7, truth, (truth + 1) % 3)
        predictions = [
            prediction(str(d), n, int(truth[d, n]), int(guess[d, n])) for d in range(dialogues) for n in range(20)
        ]
        per_dialogue = dialogue_confusions(predictions, CLASSES)
        low, high = bootstrap_intervals(per_dialogue, resamples=500, confidence=0.95)["wa"]
        assert low < scores(per_dialogue.sum(0))["wa"] < high
        return low, high

    few, many = interval(5), interval(200)
    assert many[1] - many[0] < few[1] - few[0]


def test_hand_worked() -> None:
    confusion = np.array([[2, 1, 0], [0, 1, 1], [0, 0, 0]])
    metrics = scores(confusion)
    assert metrics["wa"] == 3 / 5
    assert np.isclose(metrics["ua"], (2 / 3 + 1 / 2) / 2)
    assert np.allclose(metrics["f1"], [4 / 5, 2 / 4, 0.0])
