"""Tables of scores against raters' votes and ratings, the same on the screen, in reports and in the model card."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from lpgnet.pipeline.evaluation.analysis import RATINGS, VOTES
from lpgnet.pipeline.evaluation.dimensions import DimensionScores
from lpgnet.pipeline.evaluation.distributions import DistributionScores
from lpgnet.pipeline.evaluation.inference import FUSED
from lpgnet.pipeline.evaluation.run_results import RunResults
from lpgnet.pipeline.reports.cells import OverRuns, with_interval
from lpgnet.pipeline.training.tuned import TuningScores

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
ABOUT_TUNED = (
    "A tuned encoder's embeddings of utterances that it has learned from tell their labels more readily than those of "
    "others: the wider the gap, the less of what a model learns from the former holds for new speech.",
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


def tuned_table(scores: Mapping[str, Sequence[TuningScores]], *, of: str) -> Table:
    """Return a row for each of `scores`, the means over some tuned encoders; names are under the heading `of`."""

    def mean(values: Iterable[float]) -> str:
        return f"{fmean(values):.3f}"

    rows = [
        [
            name,
            mean(one.training.weighted_f1 for one in tuned),
            mean(one.development.weighted_f1 for one in tuned),
            mean(one.gap for one in tuned),
            f"{sum(one.training.n for one in tuned)} / {sum(one.development.n for one in tuned)}",
        ]
        for name, tuned in scores.items()
    ]
    columns = [of, "training", "development", "gap", "n"]
    return Table("Tuned encoders: weighted F1 of the heads that they were tuned with", columns, rows, ABOUT_TUNED)


def run_tables(results: RunResults) -> list[Table]:
    """Return the tables of a run against votes and ratings, as far as there are some, and of tuned encoders."""
    heads = {FUSED: results.distribution} if results.distribution else {}
    found = [
        votes_table(heads, with_interval, of="head"),
        ratings_table(results.dimensions, with_interval, of="dimension"),
        tuned_table({modality: [scores] for modality, scores in results.tuned.items()}, of="encoder"),
    ]
    return [table for table in found if table.rows]
