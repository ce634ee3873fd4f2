"""Calibration: a known temperature is found, and the calibration error is what it is worked out to be by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpgnet.pipeline.evaluation.calibration import (
    HIGHEST,
    LOWEST,
    add_up,
    fit_temperature,
    log_probabilities,
    measure_calibration,
    reliability,
)
from lpgnet.pipeline.evaluation.inference import Prediction


def predictions_of(probabilities: np.ndarray, labels: np.ndarray) -> list[Prediction]:
    return [
        Prediction(f"u{n}", "d", int(label), {"fused": row.tolist()}, {})
        for n, (row, label) in enumerate(zip(probabilities, labels, strict=True))
    ]


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def draw(temperature: float, count: int = 4000) -> list[Prediction]:
    """Predictions whose labels follow from their logits divided by the temperature."""
    rng = np.random.default_rng(0)
    logits = 3 * rng.standard_normal((count, 4))
    labels = np.array([rng.choice(4, p=row) for row in softmax(logits / temperature)])
    return predictions_of(softmax(logits), labels)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_a_known_temperature_is_found_and_mends_the_error(temperature: float) -> None:
    predictions = draw(temperature)
    found = fit_temperature(predictions)
    assert found == pytest.approx(temperature, rel=0.08)
    after = reliability(predictions, temperature=found).error
    assert after < 0.03
    if temperature != 1.0:
        assert after < reliability(predictions).error / 2


def test_it_is_the_best_of_all_temperatures() -> None:
    predictions = draw(1.7, count=500)
    logits, labels = log_probabilities(predictions), [prediction.label for prediction in predictions]

    def loss(temperature: float) -> float:
        return -float(np.log(softmax(logits / temperature))[np.arange(500), labels].mean())

    grid = np.exp(np.linspace(np.log(0.3), np.log(6), 400))
    assert loss(fit_temperature(predictions)) <= min(map(loss, grid)) + 1e-4


@given(st.integers(1, 40), st.floats(0.4, 0.99))
def test_few_utterances_that_are_all_right_give_no_certainty(count: int, confidence: float) -> None:
    row = np.array([confidence, (1 - confidence) / 2, (1 - confidence) / 2])
    found = fit_temperature(predictions_of(np.tile(row, (count, 1)), np.zeros(count)))
    assert LOWEST <= found <= HIGHEST
    calibrated = softmax(np.log(row) / found)[0]
    assert calibrated <= (count + 1 / 3) / (count + 1) + 1e-3 or found == pytest.approx(LOWEST, rel=1e-3)


def test_without_labels_nothing_is_changed() -> None:
    assert fit_temperature(predictions_of(np.full((3, 2), 0.5), np.full(3, -100))) == 1.0


def test_a_certain_model_has_finite_logits() -> None:
    certain = predictions_of(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 1]))
    assert np.isfinite(log_probabilities(certain)).all()
    assert fit_temperature(certain) == pytest.approx(HIGHEST, rel=1e-3)


def test_the_error_worked_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6], [0.5, 0.5]])
    labels = np.array([0, 1, 0, 1, -100])
    measured = reliability(predictions_of(probabilities, labels))
    # Two bins: (0.9 + 0.9) expected and 1 right; (0.6 + 0.6) expected and 2 right; the last has no label.
    assert measured.error == pytest.approx((0.8 + 0.8) / 4)
    assert sum(measured.counts) == 4
    assert sum(measured.hits) == 3


def test_two_parts_add_up_to_the_whole() -> None:
    predictions = draw(2.0, count=300)
    parts = [reliability(part) for part in (predictions[:100], predictions[100:])]
    assert add_up(parts).error == pytest.approx(reliability(predictions).error, abs=1e-4)


def test_what_was_before_is_found_from_calibrated_probabilities() -> None:
    raw = draw(3.0, count=500)
    labels = np.array([prediction.label for prediction in raw])
    calibrated = predictions_of(softmax(log_probabilities(raw) / 3.0), labels)
    described = measure_calibration(calibrated, 3.0)
    assert described.before.error == pytest.approx(reliability(raw).error, abs=1e-6)
    assert described.after.error == pytest.approx(reliability(raw, temperature=3.0).error, abs=1e-6)
    assert described.after.error < described.before.error


def test_a_model_of_votes_is_calibrated_to_votes() -> None:
    rng = np.random.default_rng(3)
    shares = rng.dirichlet([2, 2, 2], 400)
    labels = shares.argmax(-1)
    predictions = predictions_of(softmax(np.log(shares) / 1.5), labels)
    assert fit_temperature(predictions, shares) == pytest.approx(1 / 1.5, rel=0.02)
    assert fit_temperature(predictions) < 0.5, "by the labels, its probabilities would be pushed to the ends"
    assert fit_temperature(predictions, np.eye(3)[labels]) == fit_temperature(predictions)
    half = np.where(np.arange(400)[:, None] < 200, shares, 0)
    assert fit_temperature(predictions, half) == fit_temperature(predictions[:200], shares[:200])
    assert fit_temperature(predictions, 0 * shares) == 1
