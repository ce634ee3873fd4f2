"""Tuned encoders: a folder with an adapter (LoRA, in peft's format) and a record of the encoder that it was made for.

Using one needs no peft: an adapter is merged into the weights as they are loaded, so that it costs nothing afterwards.
https://arxiv.org/abs/2106.09685 (LoRA): W + alpha / rank x B A.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lpgnet.feature_extractors.errors import EncoderError, one_line
from lpgnet.feature_extractors.spec import DigestFile, JsonObject, digest_json, read_json

if TYPE_CHECKING:
    from torch import Tensor, nn

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
# Says which encoder was tuned, and which utterances it has seen since; `lpgnet tune` writes it last.
RECORD_FILE = "tuned.json"
ADAPTER_FILES = (ADAPTER_CONFIG, ADAPTER_WEIGHTS, RECORD_FILE)
# Where an exported adapter has a copy of its encoder.
BASE_FOLDER = "base"
# By which peft's names of weights begin.
PREFIX = "base_model.model."
# Settings of peft by which an adapter is more, or something else, than what is merged here.
_OTHERWISE = ("use_rslora", "use_dora", "use_qalora", "rank_pattern", "alpha_pattern", "fan_in_fan_out")
_HALVES = (".lora_A.weight", ".lora_B.weight")


@dataclass(frozen=True)
class Adapter:
    """What tuning adds to an encoder.

    Attributes:
        name: of the tuned encoder, for people.
        folder: of the adapter.
        base: `hf:` name of the encoder that was tuned.
        base_content: digest of that encoder's configuration and weights.
        scale: what B A is multiplied by.
    """

    name: str
    folder: Path
    base: str
    base_content: str
    scale: float

    @property
    def base_folder(self) -> str:
        """The folder, or the hub's name, of the encoder: its copy beside the adapter, else by its name."""
        copy = self.folder / BASE_FOLDER
        return str(copy) if copy.is_dir() else find_folder(self.base.removeprefix("hf:"), beside=self.folder)

    def content(self, base: JsonObject, digest: DigestFile) -> JsonObject:
        """Describe the adapter for a fingerprint.

        Args:
            base: what the encoder that was tuned is described by.
            digest: digests a file.

        Raises:
            EncoderError: the encoder is another one than was tuned.
        """
        if digest_json(base) != self.base_content:
            raise EncoderError(
                f"{self.name}: was made for {self.base}, but {self.base_folder} holds other weights or another"
                f" config.json now; put the encoder back as it was, or run lpgnet tune again"
            )
        return {"scale": self.scale, "weights": digest(self.folder / ADAPTER_WEIGHTS)}


def is_tuned(folder: Path) -> bool:
    """Tell whether a folder holds an adapter rather than an encoder."""
    return (folder / RECORD_FILE).is_file() or (folder / ADAPTER_CONFIG).is_file()


def read_adapter(folder: Path, name: str) -> Adapter:
    """Read what a folder says of its adapter; no weights are read.

    Raises:
        EncoderError: it is not whole, or is no adapter that can be merged.
    """
    if not (folder / RECORD_FILE).is_file():
        raise EncoderError(
            f"{name}: {folder} has an adapter but no {RECORD_FILE}, so nothing says which utterances it has seen; let"
            " lpgnet tune make one (or go on with the one that stopped)"
        )
    base = read_json(name, folder / RECORD_FILE).get("base")
    base = base if isinstance(base, dict) else {}
    encoder, content = base.get("name"), base.get("content")
    if not (isinstance(encoder, str) and encoder.startswith("hf:") and isinstance(content, str)):
        raise EncoderError(f"{name}: {folder / RECORD_FILE} does not say which encoder was tuned; tune it again")
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise EncoderError(f"{name}: {folder} has no {ADAPTER_WEIGHTS}; tune it again (other formats are not read)")
    return Adapter(name, folder, encoder, content, _scale(name, folder / ADAPTER_CONFIG))


def _scale(name: str, path: Path) -> float:
    config = read_json(name, path)
    if config.get("peft_type") != "LORA" or (set := [key for key in _OTHERWISE if config.get(key)]):
        what = "is no LoRA" if config.get("peft_type") != "LORA" else f"sets {set[0]}"
        raise EncoderError(f"{name}: {path} {what}, and only plain LoRA is merged; let lpgnet tune make the adapter")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if type(rank) is not int or rank < 1 or type(alpha) not in (int, float) or not math.isfinite(alpha or 0):
        raise EncoderError(f"{name}: {path} has no whole r above 0, or no lora_alpha; tune it again")
    return float(alpha or 0) / rank


def find_folder(model: str, *, beside: Path) -> str:
    """Return the folder that an encoder's name means, from whichever folder the command is run.

    Args:
        model: such as `encoders/audio`, without its family.
        beside: a folder; the encoder is looked for in the current folder, in this one and in those above it.

    Returns:
        The name as it is where no folder is found: that of a model of the hub, or of nobody's home.
    """
    if "/" not in model or model.startswith("~") or Path(model).is_dir():
        return model
    places = (beside.absolute(), *beside.absolute().parents)
    found = next((folder for place in places if (folder := place / model).is_dir()), None)
    return os.path.relpath(found) if found else model


def merge(model: nn.Module, adapter: Adapter) -> None:
    """Add an adapter to the weights of the encoder that it was made for, in float32.

    Raises:
        EncoderError: a weight of it is missing, not finite, or fits no linear layer of the encoder.
    """
    import torch

    tensors = _read(adapter)
    with torch.no_grad():
        for module in sorted({name[: -len(_HALVES[0])] for name in tensors}):
            first, second = (tensors.get(module + half) for half in _HALVES)
            weight = _weight(model, module)
            if first is None or second is None or weight is None or not _fit(first, second, weight):
                raise EncoderError(
                    f"{adapter.name}: {adapter.folder / ADAPTER_WEIGHTS}: its weights for {module[:80]} fit no linear"
                    " layer of the encoder; tune it again"
                )
            weight += adapter.scale * (second.float() @ first.float())


def _read(adapter: Adapter) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = adapter.folder / ADAPTER_WEIGHTS
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise EncoderError(f"{adapter.name}: {path} cannot be read: {one_line(error)}; tune it again") from error
    for name, values in tensors.items():
        known = name.startswith(PREFIX) and name.endswith(_HALVES)
        if not known or not values.is_floating_point() or not values.isfinite().all():
            raise EncoderError(
                f"{adapter.name}: {path}: {name[:80]!r} is no finite weight of plain LoRA; tune it again"
            )
    return {name.removeprefix(PREFIX): values for name, values in tensors.items()}


def _weight(model: nn.Module, module: str) -> Tensor | None:
    from torch import nn

    try:
        layer = model.get_submodule(module)
    except AttributeError:
        return None
    return layer.weight if isinstance(layer, nn.Linear) else None


def _fit(first: Tensor, second: Tensor, weight: Tensor) -> bool:
    return (
        first.ndim == second.ndim == 2
        and len(first) == second.shape[1]
        and weight.shape
        == (
            len(second),
            first.shape[1],
        )
    )
