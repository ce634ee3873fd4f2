"""What a model learns of an utterance: its majority label, or the distribution of the raters' votes over classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lpgnet.pipeline.config import TrainingConfig
from lpgnet.pipeline.errors import UsageError
from lpgnet.pipeline.training.dialogues import NO_LABEL, Dialogue


def check_targets(recipe: TrainingConfig) -> None:
    """Refuse settings that contradict each other.

    Raises:
        UsageError: names the key.
    """
    if recipe.unagreed == "use" and recipe.target != "distribution":
        raise UsageError(
            "key 'training.unagreed': use needs training.target distribution: there is no majority to learn"
        )
    if recipe.unagreed == "use" and recipe.drop_unlabelled:
        raise UsageError(
            "key 'training.drop_unlabelled': leaves out what training.unagreed is to use; drop one of them"
        )


def vote_shares(dialogue: Dialogue, recipe: TrainingConfig) -> Tensor:
    """The shares of the votes that are learned instead of the label, (L, C); zeros where the label is.

    Every class gets `vote_smoothing` further votes. Where the raters agreed on a code that the config ignores, the
    votes that are left are a minority's and are not learned.
    """
    votes = dialogue.votes
    if recipe.target == "majority":
        return torch.zeros_like(votes)
    total = votes.sum(-1, keepdim=True)
    learned = (total > 0) & _is_learned(dialogue, recipe)[:, None]
    smoothed = votes + recipe.vote_smoothing
    return torch.where(learned, smoothed / smoothed.sum(-1, keepdim=True).clamp_min(1e-9), 0.0)


def _is_learned(dialogue: Dialogue, recipe: TrainingConfig) -> Tensor:
    """Whether an utterance has a class or, with `unagreed: use`, no majority, (L,)."""
    if recipe.unagreed == "drop":
        return dialogue.labels != NO_LABEL
    agreed = torch.tensor([u.label is not None and u.label in (u.votes or {}) for u in dialogue.utterances])
    return (dialogue.labels != NO_LABEL) | ~agreed


def inverse_frequency(dialogues: Sequence[Dialogue], n_classes: int, recipe: TrainingConfig) -> list[float]:
    """Weight each class by learned utterances / (classes x utterances of the class); 0 for an empty class.

    An utterance whose votes are learned counts for each class by its share.
    """
    counts = torch.zeros(n_classes)
    for dialogue in dialogues:
        shares = vote_shares(dialogue, recipe)
        by_label = dialogue.labels[(dialogue.labels != NO_LABEL) & (shares.sum(-1) == 0)]
        counts += torch.bincount(by_label, minlength=n_classes)
        if shares.shape[-1]:
            counts += shares.sum(0)
    return [float(counts.sum() / (n_classes * count)) if count else 0.0 for count in counts]
