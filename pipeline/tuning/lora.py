"""Adapters in the linear layers of an encoder, by peft: putting them in, and writing them in its format."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lpgnet.feature_extractors.adapters import ADAPTER_CONFIG, ADAPTER_WEIGHTS, PREFIX
from lpgnet.feature_extractors.precision import keep_attention_in_float32
from lpgnet.feature_extractors.torch_encoder import TorchEncoder
from lpgnet.model.weights import read_weights, write_weights
from lpgnet.pipeline.common.files import write_json
from lpgnet.pipeline.common.shared_names import portable
from lpgnet.pipeline.config import TuneConfig
from lpgnet.pipeline.errors import MissingExtraError, UsageError, shorten

if TYPE_CHECKING:
    from peft import LoraConfig

    from lpgnet.feature_extractors import Item

# What peft calls an adapter that was given no name.
NAME = "default"


def add_adapters(encoder: TorchEncoder, settings: TuneConfig, probe: Item) -> LoraConfig:
    """Put adapters that add nothing yet into an encoder, and let nothing else of it learn.

    Args:
        encoder: is changed.
        settings: rank and the like.
        probe: anything that it embeds: layers that it does not run get no adapters.

    Raises:
        MissingExtraError: peft is not installed.
        UsageError: no layer can be adapted.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise MissingExtraError(
            "lpgnet tune needs the extra 'tune': pip install 'lpgnet[tune]' (using a tuned encoder needs nothing)"
        ) from None
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # peft takes fractions too
        lora_dropout=settings.dropout,
        target_modules=find_targets(encoder, settings.targets, probe),
    )
    inject_adapter_in_model(config, encoder.model, NAME)
    keep_attention_in_float32(encoder.model)
    return config


def find_targets(encoder: TorchEncoder, ends: list[str] | None, probe: Item) -> list[str]:
    """Name the linear layers to adapt: those that an encoder runs, of its transformer blocks or of certain names.

    WavLM, for one, never runs the layers of its attention, but takes their weights.

    Args:
        encoder: has no adapters yet.
        ends: of the layers' names; None for all of the blocks.
        probe: anything that it embeds.

    Raises:
        UsageError: there are none.
    """
    linear = {name: module for name, module in encoder.model.named_modules() if isinstance(module, nn.Linear)}
    if ends is None:
        inside = set(encoder.hooks.blocks.modules()) if encoder.hooks.blocks is not None else set()
        chosen = {name for name, module in linear.items() if module in inside}
    else:
        chosen = {name for name in linear if any(name == end or name.endswith(f".{end}") for end in ends)}
    found = sorted(chosen & _run(encoder, linear, probe))
    if not found:
        known = shorten(sorted({name.rpartition(".")[2] for name in linear}), most=12) or "none"
        raise UsageError(
            f"key 'tune.targets': {encoder.spec.name} runs no such linear layers; give the ends of the names of some "
            f"(it has {known})"
        )
    return found


def _run(encoder: TorchEncoder, layers: Mapping[str, nn.Module], probe: Item) -> set[str]:
    """Embed something, and name the layers that ran."""
    ran: set[str] = set()
    handles = [layer.register_forward_pre_hook(lambda *_, name=name: ran.add(name)) for name, layer in layers.items()]
    encoder.encode([probe])
    for handle in handles:
        handle.remove()
    return ran


def adapter_parts(encoder: TorchEncoder) -> dict[str, nn.Linear]:
    """Return the two halves of every adapter of an encoder, by the name of their weights in peft's format."""
    halves = ("lora_A", "lora_B")
    return {
        f"{PREFIX}{name}.{half}.weight": getattr(module, half)[NAME]
        for name, module in encoder.model.named_modules()
        for half in halves
        if hasattr(module, half)
    }


def set_dropout(encoder: TorchEncoder, *, on: bool) -> None:
    """Turn the dropout before the adapters on or off; all else of the encoder stays as when it embeds."""
    for module in encoder.model.modules():
        if isinstance(dropout := getattr(module, "lora_dropout", None), nn.Module):
            dropout.train(on)


def checkpoint_blocks(encoder: TorchEncoder) -> None:
    """Compute what a transformer block computes once more in the backward pass, instead of keeping it."""
    for block in encoder.hooks.blocks or ():
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def write_adapter(folder: Path, encoder: TorchEncoder, config: LoraConfig) -> None:
    """Write an encoder's adapters as peft does, and as safetensors alone.

    Args:
        folder: exists.
        encoder: has the adapters.
        config: they were made by.
    """
    settings = config.to_dict()  # type: ignore[no-untyped-call]
    values = {name: sorted(value) if isinstance(value, set) else value for name, value in settings.items()}
    described = {"base_model_name_or_path": portable(encoder.spec.name.removeprefix("hf:")), "inference_mode": True}
    write_json(folder / ADAPTER_CONFIG, values | described)
    write_weights(folder / ADAPTER_WEIGHTS, {name: part.weight for name, part in adapter_parts(encoder).items()})


def read_adapter(folder: Path, encoder: TorchEncoder) -> None:
    """Give an encoder's adapters the weights that were written."""
    weights: dict[str, Tensor] = read_weights(folder / ADAPTER_WEIGHTS).tensors
    for name, part in adapter_parts(encoder).items():
        part.load_state_dict({"weight": weights[name]})
