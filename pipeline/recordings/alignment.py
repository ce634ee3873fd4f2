"""Forced alignment: times for the words of a plain text, by a CTC model, in memory that does not grow with its length.

The recording is aligned window by window. Of the text that a window may hold, more is always offered than fits: frames
after the window in which every character costs nothing take what is left over. Words near the window's end are
not trusted, and the next window begins where the last trusted word ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from lpgnet.pipeline.common.voice_activity import VoiceActivityConfig
from lpgnet.pipeline.corpora.audio import Segment, read_segment
from lpgnet.pipeline.corpora.voice_activity import Span, find_speech
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.recordings.speech_models import SpeechModel
from lpgnet.pipeline.recordings.transcripts import Turn, Word

# What the model hears at once; words that end in the last seconds of it are left to the next window.
WINDOW_SECONDS = 30.0
DISTRUSTED_SECONDS = 4.0
# What the model hears before the first frame that counts, so that it does not begin in the middle of a sound.
CONTEXT_SECONDS = 1.0
# Nobody says more in a second; how much of the text is offered to a window.
MOST_CHARACTERS_PER_SECOND = 30
# Log-probability of a character that is left to the next window: about that of one that is heard none too well. Were it
# free, a model that hears badly would leave every word to the next window.
LEFT_OVER_SCORE = -2.0
# Added to the log-probability of characters where nobody speaks: so much that a pause stays one, not so much that a
# voice which voice activity missed could not be aligned at all.
SILENCE_SCORE = -5.0
SPEECH = VoiceActivityConfig(threshold=0.5, release=0.35, min_silence=0.15, padding=0.1)


@dataclass(frozen=True)
class Alphabet:
    """The characters that a model writes, by number."""

    numbers: dict[str, int]
    blank: int
    delimiter: int | None

    @classmethod
    def of(cls, model: SpeechModel) -> Alphabet:
        """Give the alphabet of a CTC model's tokenizer."""
        numbers = model.tokenizer.get_vocab()
        delimiter = numbers.get(getattr(model.tokenizer, "word_delimiter_token", None))
        return cls(numbers, int(model.model.config.pad_token_id), delimiter)

    def spell(self, word: str) -> list[int]:
        """Give the numbers of a word's characters; none for what the model cannot write, such as digits."""
        upper = any(character.isupper() for character in self.numbers if len(character) == 1)
        cased = word.upper() if upper else word.lower()
        return [self.numbers[character] for character in cased if character in self.numbers and character != "|"]


@dataclass(frozen=True)
class _Spoken:
    """A word that the model can write: its place in the text and its characters."""

    place: int
    tokens: list[int]


def align(model: SpeechModel, turns: Sequence[Turn], segment: Segment) -> list[Turn]:
    """Give times to turns whose words are known, and to each of their words.

    Args:
        turns: in the order in which they are said; their own times are not looked at.
        segment: what they are said in.

    Returns:
        The turns that have a length, each with times and with words that have them.

    Raises:
        PipelineError: the model has no CTC head, or the text holds more than can be said in the recording.
    """
    if not model.writes_frames:
        raise PipelineError(f"{model.name}: cannot align words, only a CTC model can (such as wav2vec2 with a head)")
    words = [word for turn in turns for word in (turn.text or "").split()]
    alphabet = Alphabet.of(model)
    spoken = [_Spoken(place, tokens) for place, word in enumerate(words) if (tokens := alphabet.spell(word))]
    if not spoken:
        raise PipelineError(f"{model.name}: its alphabet has none of the text's characters; name another aligner")
    times = dict(_word_times(model, spoken, alphabet, segment))
    return _timed_turns(turns, words, times)


def _timed_turns(turns: Sequence[Turn], words: Sequence[str], times: dict[int, tuple[float, float]]) -> list[Turn]:
    """The turns with times; one of whose words the model writes none is put between its neighbors."""
    places = iter(range(len(words)))
    found: list[Turn] = []
    for turn in turns:
        said = [(words[place], times.get(place)) for place in (next(places) for _ in (turn.text or "").split())]
        timed = tuple(Word(text, *(time or (None, None))) for text, time in said)
        known = [time for _, time in said if time]
        start = known[0][0] if known else (found[-1].end if found else 0.0)
        end = known[-1][1] if known else start
        found.append(replace(turn, start=start, end=end, words=timed))
    return [turn for turn in found if turn.end is not None and turn.start is not None and turn.end > turn.start]


