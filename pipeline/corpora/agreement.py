"""How much raters agree: Krippendorff's alpha, and how many utterances have no majority."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.corpora.ratings import EXACT, majority

# Under this key of `extra` a reader says which of the votes raters divided among several codes.
SHARED_VOTES = "shared_votes"


@dataclass(frozen=True)
class Agreement:
    """Of the raters of a corpus.

    Attributes:
        voted: utterances with votes.
        compared: those with at least two raters who named one code each; alpha is over these raters.
        alpha: Krippendorff's; None where there is nothing to compare, or all named the same code.
        shared: votes that raters divided among several codes; alpha leaves them out.
        without_majority: utterances of which no code has more votes than every other.
    """

    voted: int
    compared: int
    alpha: float | None
    shared: float
    without_majority: int


def agreement(utterances: Iterable[Utterance]) -> Agreement:
    """Measure the agreement of the raters of some utterances."""
    voted = [utterance for utterance in utterances if utterance.votes]
    units = [unit for unit in map(single_votes, voted) if sum(unit.values()) > 1]
    single = sum(sum(single_votes(utterance).values()) for utterance in voted)
    return Agreement(
        voted=len(voted),
        compared=len(units),
        alpha=nominal_alpha(units),
        shared=sum(sum((utterance.votes or {}).values()) for utterance in voted) - single,
        without_majority=sum(majority(utterance.votes or {}) is None for utterance in voted),
    )


def single_votes(utterance: Utterance) -> dict[str, int]:
    """Count the raters who named one code, by code.

    Where the reader did not keep which votes are shared, the whole part of each count is taken for raters of one code.
    """
    kept = utterance.extra.get(SHARED_VOTES)
    shared = kept if isinstance(kept, dict) else {}
    counts = {code: _whole(count, shared.get(code)) for code, count in (utterance.votes or {}).items()}
    return {code: count for code, count in counts.items() if count > 0}


def _whole(count: float, shared: object) -> int:
    taken = shared if isinstance(shared, int | float) and 0 <= shared <= count else 0
    return math.floor(count - taken + EXACT)


def nominal_alpha(units: Iterable[Mapping[str, int]]) -> float | None:
    """Compute Krippendorff's alpha for categories (Content Analysis, 2004, chapter 11; any number of raters each).

    A unit of m votes has m (m - 1) ordered pairs of raters, of which each counts 1 / (m - 1) in the matrix of
    coincidences. With n votes in all, of which n_c for code c, alpha is 1 - (n - 1) D / (n^2 - sum of n_c^2), where D
    is the weight of the pairs that differ.

    Args:
        units: whole votes by code; those with fewer than two votes have no pair and do not count.

    Returns:
        1 for perfect agreement, 0 for what chance gives; None where there is no pair, or only one code.
    """
    totals: Counter[str] = Counter()
    differing = 0.0
    for unit in units:
        if (votes := sum(unit.values())) > 1:
            differing += (votes**2 - _squares(unit)) / (votes - 1)
            totals.update(unit)
    expected = totals.total() ** 2 - _squares(totals)
    return 1 - (totals.total() - 1) * differing / expected if expected else None


def _squares(votes: Mapping[str, int]) -> int:
    return sum(count**2 for count in votes.values())
