"""The model card: what was measured on which data, and what the model must not be used for."""

from __future__ import annotations

from pathlib import Path

from lpgnet.model import EmotionConfig
from lpgnet.pipeline.common.files import write_atomically
from lpgnet.pipeline.common.shared_names import shown
from lpgnet.pipeline.config import Config
from lpgnet.pipeline.evaluation.metrics import NAMES
from lpgnet.pipeline.evaluation.run_results import RunResults
from lpgnet.pipeline.reports.cells import percent, with_interval
from lpgnet.pipeline.reports.score_tables import described_tables, run_tables
from lpgnet.pipeline.reports.targets import (
    describe_calibration,
    describe_choice,
    describe_dimensions,
    describe_recipe,
    describe_refit,
    describe_standardization,
    describe_targets,
)
from lpgnet.pipeline.reports.templates import templates
from lpgnet.pipeline.training.freshness import BEST_FOLDER
from lpgnet.pipeline.training.runs import recipe_of, refit_of
from lpgnet.pipeline.training.trained_on import about_model

TEMPLATE = "card.md"


def write_card(folder: Path, model: EmotionConfig, config: Config, results: RunResults) -> None:
    """Write `README.md` to the folder of the best model, from the results of an evaluation.

    Raises:
        PipelineError: the run does not tell how it was trained.
    """
    recipe, refit, dev = recipe_of(folder), refit_of(folder), config.splits.dev
    text = (
        templates(html=False)
        .get_template(TEMPLATE)
        .render(
            model=model,
            about=about_model(model, folder / BEST_FOLDER),
            config=config,
            results=results,
            names=NAMES,
            tables=run_tables(results),
            described=described_tables(results),
            recipe=recipe,
            words=describe_recipe(recipe, results.dropout),
            choice=describe_choice(recipe, dev) if refit is None else describe_refit(refit, dev),
            refit=refit,
            calibration=describe_calibration(recipe),
            targets=describe_targets(recipe),
            transductive=describe_standardization(model.standardise),
            rated=describe_dimensions(model) if model.dimensions else "",
            total=f"{results.parameters:,}",
            with_interval=with_interval,
            percent=percent,
            shown=shown,
        )
    )
    write_atomically(folder / BEST_FOLDER / "README.md", text)
