"""The self-distillation loss (step 8) as sums and counts, so that a step of several batches divides exactly.

The terms stand in one order everywhere: "fused", then "branch.<modality>" for each modality, then
"distillation.<modality>" for each. A cross-entropy's count is the sum of its labels' class weights (their
number when all classes weigh the same), which makes the term the weighted mean of `torch.nn.CrossEntropyLoss`;
a distillation's count is the number of its utterances, since class weights do not enter it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED_LABEL = -100


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """The loss weights and what the terms are computed with; see `EmotionConfig` for the fields."""

    fused_weight: float = 1.0
    branch_weight: float = 1.0
    distillation_weight: float = 1.0
    temperature: float = 1.0
    detach_teacher: bool = True
    temperature_squared: bool = True
    class_weights: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class LossTerms:
    """Each term's sum over its utterances in one batch, and what to divide it by.

    Attributes:
        names: the terms.
        weights: g1, g2 or g3 of each term, (terms,).
        sums: (terms,) float32, before any division.
        counts: (terms,) float32, of this batch alone.
    """

    names: tuple[str, ...]
    weights: Tensor
    sums: Tensor
    counts: Tensor

    def means(self, counts: Tensor | None = None) -> Tensor:
        """Every term divided by its count, (terms,); 0 where there is none.

        With the counts of the whole step (`loss_counts` summed over its micro-batches and processes), the means
        of its batches add up to the step's. Without them the batch stands for itself.
        """
        counts = self.counts if counts is None else counts.to(self.sums)
        return self.sums / torch.where(counts > 0, counts, 1.0)

    def normalise(self, counts: Tensor | None = None) -> Tensor:
        """The weighted sum of the `means`, a scalar that every parameter has a gradient of in any batch."""
        return (self.weights * self.means(counts)).sum()


def term_names(modalities: Sequence[str]) -> tuple[str, ...]:
    """The terms' names, in their order, for branch heads of these modalities."""
    return (
        "fused",
        *(f"branch.{name}" for name in modalities),
        *(f"distillation.{name}" for name in modalities),
    )


def loss_counts(
    labels: Tensor,
    mask: Tensor,
    masks: Mapping[str, Tensor],
    modalities: Sequence[str],
    settings: LossSettings,
) -> Tensor:
    """Count what each term is divided by, from the labels and masks alone.

    Args:
        labels: (B, L) class numbers, -100 where there is none.
        mask: (B, L) bool, true for a real utterance.
        masks: (B, L) bool by modality, true where the utterance has it; a modality left out is missing.
        modalities: those with a branch head.
        settings: the loss's settings; only the class weights are used.

    Returns:
        (terms,) float32.
    """
    labelled = (labels != IGNORED_LABEL) & mask
    nowhere = torch.zeros_like(labelled)
    branches = [labelled & masks.get(name, nowhere) for name in modalities]
    weights = _class_weights(settings, labels)
    per_label = labelled.float() if weights is None else weights[labels.clamp_min(0)]
    hard = [(per_label * valid).sum() for valid in (labelled, *branches)]
    return torch.stack([*hard, *(valid.sum().float() for valid in branches)])


def self_distillation(
    logits: Tensor,
    branch_logits: Mapping[str, Tensor],
    labels: Tensor,
    mask: Tensor,
    masks: Mapping[str, Tensor],
    settings: LossSettings,
) -> LossTerms:
    """Compute L = g1 CE(y, z) + sum_m [g2 CE(y, z_m) + g3 T^2 KL(p_T(z) || p_T(z_m))] as terms.

    Args:
        logits: z, (B, L, C), of the fused head.
        branch_logits: z_m, (B, L, C), by modality.
        labels: (B, L) class numbers, -100 where there is none: such an utterance is in no term.
        mask: (B, L) bool, true for a real utterance.
        masks: (B, L) bool by modality: without its modality an utterance is in none of that head's terms.
        settings: weights, temperature and class weights.
    """
    nowhere = torch.zeros_like(mask)
    labels = labels.masked_fill(~mask, IGNORED_LABEL)
    branch_labels = {m: labels.masked_fill(~masks.get(m, nowhere), IGNORED_LABEL) for m in branch_logits}
    hard = [_cross_entropy(logits, labels, settings)]
    hard += [_cross_entropy(z, branch_labels[m], settings) for m, z in branch_logits.items()]
    soft = [_divergence(logits, z, branch_labels[m] != IGNORED_LABEL, settings) for m, z in branch_logits.items()]
    sums = torch.stack([*hard, *soft])
    return LossTerms(
        names=term_names(tuple(branch_logits)),
        weights=_term_weights(settings, len(branch_logits), sums),
        sums=sums,
        counts=loss_counts(labels, mask, masks, tuple(branch_logits), settings),
    )


def _cross_entropy(logits: Tensor, labels: Tensor, settings: LossSettings) -> Tensor:
    weights = _class_weights(settings, labels)
    return F.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), weights, ignore_index=IGNORED_LABEL, reduction="sum"
    )


def _divergence(teacher: Tensor, student: Tensor, valid: Tensor, settings: LossSettings) -> Tensor:
    """Sum KL(p_T(teacher) || p_T(student)) over the valid utterances."""
    if settings.detach_teacher:
        teacher = teacher.detach()
    target = F.log_softmax(teacher.float() / settings.temperature, dim=-1)
    guess = F.log_softmax(student.float() / settings.temperature, dim=-1)
    divergence = F.kl_div(guess, target, log_target=True, reduction="none").sum(-1)  # (B, L)
    scale = settings.temperature**2 if settings.temperature_squared else 1.0
    return scale * (divergence * valid).sum()


def _class_weights(settings: LossSettings, like: Tensor) -> Tensor | None:
    if settings.class_weights is None:
        return None
    return torch.tensor(settings.class_weights, dtype=torch.float32, device=like.device)


def _term_weights(settings: LossSettings, branches: int, like: Tensor) -> Tensor:
    weights = [settings.fused_weight]
    weights += [settings.branch_weight] * branches + [settings.distillation_weight] * branches
    return like.new_tensor(weights)
