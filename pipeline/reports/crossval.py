"""The table of a cross-validation as Markdown, LaTeX and one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from io import BytesIO
from itertools import chain
from pathlib import Path

from lpgnet.pipeline.common.files import write_atomically
from lpgnet.pipeline.config import SplitsConfig
from lpgnet.pipeline.evaluation.analysis import Runs
from lpgnet.pipeline.evaluation.chosen_epochs import ChosenEpoch, Score
from lpgnet.pipeline.evaluation.class_shares import ClassShare
from lpgnet.pipeline.evaluation.metrics import NAMES
from lpgnet.pipeline.evaluation.missing import missing_curves
from lpgnet.pipeline.evaluation.table_results import RowRun, TableResults, TableRow
from lpgnet.pipeline.reports.cells import mean_and_deviation, percent, signed, with_interval, with_spread
from lpgnet.pipeline.reports.plots import (
    MOST_POINTS,
    plot_class_shares,
    plot_confusion,
    plot_epochs,
    plot_missing,
    plot_ratings,
    plot_reliability,
)
from lpgnet.pipeline.reports.published import PUBLISHED
from lpgnet.pipeline.reports.score_tables import (
    Table,
    Write,
    calibration_table,
    epochs_table,
    ratings_table,
    shares_table,
    tuned_table,
    verbatim_table,
    votes_table,
)
from lpgnet.pipeline.reports.targets import (
    describe_calibration,
    describe_choice,
    describe_recipe,
    describe_score,
    describe_standardization,
    describe_targets,
)
from lpgnet.pipeline.reports.templates import image_address, templates

TEMPLATE = "crossval.html"


def write_reports(results: TableResults, folder: Path, runs: Mapping[str, Runs]) -> None:
    """Write `table.md`, `table.tex` and `report.html`.

    Args:
        results: the contents of `results.json`.
        folder: of the files.
        runs: the test predictions of each row.
    """
    write_atomically(folder / "table.md", to_markdown(results))
    write_atomically(folder / "table.tex", to_latex(results))
    write_atomically(folder / "report.html", to_html(results, runs))


def to_markdown(results: TableResults) -> str:
    """Format the tables as Markdown, each with a line on what it is."""
    return "\n".join(_markdown(table) for table in tables(results))


def _markdown(table: Table) -> str:
    columns = table.columns
    lines = [" | ".join(row) for row in (columns, ["---", *["---:"] * (len(columns) - 1)], *table.rows)]
    return "\n".join([*(f"| {line} |" for line in lines), "", table.title, ""])


def to_latex(results: TableResults) -> str:
    """Format the tables as LaTeX for a paper; it needs the booktabs package."""
    return "\n".join(_latex(table) for table in tables(results))


def _latex(table: Table) -> str:
    body = [" & ".join(map(escape_latex, row)) + r" \\" for row in (table.columns, *table.rows)]
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{escape_latex(table.title)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
            r"\toprule",
            body[0],
            r"\midrule",
            *body[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


_LATEX = {char: rf"\{char}" for char in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "−": "$-$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def escape_latex(text: str) -> str:
    """Escape text so that LaTeX prints it literally."""
    return "".join(_LATEX.get(char, char) for char in text)


def tables(results: TableResults) -> list[Table]:
    """Return the table of scores, those against votes and ratings as far as the corpus has some, and of calibration.

    The last one is of tuned encoders.
    """
    makers = (_scores_table, _votes, _ratings, _calibration)
    found = [make(results, with_spread) for make in makers]
    return [table for table in (*found, _tuned(results)) if table.rows]


def _tuned(results: TableResults) -> Table:
    scores = {f"{row.model}: {name}": scores for row in results.rows for name, scores in row.tuned.items()}
    return tuned_table(scores, of="model: encoder")


def _scores_table(results: TableResults, write: Write) -> Table:
    several = len(results.rows) > 1
    difference = [f"Δ weighted F1 vs {results.baseline}"] if several else []
    rows = [
        [
            row.model,
            *(write(row, name) for name in NAMES),
            *([signed(row.differences.get("weighted_f1"))] if several else []),
            f"{row.parameters:,}",
        ]
        for row in results.rows
    ]
    return Table(caption(results), ["model", *NAMES.values(), *difference, "parameters"], rows)


def _votes(results: TableResults, write: Write) -> Table:
    table = _votes_by(results, write)
    return _with_gaps(table, results, "JSD", [(row, "jsd.votes") for row in results.rows if row.distribution])


def _votes_by(results: TableResults, write: Write) -> Table:
    return votes_table({row.model: row.distribution for row in results.rows if row.distribution}, write, of="model")


def _ratings(results: TableResults, write: Write) -> Table:
    table = _ratings_by(results, write)
    return _with_gaps(table, results, "CCC", [(row, f"ccc.{name}") for row, name in _rated(results)])


def _ratings_by(results: TableResults, write: Write) -> Table:
    scores = {f"{row.model}: {name}": row.dimensions[name] for row, name in _rated(results)}
    return ratings_table(scores, write, of="model: dimension")


def _calibration(results: TableResults, write: Write) -> Table:
    return calibration_table({row.model: row.calibration for row in results.rows}, write)


def _rated(results: TableResults) -> list[tuple[TableRow, str]]:
    return [(row, name) for row in results.rows for name in row.dimensions]


def _with_gaps(table: Table, results: TableResults, score: str, cells: Sequence[tuple[TableRow, str]]) -> Table:
    """Add the differences from the baseline, where there are any."""
    gaps = [row.differences.get(key) for row, key in cells]
    return table.beside(f"Δ {score} vs {results.baseline}", [signed(gap) for gap in gaps]) if any(gaps) else table


def _of_rows(results: TableResults, describe: Callable[[TableRow], str], *, separator: str) -> str:
    """Say how the rows were trained: once if all were trained alike, else with the names of those that were."""
    rows: dict[str, list[str]] = {}
    for row in results.rows:
        rows.setdefault(describe(row), []).append(row.model)
    if len(rows) == 1:
        return next(iter(rows))
    return separator.join(f"{words} ({', '.join(names)})" for words, names in rows.items())


def caption(results: TableResults) -> str:
    """Say in one sentence what was measured and how."""
    protocol, rows = results.protocol, results.rows
    folds = len(protocol.folds)
    held_out = f"{folds} folds by {protocol.splits.scheme}" if folds > 1 else f"test split {protocol.folds[0]}"
    utterances = f"{rows[0].n} labelled test utterances" + (" over all folds" if folds > 1 else "")
    seeds = protocol.seeds
    mean = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    chosen = _of_rows(results, lambda row: _choice(row, protocol.splits), separator=", ")
    return f"{results.name}: {held_out}, {utterances}; {mean}; {chosen}{_transductive(results)}{_brackets(results)}."


def _transductive(results: TableResults) -> str:
    """Name the rows whose scores depend on whole sessions, speakers or dialogues of the test."""
    rows: dict[str, list[str]] = {}
    for row in results.rows:
        rows.setdefault(row.standardise, []).append(row.model)
    found = [(by, names) for by, names in rows.items() if by != "corpus"]
    return "".join(f"; {describe_standardization(by)} ({', '.join(names)})" for by, names in found)


def _choice(row: TableRow, splits: SplitsConfig) -> str:
    refitted = ", then trained anew for as many epochs on these too (refitted)" if row.refit else ""
    return f"{describe_choice(row.training, splits.dev)} only{refitted}"


def _brackets(results: TableResults) -> str:
    """Say what the brackets in a table hold: intervals of differences, and of one seed's scores."""
    protocol, several = results.protocol, len(results.rows) > 1
    if not protocol.bootstrap or not (several or protocol.seeds == 1):
        return ""
    paired = ", paired for differences" if several else ""
    return f"; {protocol.confidence:.0%} bootstrap intervals over dialogues in brackets{paired}"


