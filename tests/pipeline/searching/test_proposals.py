"""What is tried next: the same answers lead to the same questions, from wherever a search goes on."""

import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpgnet.pipeline.errors import MissingExtraError
from lpgnet.pipeline.searching.proposals import Proposals, check_installed
from lpgnet.pipeline.searching.space import Settings, parse_space

SPACE = parse_space(
    {
        "training.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
        "training.epochs": {"low": 1, "high": 41, "step": 10},
        "model.hidden_size": [16, 32],
        "model.modalities": [["text"], ["text", "audio"]],
    },
    "uar",
)


def score(chosen: Settings) -> float | None:
    """Best at a rate of 0.01 with both modalities; none at high rates."""
    if chosen["training.learning_rate"] > 0.05:
        return None
    return len(chosen["model.modalities"]) - abs(chosen["training.learning_rate"] - 0.01)


def search(count: int, known: list[Settings], *, seed: int = 0, lag: int = 3) -> list[Settings]:
    proposals, asked = Proposals(SPACE, seed=seed, minimize=False), []
    for number in range(count):
        if number >= lag:
            proposals.tell(number - lag, score(asked[number - lag]))
        asked.append(proposals.ask(number, known[number] if number < len(known) else None))
    return asked


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 24))
def test_a_search_that_goes_on_asks_what_one_without_a_stop_asks(stopped_after: int) -> None:
    whole = search(24, [])
    assert search(24, whole[:stopped_after]) == whole


def test_seeds_differ_and_all_is_in_the_space() -> None:
    found = search(30, [])
    assert search(5, [], seed=1) != found[:5]
    assert all(chosen[key] in SPACE[key] for chosen in found for key in SPACE)
    assert all(type(chosen["training.epochs"]) is int for chosen in found)


def test_it_learns_from_scores() -> None:
    """Of the later trials more have both modalities than of the first ones, which are drawn by chance."""
    found = search(60, [])
    both = [len(chosen["model.modalities"]) == 2 for chosen in found]
    assert sum(both[40:]) > 15


def test_less_is_better_where_it_is() -> None:
    proposals = Proposals(SPACE, seed=0, minimize=True)
    found = []
    for number in range(60):
        found.append(proposals.ask(number))
        proposals.tell(number, float(len(found[-1]["model.modalities"])))
    assert sum(len(chosen["model.modalities"]) == 1 for chosen in found[40:]) > 15


def test_nothing_is_said_or_warned_of(capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder) -> None:
    search(15, [])
    assert capfd.readouterr() == ("", "") and not recwarn.list


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'lpgnet\[search\]'"):
        check_installed()
