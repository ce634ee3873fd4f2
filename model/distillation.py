"""The self-distillation loss (step 8) as sums and counts, so that a step of several batches divides exactly.

The terms stand in one order everywhere: "fused", then "branch.<modality>" for each modality, then
"distillation.<modality>" for each, then "contrast" where it has a weight. A cross-entropy's count is the sum of its
targets' class weights (the number of targets when all classes weigh the same), which makes the term the weighted mean
of `torch.nn.CrossEntropyLoss`; a distillation's count is the number of its utterances, since class weights do not enter
it; a contrast's is the sum of its anchors' class weights, and each batch of a step is contrasted by itself
(`contrast.py`). What the heads for valence, arousal and dominance learn is not a sum over utterances; `ratings.py` has
it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lpgnet.model.configuration import LossConfig
from lpgnet.model.contrast import contrast_count, contrast_sum
from lpgnet.model.ratings import RatingTerms

IGNORED_LABEL = -100


@dataclass(frozen=True, kw_only=True)
class LossTerms:
    """Each term's sum over its utterances in one batch, and what to divide it by.

    Attributes:
        names: the terms.
        weights: g1, g2 or g3 of each term, or the contrast's, (terms,).
        sums: (terms,) float32, before any division.
        counts: (terms,) float32, of this batch alone.
        ratings: what the heads for valence, arousal and dominance learn; None without such heads.
    """

    names: tuple[str, ...]
    weights: Tensor
    sums: Tensor
    counts: Tensor
    ratings: RatingTerms | None = None

    def means(self, counts: Tensor | None = None) -> Tensor:
        """Every term divided by its count, (terms,); 0 where there is none.

        With the counts of the whole step (`loss_counts` summed over its micro-batches and processes), the means
        of its batches add up to the step's, but for the contrast's: they add up to the mean over anchors that are
        contrasted with their own batch alone, fewer turns than the step has. Without them the batch stands for itself.
        """
        counts = self.counts if counts is None else counts.to(self.sums)
        return self.sums / torch.where(counts > 0, counts, 1.0)

    def normalize(self, counts: Tensor | None = None, moments: Tensor | None = None) -> Tensor:
        """The weighted sum of the `means` and of the ratings' losses, a scalar.

        Every parameter has a gradient of it in any batch.

        Args:
            counts: of the whole step, as in `means`.
            moments: of the whole step, (H, R, 6), as in `RatingTerms.loss`; needed only where there are ratings.
        """
        loss = (self.weights * self.means(counts)).sum()
        return loss if self.ratings is None else loss + self.ratings.loss(moments)


def self_distillation(
    logits: Tensor,
    branch_logits: Mapping[str, Tensor],
    labels: Tensor,
    mask: Tensor,
    masks: Mapping[str, Tensor],
    config: LossConfig,
    *,
    votes: Tensor | None = None,
    ratings: RatingTerms | None = None,
    hidden: Tensor | None = None,
) -> LossTerms:
    """Compute L = g1 CE(y, z) + sum_m [g2 CE(y, z_m) + g3 T^2 KL(p_T(z) || p_T(z_m))] as terms.

    Args:
        logits: z, (B, L, C), of the fused head.
        branch_logits: z_m, (B, L, C), by modality.
        labels: (B, L) class numbers, -100 where there is none.
        mask: (B, L) bool, true for a real utterance.
        masks: (B, L) bool by modality: without its modality an utterance is in none of that head's terms.
        config: weights, temperature, class weights and label smoothing.
        votes: (B, L, C), shares of the raters' votes that sum to 1, or zeros: where there are some they are y, and
            elsewhere the label is. An utterance without either is in no term.
        ratings: what the heads for valence, arousal and dominance learn.
        hidden: H, (B, L, d), of which z is a linear function; needed where the contrast has a weight.
    """
    modalities, branches = list(branch_logits), list(branch_logits.values())
    valid = _valid(labels, votes, mask, masks, modalities)
    shares = _smooth(target_shares(labels, votes, logits.shape[-1]), config.label_smoothing)
    hard = [_cross_entropy(z, shares, real, config) for z, real in zip([logits, *branches], valid, strict=True)]
    soft = [_divergence(logits, z, real, config) for z, real in zip(branches, valid[1:], strict=True)]
    names = ["fused", *(f"branch.{name}" for name in modalities), *(f"distillation.{name}" for name in modalities)]
    weights = [config.branch_weight] * len(branches) + [config.distillation_weight] * len(branches)
    sums = [*hard, *soft]
    if config.contrast_weight:
        names, weights = [*names, "contrast"], [*weights, config.contrast_weight]
        sums.append(_contrast(hidden, labels, mask, config))
    return LossTerms(
        names=tuple(names),
        weights=sums[0].new_tensor([config.fused_weight, *weights]),
        sums=torch.stack(sums),
        counts=_counts(labels, votes, valid, mask, config),
        ratings=ratings,
    )


def loss_counts(
    labels: Tensor,
    mask: Tensor,
    masks: Mapping[str, Tensor],
    modalities: Iterable[str],
    config: LossConfig,
    *,
    votes: Tensor | None = None,
) -> Tensor:
    """Count what each term is divided by, from the targets and masks alone.

    Args:
        labels, mask, masks, votes: as in `self_distillation`; a modality without a mask is missing.
        modalities: those with a branch head.
        config: the class weights, and whether there is a contrast.

    Returns:
        (terms,) float32.
    """
    return _counts(labels, votes, _valid(labels, votes, mask, masks, modalities), mask, config)


def _valid(
    labels: Tensor, votes: Tensor | None, mask: Tensor, masks: Mapping[str, Tensor], modalities: Iterable[str]
) -> list[Tensor]:
    """Which utterances the fused head and each branch head learn from, (B, L) bool."""
    known = labels != IGNORED_LABEL if votes is None else (labels != IGNORED_LABEL) | _voted(votes)
    nowhere = torch.zeros_like(mask)
    return [known & mask, *(known & mask & masks.get(name, nowhere) for name in modalities)]


def _voted(votes: Tensor) -> Tensor:
    return votes.sum(-1) > 0


def target_shares(labels: Tensor, votes: Tensor | None, classes: int) -> Tensor:
    """The target's share of each class, (..., C): 1 for the label where nobody voted, zeros where there is neither.

    Args:
        labels: (...) class numbers, -100 where there is none.
        votes: (..., C) shares of the raters' votes, or zeros.
        classes: C.
    """
    by_label = F.one_hot(labels.clamp_min(0), classes) * (labels != IGNORED_LABEL)[..., None].float()
    return by_label if votes is None else torch.where(_voted(votes)[..., None], votes.float(), by_label)


def _smooth(shares: Tensor, smoothing: float) -> Tensor:
    """Label smoothing: the share that is taken from every target is spread over all classes alike."""
    return (1 - smoothing) * shares + smoothing / shares.shape[-1] if smoothing else shares


def _counts(labels: Tensor, votes: Tensor | None, valid: list[Tensor], mask: Tensor, config: LossConfig) -> Tensor:
    weight: Tensor | float = 1.0
    if (by_class := _class_weights(config, labels)) is not None:
        weight = by_class[labels.clamp_min(0)]  # (B, L)
        # Smoothing does not enter it, as it does not in torch's own mean.
        weight = weight if votes is None else torch.where(_voted(votes), votes.float() @ by_class, weight)
    hard = [(weight * real.float()).sum() for real in valid]
    counts = [*hard, *(real.sum().float() for real in valid[1:])]
    if config.contrast_weight:
        known = labels[mask & (labels != IGNORED_LABEL)]
        counts.append(contrast_count(known, _weights_of(known, config)))
    return torch.stack(counts)


def _cross_entropy(logits: Tensor, shares: Tensor, valid: Tensor, config: LossConfig) -> Tensor:
    """Sum CE(shares, logits) over the valid utterances."""
    by_class = shares * F.log_softmax(logits.float(), dim=-1)  # (B, L, C)
    if (weights := _class_weights(config, logits)) is not None:
        by_class = by_class * weights
    return -(by_class.sum(-1) * valid).sum()


def _divergence(teacher: Tensor, student: Tensor, valid: Tensor, config: LossConfig) -> Tensor:
    """Sum T^2 KL(p_T(teacher) || p_T(student)) over the valid utterances."""
    teacher = teacher.detach() if config.detach_teacher else teacher
    target = F.log_softmax(teacher.float() / config.temperature, dim=-1)
    guess = F.log_softmax(student.float() / config.temperature, dim=-1)
    divergence = F.kl_div(guess, target, log_target=True, reduction="none").sum(-1)  # (B, L)
    scale = config.temperature**2 if config.temperature_squared else 1.0
    return scale * (divergence * valid).sum()


def _contrast(hidden: Tensor | None, labels: Tensor, mask: Tensor, config: LossConfig) -> Tensor:
    """Sum the contrast over the labelled utterances, whatever was voted for them."""
    if hidden is None:
        raise ValueError("a loss with a contrast_weight needs the fused representation")
    known = mask & (labels != IGNORED_LABEL)
    weights = _weights_of(labels[known], config)
    return contrast_sum(hidden[known], labels[known], weights, config.contrast_temperature)


def _weights_of(labels: Tensor, config: LossConfig) -> Tensor:
    """The class weight of each of N labels, (N,)."""
    by_class = _class_weights(config, labels)
    return torch.ones(labels.shape, device=labels.device) if by_class is None else by_class[labels]


def _class_weights(config: LossConfig, like: Tensor) -> Tensor | None:
    weights = config.class_weights
    return None if weights is None else torch.tensor(weights, dtype=torch.float32, device=like.device)
