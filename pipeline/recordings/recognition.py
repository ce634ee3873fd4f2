"""Speech recognition: the words of turns that have none, by any model of transformers that writes text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch

from lpgnet.pipeline.corpora.audio import Segment, read_segment
from lpgnet.pipeline.recordings.speech_models import SpeechModel
from lpgnet.pipeline.recordings.transcripts import TimedTurn, Turn

AnyTurn = TypeVar("AnyTurn", Turn, TimedTurn)

# Turns that a model which pads to a fixed length, or masks what it pads, hears together.
BATCH_TURNS = 8
# What Whisper hears at once; longer turns are recognized piece by piece (seconds).
LONGEST_SECONDS = 30.0


def recognize(model: SpeechModel, turns: Sequence[AnyTurn], segments: Sequence[Segment]) -> list[AnyTurn]:
    """Write down what is said in each turn; a turn in which nothing is recognized stays without words.

    Args:
        model: writes text.
        turns: in any order.
        segments: the sound of each turn.

    Returns:
        The turns in the same order, with their text.

    Raises:
        PipelineError: the recording cannot be decoded.
    """
    size = BATCH_TURNS if _batches_are_exact(model) else 1
    pieces = [(number, piece) for number, segment in enumerate(segments) for piece in _pieces(segment)]
    words: list[list[str]] = [[] for _ in turns]
    for first in range(0, len(pieces), size):
        batch = pieces[first : first + size]
        texts = _transcribe(model, [read_segment(piece, model.sampling_rate) for _, piece in batch])
        for (number, _), text in zip(batch, texts, strict=True):
            words[number] += text.split()
    return [replace(turn, text=" ".join(said) or None) for turn, said in zip(turns, words, strict=True)]


def _batches_are_exact(model: SpeechModel) -> bool:
    """Models that normalize over time (wav2vec2-base) hear padding, which their extractors therefore do not mask."""
    return not model.writes_frames or bool(getattr(model.feature_extractor, "return_attention_mask", False))


def _pieces(segment: Segment) -> Iterator[Segment]:
    """The segment in equal parts that the model can hear."""
    n_pieces = max(1, int(np.ceil(segment.seconds / LONGEST_SECONDS)))
    borders = np.linspace(segment.start, segment.end, n_pieces + 1).round().astype(int)
    for start, end in pairwise(borders):
        yield replace(segment, start=int(start), end=int(end))


@torch.inference_mode()
def _transcribe(model: SpeechModel, waveforms: list[np.ndarray]) -> list[str]:
    """What is said in each waveform `(samples,)`."""
    extracted = model.feature_extractor(
        [_audible(waveform, model.sampling_rate) for waveform in waveforms],
        sampling_rate=model.sampling_rate,
        return_tensors="pt",
        padding="max_length" if "whisper" in model.model.config.model_type else True,
    )
    inputs = {name: values.to(model.device) for name, values in extracted.items()}
    if model.writes_frames:
        tokens = model.model(**inputs).logits.argmax(-1)
        return [str(text) for text in model.tokenizer.batch_decode(tokens)]
    tokens = model.model.generate(**inputs)  # type: ignore[operator]
    return [str(text) for text in model.tokenizer.batch_decode(tokens, skip_special_tokens=True)]


def _audible(waveform: np.ndarray, sampling_rate: int) -> np.ndarray:
    """At least a tenth of a second, so that convolutions have something to slide over."""
    short = sampling_rate // 10 - len(waveform)
    return np.pad(waveform, (0, short)) if short > 0 else waveform