def to_html(results: TableResults, runs: Mapping[str, Runs]) -> str:
    """Format the whole report as one HTML page that makes no requests to any address."""
    found = templates()
    found.filters |= {"percent": percent, "signed": signed}
    return found.get_template(TEMPLATE).render(
        results=results,
        caption=caption(results),
        scores=_scores_table(results, mean_and_deviation),
        votes=(_votes(results, mean_and_deviation), _votes_by(results, with_interval)),
        most_points=MOST_POINTS,
        ratings=(_ratings(results, mean_and_deviation), _ratings_by(results, with_interval)),
        tuned=_tuned(results),
        targets=_of_rows(results, lambda row: describe_targets(row.training), separator="; "),
        recipe=_of_rows(results, lambda row: describe_recipe(row.training, row.dropout), separator="; "),
        epochs=_epochs(results),
        shares=_shares(results),
        far=any(share.is_far for row in results.rows for fold in _folds(row) for share in fold.values()),
        verbatim=verbatim_table({row.model: row.text_gap for row in results.rows}, of="model"),
        calibration=(_calibration(results, mean_and_deviation), _calibration(results, with_interval)),
        fitted=_of_rows(results, lambda row: describe_calibration(row.training), separator="; "),
        names=NAMES,
        mean_and_deviation=mean_and_deviation,
        with_interval=with_interval,
        speakers=list(results.rows[0].speakers),
        plots=draw_plots(results, runs),
        published=PUBLISHED if results.protocol.corpus.reader == "iemocap" else (),
    )


