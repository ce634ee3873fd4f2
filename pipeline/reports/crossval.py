"""The table of a cross-validation as Markdown, LaTeX and one self-contained HTML page."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

from lpgnet.pipeline.common.files import write_atomically
from lpgnet.pipeline.evaluation.metrics import NAMES
from lpgnet.pipeline.evaluation.missing import missing_curves
from lpgnet.pipeline.evaluation.table_results import TableResults
from lpgnet.pipeline.reports.cells import mean_and_deviation, percent, signed, with_interval
from lpgnet.pipeline.reports.plots import plot_confusion, plot_missing, plot_reliability
from lpgnet.pipeline.reports.published import PUBLISHED
from lpgnet.pipeline.reports.templates import templates

TEMPLATE = "crossval.html"


def write_reports(results: TableResults, folder: Path) -> None:
    """Write `table.md`, `table.tex` and `report.html` from the contents of `results.json`."""
    write_atomically(folder / "table.md", to_markdown(results))
    write_atomically(folder / "table.tex", to_latex(results))
    write_atomically(folder / "report.html", to_html(results))


def to_markdown(results: TableResults) -> str:
    """Format the table as Markdown, with a line on how it was measured."""
    columns, rows = table(results)
    lines = [" | ".join(row) for row in (columns, ["---", *["---:"] * (len(columns) - 1)], *rows)]
    return "\n".join([*(f"| {line} |" for line in lines), "", f"{caption(results)}", ""])


def to_latex(results: TableResults) -> str:
    """Format the table as LaTeX for a paper; it needs the booktabs package."""
    columns, rows = table(results)
    body = [" & ".join(map(escape_latex, row)) + r" \\" for row in (columns, *rows)]
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{escape_latex(caption(results))}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
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


def table(results: TableResults) -> tuple[list[str], list[list[str]]]:
    """Return the column names and the cells of every row."""
    several = len(results.rows) > 1
    difference = [f"Δ weighted F1 vs {results.rows[0].model}"] if several else []
    rows = [
        [
            row.model,
            *(mean_and_deviation(row, name) for name in NAMES),
            *([signed((row.differences or {}).get("weighted_f1"))] if several else []),
            f"{row.parameters:,}",
        ]
        for row in results.rows
    ]
    return ["model", *NAMES.values(), *difference, "parameters"], rows


def caption(results: TableResults) -> str:
    """Say in one sentence what was measured and how."""
    protocol, rows = results.protocol, results.rows
    folds = len(protocol.folds)
    held_out = f"{folds} folds by {protocol.splits.scheme}" if folds > 1 else f"test split {protocol.folds[0]}"
    utterances = f"{rows[0].n} labelled test utterances" + (" over all folds" if folds > 1 else "")
    interval = f"; {protocol.confidence:.0%} paired bootstrap intervals over dialogues in brackets"
    seeds = protocol.seeds
    mean = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    return (
        f"{results.name}: {held_out}, {utterances}; {mean}; "
        "epoch chosen on development dialogues only"
        f"{interval if len(rows) > 1 and protocol.bootstrap else ''}."
    )


def to_html(results: TableResults) -> str:
    """Format the whole report as one HTML page that makes no requests to any address."""
    found = templates()
    found.filters |= {"percent": percent, "signed": signed}
    return found.get_template(TEMPLATE).render(
        results=results,
        caption=caption(results),
        table=table(results),
        names=NAMES,
        mean_and_deviation=mean_and_deviation,
        with_interval=with_interval,
        speakers=list(results.rows[0].speakers),
        plots=draw_plots(results),
        published=PUBLISHED if results.protocol.corpus.reader == "iemocap" else (),
    )


def draw_plots(results: TableResults) -> dict[str, dict[str, str]]:
    """Draw images as data addresses by kind and row.

    Returns:
        `confusion` and `reliability` by model, and `missing` with one image of all models or none.
    """
    rows, classes = results.rows, results.classes
    curves = {row.model: missing_curves(row.missing, row.confusion) for row in rows if row.missing}
    return {
        "confusion": {
            row.model: _image(partial(plot_confusion, row.confusion, classes, title=row.model)) for row in rows
        },
        "reliability": {row.model: _image(partial(plot_reliability, row.calibration)) for row in rows},
        "missing": {"all": _image(partial(plot_missing, curves))} if curves else {},
    }


def _image(draw: Callable[[BytesIO], None]) -> str:
    file = BytesIO()
    draw(file)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
