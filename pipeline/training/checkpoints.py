"""Checkpoints to resume from: one safetensors file an epoch, with the rest of the state as JSON in its header."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from lpgnet.pipeline.common.files import from_json, to_json

if TYPE_CHECKING:
    from torch.amp.grad_scaler import GradScaler
    from torch.optim.lr_scheduler import LRScheduler
    from torch.optim.swa_utils import AveragedModel

CHECKPOINT_FOLDER = "checkpoints"


@dataclass(frozen=True)
class EpochLog:
    """One line of `metrics.jsonl`.

    Attributes:
        loss: mean over the epoch's steps.
        dev: scores on the development dialogues, by metric.
        learning_rate: at the epoch's end.
        train_seconds: of the steps, without the measuring.
    """

    epoch: int
    loss: float
    dev: dict[str, float]
    learning_rate: float
    train_seconds: float


@dataclass
class Progress:
    """How far a run has been trained.

    Attributes:
        epoch: epochs done.
        step: optimizer steps done.
        best_score: on the development data so far.
        best_epoch: the epoch of that score.
        log: one entry an epoch, as in metrics.jsonl.
    """

    epoch: int = 0
    step: int = 0
    best_score: float = -1.0
    best_epoch: int = 0
    log: list[EpochLog] = field(default_factory=list)


@dataclass(frozen=True)
class TrainingState:
    """What changes while training: all of it is in a checkpoint."""

    model: torch.nn.Module
    average: AveragedModel | None
    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler
    scaler: GradScaler | None = None


def save_checkpoint(folder: Path, state: TrainingState, progress: Progress) -> None:
    """Write the state after an epoch, whole or not at all, then delete the checkpoint before it."""
    folder.mkdir(parents=True, exist_ok=True)
    header = {
        "progress": to_json(progress),
        "scheduler": state.scheduler.state_dict(),
        "groups": [_settings(group) for group in state.optimizer.state_dict()["param_groups"]],
        "scaler": state.scaler.state_dict() if state.scaler else None,
    }
    path = folder / f"epoch-{progress.epoch:05d}.safetensors"
    temporary = path.with_suffix(".partial")
    save_file(_tensors(state), temporary, metadata={"state": json.dumps(header)})
    os.replace(temporary, path)
    for other in folder.glob("epoch-*.safetensors"):
        if other != path:
            other.unlink()


def _settings(group: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in group.items() if name != "params"}


def _tensors(state: TrainingState) -> dict[str, Tensor]:
    tensors = {f"model.{name}": value for name, value in state.model.state_dict().items()}
    if state.average is not None:
        tensors |= {f"average.{name}": value for name, value in state.average.state_dict().items()}
    for index, values in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in values.items()}
    return {name: value.detach().contiguous().clone() for name, value in tensors.items()}


def load_checkpoint(folder: Path, state: TrainingState) -> Progress:
    """Restore the newest checkpoint in place and return its progress; a new Progress if there is no checkpoint."""
    paths = sorted(folder.glob("epoch-*.safetensors"))
    if not paths:
        return Progress()
    with safe_open(paths[-1], framework="pt") as file:
        header = json.loads(file.metadata()["state"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    state.model.load_state_dict(_under("model.", tensors))
    if state.average is not None:
        state.average.load_state_dict(_under("average.", tensors))
    _load_optimizer(state.optimizer, _under("optimizer.", tensors), header["groups"])
    state.scheduler.load_state_dict(header["scheduler"])
    if state.scaler and header["scaler"]:
        state.scaler.load_state_dict(header["scaler"])
    return from_json(header["progress"], Progress, where=str(paths[-1]))


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _load_optimizer(
    optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], settings: list[dict[str, object]]
) -> None:
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        states.setdefault(int(index), {})[key] = value
    groups = [
        {**own, **saved, "params": own["params"]}
        for own, saved in zip(optimizer.state_dict()["param_groups"], settings, strict=True)
    ]
    optimizer.load_state_dict({"state": states, "param_groups": groups})
