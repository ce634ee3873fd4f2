"""Calibration: a temperature is found where it helps, 1 is kept where it does not, and scores are as worked out."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpgnet.pipeline.config import EvaluationConfig
from lpgnet.pipeline.evaluation.calibration import (
    BINS,
    HIGHEST,
    LOWEST,
    PRIOR_DEVIATION,
    Reliability,
    fit_temperature,
    log_probabilities,
    measure_calibration,
    reliability,
    rescale,
)
from lpgnet.pipeline.evaluation.inference import Prediction

SETTINGS = EvaluationConfig(bootstrap=50)


def predictions_of(
    probabilities: np.ndarray, labels: Sequence[int] | np.ndarray, dialogues: Sequence[int] | np.ndarray | None = None
) -> list[Prediction]:
    """Predictions of dialogues of ten turns, unless they are said to be of others."""
    numbers = np.arange(len(probabilities)) // 10 if dialogues is None else dialogues
    return [
        Prediction(f"u{n}", f"d{number:05}", int(label), {"fused": row.tolist()}, {})
        for n, (row, label, number) in enumerate(zip(probabilities, labels, numbers, strict=True))
    ]


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


@dataclass(frozen=True)
class Turns:
    """Logits (N, 4), labels (N,) and numbers of dialogues (N,) of made-up turns."""

    logits: np.ndarray
    labels: np.ndarray
    dialogues: np.ndarray

    def scores(self, temperature: float = 1.0) -> np.ndarray:
        """The expected calibration error and the negative log-likelihood."""
        p = softmax(self.logits / temperature)
        confidence, hit = p.max(-1), p.argmax(-1) == self.labels
        bins = np.minimum(confidence * 15, 14).astype(int)
        ece = np.abs(np.bincount(bins, hit - confidence)).sum() / len(p)
        return np.array([ece, -np.log(p[np.arange(len(p)), self.labels]).mean()])


def draw(seed: int, dialogues: int, *, sharpness: float = 1.0, varies: float = 0.0, easier: float = 1.0) -> Turns:
    """Draw dialogues of 8 to 24 turns of 4 classes.

    Args:
        seed: of the draws.
        dialogues: how many.
        sharpness: what the right logits are multiplied by.
        varies: deviation of the logarithm of how easy a dialogue is.
        easier: than other dialogues, by how much the right logits are larger; the model does not know it.
    """
    rng = np.random.default_rng([seed, dialogues])
    numbers = np.repeat(np.arange(dialogues), rng.integers(8, 25, dialogues))
    logits = 2 * rng.standard_normal((len(numbers), 4)) * np.exp(varies * rng.standard_normal(dialogues))[numbers, None]
    chances = softmax(easier * logits).cumsum(-1)
    labels = (chances < rng.random((len(numbers), 1))).sum(-1).clip(max=3)
    return Turns(sharpness * logits, labels, numbers)


def made_up(seed: int, dialogues: int, **how: float) -> list[Prediction]:
    """Predictions of what `draw` draws."""
    turns = draw(seed, dialogues, **how)
    return predictions_of(softmax(turns.logits), turns.labels, turns.dialogues)


def measured(predictions: list[Prediction], temperature: float = 1.0) -> Reliability:
    return reliability([rescale(predictions, temperature)], EvaluationConfig(bootstrap=0))


@cache
def judges(sharpness: float, varies: float) -> Turns:
    """About 100,000 test turns."""
    return draw(99, 6250, sharpness=sharpness, varies=varies)


def gains(dialogues: int, *, sharpness: float, varies: float = 0.0, easier: float = 1.0) -> tuple[float, float]:
    """The mean change of the test's two scores over some development sets."""
    test = judges(sharpness, varies)
    fitted = (
        fit_temperature(made_up(seed, dialogues, sharpness=sharpness, varies=varies, easier=easier))
        for seed in range(16 if sharpness == 1 else 6)
    )
    ece, nll = np.mean([test.scores(temperature) - test.scores() for temperature in fitted], axis=0)
    return float(ece), float(nll)


