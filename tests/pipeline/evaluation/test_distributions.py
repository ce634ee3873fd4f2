"""Scores against votes agree with scipy and scikit-learn, and their bootstrap with a plain loop."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import f1_score

from lpgnet.pipeline.config import EvaluationConfig
from lpgnet.pipeline.evaluation.distributions import (
    DistributionScores,
    dialogue_distributions,
    distribution_scores,
    score_distribution,
)
from lpgnet.pipeline.evaluation.inference import Prediction
from lpgnet.pipeline.evaluation.metrics import bootstrap_differences

NO_RESAMPLES = EvaluationConfig(bootstrap=0)
WEIGHTS = st.lists(st.integers(0, 9), min_size=3, max_size=3).filter(any)
PAIRS = st.lists(st.tuples(WEIGHTS, WEIGHTS), min_size=1, max_size=12)


def normalized(weights: Sequence[float]) -> tuple[float, ...]:
    return tuple(weight / sum(weights) for weight in weights)


def voted(name: str, shares: Sequence[float], guess: Sequence[float], label: int = -100) -> Prediction:
    return Prediction(name, name.partition(".")[0], label, {"fused": list(guess)}, {}, shares=tuple(shares))


def run_of(rng: np.random.Generator, dialogues: int = 7) -> list[Prediction]:
    """Dialogues of different lengths, with the same votes whatever the seed of the predictions."""
    truth = np.random.default_rng(5)
    names = [f"d{d}.{turn}" for d in range(dialogues) for turn in range(1 + d % 3)]
    return [voted(n, truth.multinomial(5, [0.5, 0.3, 0.2]) / 5, rng.dirichlet([1, 1, 1])) for n in names]


def plain(run: Sequence[Prediction]) -> dict[str, float]:
    """The scores of utterances, one at a time."""
    shares, guesses = (np.array([list(v) for v in column]) for column in zip(*map(both, run), strict=True))
    true, guessed = shares > 1 / 3 + 1e-6, guesses > 1 / 3 + 1e-6
    # Class by class: scikit-learn takes a single column for one of labels, and averages over "no" too.
    seen = np.flatnonzero((true | guessed).any(0))
    f1 = [f1_score(true[:, column], guessed[:, column], zero_division=0) for column in seen]
    return {
        "jsd": float(np.mean([jensenshannon(*pair, base=2) ** 2 for pair in zip(shares, guesses, strict=True)])),
        "cross_entropy": float(-np.mean((shares * np.log(np.maximum(guesses, 1e-30))).sum(-1))),
        "macro_f1": float(np.mean(f1)) if f1 else 0.0,
    }


def both(prediction: Prediction) -> tuple[Sequence[float], Sequence[float]]:
    return prediction.shares, prediction.probabilities["fused"]


def scored(run: Sequence[Prediction]) -> DistributionScores:
    found = score_distribution([run], NO_RESAMPLES)
    assert found is not None
    return found


@example([([0, 0, 1], [1, 1, 1]), ([1, 1, 1], [1, 1, 1])])  # one class alone is seen
@given(PAIRS)
def test_scores_are_those_of_scipy_and_scikit_learn(pairs: list[tuple[list[int], list[int]]]) -> None:
    run = [voted(f"d{n % 3}.{n}", normalized(a), normalized(b)) for n, (a, b) in enumerate(pairs)]
    found = scored(run)
    assert {name: getattr(found, name) for name in plain(run)} == pytest.approx(plain(run), abs=1e-7)
    assert found.n == len(run)


@given(WEIGHTS, WEIGHTS)
def test_divergence_is_symmetric_and_0_for_equal_alone(one: list[int], other: list[int]) -> None:
    first, second = normalized(one), normalized(other)
    found, turned = scored([voted("d.0", first, second)]).jsd, scored([voted("d.0", second, first)]).jsd
    assert found == pytest.approx(turned, abs=1e-12)
    assert 0 <= found <= 1
    assert (found == 0) == (np.allclose(first, second, atol=1e-12))


def test_by_hand() -> None:
    run = [voted("d.0", (0.5, 0.5), (1.0, 0.0)), voted("d.1", (1.0, 0.0), (0.5, 0.5), label=0)]
    found = scored(run)
    # M = (3/4, 1/4): H(M) - (H(P) + H(Q)) / 2 = 0.811278 - 1 / 2 bits, in either direction.
    assert found.jsd == pytest.approx(0.311278, abs=1e-6)
    assert found.cross_entropy == pytest.approx((-0.5 * np.log(1e-30) - np.log(0.5)) / 2)
    # No half is more than half: the first class is predicted wrongly once and missed once, the second does not occur.
    assert found.macro_f1 == 0
    assert found.n == 2, "with or without a majority"


def test_opposite_and_impossible_are_finite() -> None:
    opposite = scored([voted("d.0", (1, 0, 0), (0, 0, 1))])
    assert opposite.jsd == pytest.approx(1)
    assert np.isfinite(opposite.cross_entropy)
    nothing = scored([voted("d.0", (1, 0, 0), (0, 0, 0))])
    assert np.isfinite([nothing.jsd, nothing.cross_entropy, nothing.macro_f1]).all()
    even = scored([voted("d.0", (1 / 3, 1 / 3, 1 / 3), (1 / 3, 1 / 3, 1 / 3))])
    assert (even.jsd, even.macro_f1) == (0, 0)


def test_an_equal_share_is_not_more_in_single_precision() -> None:
    third = float(np.float32(1 / 3))
    assert third > 1 / 3
    even = scored([voted("d.0", (third, third, third), (1, 0, 0))])
    assert even.macro_f1 == 0


def test_utterances_without_votes_count_in_nothing() -> None:
    run = [voted("d.0", (0.8, 0.2), (0.7, 0.3)), voted("e.0", (), (0.1, 0.9), label=1)]
    assert scored(run) == scored(run[:1])
    assert score_distribution([run[1:]], NO_RESAMPLES) is None


def test_the_bootstrap_draws_the_utterances_of_whole_dialogues() -> None:
    run, other = run_of(np.random.default_rng(0)), run_of(np.random.default_rng(1))
    settings = EvaluationConfig(bootstrap=60, confidence=0.9)
    found = score_distribution([run, other], settings)
    ids = sorted({one.dialogue_id for one in run})
    drawn = np.random.default_rng(0).multinomial(len(ids), np.full(len(ids), 1 / len(ids)), size=60)

    def loop(side: Sequence[Prediction]) -> dict[str, np.ndarray]:
        samples = [
            [p for n, name in zip(row, ids, strict=True) for p in side if p.dialogue_id == name for _ in range(n)]
            for row in drawn
        ]
        scores = [plain(sample) for sample in samples]
        return {name: np.array([one[name] for one in scores]) for name in scores[0]}

    first, second = loop(run), loop(other)
    gaps = bootstrap_differences(
        *(dialogue_distributions(side)[None] for side in (run, other)),
        resamples=60,
        confidence=0.9,
        scoring=distribution_scores,
    )
    assert found is not None
    for name in first:
        mean = (first[name] + second[name]) / 2
        assert found.intervals[name] == pytest.approx(tuple(np.quantile(mean, [0.05, 0.95])), abs=1e-7)
        gap = first[name] - second[name]
        assert gaps[name].interval == pytest.approx(tuple(np.quantile(gap, [0.05, 0.95])), abs=1e-7)
        each = plain(run)[name], plain(other)[name]
        assert gaps[name].value == pytest.approx(each[0] - each[1], abs=1e-7)
        assert getattr(found, name) == pytest.approx(np.mean(each), abs=1e-7)
        assert found.deviations[name] == pytest.approx(np.std(each, ddof=1), abs=1e-7)
