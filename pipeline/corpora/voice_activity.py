"""Voice activity: where anybody speaks, by silero-vad, in memory that does not grow with the recording.

The network is written here as silero-vad's own tinygrad_model.py describes it, because its safetensors file is the
only one of its weights that torch reads without unpickling, and because the frames of a block then share one pass
through the convolutions: many times faster than the package's frame by frame (benchmarks/predict.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lpgnet.pipeline.common.threads import one_thread
from lpgnet.pipeline.common.voice_activity import VoiceActivityConfig
from lpgnet.pipeline.corpora.audio import Segment, read_blocks
from lpgnet.pipeline.errors import PipelineError

SAMPLING_RATE = 16_000
# The network hears frames of 512 samples (32 ms), each with the last 64 samples before it.
FRAME = 512
CONTEXT = 64
FRAME_SECONDS = FRAME / SAMPLING_RATE
_SPECTRUM = 129
# Frames whose convolutions are computed together: 65 s, some 70 MB.
_FRAMES_AT_ONCE = 2048
# Decoded at once (seconds).
BLOCK_SECONDS = 60.0
# The network misses what is quiet. A recording is made louder until its loud frames have this root mean square, and the
# few that are louder still, which may be all that is said or a door, have no more than that; and by no more than so
# much.
_LOUD_QUANTILE, _LOUD = 0.95, 0.05
_LOUDEST_QUANTILE, _LOUDEST = 0.999, 0.3
MOST_GAIN = 100.0


@dataclass(frozen=True)
class Span:
    """A stretch of a recording in seconds."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.start


