"""The device that `auto` stands for."""

from __future__ import annotations

from lpgnet.pipeline.processes import current_launch


def resolve_device(device: str) -> str:
    """`auto` is this process's GPU where there is one, else the CPU; any other name is kept."""
    if device != "auto":
        return device
    import torch

    return f"cuda:{current_launch().rank % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"