def _epochs(results: TableResults) -> tuple[Table, Table]:
    """Return a table with a line for each row, and one with a line for each run."""
    runs = {f"{row.model} {run.fold} seed {run.seed}": [run.chosen] for row, run in _runs(results) if run.chosen}
    return epochs_table(chosen_epochs(results), of="model"), epochs_table(runs, of="model, test split, seed")


def _runs(results: TableResults) -> list[tuple[TableRow, RowRun]]:
    return [(row, run) for row in results.rows for run in row.runs]


def chosen_epochs(results: TableResults) -> dict[str, list[ChosenEpoch]]:
    """Return the chosen epochs of each row's runs."""
    return {row.model: [run.chosen for run in row.runs if run.chosen] for row in results.rows}


def _shares(results: TableResults) -> tuple[Table, Table]:
    """Return a table with a line for each row, and one with a line for each of its folds."""
    folds = {f"{row.model}: {fold}": scores.class_shares for row in results.rows for fold, scores in row.folds.items()}
    pooled = {row.model: row.class_shares for row in results.rows}
    return shares_table(pooled, of="model"), shares_table(folds, of="model: test split")


def draw_plots(results: TableResults, runs: Mapping[str, Runs]) -> dict[str, dict[str, str]]:
    """Draw images as data addresses by kind and row.

    Returns:
        `confusion`, `shares` and `reliability` by model, `epochs` by the score that they were chosen by, `ratings` by
        model and dimension, and `missing` with one image of all models or none.
    """
    rows, classes = results.rows, results.classes
    curves = {row.model: missing_curves(row.missing, row.confusion) for row in rows if row.missing}
    return {
        "confusion": {
            row.model: image_of(partial(plot_confusion, row.confusion, classes, title=row.model)) for row in rows
        },
        "shares": {
            row.model: image_of(partial(plot_class_shares, row.class_shares, _folds(row), title=row.model))
            for row in rows
            if row.class_shares
        },
        "epochs": {
            describe_score(score): image_of(partial(plot_epochs, runs, score=describe_score(score)))
            for score, runs in _by_score(results).items()
        },
        "reliability": {row.model: image_of(partial(plot_reliability, row.calibration)) for row in rows},
        "ratings": {
            f"{row.model}: {name}": image_of(partial(plot_ratings, chain(*runs[row.model]), name, row.dimensions[name]))
            for row, name in _rated(results)
        },
        "missing": {"all": image_of(partial(plot_missing, curves))} if curves else {},
    }


def _folds(row: TableRow) -> list[dict[str, ClassShare]]:
    return [fold.class_shares for fold in row.folds.values()]


def _by_score(results: TableResults) -> dict[Score, dict[str, list[ChosenEpoch]]]:
    """Return the chosen epochs by score and model: rows may choose by different scores, which share no axis."""
    found: dict[Score, dict[str, list[ChosenEpoch]]] = {}
    for model, chosen in chosen_epochs(results).items():
        for one in chosen:
            if one.test is not None:
                found.setdefault(one.score, {}).setdefault(model, []).append(one)
    return found


def image_of(draw: Callable[[BytesIO], None]) -> str:
    """Return the data address of what a function draws into a file."""
    file = BytesIO()
    draw(file)
    return image_address(file.getvalue())
