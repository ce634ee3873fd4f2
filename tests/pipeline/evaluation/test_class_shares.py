"""Predicted against true shares of the classes, worked out by hand, and when they are told to be far apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpgnet.pipeline.config import EvaluationConfig
from lpgnet.pipeline.evaluation.class_shares import LEAST_RATIO, ClassShare, class_shares
from lpgnet.pipeline.evaluation.metrics import scores
from lpgnet.pipeline.evaluation.predictions import Outcome
from tests.pipeline.predicted import CLASSES, outcome

SETTINGS = EvaluationConfig(bootstrap=200)


def run_of(pairs: list[tuple[int, int]], *, turns: int = 4) -> list[Outcome]:
    """Predictions of (truth, guess), so many turns a dialogue."""
    return [outcome(f"d{n // turns:03d}.{n}", truth, guess) for n, (truth, guess) in enumerate(pairs)]


def test_shares_of_two_runs_worked_by_hand() -> None:
    """Of four labelled turns one is yes; one run says yes to three of them, the other to one."""
    truth = (0, 0, 0, 1, -100)
    runs = [run_of(list(zip(truth, guesses, strict=True))) for guesses in ((1, 1, 0, 1, 1), (0, 0, 0, 1, 1))]
    found = class_shares(runs, CLASSES, EvaluationConfig(bootstrap=0))
    assert found == {"no": ClassShare(0.75, 0.5, None), "yes": ClassShare(0.25, 0.5, None)}
    assert [share.is_far for share in found.values()] == [False, True]
    assert class_shares([run_of([(-100, 0)])], CLASSES, SETTINGS) == {}


def test_a_class_that_is_predicted_half_as_often_is_far_and_one_that_chance_may_have_turned_is_not() -> None:
    """35 % true and 15 % predicted, as neutral was in a fold of a real corpus."""
    turns = [(1, 1)] * 3 + [(1, 0)] * 4 + [(0, 0)] * 13
    many = class_shares([run_of(turns * 20, turns=20)], CLASSES, SETTINGS)
    assert (many["yes"].true, many["yes"].predicted) == pytest.approx((0.35, 0.15))
    assert many["yes"].is_far
    assert not many["no"].is_far, "65 % against 85 %"
    # The same totals, but of two dialogues of which one has all the difference.
    two = class_shares([run_of([(1, 1)] * 3 + [(0, 0)] * 7 + [(1, 0)] * 4 + [(0, 0)] * 6, turns=10)], CLASSES, SETTINGS)
    assert two["yes"].predicted == many["yes"].predicted
    assert two["yes"].interval is not None and two["yes"].interval[1] == 0
    assert not two["yes"].is_far
    assert ClassShare(0.01, 0.0, (-0.02, -0.005)).is_far, "a class that is never predicted"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40))
def test_a_class_whose_shares_are_far_apart_has_no_f1_of_eight_tenths(pairs: list[tuple[int, int]]) -> None:
    run = run_of(pairs)
    found = class_shares([run], CLASSES, EvaluationConfig(bootstrap=0))
    confusion = np.zeros((2, 2))
    np.add.at(confusion, tuple(np.array(pairs).T), 1)
    for share, f1 in zip(found.values(), scores(confusion)["f1"], strict=True):
        assert not share.is_far or f1 < 2 * LEAST_RATIO / (1 + LEAST_RATIO) == pytest.approx(0.8)
    assert sum(share.true for share in found.values()) == pytest.approx(1)
    assert sum(share.predicted for share in found.values()) == pytest.approx(1)
