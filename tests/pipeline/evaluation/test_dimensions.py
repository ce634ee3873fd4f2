"""Scores of valence, arousal and dominance agree with numpy and scipy, and their bootstrap with a plain loop."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import pearsonr

from lpgnet.pipeline.config import EvaluationConfig
from lpgnet.pipeline.evaluation.dimensions import (
    DimensionScores,
    agreement_scores,
    dialogue_moments,
    score_dimensions,
)
from lpgnet.pipeline.evaluation.inference import Prediction
from lpgnet.pipeline.evaluation.metrics import bootstrap_differences

NO_RESAMPLES = EvaluationConfig(bootstrap=0)
RANGES = {"valence": (1.0, 5.0)}
RATINGS = st.floats(1, 5).map(lambda value: round(value, 3))
PAIRS = st.lists(st.tuples(RATINGS, RATINGS), min_size=1, max_size=30)


def rated(name: str, true: float | None, guess: float | None) -> Prediction:
    return Prediction(
        name,
        name.partition(".")[0],
        -100,
        {"fused": [1.0]},
        {},
        dimensions={} if guess is None else {"valence": guess},
        ratings={} if true is None else {"valence": true},
    )


def made(pairs: Sequence[tuple[float, float]]) -> list[Prediction]:
    return [rated(f"d{n % 4}.{n}", *pair) for n, pair in enumerate(pairs)]


def scored(pairs: Sequence[tuple[float, float]]) -> DimensionScores:
    return score_dimensions([made(pairs)], RANGES, NO_RESAMPLES)["valence"]


def plain(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    """The scores by their definitions, 0 where nothing varies."""
    x, y = np.array(pairs).T
    varies = np.ptp(x) > 0 and np.ptp(y) > 0
    covariance = np.mean((x - x.mean()) * (y - y.mean()))
    return {
        "ccc": 2 * covariance / (x.var() + y.var() + (x.mean() - y.mean()) ** 2) if varies else 0.0,
        "pearson": float(pearsonr(x, y).statistic) if varies else 0.0,
        "rmse": float(np.sqrt(np.mean((x - y) ** 2))),
    }


@given(PAIRS)
def test_scores_are_those_of_numpy_and_scipy(pairs: list[tuple[float, float]]) -> None:
    found = scored(pairs)
    assert {name: getattr(found, name) for name in plain(pairs)} == pytest.approx(plain(pairs), abs=1e-6)
    assert found.n == len(pairs)
    assert (found.low, found.high) == (1, 5)


@given(PAIRS)
def test_concordance_is_symmetric_and_at_most_correlation(pairs: list[tuple[float, float]]) -> None:
    found, turned = scored(pairs), scored([(y, x) for x, y in pairs])
    assert found.ccc == pytest.approx(turned.ccc, abs=1e-9)
    assert abs(found.ccc) <= abs(found.pearson) + 1e-9
    assert -1 <= found.pearson <= 1
    assert found.ccc * found.pearson >= 0


@given(st.lists(RATINGS, min_size=2, max_size=30))
def test_equal_ratings_agree_wholly(ratings: list[float]) -> None:
    assume(np.ptp(ratings) > 0)
    found = scored([(rating, rating) for rating in ratings])
    assert (found.ccc, found.pearson) == pytest.approx((1, 1), abs=1e-9)
    assert found.rmse == pytest.approx(0, abs=1e-7)


def test_by_hand() -> None:
    found = scored([(1, 2), (2, 2), (3, 4), (4, 4)])
    # Means 2.5 and 3, variances 5/4 and 1, covariance 1.
    assert found.ccc == pytest.approx(2 * 1 / (5 / 4 + 1 + 1 / 4))
    assert found.pearson == pytest.approx(1 / np.sqrt(5 / 4))
    assert found.rmse == pytest.approx(np.sqrt(2 / 4))


@pytest.mark.parametrize(
    "pairs",
    [
        [(3.3, 3.1)],
        [(3.3, 3.3)],
        [(1.1, 3.3), (4.7, 3.3), (2.9, 3.3)] * 50,
        [(3.3, 1.1), (3.3, 4.7), (3.3, 2.9)] * 50,
        [(3.3, 3.3)] * 150,
        [(1.1, 4.7)] * 150,
    ],
)
def test_what_does_not_vary_agrees_in_nothing(pairs: list[tuple[float, float]]) -> None:
    found = scored(pairs)
    assert (found.ccc, found.pearson) == (0, 0)
    assert found.rmse == pytest.approx(plain(pairs)["rmse"], abs=1e-7)


def test_the_offset_of_a_scale_costs_no_precision() -> None:
    rng = np.random.default_rng(0)
    pairs = [(1e6 + x, 1e6 + x + 0.1 * e) for x, e in rng.standard_normal((50, 2))]
    found = scored(pairs)
    assert found.ccc == pytest.approx(plain(pairs)["ccc"], abs=1e-6)
    assert found.rmse == pytest.approx(plain(pairs)["rmse"], rel=1e-5)


def test_only_what_is_rated_and_predicted_counts() -> None:
    run = [rated("d.0", 2, 3), rated("d.1", 4, 4), rated("e.0", None, 5), rated("f.0", 1, None)]
    found = score_dimensions([run], {**RANGES, "arousal": (1.0, 5.0)}, NO_RESAMPLES)
    assert found == score_dimensions([run[:2]], RANGES, NO_RESAMPLES)
    assert found["valence"].n == 2
    assert score_dimensions([run], {}, NO_RESAMPLES) == {}


def test_the_bootstrap_draws_the_utterances_of_whole_dialogues() -> None:
    rng = np.random.default_rng(2)
    truth = rng.uniform(1, 5, 20)
    sides = [list(zip(truth, truth + noise, strict=True)) for noise in rng.normal(0, 0.8, (2, 20))]
    settings = EvaluationConfig(bootstrap=60, confidence=0.9)
    found = score_dimensions([made(side) for side in sides], RANGES, settings)["valence"]
    gaps = bootstrap_differences(
        *(dialogue_moments(made(side), "valence")[None] for side in sides),
        resamples=60,
        confidence=0.9,
        scoring=agreement_scores,
    )
    drawn = np.random.default_rng(0).multinomial(4, np.full(4, 1 / 4), size=60)

    def loop(side: list[tuple[float, float]]) -> dict[str, np.ndarray]:
        samples = [[pair for n, pair in enumerate(side) for _ in range(row[n % 4])] for row in drawn]
        scores = [plain(sample) for sample in samples]
        return {name: np.array([one[name] for one in scores]) for name in scores[0]}

    first, second = map(loop, sides)
    for name in first:
        mean = (first[name] + second[name]) / 2
        assert found.intervals[name] == pytest.approx(tuple(np.quantile(mean, [0.05, 0.95])), abs=1e-9)
        gap = first[name] - second[name]
        assert gaps[name].interval == pytest.approx(tuple(np.quantile(gap, [0.05, 0.95])), abs=1e-9)
        each = [plain(side)[name] for side in sides]
        assert gaps[name].value == pytest.approx(each[0] - each[1], abs=1e-9)
        assert getattr(found, name) == pytest.approx(np.mean(each), abs=1e-9)
        assert found.deviations[name] == pytest.approx(np.std(each, ddof=1), abs=1e-9)
