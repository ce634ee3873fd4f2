"""What a model was trained on, in words: raters' votes or their majority, with or without agreement, and ratings."""

from __future__ import annotations

from lpgnet.pipeline.config import Config, TrainingConfig


def targets(training: TrainingConfig) -> str:
    """Say which classes the model was trained to predict, as in `the class that most raters chose`."""
    found = _votes(training) if training.target == "distribution" else "the class that most raters chose"
    smoothed = f", of which {training.label_smoothing:.3g} is spread over all classes (label smoothing)"
    return found + (smoothed if training.label_smoothing else "")


def _votes(training: TrainingConfig) -> str:
    added = f", with {training.vote_smoothing:.3g} of a vote added to each (vote smoothing)"
    unagreed = {"use": "also", "drop": "but not"}[training.unagreed]
    return (
        f"the shares of the raters' votes among the classes{added if training.vote_smoothing else ''}, "
        f"{unagreed} where they did not agree on one"
    )


def targets_of_dimensions(config: Config) -> str:
    """Say how the model was trained to predict ratings; empty if it was not."""
    model = config.model
    if not model.dimensions:
        return ""
    losses = {"ccc": "their concordance correlation", "mse": "their mean squared error"}
    return (
        f"{' and '.join(model.dimensions)}, by {losses[model.dimension_loss]} with weight {model.dimension_weight:.3g}"
    )