@pytest.mark.parametrize("varies", [0.0, 0.5])
@pytest.mark.parametrize("dialogues", [4, 10, 30, 100])
def test_right_probabilities_are_left_alone(dialogues: int, varies: float) -> None:
    assert gains(dialogues, sharpness=1.0, varies=varies)[1] < 0.003


@pytest.mark.parametrize(
    "how",
    [
        {"sharpness": 2.5},
        {"sharpness": 2.5, "varies": 0.5},
        {"sharpness": 2.5, "easier": 1.25},
        {"sharpness": 0.5},
        {"sharpness": 0.5, "varies": 0.5},
    ],
)
def test_wrong_probabilities_are_mended(how: dict[str, float]) -> None:
    before = judges(how["sharpness"], how.get("varies", 0.0)).scores()[0]
    assert before > 0.14
    for dialogues, most in ((10, 0.005), (30, -0.05), (100, -before / 2)):
        ece, nll = gains(dialogues, **how)
        assert ece < most and nll < 0, dialogues


@pytest.mark.parametrize("temperature", [0.5, 2.5])
def test_a_known_temperature_is_found_and_mends_the_error(temperature: float) -> None:
    predictions = made_up(0, 250, sharpness=temperature)
    found = fit_temperature(predictions)
    assert found == pytest.approx(temperature, rel=0.08)
    after = measured(predictions, found).ece
    assert after < 0.03
    assert after < measured(predictions).ece / 2


def test_it_is_the_best_of_all_temperatures() -> None:
    predictions = made_up(0, 100, sharpness=1.7)
    logits, labels = log_probabilities(predictions), [prediction.label for prediction in predictions]

    def loss(temperature: float) -> float:
        return -float(np.log(softmax(logits / temperature))[np.arange(len(labels)), labels].mean())

    grid = np.exp(np.linspace(np.log(0.3), np.log(6), 400))
    assert loss(fit_temperature(predictions)) <= min(map(loss, grid)) + 1e-4


def test_fewer_dialogues_move_it_less_from_1() -> None:
    few, many = (
        np.mean([np.log(fit_temperature(made_up(seed, dialogues, sharpness=2.5))) for seed in range(8)])
        for dialogues in (6, 100)
    )
    assert 0.1 < few < 0.96 * many < np.log(2.5)


def test_turns_that_repeat_what_their_dialogue_said_count_for_nothing() -> None:
    predictions = made_up(1, 12, sharpness=2.5, varies=0.5)
    assert fit_temperature(predictions * 20) == pytest.approx(fit_temperature(predictions), rel=0.05)
    moved = [Prediction(f"v{n}", f"e{n}", p.label, p.probabilities, {}) for n, p in enumerate(predictions * 20)]
    assert fit_temperature(moved) > 1.03 * fit_temperature(predictions), "as many dialogues would"


def test_it_depends_on_nothing_but_the_predictions() -> None:
    predictions = made_up(2, 20, sharpness=2.5)
    assert fit_temperature(predictions) == fit_temperature(list(predictions))
    turned = [turn for n in range(20) for turn in reversed([p for p in predictions if p.dialogue_id == f"d{n:05}"])]
    assert fit_temperature(turned) == pytest.approx(fit_temperature(predictions), rel=1e-4)


@given(st.integers(1, 80), st.floats(0.4, 0.99))
def test_few_utterances_that_are_all_right_give_no_certainty(count: int, confidence: float) -> None:
    row = np.array([confidence, (1 - confidence) / 2, (1 - confidence) / 2])
    found = fit_temperature(predictions_of(np.tile(row, (count, 1)), np.zeros(count)))
    # The lowest would be likelier, but it is less probable than 1.
    assert LOWEST < found <= 1
    assert (np.log(found) / PRIOR_DEVIATION) ** 2 / 2 <= -count * np.log(confidence)
    assert found == 1 or count > 40, "fewer than five dialogues"


def test_without_labels_nothing_is_changed() -> None:
    assert fit_temperature([]) == 1.0
    assert fit_temperature(predictions_of(np.full((3, 2), 0.5), np.full(3, -100))) == 1.0


def test_a_certain_model_has_finite_logits() -> None:
    certain = predictions_of(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 1]), [0, 1])
    assert np.isfinite(log_probabilities(certain)).all()
    assert LOWEST <= fit_temperature(certain) <= HIGHEST
    many = predictions_of(np.tile([1.0, 0.0], (400, 1)), np.arange(400) % 2)
    assert fit_temperature(many) == pytest.approx(HIGHEST, rel=1e-3)


