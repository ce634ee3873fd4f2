"""What moves the weights: groups of parameters, the schedule of their rates, and the average over steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lpgnet.model.layers import InputMix, StackedLinear
from lpgnet.pipeline.config import TrainingConfig
from lpgnet.pipeline.errors import UsageError

if TYPE_CHECKING:
    from torch import nn
    from torch.optim.lr_scheduler import LRScheduler

    from lpgnet.model import EmotionModel

# Layers whose `weight` is what decays; their biases, norms and slopes have no size that decay could keep small.
_MATRICES = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Embedding, StackedLinear)


def make_optimizer(model: nn.Module, recipe: TrainingConfig) -> torch.optim.AdamW:
    """Make AdamW of three groups: matrices, which decay; vectors and slopes; and the weights that mix layers.

    Those start equal, and AdamW moves each weight by about the rate a step, whatever its gradient: at the rate of the
    matrices a softmax over layers is still nearly uniform when training ends.

    Raises:
        UsageError: the rates are beyond what can be computed with.
    """
    _check_rate(recipe)
    groups = parameter_groups(model)
    rate = recipe.learning_rate
    settings: list[dict[str, Any]] = [
        {"lr": rate, "weight_decay": recipe.weight_decay},
        {"lr": rate, "weight_decay": 0.0},
        {"lr": rate * recipe.layer_rate, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [{"params": group, **own} for group, own in zip(groups, settings, strict=True)], lr=rate, fused=True
    )


def parameter_groups(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Return the matrices, the vectors and slopes, and the weights that mix layers; each parameter once."""
    matrices: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    layers: list[nn.Parameter] = []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            is_matrix = isinstance(module, _MATRICES) and name == "weight"
            group = layers if isinstance(module, InputMix) else matrices if is_matrix else vectors
            group.append(parameter)
    return matrices, vectors, layers


def _check_rate(recipe: TrainingConfig) -> None:
    """Refuse what is beyond float32 in AdamW, which multiplies the rate by the decay, and by 10 in its first step."""
    if 10 * recipe.learning_rate * max(1.0, recipe.weight_decay, recipe.layer_rate) > torch.finfo(torch.float32).max:
        raise UsageError(
            f"training.learning_rate {recipe.learning_rate:g}, training.layer_rate {recipe.layer_rate:g} and "
            f"training.weight_decay {recipe.weight_decay:g} are beyond what can be computed with; lower them"
        )


def make_scheduler(optimizer: torch.optim.Optimizer, recipe: TrainingConfig, steps: int) -> LRScheduler:
    """Make the schedule over all steps, as torch (one_cycle) and transformers (cosine, constant) define it.

    Args:
        optimizer: each of its groups has its own highest rate.
        recipe: which schedule.
        steps: of the whole training.
    """
    if recipe.schedule == "one_cycle":
        # A warm-up of exactly one step makes torch divide by zero; this makes it a little longer.
        share = recipe.warmup_share + 1e-6
        highest = [group["lr"] for group in optimizer.param_groups]
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, highest, steps, pct_start=share, cycle_momentum=False)
    from transformers import get_scheduler

    name = {"cosine": "cosine", "constant": "constant_with_warmup"}[recipe.schedule]
    warmup = round(recipe.warmup_share * steps)
    scheduler: LRScheduler = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=steps)
    return scheduler


def moving_average(model: EmotionModel, decay: float) -> AveragedModel | None:
    """Make an exponential moving average of the weights; BatchNorm's buffers are those of the last step."""
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay)) if decay else None
