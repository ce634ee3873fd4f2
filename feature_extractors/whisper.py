"""Whisper's encoder on an utterance's own frames, instead of the 30 seconds that it pads every input to."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.masking_utils import create_bidirectional_mask

from lpgnet.feature_extractors.audio_encoder import FeatureExtractor, WaveformWindow, extract, pad
from lpgnet.feature_extractors.devices import send
from lpgnet.feature_extractors.padding import frame_mask
from lpgnet.feature_extractors.windows import Frames


class TightFrontEnd:
    """Whisper without the silence behind an utterance: the same spectrum and positions, but no attention beyond it.

    The convolutions see one frame of the spectrum beyond the utterance, as they do in the full window, so layer 0 is
    that of the full window. In a batch, only attention could see a longer row's padding, and is masked.
    """

    batched: bool = True
    normalizes: bool = False
    minimum: int = 1
    fixed: int | None = None

    def __init__(self, model: nn.Module, extractor: FeatureExtractor, hop: int) -> None:
        self.model, self.extractor = model, extractor
        # The last frame is counted as soon as its first sample is there.
        self.frames: Frames | None = Frames(hop, 1)
        self.hop = hop
        self.maximum: int | None = extractor.n_samples

    def forward(self, windows: Sequence[WaveformWindow], device: torch.device) -> Tensor:
        """Compute the last hidden states `(B, T, d)`."""
        counts = [-(-len(window.samples) // self.hop) for window in windows]
        spectra = [self._spectrum(window.samples, count) for window, count in zip(windows, counts, strict=True)]
        own = frame_mask(counts, max(counts), device)
        return encode_frames(self.model, send(pad(spectra, 0.0), device), own)

    def _spectrum(self, samples: np.ndarray, count: int) -> np.ndarray:
        """The spectrum `(2 count + 2, mel bands)` of an utterance and of one frame of silence behind it."""
        waveform = np.pad(samples.astype(np.float32), (0, (count + 1) * self.hop - len(samples)))
        features = extract(self.extractor, waveform, "np", padding=False)["input_features"]
        return np.asarray(features[0].T)


def encode_frames(encoder: Any, spectra: Tensor, own: Tensor) -> Tensor:
    """Run Whisper's encoder, whose own forward pass takes inputs of one length alone.

    Args:
        encoder: transformers' `WhisperEncoder`.
        spectra: `(B, 2 T or more, mel bands)`.
        own: `(B, T)` True on each row's own frames.

    Returns:
        The last hidden states `(B, T, d)`.
    """
    length = own.shape[1]
    hidden = nn.functional.gelu(encoder.conv1(spectra.transpose(1, 2)))
    hidden = nn.functional.gelu(encoder.conv2(hidden)).transpose(1, 2)  # (B, T or more, d)
    hidden = hidden[:, :length] + encoder.embed_positions.weight[:length]
    mask = create_bidirectional_mask(encoder.config, hidden, own)
    for block in encoder.layers:
        hidden = block(hidden, mask)
    states: Tensor = encoder.layer_norm(hidden)
    return states
