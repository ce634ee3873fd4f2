"""How a model was trained, in words: on the raters' votes or their majority, on ratings, and what chose the epoch."""

from __future__ import annotations

from lpgnet.model import EmotionConfig
from lpgnet.pipeline.config import TrainingConfig

_UNAGREED = {"use": "also", "drop": "but not"}
_SELECT = {"weighted_f1": "weighted F1", "macro_f1": "macro F1", "uar": "UA", "ccc": "mean CCC", "loss": "loss"}
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


def describe_choice(training: TrainingConfig) -> str:
    """Say how the epoch was chosen, as in `epoch chosen by weighted F1 on development dialogues`."""
    return f"epoch chosen by {_SELECT[training.select]} on development dialogues"


def describe_calibration(training: TrainingConfig) -> str:
    """Say what the calibration error is measured against, and what its temperature was fitted to."""
    if training.target == "distribution":
        return "against the labels; the temperature was fitted to the raters' votes"
    return "against the labels, to which the temperature was fitted"


def describe_standardization(by: str) -> str:
    """Say that a result depends on all of a session, a speaker's turns or a dialogue, as in `transductive: ...`.

    Args:
        by: the model's `standardise`, but for `corpus`, of which there is nothing to say.
    """
    whole = f"all turns of a {by}" + (" in a corpus or recording" if by == "speaker" else "")
    return f"transductive: embeddings are standardized by the statistics of {whole}, tested ones too, without labels"


def describe_dimensions(model: EmotionConfig) -> str:
    """Say which ratings a model learned and how, as in `valence by their concordance correlation (weight 0.5)`.

    Args:
        model: of one or several dimensions.
    """
    *others, last = model.dimensions
    names = f"{', '.join(others)} and {last}" if others else last
    return f"{names} by their {_LOSSES[model.dimension_loss]} (weight {model.dimension_weight:.3g})"
