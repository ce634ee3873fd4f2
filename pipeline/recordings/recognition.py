"""Speech recognition: words with times in stretches of speech, by any model of transformers that writes text."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from lpgnet.pipeline.corpora.audio import Segment, read_segment
from lpgnet.pipeline.recordings import whisper
from lpgnet.pipeline.recordings.speech_models import SpeechModel
from lpgnet.pipeline.recordings.stretches import packed
from lpgnet.pipeline.recordings.transcripts.base import TimedWord
from lpgnet.pipeline.recordings.written import Written, evenly, words_of

# Windows that a model hears together.
BATCH_WINDOWS = 8
# A word is at least one of Whisper's frames long (seconds).
SHORTEST_WORD = 0.02


@dataclass(frozen=True)
class Recognition:
    """What was heard.

    Attributes:
        words: of each stretch, in their order, in seconds of the recording.
        language: which was written, by its code; None for a model that has one alone.
        n_dropped: stretches whose words nobody can have said.
    """

    words: tuple[tuple[TimedWord, ...], ...]
    language: str | None
    n_dropped: int


def recognize(model: SpeechModel, stretches: Sequence[Segment], *, language: str | None = None) -> Recognition:
    """Write down what is said in stretches of one recording.

    A model with windows of one length (Whisper) hears several stretches in one window, as in WhisperX
    (https://arxiv.org/abs/2303.00747). A window that it is in doubt about is heard again in halves; a single stretch
    stays without words where they repeat themselves, or are guesses and probably no speech.

    Args:
        model: writes text.
        stretches: what to hear, none longer than the model's window; neighbors share a window.
        language: one of `model.languages`; None detects it, once for all, from the first windows.

    Returns:
        The words of each stretch.

    Raises:
        PipelineError: the recording cannot be decoded.
    """
    words: list[tuple[TimedWord, ...]] = [() for _ in stretches]
    waiting = deque(_windows(model, stretches))
    size = BATCH_WINDOWS if _batches_are_exact(model) else 1
    n_dropped = 0
    while waiting:
        batch = [waiting.popleft() for _ in range(min(size, len(waiting)))]
        waveforms = [[read_segment(stretches[number], model.sampling_rate) for number in window] for window in batch]
        written, language = _listen(model, [_audible(np.concatenate(parts), model) for parts in waveforms], language)
        for window, parts, one in zip(batch, waveforms, written, strict=True):
            if one.is_doubtful and len(window) > 1:
                waiting += [window[: len(window) // 2], window[len(window) // 2 :]]
            elif one.is_invented:
                n_dropped += len(window)
            else:
                lengths = [len(part) / model.sampling_rate for part in parts]
                for number, own in zip(window, _shared_out(one, lengths), strict=True):
                    words[number] = _in_recording(own, stretches[number])
    return Recognition(tuple(words), language, n_dropped)


def _windows(model: SpeechModel, stretches: Sequence[Segment]) -> list[list[int]]:
    """Numbers of the stretches that are heard together: all of one channel, and only where it saves something."""
    if not model.writes_timestamps:
        return [[number] for number in range(len(stretches))]
    windows: list[list[int]] = []
    for _, same in groupby(range(len(stretches)), key=lambda number: stretches[number].channel):
        numbers = list(same)
        seconds = [stretches[number].seconds for number in numbers]
        windows += [[numbers[place] for place in window] for window in packed(seconds, model.window_seconds)]
    return windows


def _batches_are_exact(model: SpeechModel) -> bool:
    """Models that normalize over time (wav2vec2-base) hear padding, which their extractors therefore do not mask."""
    if not model.writes_frames:
        return True
    masks = bool(getattr(model.feature_extractor, "return_attention_mask", False))
    return masks and hasattr(model.model, "_get_feat_extract_output_lengths")


def _audible(waveform: np.ndarray, model: SpeechModel) -> np.ndarray:
    """At least a tenth of a second, so that convolutions have something to slide over."""
    return np.pad(waveform, (0, max(0, model.sampling_rate // 10 - len(waveform))))


def _listen(model: SpeechModel, waveforms: list[np.ndarray], language: str | None) -> tuple[list[Written], str | None]:
    """What is said in each waveform `(samples,)`, and in which language."""
    seconds = [len(waveform) / model.sampling_rate for waveform in waveforms]
    with model.running():
        if model.writes_frames:
            return _from_frames(model, waveforms), None
        if not model.writes_timestamps:
            return _without_times(model, waveforms, seconds), None
        encoded = whisper.encode(model, waveforms)
        if language is None and model.languages:
            language = whisper.detect_language(model, encoded)
        return whisper.write(model, encoded, seconds, language if model.languages else None), language


def _from_frames(model: SpeechModel, waveforms: list[np.ndarray]) -> list[Written]:
    """By a CTC model: the likeliest character of each frame."""
    paths = model.model(**model.inputs(waveforms, padding=True)).logits.argmax(-1).tolist()
    written = []
    for path, waveform in zip(paths, waveforms, strict=True):
        if len(waveforms) > 1:
            # Frames of what was padded say nothing.
            path = path[: int(model.model._get_feat_extract_output_lengths(len(waveform)))]  # type: ignore[operator]
        per_frame = len(waveform) / model.sampling_rate / len(path)
        tokens, times, frame = [], [], 0
        for token, same in groupby(path):
            n_frames = len(list(same))
            tokens.append(token)
            times.append((frame * per_frame, (frame + n_frames) * per_frame))
            frame += n_frames
        written.append(Written(words_of(model.tokenizer, tokens, times)))
    return written


def _without_times(model: SpeechModel, waveforms: list[np.ndarray], seconds: Sequence[float]) -> list[Written]:
    """By a model that tells text alone."""
    padding = "max_length" if model.pads_to_window else True
    tokens = model.model.generate(**model.inputs(waveforms, padding=padding))  # type: ignore[operator]
    texts = model.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return [Written(evenly(str(text), length)) for text, length in zip(texts, seconds, strict=True)]


def _shared_out(written: Written, seconds: Sequence[float]) -> list[list[TimedWord]]:
    """The words of each of the stretches that follow each other in a window, in seconds of the stretch.

    A word belongs where its middle is.
    """
    ends = np.cumsum(seconds)
    own: list[list[TimedWord]] = [[] for _ in seconds]
    for word in written.words:
        place = min(int(np.searchsorted(ends, (word.start + word.end) / 2, side="right")), len(seconds) - 1)
        offset = float(ends[place]) - seconds[place]
        own[place].append(TimedWord(word.text, word.start - offset, word.end - offset))
    return own


def _in_recording(words: Sequence[TimedWord], stretch: Segment) -> tuple[TimedWord, ...]:
    """Words of a stretch, within it, in seconds of the recording."""
    offset, until = stretch.start / stretch.sampling_rate, stretch.end / stretch.sampling_rate
    placed = []
    for word in words:
        start = min(max(offset, offset + word.start), until - SHORTEST_WORD)
        end = min(max(start + SHORTEST_WORD, offset + word.end), until)
        placed.append(TimedWord(word.text, round(start, 3), round(end, 3)))
    return tuple(placed)
