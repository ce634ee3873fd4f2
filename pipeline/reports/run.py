"""The report of one run: plots of its training and its test results, and the model card."""

from __future__ import annotations

from pathlib import Path

from lpgnet.model.configuration import read_config
from lpgnet.pipeline.common.files import write_atomically
from lpgnet.pipeline.config import Config
from lpgnet.pipeline.evaluation.chosen_epochs import read_choice
from lpgnet.pipeline.evaluation.missing import missing_curves
from lpgnet.pipeline.evaluation.predictions import PREDICTIONS_FILE, read_predictions
from lpgnet.pipeline.evaluation.run_results import RunResults
from lpgnet.pipeline.reports.card import write_card
from lpgnet.pipeline.reports.plots import (
    plot_class_shares,
    plot_confusion,
    plot_missing,
    plot_ratings,
    plot_reliability,
    plot_training,
)
from lpgnet.pipeline.reports.run_page import REPORT_FILE, to_html
from lpgnet.pipeline.training.freshness import BEST_FOLDER, PLOT_FILE
from lpgnet.pipeline.training.runs import best_folder


def write_run_report(results: RunResults, folder: Path, config: Config) -> None:
    """Draw the plots of an evaluation and write its page; if `folder` is the run's own, also write the model card."""
    plot_confusion(results.fused.confusion, results.classes, folder / "confusion.png", title=f"test: {results.fold}")
    plot_reliability(results.calibration, folder / "reliability.png")
    if results.missing:
        plot_missing({"": missing_curves(results.missing, results.fused.confusion)}, folder / "missing.png")
    if results.dimensions:
        outcomes, _ = read_predictions(folder / PREDICTIONS_FILE)
        for name, scores in results.dimensions.items():
            plot_ratings(outcomes, name, scores, folder / f"{name}.png")
    if results.class_shares:
        plot_class_shares(results.class_shares, (), folder / "class-shares.png", title=f"test: {results.fold}")
    write_atomically(folder / REPORT_FILE, to_html(results, folder, config))
    if (folder / BEST_FOLDER).exists():
        write_card(folder, read_config(best_folder(folder) / "config.json"), config, results)


def write_training_plot(folder: Path) -> None:
    """Draw the loss and scores of a run's training, unless the plot exists."""
    path = folder / PLOT_FILE
    if not path.exists():
        log, best, selection = read_choice(folder)
        plot_training(log, path, chosen_by=selection.key, best_epoch=best.epoch)