class SileroNetwork(nn.Module):
    """Probability of speech in frames of 512 samples at 16 kHz; its parameters are named as in the weights' file."""

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 2 * _SPECTRUM, 256, stride=128, bias=False)
        self.conv1 = nn.Conv1d(_SPECTRUM, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, 128, 3, padding=1)
        self.lstm_cell = nn.LSTM(128, 128)
        self.final_conv = nn.Conv1d(128, 1, 1)

    def forward(self, frames: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Compute probabilities `(N,)` of successive frames `(N, 64 + 512)`, and the state for those after them."""
        spectrum = self.stft_conv(nn.functional.pad(frames.unsqueeze(1), (0, CONTEXT), "reflect"))  # (N, 258, 4)
        hidden = spectrum[:, :_SPECTRUM].hypot(spectrum[:, _SPECTRUM:])
        for convolution in (self.conv1, self.conv2, self.conv3, self.conv4):
            hidden = convolution(hidden).relu()  # (N, channels, 4 -> 4 -> 2 -> 1 -> 1)
        hidden, state = self.lstm_cell(hidden.squeeze(-1), state)  # (N, 128)
        return self.final_conv(hidden.relu().unsqueeze(-1)).sigmoid().flatten(), state


@cache
def load_network() -> SileroNetwork:
    """Load the network with the weights that come in silero-vad's package.

    Returns:
        The network in evaluation mode, the same one at every call.

    Raises:
        PipelineError: the package is not installed.
    """
    from safetensors.torch import load_file

    weights = load_file(_weights_file())
    # An LSTM runs the cell over all frames in one call; it names the same weights by their layer.
    renamed = {f"{name}_l0" if name.startswith("lstm_cell") else name: value for name, value in weights.items()}
    network = SileroNetwork()
    network.load_state_dict(renamed, strict=True)
    return network.eval()


def _weights_file() -> Path:
    # Found, not imported: the package leaves torch a single thread for all that comes after it.
    package = find_spec("silero_vad")
    if package is None or not package.submodule_search_locations:
        raise PipelineError("voice activity needs silero-vad, which is not installed: pip install silero-vad")
    return Path(package.submodule_search_locations[0]) / "data" / "silero_vad_16k.safetensors"


# Two threads take longer: most of the time goes into frames that wait for each other.
@one_thread()
@torch.inference_mode()
def speech_probabilities(blocks: Iterable[np.ndarray]) -> np.ndarray:
    """Compute the probability of speech in every frame of 32 ms.

    Args:
        blocks: successive stretches `(samples,)` of one waveform at 16 kHz, of any lengths.

    Returns:
        `(n_frames,)` float32; the last frame may reach past the end, where it hears silence.
    """
    network = load_network()
    found: list[np.ndarray] = []
    state: tuple[Tensor, Tensor] | None = None
    # What no frame has taken yet, after the context of the next one.
    rest = np.zeros(CONTEXT, np.float32)
    for block in chain(blocks, [None]):
        rest = np.concatenate([rest, _silence_to_fill(len(rest) - CONTEXT) if block is None else block])
        n_frames = (len(rest) - CONTEXT) // FRAME
        for first in range(0, n_frames, _FRAMES_AT_ONCE):
            last = min(first + _FRAMES_AT_ONCE, n_frames)
            values, state = network(_framed(rest[first * FRAME : CONTEXT + last * FRAME]), state)
            found.append(values.numpy())
        rest = rest[n_frames * FRAME :]
    return np.concatenate(found) if found else np.zeros(0, np.float32)


def _silence_to_fill(n_samples: int) -> np.ndarray:
    return np.zeros(-n_samples % FRAME, np.float32)


def _framed(samples: np.ndarray) -> Tensor:
    """Frames `(N, 64 + 512)` out of `64 + N * 512` samples."""
    return torch.from_numpy(samples).unfold(0, CONTEXT + FRAME, FRAME)


def find_speech(segment: Segment, config: VoiceActivityConfig) -> list[Span]:
    """Find where anybody speaks in a segment of a recording, in seconds of the recording.

    Args:
        segment: the part of the recording to look at.
        config: what counts as speech.

    Returns:
        Spans in order, apart from each other.

    Raises:
        PipelineError: the file cannot be decoded.
    """
    return spans_of(probabilities_of(segment), segment, config)


def probabilities_of(segment: Segment) -> np.ndarray:
    """Compute the probability of speech in every frame of a segment `(n_frames,)`, however quiet it is.

    Raises:
        PipelineError: the file cannot be decoded.
    """
    gain = _gain(np.concatenate([_energies(block) for block in _blocks(segment)]))
    return speech_probabilities(gain * block for block in _blocks(segment))


def _blocks(segment: Segment) -> Iterator[np.ndarray]:
    return read_blocks(segment, SAMPLING_RATE, seconds=BLOCK_SECONDS)


def _energies(block: np.ndarray) -> np.ndarray:
    """Mean square of frames `(n_frames,)`, of a block shorter than one of all of it."""
    whole = len(block) // FRAME * FRAME
    framed = block[:whole].reshape(-1, FRAME) if whole else block[None]
    # Files of floats may hold what has no square in 32 bits.
    energies: np.ndarray = np.square(framed, dtype=np.float64).mean(axis=1)
    return energies


def _gain(energies: np.ndarray) -> np.float32:
    """How much louder frames of some energies are to be made for the network to hear them, at least 1."""
    loud, loudest = np.sqrt(np.quantile(energies, [_LOUD_QUANTILE, _LOUDEST_QUANTILE])) + 1e-9
    return np.float32(np.clip(min(_LOUD / loud, _LOUDEST / loudest), 1, MOST_GAIN))


def spans_of(probabilities: np.ndarray, segment: Segment, config: VoiceActivityConfig) -> list[Span]:
    """Find stretches of speech out of the probabilities of a segment, in seconds of the recording."""
    offset = segment.start / segment.sampling_rate
    spans = speech_spans(probabilities, config, seconds=segment.seconds)
    return [Span(round(offset + span.start, 3), round(offset + span.end, 3)) for span in spans]


def speech_spans(probabilities: np.ndarray, config: VoiceActivityConfig, *, seconds: float) -> list[Span]:
    """Find stretches of speech out of the probabilities of `(n_frames,)`, in order and apart from each other.

    Args:
        seconds: length of what the frames were made of; no stretch reaches past it.

    Returns:
        Spans in order, in seconds from the first frame on.
    """
    spans = [Span(start * FRAME_SECONDS, end * FRAME_SECONDS) for start, end in runs(_is_speech(probabilities, config))]
    spans = _bridged(spans, config.min_silence)
    spans = [span for span in spans if span.seconds >= config.min_speech]
    return padded(spans, config.padding, seconds)


def _is_speech(probabilities: np.ndarray, config: VoiceActivityConfig) -> np.ndarray:
    """Whether each frame `(n_frames,)` is of a stretch that rose above the threshold and not yet below release."""
    on = probabilities >= config.threshold
    # A frame between the two levels is what the last frame outside of them was.
    decided = on | (probabilities < config.release)
    last_decided = np.maximum.accumulate(np.where(decided, np.arange(len(on)), -1))
    return np.where(last_decided >= 0, on[last_decided], False)


def runs(on: np.ndarray) -> list[tuple[int, int]]:
    """Return the first frame and one past the last of each run of true ones among `(n_frames,)`."""
    borders = np.flatnonzero(np.diff(np.concatenate([[False], on, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in borders.reshape(-1, 2)]


def _bridged(spans: list[Span], min_silence: float) -> list[Span]:
    """Spans joined over pauses that are too short."""
    joined: list[Span] = []
    for span in spans:
        if joined and span.start - joined[-1].end < min_silence:
            span = Span(joined.pop().start, span.end)
        joined.append(span)
    return joined


def padded(spans: Sequence[Span], padding: float, seconds: float) -> list[Span]:
    """Make spans longer on both sides, each by no more than half of the pause between it and its neighbour.

    Args:
        spans: in order, apart from each other.
        padding: seconds on each side.
        seconds: length of the recording, past which no span reaches.

    Returns:
        As many spans; those with a short pause between them touch.
    """
    middles = [(before.end + after.start) / 2 for before, after in pairwise(spans)]
    borders = zip([0.0, *middles], [*middles, seconds], strict=True) if spans else []
    return [
        Span(max(least, span.start - padding), min(most, span.end + padding))
        for span, (least, most) in zip(spans, borders, strict=True)
    ]
