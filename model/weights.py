"""Tensors in a file with a digest of them: written whole or not at all, refused if they are not what was written."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lpgnet.model.errors import ModelError
from lpgnet.model.files import written_whole

DIGEST = "digest"
_ORDERED = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Weights:
    """The content of a file of tensors.

    Attributes:
        tensors: by name, on the CPU.
        notes: texts by name.
        has_digest: whether the file says what it holds; those of version 0.1.0 do not.
    """

    tensors: dict[str, Tensor]
    notes: dict[str, str]
    has_digest: bool


def write_weights(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str] | None = None) -> None:
    """Write tensors and texts under a temporary name, and rename it.

    Raises:
        ModelError: a number is not finite, the disk is full or the folder read-only; what was there before stays.
    """
    own = {name: values.detach().cpu().contiguous().clone() for name, values in tensors.items()}
    _refuse_not_finite(path, own)
    notes = notes or {}
    with written_whole(path) as part:
        part.touch()
        permissions = part.stat().st_mode
        save_file(own, part, metadata={**notes, DIGEST: _digest(own, notes)})
        # What `save_file` writes none but its owner could read.
        part.chmod(permissions)


def read_weights(path: Path) -> Weights:
    """Read what `write_weights` wrote, or any file of safetensors.

    Raises:
        ModelError: it is not there, cannot be read, was damaged since, or has a number that is not finite.
    """
    if not path.is_file():
        raise ModelError(f"{path}: cannot load it: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            notes = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError, ValueError) as error:
        raise ModelError(f"{path}: cannot load it: {error}") from error
    digest = notes.pop(DIGEST, None)
    if digest is not None and digest != _digest(tensors, notes):
        raise ModelError(f"{path}: is damaged: it is not what was written; get it again, or train again")
    _refuse_not_finite(path, tensors)
    return Weights(tensors, notes, digest is not None)


def are_finite(tensors: Mapping[str, Tensor]) -> Tensor:
    """Tell whether all numbers are finite, as a tensor on their device: no process waits for it here."""
    checks = [_is_finite(values) for values in tensors.values() if values.is_floating_point()]
    return torch.stack([check.to(checks[0].device) for check in checks]).all() if checks else torch.tensor(True)


def _is_finite(values: Tensor) -> Tensor:
    """Tell whether all numbers of a tensor are finite, as a tensor."""
    # Both are NaN where any is; a CPU finds them in a sixth of the time that it takes to look at each.
    if values.device.type == "cpu" and values.dtype in _ORDERED and values.numel():
        values = torch.stack(torch.aminmax(values))
    return values.isfinite().all()


def _refuse_not_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    for name, values in tensors.items():
        if not _is_finite(values):
            raise ModelError(f"{path}: {name} has numbers that are not finite: no model of use has; train it again")


def _digest(tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> str:
    digest = hashlib.sha256(repr(sorted(notes.items())).encode())
    for name, values in sorted(tensors.items()):
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
