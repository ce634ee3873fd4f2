"""Running models in bfloat16: the weights cast once, or by autocast, and what stays in float32 either way."""

from typing import Any

import torch
from torch import Tensor, nn

# DeBERTa hides what lies beyond a text by float32's lowest number, which scores under autocast cannot hold.
FLOAT32_ATTENTION = ".modeling_deberta"
# What reads samples or spectra, by its name in the models that have it: rounding the signal costs more than all else.
READERS = ("feature_extractor.conv_layers.0", "conv1", "feature_projection")


def cast_to_bfloat16(model: nn.Module) -> None:
    """Run a model in bfloat16 throughout, but for what reads the signal.

    Buffers stay as they are: the angles of rotary positions are multiples of frequencies, and would be off by whole
    turns in a long input.
    """
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            parameter.data = parameter.data.to(torch.bfloat16)
        if isinstance(module, nn.BatchNorm1d):  # takes parameters and statistics of one kind
            module.to(torch.bfloat16)
    _read_in_float32(model, torch.bfloat16)


def prepare_for_autocast(model: nn.Module) -> None:
    """Keep the weights of matrix products in bfloat16, as autocast would cast them again in every call."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            module.to(torch.bfloat16)
    keep_attention_in_float32(model)
    _read_in_float32(model, torch.float32)


def keep_attention_in_float32(model: nn.Module) -> None:
    """Compute attention in float32 also under autocast where a model's cannot be computed in less."""
    for module in model.modules():
        if type(module).__module__.endswith(FLOAT32_ATTENTION) and "SelfAttention" in type(module).__name__:
            _keep_in_float32(module, torch.float32)


def _read_in_float32(model: nn.Module, result: torch.dtype) -> None:
    modules = dict(model.named_modules())
    reader = next((modules[name] for name in READERS if name in modules), None)
    if reader is not None:
        _keep_in_float32(reader, result)


def _keep_in_float32(module: nn.Module, result: torch.dtype) -> None:
    """Compute a module in float32, and give its floating-point results in `result`."""
    forward = module.float().forward

    def run(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(next(module.parameters()).device.type, enabled=False):
            return _cast(forward(*_cast(args, torch.float32), **_cast(kwargs, torch.float32)), result)

    module.forward = run


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """Cast what is floating point in a tensor, a tuple or a dictionary."""
    if isinstance(value, tuple):
        return tuple(_cast(one, dtype) for one in value)
    if type(value) is dict:
        return {name: _cast(one, dtype) for name, one in value.items()}
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
