"""What raters said of an utterance: their votes for emotions, and its valence, arousal and dominance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from lpgnet.pipeline.errors import PipelineError

# Thirds of votes do not add up exactly.
EXACT = 1e-6
# No rating is as far from 0, and no number of votes as large.
_BOUND = 1e9
DIMENSIONS = ("valence", "arousal", "dominance")
# The lowest and the highest rating that a corpus's raters could give, by dimension.
Ranges: TypeAlias = dict[str, tuple[float, float]]


def check_votes(votes: object, *, where: str) -> None:
    """Check votes by code of the corpus: numbers of at least 0, fractions allowed, not all of them 0; or None.

    Raises:
        PipelineError: they are not; names the code.
    """
    if votes is None:
        return
    if not isinstance(votes, dict) or not votes:
        raise PipelineError(f"{where}: field 'votes' must be an object of votes by code, or null, not {votes!r:.60}")
    for code, count in votes.items():
        if not is_number(count) or count < 0:
            raise PipelineError(
                f"{where}: votes for '{code:.40}' must be a number of at least 0 and below 1e9, not {count!r:.40}"
            )
    if not sum(votes.values()) or not math.isfinite(sum(votes.values())):
        raise PipelineError(f"{where}: the votes {votes!r:.60} must have a sum above 0; give null where nobody voted")


def majority(votes: Mapping[str, float]) -> str | None:
    """Return the code that has more votes than every other; None if there is none."""
    ordered = sorted(votes, key=votes.__getitem__, reverse=True)
    first, second = ([votes[code] for code in ordered] + [0.0, 0.0])[:2]
    return ordered[0] if first > second + EXACT else None


def check_ratings(values: Mapping[str, Any], *, where: str) -> None:
    """Check that each dimension is a number or None.

    Raises:
        PipelineError: one is not; names it.
    """
    for name in DIMENSIONS:
        rating = values.get(name)
        if rating is not None and not is_number(rating):
            raise PipelineError(f"{where}: field '{name}' must be a number within 1e9, or null, not {rating!r:.40}")


def check_in_range(name: str, rating: float, ranges: Ranges, *, where: str) -> None:
    """Check a rating against the corpus's range of its dimension.

    Raises:
        PipelineError: it is outside, or the corpus has no range for it.
    """
    if name not in ranges:
        raise PipelineError(f"{where}: its {name} has no range in the corpus; prepare it again")
    low, high = ranges[name]
    if not low <= rating <= high:
        raise PipelineError(
            f"{where}: {name} {rating:g} is not between {low:g} and {high:g}; correct it or leave it out"
        )


def check_ranges(ranges: object, *, where: str) -> None:
    """Check the lowest and highest rating of each dimension.

    Raises:
        PipelineError: a name is no dimension, or the two numbers are no range; names it.
    """
    if not isinstance(ranges, Mapping):
        raise PipelineError(f"{where}: give {{dimension: [lowest, highest]}}, not {ranges!r:.60}")
    for name, ends in ranges.items():
        if name not in DIMENSIONS:
            raise PipelineError(f"{where}: '{name!s:.40}' is not one of {', '.join(DIMENSIONS)}")
        pair = isinstance(ends, list | tuple) and len(ends) == 2 and all(is_number(end) for end in ends)
        if not pair or not ends[0] < ends[1]:
            raise PipelineError(f"{where}: the range of {name} must be [lowest, highest], within 1e9, not {ends!r:.60}")


def is_number(value: object) -> bool:
    """Tell whether a value can be a number of votes or a rating: NaN, infinity and the like cannot."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _BOUND


def number_in(cell: object) -> float | None:
    """Return the number in a cell of a table, which may be text; None if it holds none."""
    if isinstance(cell, bool) or not isinstance(cell, str | int | float):
        return None
    try:
        number = float(cell)
    except (ValueError, OverflowError):
        return None
    return number if is_number(number) else None


def votes_in(cell: object, *, where: str) -> float:
    """Return the number of votes in a cell of a table, 0 in an empty one; raters who share a vote give fractions.

    Raises:
        PipelineError: it is none.
    """
    if cell is None or cell == "":
        return 0.0
    count = number_in(cell)
    if count is None or count < 0:
        raise PipelineError(f"{where}: {cell!r:.60} is not a number of votes, which is 0 or more and below 1e9")
    return count
