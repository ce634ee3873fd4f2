"""Stage evaluate: measure a trained model on its test split and write its results, plots and model card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lpgnet.pipeline.cli import module_main
from lpgnet.pipeline.common.console import say, show, show_table
from lpgnet.pipeline.common.processes import make_accelerator
from lpgnet.pipeline.config import Config, TrainingConfig, parse_config
from lpgnet.pipeline.evaluation.metrics import NAMES
from lpgnet.pipeline.training.freshness import DONE_FILE

if TYPE_CHECKING:
    from lpgnet.pipeline.evaluation.run_results import RunResults


def main(arguments: Sequence[str]) -> int:
    """Run the stage from the command line and return the exit code."""
    config = parse_config("evaluate", arguments, Config)
    # Imported late: torch takes longer than it takes to see that the command line is wrong.
    from lpgnet.pipeline.evaluation.run_results import evaluate_run
    from lpgnet.pipeline.reports.run import write_run_report
    from lpgnet.pipeline.training.runs import load_corpus, recipe_of
    from lpgnet.pipeline.training.splits import make_split

    accelerator = make_accelerator(config.training.device)
    corpus = load_corpus(config)
    split = make_split(corpus.dialogues, config.splits)
    results, folder = evaluate_run(config, corpus, split, config.run_folder, accelerator)
    if accelerator.is_main_process:
        if not (config.run_folder / DONE_FILE).exists():
            say("warning: this run is not trained to its end; these are the scores of its best model so far")
        write_run_report(results, folder, config)
        print_results(results, recipe_of(config.run_folder), title=f"{config.run_folder}: test split {split.name}")
        show(f"metrics, predictions, plots and report.html: {folder}")
    return 0


def print_results(results: RunResults, training: TrainingConfig, *, title: str) -> None:
    """Print each head's scores with their intervals, F1 per class, what to trust of them, votes, ratings, calibration.

    Args:
        results: of the run.
        training: how it was trained.
        title: of the first table.
    """
    from lpgnet.pipeline.reports.cells import with_interval
    from lpgnet.pipeline.reports.score_tables import described_tables, run_tables
    from lpgnet.pipeline.reports.targets import describe_calibration, describe_standardization

    heads, classes = results.heads, results.classes
    show_table(
        f"{title}: {results.fused.n} labelled utterances in {results.dialogues} dialogues",
        ["head", *NAMES.values()],
        [[head, *(with_interval(values, name) for name in NAMES)] for head, values in heads.items()],
    )
    show_table(
        "F1 per class",
        ["head", *classes],
        [[head, *(f"{values.f1[name]:.3f}" for name in classes)] for head, values in heads.items()],
    )
    for table in (*described_tables(results), *run_tables(results)):
        show_table(table.title, table.columns, table.rows)
    (temperature,) = results.calibration.temperatures
    show(f"calibrated at temperature {temperature:.2f} ({describe_calibration(training)})")
    if said := describe_standardization(results.standardise):
        show(f"the model is {said}")
    if results.speaker_overlap:
        show(f"{len(results.speaker_overlap)} speakers of the test split are also in another split")


if __name__ == "__main__":
    module_main("evaluate")
