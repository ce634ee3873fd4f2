"""What a model learns of an utterance: its majority label, or the distribution of the raters' votes over classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lpgnet.model.distillation import target_shares
from lpgnet.pipeline.config import Config, TrainingConfig
from lpgnet.pipeline.corpora.ratings import Ranges
from lpgnet.pipeline.errors import UsageError
from lpgnet.pipeline.training.dialogues import Dialogue
from lpgnet.pipeline.training.labels import NO_LABEL


def check_targets(config: Config, ranges: Ranges, train: Sequence[Dialogue]) -> None:
    """Refuse to learn what the training dialogues do not have.

    Args:
        config: of the experiment.
        ranges: of the dimensions that the corpus rates.
        train: the training dialogues.

    Raises:
        UsageError: names the key.
    """
    if config.training.target == "distribution" and not any(dialogue.votes.any() for dialogue in train):
        raise UsageError("key 'training.target': no training utterance has votes for the classes; use majority")
    for name in config.dimensions:
        if not any(dialogue.ratings[name].isfinite().any() for dialogue in train if name in dialogue.ratings):
            others = f"; the corpus rates {', '.join(ranges)}" if ranges else ""
            raise UsageError(f"key 'model.dimensions': no training utterance has a rating of {name}{others}")


def vote_shares(dialogue: Dialogue, recipe: TrainingConfig) -> Tensor:
    """The shares of the votes that are learned instead of the label, (L, C); zeros where the label is.

    Every class gets `vote_smoothing` further votes.
    """
    votes = dialogue.votes
    if recipe.target == "majority":
        return torch.zeros_like(votes)
    learned = votes.sum(-1) > 0
    if recipe.unagreed == "drop":
        learned &= dialogue.labels != NO_LABEL
    smoothed = votes + recipe.vote_smoothing
    return torch.where(learned[:, None], smoothed / smoothed.sum(-1, keepdim=True).clamp_min(1e-9), 0.0)


def learned_shares(dialogue: Dialogue, recipe: TrainingConfig, n_classes: int) -> Tensor:
    """What the heads of the emotions learn, (L, C): the shares of the votes or the label; zeros for neither."""
    return target_shares(dialogue.labels, vote_shares(dialogue, recipe), n_classes)


def is_learned(dialogue: Dialogue, recipe: TrainingConfig, dimensions: Sequence[str]) -> Tensor:
    """Whether a model learns from an utterance, by its label, its votes or its ratings, (L,) bool."""
    rated = [dialogue.ratings[name].isfinite() for name in dimensions if name in dialogue.ratings]
    return torch.stack([dialogue.labels != NO_LABEL, vote_shares(dialogue, recipe).sum(-1) > 0, *rated]).any(0)


def inverse_frequency(dialogues: Sequence[Dialogue], n_classes: int, recipe: TrainingConfig) -> list[float]:
    """Weight each class by learned utterances / (classes x utterances of the class); 0 for an empty class.

    An utterance whose votes are learned counts for each class by its share.
    """
    counts = torch.zeros(n_classes)
    for dialogue in dialogues:
        counts += learned_shares(dialogue, recipe, n_classes).sum(0)
    return [float(counts.sum() / (n_classes * count)) if count else 0.0 for count in counts]
