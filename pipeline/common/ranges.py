"""Types of numbers with a range, which the command line and the YAML files are checked by."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    Count: TypeAlias = int
    Total: TypeAlias = int
    Folds: TypeAlias = int
    NonNegativeInt: TypeAlias = int
    AtLeastOne: TypeAlias = float
    Correlation: TypeAlias = float
    Fraction: TypeAlias = float
    Hours: TypeAlias = float
    NonNegativeFloat: TypeAlias = float
    PositiveFloat: TypeAlias = float
    Probability: TypeAlias = float
    Share: TypeAlias = float
else:
    from jsonargparse.typing import ClosedUnitInterval as Fraction
    from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat, restricted_number_type
    from jsonargparse.typing import OpenUnitInterval as Probability

    AtLeastOne = restricted_number_type("AtLeastOne", float, (">=", 1))
    Correlation = restricted_number_type("Correlation", float, [(">=", -1), ("<=", 1)])
    Count = restricted_number_type("Count", int, (">=", 1))
    Folds = restricted_number_type("Folds", int, (">=", 2))
    # Far beyond any corpus, so that what a model says of its own prints as a number.
    Hours = restricted_number_type("Hours", float, [(">=", 0), ("<=", 1e9)])
    Total = restricted_number_type("Total", int, [(">=", 0), ("<=", 10**12)])
    Share = restricted_number_type("Share", float, [(">=", 0), ("<", 1)])

__all__ = [
    "AtLeastOne",
    "Correlation",
    "Count",
    "Folds",
    "Fraction",
    "Hours",
    "NonNegativeFloat",
    "NonNegativeInt",
    "PositiveFloat",
    "Probability",
    "Share",
    "Total",
]
