"""The page of one run: its scores with their plots, and how it was trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lpgnet.pipeline.config import Config
from lpgnet.pipeline.evaluation.metrics import NAMES
from lpgnet.pipeline.evaluation.run_results import RunResults
from lpgnet.pipeline.reports.cells import with_interval
from lpgnet.pipeline.reports.score_tables import Table, epochs_and_shares, group_tables, run_tables
from lpgnet.pipeline.reports.targets import (
    describe_calibration,
    describe_recipe,
    describe_standardization,
    describe_targets,
)
from lpgnet.pipeline.reports.templates import image_address, templates

TEMPLATE = "run.html"
REPORT_FILE = "report.html"


@dataclass(frozen=True)
class Part:
    """A part of the page.

    Attributes:
        images: data addresses, by what they are called.
    """

    title: str
    lines: list[str]
    tables: list[Table]
    images: dict[str, str]


def to_html(results: RunResults, folder: Path, config: Config) -> str:
    """Format a run as one page that makes no requests to any address.

    Args:
        results: of the run.
        folder: holds its plots.
        config: what it was measured with.
    """
    inputs = " and ".join(results.modalities)
    brackets = f"; {config.evaluation.confidence:.0%} bootstrap intervals over dialogues in brackets"
    return (
        templates()
        .get_template(TEMPLATE)
        .render(
            title=f"{config.name}: {results.model_type}, test split {results.fold}",
            lead=f"{results.fused.n} labelled utterances in {results.dialogues} dialogues, from {inputs}"
            + (brackets if config.evaluation.bootstrap else ""),
            parts=[part for part in _parts(results, folder, config) if part.lines or part.tables or part.images],
        )
    )


def _parts(results: RunResults, folder: Path, config: Config) -> list[Part]:
    epochs, shares = epochs_and_shares(results)
    recipe = results.recipe
    calibrated = f"The error is {describe_calibration(recipe)}." if recipe else ""
    return [
        _part("Scores", folder, _heads(results), _f1(results), plots=["confusion"]),
        _part(epochs.title, folder, epochs, plots=["training"] if results.chosen else []),
        _part(shares.title, folder, shares, plots=["class-shares"] if results.class_shares else []),
        *(_part(table.title, folder, table) for table in run_tables(results)),
        _part("Predictions against ratings", folder, plots=list(results.dimensions)),
        *(_part(table.title, folder, table) for table in group_tables(results)),
        _part("Reliability", folder, plots=["reliability"], lines=[calibrated]),
        _part("Missing modalities", folder, plots=["missing"] if results.missing else []),
        _part("How it was trained", folder, lines=_training(results)),
    ]


def _part(title: str, folder: Path, *tables: Table, plots: Sequence[str] = (), lines: Sequence[str] = ()) -> Part:
    files = {name: folder / f"{name}.png" for name in plots}
    images = {name: image_address(file.read_bytes()) for name, file in files.items() if file.exists()}
    return Part(title, [line for line in lines if line], [table for table in tables if table.rows], images)


def _heads(results: RunResults) -> Table:
    rows = [[head, *(with_interval(values, name) for name in NAMES)] for head, values in results.heads.items()]
    return Table("", ["head", *NAMES.values()], rows)


def _f1(results: RunResults) -> Table:
    rows = [[head, *(f"{values.f1[name]:.3f}" for name in results.classes)] for head, values in results.heads.items()]
    return Table("", ["F1", *results.classes], rows)


def _training(results: RunResults) -> list[str]:
    overlap = len(results.speaker_overlap)
    lines = [f"{overlap} speakers of the test split are also in training or development."] if overlap else []
    if results.recipe:
        recipe = describe_recipe(results.recipe, results.dropout)
        lines += [f"Targets: {describe_targets(results.recipe)}.", f"Recipe: {recipe}, seed {results.recipe.seed}."]
    lines += [f"The model is {said}."] if (said := describe_standardization(results.standardise)) else []
    return [*lines, f"{results.parameters:,} parameters, without the encoders."]
