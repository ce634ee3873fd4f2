"""Tables of scores against votes and ratings, and of calibration: the same on screen, in reports and in the card."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean

from lpgnet.pipeline.evaluation.analysis import RATINGS, VOTES, SeenGap
from lpgnet.pipeline.evaluation.calibration import SCORES as CALIBRATION
from lpgnet.pipeline.evaluation.calibration import Calibration
from lpgnet.pipeline.evaluation.chosen_epochs import ChosenEpoch
from lpgnet.pipeline.evaluation.class_shares import ClassShare
from lpgnet.pipeline.evaluation.dimensions import DimensionScores
from lpgnet.pipeline.evaluation.distributions import DistributionScores
from lpgnet.pipeline.evaluation.inference import FUSED
from lpgnet.pipeline.evaluation.metrics import NAMES
from lpgnet.pipeline.evaluation.run_results import RunResults
from lpgnet.pipeline.reports.cells import OverRuns, percent, signed, with_interval
from lpgnet.pipeline.reports.targets import describe_score
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
ABOUT_EPOCHS = (
    "The best epoch, whose model is kept, scores best on the development dialogues: of all epochs with a constant "
    "learning rate, else of their last quarter. With select: last it is the last, whatever it scores.",
    "A refitted model is trained anew on the development dialogues too, for as many epochs; the development score is "
    "that of its first run.",
    "The best of several scores is high partly by chance. A development score far above that of the test split is of "
    "development dialogues that mislead, such as those whose speakers are also in training.",
)
ABOUT_SHARES = (
    "Of the labelled utterances, the share that is of the class → the share that is predicted to be.",
    "▼ or ▲ follows a predicted share that is far below or above the true one: the smaller is less than two thirds of "
    "the larger, which alone keeps F1 below 0.8 (it is at most 2 × smaller / (true + predicted)), and the interval of "
    "their difference over dialogues does not include 0.",
)
ABOUT_VERBATIM = (
    "A verbatim turn has a text that also stands, but for case and white space, in the training or development "
    "dialogues, so that a model can know its label by heart.",
)
ABOUT_CALIBRATION = (
    "ECE is the expected calibration error: the mean distance of accuracy and confidence, the highest probability, in "
    "15 bins; classwise ECE is the mean of the same over the classes, of a class's share and its probability.",
    "Brier is the squared distance of all probabilities from 1 for the label and 0 for the others: from 0 to 2.",
    "NLL is the mean of −log of the label's probability, in nats.",
    "Of few utterances ECE and classwise ECE come out too high, and so does each resample of an interval, which may "
    "lie above the score (Roelofs et al., arXiv 2012.08668): compare the scores between rows.",
)

# Scores of verbatim turns: all of them, with intervals, are wider than a page.
_VERBATIM = ("ua", "weighted_f1")
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
    rows = [
        [
            name,
            f"{mean(one.training.weighted_f1 for one in tuned):.3f}",
            f"{mean(one.development.weighted_f1 for one in tuned):.3f}",
            f"{mean(one.gap for one in tuned):.3f}",
            f"{sum(one.training.n for one in tuned)} / {sum(one.development.n for one in tuned)}",
        ]
        for name, tuned in scores.items()
    ]
    columns = [of, "training", "development", "gap", "n"]
    return Table("Tuned encoders: weighted F1 of the heads that they were tuned with", columns, rows, ABOUT_TUNED)


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
    """Return the tables of a run against votes and ratings, if there are some, of calibration and of tuned encoders."""
    heads = {FUSED: results.distribution} if results.distribution else {}
    found = [
        votes_table(heads, with_interval, of="head"),
        ratings_table(results.dimensions, with_interval, of="dimension"),
        calibration_table({"": results.calibration}, with_interval),
        tuned_table({modality: [scores] for modality, scores in results.tuned.items()}, of="encoder"),
    ]
    return [table for table in found if table.rows]


def epochs_table(runs: Mapping[str, Sequence[ChosenEpoch]], *, of: str) -> Table:
    """Return a row for each of `runs`, whose names are under the heading `of`: the means of the epochs' scores."""
    rows = [[name, *_epoch_cells(chosen)] for name, chosen in runs.items() if chosen]
    columns = [of, "best epoch", "of", "score", "development", "test", "development − test"]
    return Table("Best epochs, and development beside test", columns, rows, ABOUT_EPOCHS)


def _epoch_cells(chosen: Sequence[ChosenEpoch]) -> list[str]:
    tested = [one.test for one in chosen if one.test is not None]
    development = mean(one.development for one in chosen)
    test = mean(tested) if len(tested) == len(chosen) else None
    scores = ["-", "-"] if test is None else [f"{test:.3f}", f"{development - test:+.3f}"]
    numbers = (_range(one.epoch for one in chosen), _range(one.trained for one in chosen))
    return [*numbers, describe_score(chosen[0].score), f"{development:.3f}", *scores]


def _range(numbers: Iterable[int]) -> str:
    low, high = min(found := list(numbers)), max(found)
    return str(low) if low == high else f"{low} to {high}"


def shares_table(shares: Mapping[str, Mapping[str, ClassShare]], *, of: str) -> Table:
    """Return a row for each of `shares`, whose names are under the heading `of`, with a column for each class."""
    rows = [[name, *map(_share, classes.values())] for name, classes in shares.items() if classes]
    classes = list(next(iter(shares.values()), {}))
    return Table("True and predicted shares of the classes", [of, *classes], rows, ABOUT_SHARES)


def _share(share: ClassShare) -> str:
    mark = (" ▼" if share.predicted < share.true else " ▲") if share.is_far else ""
    return f"{share.true:.1%} → {share.predicted:.1%}{mark}"


def verbatim_table(gaps: Mapping[str, SeenGap | None], *, of: str) -> Table:
    """Return rows for each of `gaps`, whose names are under the heading `of`: verbatim turns, others, differences."""
    rows = [row for name, gap in gaps.items() if gap for row in _verbatim_rows(name, gap)]
    return Table("Verbatim turns", [of, "turns", "n", *(NAMES[one] for one in _VERBATIM)], rows, ABOUT_VERBATIM)


def _verbatim_rows(name: str, gap: SeenGap) -> list[list[str]]:
    sides = {"verbatim": gap.seen, "other": gap.unseen}
    rows = [
        [name, side, str(values.n), *(with_interval(values, one) for one in _VERBATIM)]
        for side, values in sides.items()
    ]
    differences = [signed(gap.differences.get(one)) for one in _VERBATIM]
    return [*rows, [name, "verbatim − other", "", *differences]] if gap.differences else rows


def epochs_and_shares(results: RunResults) -> tuple[Table, Table]:
    """Return the tables of a run's chosen epoch and of its class shares, which may have no rows."""
    chosen = [results.chosen] if results.chosen else []
    shares = shares_table({results.fold: results.class_shares}, of="test split")
    return epochs_table({results.fold: chosen}, of="test split"), shares


def group_tables(results: RunResults) -> tuple[Table, Table]:
    """Return the tables of a run by condition, and of verbatim turns, which may have no rows."""
    rows = [
        [name, str(values.n), percent(values.words_seen), *(with_interval(values, one) for one in NAMES)]
        for name, values in results.conditions.items()
    ]
    conditions = Table("Conditions", ["condition", "n", "verbatim", *NAMES.values()], rows)
    return conditions, verbatim_table({results.fold: results.text_gap}, of="test split")


def described_tables(results: RunResults) -> list[Table]:
    """Return the tables that say how far the scores of a run can be trusted, as far as there is something to say."""
    return [table for table in (*epochs_and_shares(results), *group_tables(results)) if table.rows]
