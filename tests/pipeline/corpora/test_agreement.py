"""Agreement of raters: by hand, against a computation pair by pair, and what must hold for any votes."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpgnet.pipeline.corpora.agreement import Agreement, agreement, nominal_alpha, single_votes
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.corpora.ratings import majority

UNITS = st.lists(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 4)), max_size=8)


def voted(votes: dict[str, float] | None, **extra: Any) -> Utterance:
    return Utterance("d", "u", votes=votes, extra=extra)


def test_alpha_by_hand() -> None:
    """Votes aaa, ab, bb, and a lone c that has nobody to agree with.

    Coincidences: aaa gives 6 pairs aa of weight 1/2, so o_aa = 3; ab gives o_ab = o_ba = 1; bb gives o_bb = 2.
    n_a = 4, n_b = 3, n = 7. D_o = 2/7; D_e = 2 * 4 * 3 / (7 * 6) = 4/7; alpha = 1 - 1/2.
    """
    assert nominal_alpha([{"a": 3}, {"a": 1, "b": 1}, {"b": 2}, {"c": 1}]) == pytest.approx(0.5)


def test_alpha_of_krippendorffs_own_example() -> None:
    """Four observers and twelve units, with missing data (Krippendorff, Computing Krippendorff's Alpha, 2011, C)."""
    observers = ["123321412   ", "1233224125 3", " 3332342251 ", "12332441251 "]
    units = [Counter(value for value in unit if value != " ") for unit in zip(*observers, strict=True)]
    assert nominal_alpha(units) == pytest.approx(0.743, abs=5e-4)


@given(UNITS)
def test_alpha_is_what_every_pair_of_raters_gives(units: list[dict[str, int]]) -> None:
    coincidences: Counter[tuple[str, str]] = Counter()
    for unit in units:
        raters = list(Counter(unit).elements())
        for pair in permutations(raters, 2):
            coincidences[pair] += 1 / (len(raters) - 1)  # type: ignore[assignment]
    margins: Counter[str] = Counter()
    for (first, _), weight in coincidences.items():
        margins[first] += weight
    n = sum(margins.values())
    pairs = [(a, b) for a in margins for b in margins if a != b]
    found = nominal_alpha(units)
    if not pairs:
        assert found is None
        return
    observed = sum(coincidences[pair] for pair in pairs) / n
    expected = sum(margins[a] * margins[b] for a, b in pairs) / (n * (n - 1))
    assert found == pytest.approx(1 - observed / expected)


@given(UNITS)
def test_alpha_knows_neither_names_nor_order_and_is_at_most_1(units: list[dict[str, int]]) -> None:
    alpha = nominal_alpha(units)
    renamed = [{f"new {code}": count for code, count in reversed(unit.items())} for unit in reversed(units)]
    assert nominal_alpha(renamed) == pytest.approx(alpha)
    assert alpha is None or alpha <= 1
    assert nominal_alpha([{code: 2} for code in "ab"]) == 1


def test_raters_who_named_several_are_counted_apart() -> None:
    """Two raters divided their votes so that whole ones come out; a reader's note tells them from single raters."""
    noted = voted({"a": 2.0, "b": 1.0}, shared_votes={"a": 1.0, "b": 1.0})
    assert single_votes(noted) == {"a": 1}
    assert single_votes(voted({"a": 2 + 1 / 3, "b": 1 / 3, "c": 1 / 3})) == {"a": 2}
    assert single_votes(voted({"a": sum([1 / 3] * 3)})) == {"a": 1}
    assert single_votes(voted({"a": 0.6, "b": 0.4})) == {}


@pytest.mark.parametrize("kept", [None, 3, ["a"], {"a": "x"}, {"a": -1}, {"a": 7}, {"a": float("nan")}, {"z": 1}])
def test_a_note_that_is_none_does_no_harm(kept: object) -> None:
    assert single_votes(voted({"a": 2, "b": 1}, shared_votes=kept)) == {"a": 2, "b": 1}


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ({"a": 2, "b": 1}, True),
        ({"a": 1}, True),
        ({"a": 1, "b": 1}, False),
        ({"a": 2, "b": 2, "c": 1}, False),
        ({"a": 1 / 3 + 1 / 3 + 1 / 3, "b": 1}, False),
    ],
)
def test_a_majority_is_one_code_with_more_votes_than_every_other(votes: dict[str, float], expected: bool) -> None:
    assert (majority(votes) is not None) is expected


def test_the_agreement_of_a_corpus() -> None:
    """Compared are aaa, ab and bb, as by hand; the rest has no pair of raters who named one code each."""
    utterances = [
        voted({"a": 3}),
        voted({"a": 1, "b": 1}),
        voted({"b": 2}),
        voted({"a": 1.5, "b": 0.5}, shared_votes={"a": 0.5, "b": 0.5}),
        voted(None),
    ]
    assert agreement(utterances) == Agreement(
        voted=4, compared=3, alpha=pytest.approx(0.5), shared=1, without_majority=1
    )
    assert agreement([voted(None)]) == Agreement(0, 0, None, 0, 0)
    assert agreement([voted({"a": 2}), voted({"a": 3})]).alpha is None
