"""The self-distillation loss (step 8) as sums and counts, so that a step of several batches divides exactly.

The terms stand in one order everywhere: "fused", then "branch.<modality>" for each modality, then
"distillation.<modality>" for each. A cross-entropy's count is the sum of its labels' class weights (their
number when all classes weigh the same), which makes the term the weighted mean of `torch.nn.CrossEntropyLoss`;
a distillation's count is the number of its utterances, since class weights do not enter it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lpgnet.model.configuration import LossConfig

IGNORED_LABEL = -100


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

    def normalize(self, counts: Tensor | None = None) -> Tensor:
        """The weighted sum of the `means`, a scalar that every parameter has a gradient of in any batch."""
        return (self.weights * self.means(counts)).sum()


def self_distillation(
    logits: Tensor,
    branch_logits: Mapping[str, Tensor],
    labels: Tensor,
    mask: Tensor,
    masks: Mapping[str, Tensor],
    config: LossConfig,
) -> LossTerms:
    """Compute L = g1 CE(y, z) + sum_m [g2 CE(y, z_m) + g3 T^2 KL(p_T(z) || p_T(z_m))] as terms.

    Args:
        logits: z, (B, L, C), of the fused head.
        branch_logits: z_m, (B, L, C), by modality.
        labels: (B, L) class numbers, -100 where there is none: such an utterance is in no term.
        mask: (B, L) bool, true for a real utterance.
        masks: (B, L) bool by modality: without its modality an utterance is in none of that head's terms.
        config: weights, temperature and class weights.
    """
    modalities, branches = list(branch_logits), list(branch_logits.values())
    targets = _targets(labels, mask, masks, modalities)
    hard = [_cross_entropy(z, y, config) for z, y in zip([logits, *branches], targets, strict=True)]
    soft = [_divergence(logits, z, y != IGNORED_LABEL, config) for z, y in zip(branches, targets[1:], strict=True)]
    sums = torch.stack([*hard, *soft])
    weights = [config.branch_weight] * len(branches) + [config.distillation_weight] * len(branches)
    return LossTerms(
        names=("fused", *(f"branch.{name}" for name in modalities), *(f"distillation.{name}" for name in modalities)),
        weights=sums.new_tensor([config.fused_weight, *weights]),
        sums=sums,
        counts=_counts(targets, config),
    )


def loss_counts(
    labels: Tensor, mask: Tensor, masks: Mapping[str, Tensor], modalities: Iterable[str], config: LossConfig
) -> Tensor:
    """Count what each term is divided by, from the labels and masks alone.

    Args:
        labels, mask, masks: as in `self_distillation`; a modality without a mask is missing.
        modalities: those with a branch head.
        config: the class weights.

    Returns:
        (terms,) float32.
    """
    return _counts(_targets(labels, mask, masks, modalities), config)


def _targets(labels: Tensor, mask: Tensor, masks: Mapping[str, Tensor], modalities: Iterable[str]) -> list[Tensor]:
    """What the fused head and each branch head learn, (B, L); -100 where they learn nothing."""
    labels, nowhere = labels.masked_fill(~mask, IGNORED_LABEL), torch.zeros_like(mask)
    return [labels, *(labels.masked_fill(~masks.get(name, nowhere), IGNORED_LABEL) for name in modalities)]


def _counts(targets: list[Tensor], config: LossConfig) -> Tensor:
    valid = [target != IGNORED_LABEL for target in targets]
    weights = _class_weights(config, targets[0])
    per_label = 1.0 if weights is None else weights[targets[0].clamp_min(0)]
    hard = [(per_label * real.float()).sum() for real in valid]
    return torch.stack([*hard, *(real.sum().float() for real in valid[1:])])


def _cross_entropy(logits: Tensor, target: Tensor, config: LossConfig) -> Tensor:
    """Sum CE(target, logits) over the labeled utterances."""
    rows, weights = logits.float().flatten(0, 1), _class_weights(config, logits)
    return F.cross_entropy(rows, target.flatten(), weights, ignore_index=IGNORED_LABEL, reduction="sum")


def _divergence(teacher: Tensor, student: Tensor, valid: Tensor, config: LossConfig) -> Tensor:
    """Sum T^2 KL(p_T(teacher) || p_T(student)) over the valid utterances."""
    teacher = teacher.detach() if config.detach_teacher else teacher
    target = F.log_softmax(teacher.float() / config.temperature, dim=-1)
    guess = F.log_softmax(student.float() / config.temperature, dim=-1)
    divergence = F.kl_div(guess, target, log_target=True, reduction="none").sum(-1)  # (B, L)
    scale = config.temperature**2 if config.temperature_squared else 1.0
    return scale * (divergence * valid).sum()


def _class_weights(config: LossConfig, like: Tensor) -> Tensor | None:
    weights = config.class_weights
    return None if weights is None else torch.tensor(weights, dtype=torch.float32, device=like.device)
