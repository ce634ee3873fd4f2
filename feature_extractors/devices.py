"""What a device can do: its bfloat16 instructions, how much it takes at once, and copies that nothing waits for."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

# One sample's share of a base-size convolution stack's activations, with room for two layers at once.
GPU_BYTES_PER_SAMPLE = 4096
GPU_MOST_SAMPLES = 8_000_000
GPU_TOKENS = 65_536
CPU_TOKENS = 512


def has_bfloat16(device: str) -> bool:
    """Say whether the device multiplies bfloat16 in hardware, so that it is faster there than float32."""
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if torch.device(device).type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return False


def audio_budget(device: torch.device) -> int:
    """Return the padded samples in one batch; 0 means one waveform at a time.

    A processor is slower in batches: the convolutions' activations leave its cache (docs/benchmarks.md).
    """
    if device.type != "cuda":
        return 0
    memory = torch.cuda.get_device_properties(device).total_memory
    return min(GPU_MOST_SAMPLES, memory // GPU_BYTES_PER_SAMPLE)


def text_budget(device: torch.device) -> int:
    """Return the padded tokens in one batch."""
    return GPU_TOKENS if device.type == "cuda" else CPU_TOKENS


def send(values: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of the host to a device.

    A CUDA device copies it when it has done what was queued before, and nothing waits: only pinned memory can be copied
    so. https://docs.pytorch.org/tutorials/intermediate/pinmem_nonblock.html
    """
    waits = device.type != "cuda"
    return (values if waits else values.pin_memory()).to(device, non_blocking=not waits)


@dataclass(frozen=True)
class Arriving:
    """Values on their way from a device, behind the work that makes them and before any that is queued later."""

    values: Tensor
    arrived: torch.Event | None

    @classmethod
    def start(cls, values: Tensor) -> "Arriving":
        """Queue the copy of values; from CUDA it goes to pinned memory, which torch keeps for the next one."""
        if values.device.type != "cuda":
            return cls(values, None)
        host = values.to("cpu", non_blocking=True)
        return cls(host, torch.cuda.current_stream(values.device).record_event())

    def wait(self) -> np.ndarray:
        """Return the values when they are there; a copy is to be made of what is kept."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.values.cpu().numpy()


@contextmanager
def full_float32() -> Iterator[None]:
    """Compute float32 as such: cuDNN's convolutions would cut their inputs to TF32's 10 bits, and batches would differ.

    https://pytorch.org/docs/stable/notes/cuda.html#tensorfloat-32-tf32-on-ampere-and-later-devices
    """
    cudnn: Any = torch.backends.cudnn  # its attributes are made when it is imported
    kinds = cudnn.conv, torch.backends.cuda.matmul
    before = [kind.fp32_precision for kind in kinds]
    try:
        for kind in kinds:
            kind.fp32_precision = "ieee"
        yield
    finally:
        for kind, precision in zip(kinds, before, strict=True):
            kind.fp32_precision = precision
