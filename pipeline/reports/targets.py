"""What a model was trained to predict, in words: the raters' votes or their majority, and their ratings."""

from __future__ import annotations

from lpgnet.model import EmotionConfig
from lpgnet.pipeline.config import TrainingConfig

_UNAGREED = {"use": "also", "drop": "but not"}
_LOSSES = {"ccc": "concordance correlation", "mse": "mean squared error"}


def describe_targets(training: TrainingConfig) -> str:
    """Say which distributions over the classes it learned, as in `the corpus's labels`."""
    found = _votes(training) if training.target == "distribution" else "the corpus's labels"
    smoothed = f", of which {training.label_smoothing:.3g} is spread over all classes (label smoothing)"
    return found + (smoothed if training.label_smoothing else "")


def _votes(training: TrainingConfig) -> str:
    added = (
        f", with {training.vote_smoothing:.3g} votes added to each (vote smoothing)" if training.vote_smoothing else ""
    )
    agreed = f"{_UNAGREED[training.unagreed]} where they do not agree"
    return f"the shares of the raters' votes among the classes (the label where nobody voted){added}, {agreed}"


def describe_dimensions(model: EmotionConfig) -> str:
    """Say which ratings it learned and how, as in `valence by their concordance correlation (weight 0.5)`."""
    names = " and ".join(model.dimensions)
    return f"{names} by their {_LOSSES[model.dimension_loss]} (weight {model.dimension_weight:.3g})"
