"""How a model was trained, in words: on the raters' votes or their majority, on ratings, and what chose the epoch."""

from __future__ import annotations

from lpgnet.model import EmotionConfig
from lpgnet.pipeline.config import SplitsConfig, TrainingConfig
from lpgnet.pipeline.evaluation.chosen_epochs import Score
from lpgnet.pipeline.training.freshness import Refit

_UNAGREED = {"use": "also", "drop": "but not"}
_SELECT = {
    "weighted_f1": "epoch chosen by weighted F1 on",
    "macro_f1": "epoch chosen by macro F1 on",
    "uar": "epoch chosen by UA on",
    "ccc": "epoch chosen by mean CCC on",
    "loss": "epoch chosen by loss on",
    "last": "last epoch kept, whatever it scored on",
}
_DEV = {
    "dialogues": "development dialogues",
    "session": "development dialogues of whole sessions",
    "speaker": "development turns of speakers who are not in training",
}
_SCORES: dict[Score, str] = {"weighted_f1": "weighted F1", "macro_f1": "macro F1", "ua": "UA", "ccc": "mean CCC"}
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


def describe_choice(training: TrainingConfig, dev: str = SplitsConfig.dev) -> str:
    """Say how the epoch was chosen, as in `epoch chosen by weighted F1 on development dialogues`.

    Args:
        training: which says by what.
        dev: what development is made of, as in `splits.dev`.
    """
    return f"{_SELECT[training.select]} {_DEV[dev]}"


def describe_refit(refit: Refit, dev: str) -> str:
    """Say how a model was trained again: the first run chose the number of epochs, and calibrates."""
    chosen = f"{_SELECT[refit.select]} {_DEV[dev]}"
    return f"{chosen} by a first run, then trained anew for {_epochs(refit.epochs)} on these too (refitted)"


def _epochs(count: int) -> str:
    return f"{count} epoch{'' if count == 1 else 's'}"


def describe_score(name: Score) -> str:
    """Return the words for a score of the chosen epoch."""
    return _SCORES[name]


def describe_recipe(training: TrainingConfig, dropout: float | None) -> str:
    """Say by which recipe a model was trained, but for what it learned and its seed."""
    epochs, patience = _epochs(training.epochs), training.patience
    early = f"at most {epochs}, stopped after {patience} without a better development score"
    parts = [
        f"{epochs}, no early stop" if patience is None or patience >= training.epochs else early,
        f"{training.batch_size} dialogues per step",
        f"learning rate {training.learning_rate:g} ({training.schedule})",
        *_further(training),
        *([] if dropout is None else [f"dropout {dropout:g}"]),
        f"weight decay {training.weight_decay:g}",
        f"moving average of the weights with decay {training.ema_decay:g}"
        if training.ema_decay
        else "no moving average of the weights",
    ]
    return ", ".join(parts)


def _further(training: TrainingConfig) -> list[str]:
    """Say what is only worth telling where it is not the default."""
    words = {
        "warmup_share": f"warm-up in {training.warmup_share:.3g} of the steps",
        "layer_rate": f"{training.layer_rate:g} times that for the weights of an encoder's layers",
        "class_weights": "classes weighted by their inverse frequency",
        "modality_dropout": f"modality dropout {training.modality_dropout:g}",
        "contrast": f"supervised contrast with weight {training.contrast:g}",
    }
    return [said for name, said in words.items() if getattr(training, name) != getattr(TrainingConfig, name)]


def describe_calibration(training: TrainingConfig) -> str:
    """Say what the calibration error is measured against, and what its temperature was fitted to."""
    if training.target == "distribution":
        return "against the labels; the temperature was fitted to the raters' votes"
    return "against the labels, to which the temperature was fitted"


def describe_standardization(by: str) -> str:
    """Say that a result depends on all of a session, a speaker's turns or a dialogue, as in `transductive: ...`.

    Args:
        by: the model's `standardise`; of `corpus` there is nothing to say.
    """
    if by == "corpus":
        return ""
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
