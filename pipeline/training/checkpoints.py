"""Checkpoints to resume from: one file an epoch, with a digest, and the state besides tensors as JSON in its header."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lpgnet.model.errors import ModelError
from lpgnet.model.weights import Weights, read_weights, write_weights
from lpgnet.pipeline.common.console import say
from lpgnet.pipeline.common.files import from_json, set_aside, to_json
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.training.freshness import checkpoint_files

if TYPE_CHECKING:
    from torch.amp.grad_scaler import GradScaler
    from torch.optim.lr_scheduler import LRScheduler
    from torch.optim.swa_utils import AveragedModel

# Where the newest is found damaged, the one before it costs an epoch instead of the whole run.
KEPT = 2


@dataclass(frozen=True)
class EpochLog:
    """One line of `metrics.jsonl`.

    Attributes:
        loss: mean over the epoch's steps.
        dev: scores on the development dialogues, by metric; nothing where there are none.
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
        log: one entry an epoch, as in metrics.jsonl.
    """

    epoch: int = 0
    step: int = 0
    log: list[EpochLog] = field(default_factory=list)


@dataclass(frozen=True)
class TrainingState:
    """What changes while training: all of it is in a checkpoint."""

    model: torch.nn.Module
    average: AveragedModel | None
    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler
    scaler: GradScaler | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Return all that is tensors, by name; the memory is shared with the training."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        if self.average is not None:
            tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in values.items()}
        return tensors


def save_checkpoint(folder: Path, state: TrainingState, progress: Progress) -> None:
    """Write the state after an epoch, whole or not at all, then delete all checkpoints but the newest `KEPT`.

    Raises:
        ModelError: a number is not finite, or the file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    header = {
        "progress": to_json(progress),
        "scheduler": state.scheduler.state_dict(),
        "groups": [_settings(group) for group in state.optimizer.state_dict()["param_groups"]],
        "scaler": state.scaler.state_dict() if state.scaler else None,
    }
    write_weights(
        folder / f"epoch-{progress.epoch:05d}.safetensors", state.tensors(), notes={"state": json.dumps(header)}
    )
    for old in checkpoint_files(folder)[:-KEPT]:
        old.unlink()


def drop_checkpoints(folder: Path) -> None:
    """Delete the checkpoints that could be resumed from; what was set aside stays."""
    for path in checkpoint_files(folder):
        path.unlink()
    with suppress(OSError):
        folder.rmdir()


def has_checkpoint(folder: Path) -> bool:
    """Tell whether there is a checkpoint, sound or not."""
    return bool(checkpoint_files(folder))


def _settings(group: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in group.items() if name != "params"}


def set_damaged_aside(folder: Path) -> bool:
    """Rename the checkpoints that are not what was written, from the newest on until one is, and say so.

    Returns:
        Whether there is a checkpoint to resume from.
    """
    paths = checkpoint_files(folder)
    for path in reversed(paths):
        try:
            _read(path)
            return True
        except ModelError as error:
            say(f"train: {error}; it is now {set_aside(path).name}")
    if paths:
        say(f"train: {folder} has no sound checkpoint left; training starts anew")
    return False


def _read(path: Path) -> Weights:
    weights = read_weights(path)
    if not (weights.has_digest and "state" in weights.notes):
        raise ModelError(f"{path}: is no checkpoint with a digest")
    return weights


def load_checkpoint(folder: Path, state: TrainingState) -> Progress:
    """Restore the newest checkpoint in place and return its progress; a new Progress if there is no checkpoint.

    Raises:
        ModelError: the checkpoint is damaged.
        PipelineError: it is of a model or an optimizer with other parts.
    """
    if not (paths := checkpoint_files(folder)):
        return Progress()
    weights = _read(paths[-1])
    try:
        return _restore(state, weights.tensors, json.loads(weights.notes["state"]), where=str(paths[-1]))
    except (RuntimeError, ValueError, KeyError) as error:
        line = " ".join(str(error).split())
        raise PipelineError(f"{paths[-1]}: does not fit this version: {line}; remove it to train anew") from error


def _restore(state: TrainingState, tensors: dict[str, Tensor], header: dict[str, Any], *, where: str) -> Progress:
    state.model.load_state_dict(_under("model.", tensors))
    if state.average is not None:
        state.average.load_state_dict(_under("average.", tensors))
    _load_optimizer(state.optimizer, _under("optimizer.", tensors), header["groups"])
    state.scheduler.load_state_dict(header["scheduler"])
    if state.scaler and header["scaler"]:
        state.scaler.load_state_dict(header["scaler"])
    return from_json(header["progress"], Progress, where=where)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _load_optimizer(
    optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], settings: list[dict[str, object]]
) -> None:
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        states.setdefault(int(index), {})[key] = value
    known = optimizer.state_dict()["param_groups"]
    if len(known) != len(settings):
        raise ValueError(f"its optimizer has {len(settings)} groups of parameters, not {len(known)}")
    groups = [{**own, **saved, "params": own["params"]} for own, saved in zip(known, settings, strict=True)]
    optimizer.load_state_dict({"state": states, "param_groups": groups})