def _word_times(
    model: SpeechModel, spoken: Sequence[_Spoken], alphabet: Alphabet, segment: Segment
) -> Iterator[tuple[int, tuple[float, float]]]:
    """Place and times (seconds of the recording) of every word."""
    rate = segment.sampling_rate
    speech = find_speech(segment, SPEECH)
    position, first = segment.start, 0
    while first < len(spoken):
        last_window = (segment.end - position) / rate <= WINDOW_SECONDS
        end = segment.end if last_window else position + round(WINDOW_SECONDS * rate)
        emission = _emission(model, replace(segment, start=position, end=end), segment.start)
        offered = spoken[first:] if last_window else _that_fit(spoken[first:])
        seconds_per_frame = (end - position) / rate / len(emission)
        silent = _silent(speech, position / rate, seconds_per_frame, len(emission))
        emission = _hushed(emission, silent, alphabet.blank)
        times = _align_window(emission, offered, alphabet, free_end=not last_window, where=segment.file)
        trusted = len(emission) if last_window else len(emission) - DISTRUSTED_SECONDS / seconds_per_frame
        kept = [time for time in times if time[1] <= trusted]
        for word, (start, stop) in zip(offered, kept, strict=False):
            offset = position / rate
            yield word.place, (offset + start * seconds_per_frame, offset + stop * seconds_per_frame)
        first += len(kept)
        # In a window without a word (music, a pause) nothing is aligned, and all but its end is passed over.
        heard = kept[-1][1] if kept else trusted
        position += max(1, round(heard * seconds_per_frame * rate))


def _that_fit(spoken: Sequence[_Spoken]) -> Sequence[_Spoken]:
    """The first words, as many as can be said in a window."""
    left = WINDOW_SECONDS * MOST_CHARACTERS_PER_SECOND
    for number, word in enumerate(spoken):
        left -= len(word.tokens) + 1
        if left < 0:
            return spoken[: max(1, number)]
    return spoken


@torch.inference_mode()
def _emission(model: SpeechModel, segment: Segment, earliest: int) -> Tensor:
    """Log-probabilities `(frames, characters)` of a window, heard with what comes before it."""
    before = min(segment.start - earliest, round(CONTEXT_SECONDS * segment.sampling_rate))
    waveform = read_segment(replace(segment, start=segment.start - before), model.sampling_rate)
    inputs = model.feature_extractor(waveform, sampling_rate=model.sampling_rate, return_tensors="pt")
    logits: Tensor = model.model(**{name: values.to(model.device) for name, values in inputs.items()}).logits[0]
    unheard = round(len(logits) * before / (before + segment.end - segment.start))
    return logits.float().log_softmax(-1).cpu()[unheard:]


def _silent(speech: Sequence[Span], start: float, seconds_per_frame: float, n_frames: int) -> Tensor:
    """`(n_frames,)` bool: where nobody speaks, in frames from `start` (seconds) on."""
    silent = torch.ones(n_frames, dtype=torch.bool)
    for span in speech:
        first, last = (round((time - start) / seconds_per_frame) for time in (span.start, span.end))
        silent[max(0, first) : max(0, last)] = False
    return silent


def _hushed(emission: Tensor, silent: Tensor, blank: int) -> Tensor:
    """Log-probabilities with characters unlikely where nobody speaks: models write what they will into noise."""
    hushed = emission + SILENCE_SCORE
    hushed[:, blank] = 0.0
    return torch.where(silent.unsqueeze(-1), hushed, emission)


def _align_window(
    emission: Tensor, words: Sequence[_Spoken], alphabet: Alphabet, *, free_end: bool, where: str
) -> list[tuple[int, int]]:
    """First frame and one past the last of the words that lie in a window, in order.

    Args:
        free_end: words may come after the window.
    """
    from torchaudio.functional import forced_align

    tokens, owners = _spelled(words, alphabet)
    n_frames = len(emission)
    if free_end:
        # Twice as many as there are characters: a blank has to stand between two that are alike.
        free = emission.new_full((2 * len(tokens), emission.shape[1]), LEFT_OVER_SCORE)
        free[:, alphabet.blank] = 0.0
        emission = torch.cat([emission, free])
    needed = len(tokens) + sum(a == b for a, b in pairwise(tokens))
    if needed > len(emission):
        raise PipelineError(
            f"{where}: its text is longer than what can be said in the recording; check that they match"
        )
    path, _ = forced_align(emission[None], torch.tensor([tokens], dtype=torch.int32), blank=alphabet.blank)
    frames = _frames_of_tokens(path[0].tolist(), alphabet.blank)
    spans: list[tuple[int, int]] = []
    for number in range(len(words)):
        own = [frames[place] for place, owner in enumerate(owners) if owner == number]
        if own[-1][1] > n_frames:
            break
        spans.append((own[0][0], own[-1][1]))
    return spans


def _spelled(words: Sequence[_Spoken], alphabet: Alphabet) -> tuple[list[int], list[int]]:
    """All characters with delimiters between words, and the number of the word that each belongs to (-1: none)."""
    tokens: list[int] = []
    owners: list[int] = []
    for number, word in enumerate(words):
        if number and alphabet.delimiter is not None:
            tokens.append(alphabet.delimiter)
            owners.append(-1)
        tokens += word.tokens
        owners += [number] * len(word.tokens)
    return tokens, owners


def _frames_of_tokens(path: Sequence[int], blank: int) -> list[tuple[int, int]]:
    """First frame and one past the last of every token of a CTC path."""
    spans: list[tuple[int, int]] = []
    previous = blank
    for frame, token in enumerate(path):
        if token != blank and token == previous:
            spans[-1] = (spans[-1][0], frame + 1)
        elif token != blank:
            spans.append((frame, frame + 1))
        previous = token
    return spans
