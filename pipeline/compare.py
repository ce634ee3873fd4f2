"""Compare two runs, or two rows of a table, on the same test utterances."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from lpgnet.pipeline.cli import module_main
from lpgnet.pipeline.common.console import show, show_table
from lpgnet.pipeline.config import EvaluationConfig
from lpgnet.pipeline.evaluation.analysis import title
from lpgnet.pipeline.evaluation.comparison import (
    Measured,
    both_scores,
    check_comparable,
    differences,
    mcnemar,
    read_measured,
)
from lpgnet.pipeline.evaluation.metrics import NAMES


def main(arguments: Sequence[str]) -> int:
    """Run the command and return the exit code."""
    parser = ArgumentParser(prog="lpgnet compare", description=__doc__)
    for name in ("first", "second"):
        parser.add_argument(name, type=Path, help="run folder, or folder of a table's row (work/NAME/crossval/ROW)")
    parser.add_argument("--resamples", type=int, default=10_000, help="number of times to resample the test dialogues")
    parser.add_argument(
        "--confidence", type=float, default=EvaluationConfig.confidence, help="confidence level of the intervals"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    options = parser.parse_args(arguments)
    first, second = read_measured(options.first), read_measured(options.second)
    check_comparable(first, second)
    print_scores(first, second, resamples=max(options.resamples, 1), confidence=options.confidence)
    print_tests(first, second)
    return 0


def print_scores(first: Measured, second: Measured, *, resamples: int, confidence: float) -> None:
    """Print both sides' scores and their differences."""
    gaps = differences(first, second, resamples=resamples, confidence=confidence)
    scores = both_scores(first, second)
    rows = [
        [
            title(name),
            *(f"{value:.3f}" for value in scores[name]),
            f"{gap.value:+.3f} [{gap.interval[0]:+.3f}, {gap.interval[1]:+.3f}]",
            _probability(gap.p),
        ]
        for name, gap in gaps.items()
    ]
    show_table(
        f"A is {first.folder}, B is {second.folder}: {confidence:.0%} paired bootstrap over dialogues",
        ["metric", "A", "B", "A − B", "p"],
        rows,
    )
    if gaps.keys() - NAMES.keys():
        show("JSD, cross-entropy and RMSE are better when lower")


def _probability(p: float) -> str:
    return f"{p:.4f}" if p >= 0.0001 else "< 0.0001"


def print_tests(first: Measured, second: Measured) -> None:
    """Print McNemar's test of each pair of seeds."""
    rows = []
    for (name, ours), (other, theirs) in zip(first.runs.items(), second.runs.items(), strict=True):
        test = mcnemar(ours, theirs)
        pair = name if name == other else f"{name}, {other}"
        rows.append([pair, test.only_first, test.only_second, _probability(test.p)])
    columns = ["run", "only A right", "only B right", "p"]
    show_table("McNemar's exact test (assumes independent utterances)", columns, rows)
    show("each p is for a single comparison; correct for multiple comparisons if you make several")


if __name__ == "__main__":
    module_main("compare")