def test_the_scores_worked_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6], [0.5, 0.5]])
    labels = np.array([0, 1, 0, 1, -100])
    found = reliability([predictions_of(probabilities, labels)], SETTINGS)
    # Two bins: (0.9 + 0.9) expected and 1 right; (0.6 + 0.6) expected and 2 right; the last has no label.
    assert found.ece == pytest.approx((0.8 + 0.8) / 4)
    assert (sum(found.counts), sum(found.hits), found.n) == (4, 3, 4)
    # Of the first class: 1 of the two at 0.9, 1 of the one at 0.6, 0 of the one at 0.4; of the second the opposites.
    assert found.classwise_ece == pytest.approx((0.8 + 0.4 + 0.4) / 4)
    assert found.brier == pytest.approx(2 * (0.01 + 0.81 + 0.16 + 0.16) / 4)
    assert found.nll == pytest.approx(-np.log([0.9, 0.1, 0.6, 0.6]).sum() / 4)


def test_scores_are_means_over_runs_with_deviations_and_intervals() -> None:
    runs = [made_up(seed, 20, sharpness=1.5) for seed in (3, 3)]
    runs[1] = [
        Prediction(p.utterance_id, p.dialogue_id, p.label, q.probabilities, {}) for p, q in zip(*runs, strict=True)
    ]
    runs[1] = rescale(runs[1], 3.0)
    both, *alone = (reliability(of, SETTINGS) for of in (runs, runs[:1], runs[1:]))
    for name in ("ece", "classwise_ece", "brier", "nll"):
        values = [getattr(one, name) for one in alone]
        assert getattr(both, name) == pytest.approx(np.mean(values))
        assert both.deviations[name] == pytest.approx(np.std(values, ddof=1))
        low, high = both.intervals[name]
        assert low < high
    assert both.intervals["nll"][0] < both.nll < both.intervals["nll"][1]
    assert both.n == alone[0].n and sum(both.counts) == 2 * both.n
    assert alone[0].deviations == {}


def test_ece_of_many_utterances_is_that_of_the_bins() -> None:
    found = measured(made_up(4, 50, sharpness=2.0))
    counts, confidences, hits = map(np.array, (found.counts, found.confidences, found.hits))
    assert len(counts) == BINS
    assert found.ece == pytest.approx(np.abs(hits - confidences).sum() / counts.sum())


def test_what_was_before_is_found_from_calibrated_probabilities() -> None:
    raw = made_up(5, 40, sharpness=3.0)
    described = measure_calibration([[(rescale(raw, 3.0), 3.0)]], SETTINGS)
    assert described.temperatures == [3.0]
    for name in ("ece", "classwise_ece", "brier", "nll"):
        before, after = getattr(described.before, name), getattr(described.after, name)
        assert before == pytest.approx(getattr(measured(raw), name), abs=1e-6)
        assert after == pytest.approx(getattr(measured(raw, 3.0), name), abs=1e-6)
        assert after < before


def test_folds_of_a_run_are_measured_together_each_without_its_own_temperature() -> None:
    folds = [made_up(seed, 10) for seed in (1, 2)]
    folds[1] = [Prediction(f"b{p.utterance_id}", f"b{p.dialogue_id}", p.label, p.probabilities, {}) for p in folds[1]]
    temperatures = (0.5, 2.0)
    calibrated = [(rescale(fold, t), t) for fold, t in zip(folds, temperatures, strict=True)]
    found = measure_calibration([calibrated], SETTINGS)
    assert found.temperatures == [0.5, 2.0]
    assert found.before.nll == pytest.approx(measured([*folds[0], *folds[1]]).nll)
    assert found.before.ece == pytest.approx(measured([*folds[0], *folds[1]]).ece)


def test_a_test_split_without_labels_has_no_scores() -> None:
    found = reliability([predictions_of(np.full((3, 2), 0.5), np.full(3, -100))], SETTINGS)
    assert (found.n, found.ece, found.nll) == (0, 0, 0)


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
