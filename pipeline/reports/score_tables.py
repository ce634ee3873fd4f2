"""Tables of scores against votes and ratings, and of calibration: the same on screen, in reports and in the card."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from lpgnet.pipeline.evaluation.analysis import RATINGS, VOTES
from lpgnet.pipeline.evaluation.calibration import SCORES as CALIBRATION
from lpgnet.pipeline.evaluation.calibration import Calibration
from lpgnet.pipeline.evaluation.dimensions import DimensionScores
from lpgnet.pipeline.evaluation.distributions import DistributionScores
from lpgnet.pipeline.evaluation.inference import FUSED
from lpgnet.pipeline.evaluation.run_results import RunResults
from lpgnet.pipeline.reports.cells import OverRuns, with_interval

ABOUT_VOTES = (
    "JSD is the Jensen-Shannon divergence between the predicted probabilities and the shares of the raters' votes: "
    "0 where they are equal, 1 where they have no class in common; lower is better.",
    "Cross-entropy is the mean of −log of the predicted probabilities over the raters' votes, in nats: lower is "
    "better, and the less the raters agree, the higher is the lowest possible value.",
    "Macro F1: a class counts as heard where it has more than an equal share of the votes (1/C of C classes), "
    "and as predicted where it has more than that of the probability; higher is better.",
)
ABOUT_RATINGS = (
    "CCC is the concordance correlation coefficient: 1 where every prediction equals its rating, 0 where they are "
    "unrelated; higher is better.",
    "Pearson is the correlation whatever the predictions' scale and offset; higher is better.",
    "RMSE is the root of the mean squared error, in the corpus's own units; lower is better.",
)
ABOUT_CALIBRATION = (
    "ECE is the expected calibration error: the mean distance of accuracy and confidence, the highest probability, in "
    "15 bins; classwise ECE is the mean of the same over the classes, of a class's share and its probability.",
    "Brier is the squared distance of all probabilities from 1 for the label and 0 for the others: from 0 to 2.",
    "NLL is the mean of −log of the label's probability, in nats.",
)

# Writes one of the scores as a cell.
Write = Callable[[OverRuns, str], str]


@dataclass(frozen=True)
class Table:
    """The text of a table's cells.

    Attributes:
        about: a sentence on each score.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]
    about: tuple[str, ...] = ()

    def beside(self, column: str, cells: Sequence[str]) -> Table:
        """Return the table with one more column."""
        rows = [[*row, cell] for row, cell in zip(self.rows, cells, strict=True)]
        return replace(self, columns=[*self.columns, column], rows=rows)


def votes_table(scores: Mapping[str, DistributionScores], write: Write, *, of: str) -> Table:
    """Return a row for each of `scores`, whose names are under the heading `of`."""
    rows = [[name, *(write(values, key) for key in VOTES), str(values.n)] for name, values in scores.items()]
    title = "Raters' votes (lower JSD and cross-entropy are better)"
    return Table(title, [of, *VOTES.values(), "n"], rows, ABOUT_VOTES)


def ratings_table(scores: Mapping[str, DimensionScores], write: Write, *, of: str) -> Table:
    """Return a row for each of `scores`, whose names are under the heading `of`."""
    rows = [
        [name, *(write(values, key) for key in RATINGS), str(values.n), f"{values.low:g} to {values.high:g}"]
        for name, values in scores.items()
    ]
    title = "Valence, arousal and dominance (lower RMSE is better)"
    return Table(title, [of, *RATINGS.values(), "n", "range"], rows, ABOUT_RATINGS)


def calibration_table(calibrations: Mapping[str, Calibration], write: Write) -> Table:
    """Return a row without and one with temperatures for each of `calibrations`, by model, or "" for the only one."""
    rows = [
        [f"{model}: {name}" if model else name, *(write(side, key) for key in CALIBRATION), str(side.n), temperature]
        for model, found in calibrations.items()
        for name, side, temperature in (
            ("uncalibrated", found.before, "1"),
            ("calibrated", found.after, _from_to(found.temperatures)),
        )
    ]
    of = "probabilities" if "" in calibrations else "model: probabilities"
    title = "Calibration (lower is better)"
    return Table(title, [of, *CALIBRATION.values(), "n", "temperature"], rows, ABOUT_CALIBRATION)


def _from_to(temperatures: Sequence[float]) -> str:
    low, high = (f"{end:.2f}" for end in (min(temperatures), max(temperatures)))
    return low if low == high else f"{low} to {high}"


def run_tables(results: RunResults) -> list[Table]:
    """Return the tables of a run against votes and ratings, as far as the test split has some, and of calibration."""
    heads = {FUSED: results.distribution} if results.distribution else {}
    found = [
        votes_table(heads, with_interval, of="head"),
        ratings_table(results.dimensions, with_interval, of="dimension"),
        calibration_table({"": results.calibration}, with_interval),
    ]
    return [table for table in found if table.rows]
