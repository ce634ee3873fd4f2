"""Scores as the text of a table's cells."""

from __future__ import annotations

from lpgnet.pipeline.evaluation.analysis import Scores, SpeakerScores
from lpgnet.pipeline.evaluation.calibration import Reliability
from lpgnet.pipeline.evaluation.dimensions import DimensionScores
from lpgnet.pipeline.evaluation.distributions import DistributionScores
from lpgnet.pipeline.evaluation.metrics import Difference

OverRuns = Scores | DistributionScores | DimensionScores | Reliability


def mean_and_deviation(values: OverRuns, name: str) -> str:
    """Format a score, as in `0.812 ± 0.010`."""
    deviation = values.deviations.get(name)
    return f"{getattr(values, name):.3f}" + ("" if deviation is None else f" ± {deviation:.3f}")


def with_interval(values: OverRuns | SpeakerScores, name: str) -> str:
    """Format a score and its interval, as in `0.812 [0.780, 0.840]`."""
    interval = values.intervals.get(name)
    return f"{getattr(values, name):.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def with_spread(values: OverRuns, name: str) -> str:
    """Format a score with its deviation over runs or, of a single run, with its interval."""
    return mean_and_deviation(values, name) if values.deviations else with_interval(values, name)


def signed(difference: Difference | None) -> str:
    """Format a difference and its interval, as in `-0.012 [-0.030, +0.006]`, or `-` for None."""
    if difference is None:
        return "-"
    low, high = difference.interval
    return f"{difference.value:+.3f} [{low:+.3f}, {high:+.3f}]"


def percent(share: float | None) -> str:
    """Format a share as a percentage, or `-` for None."""
    return "-" if share is None else f"{share:.1%}"
