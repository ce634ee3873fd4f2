"""The model card: what was measured, on which data, and what the model is not for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lpgnet.model import EmotionModel
from lpgnet.pipeline.common.files import write_atomically
from lpgnet.pipeline.config import Config
from lpgnet.pipeline.evaluation.metrics import NAMES
from lpgnet.pipeline.reports.crossval import percent, with_interval

TEMPLATE = "card.md"


def write_card(folder: Path, model: EmotionModel, config: Config, results: dict[str, Any]) -> None:
    """Write `README.md` beside the best model, from the results of an evaluation."""
    templates = Environment(
        loader=PackageLoader("lpgnet.pipeline", "reports"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = templates.get_template(TEMPLATE).render(
        model=model.config,
        config=config,
        results=results,
        names=NAMES,
        total=f"{results['parameters']:,}",
        with_interval=with_interval,
        percent=percent,
    )
    write_atomically(folder / "best" / "README.md", text)
