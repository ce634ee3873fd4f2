"""What a model wrote down of one window of sound: words with times, and whether they are to be believed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lpgnet.pipeline.recordings.transcripts.base import TimedWord

# Whisper's own thresholds (https://arxiv.org/abs/2212.04356, section 4.5, and its transcribe.py): a text
# that compresses better repeats itself; tokens less probable on average (natural logarithm) are guesses, and
# nobody's words where it is more probable that nobody speaks.
MOST_COMPRESSION, LEAST_CONFIDENCE, MOST_NO_SPEECH = 2.4, -1.0, 0.6

# Chinese and Japanese put no spaces between words: there each character is one.
_UNSPACED = ((0x3040, 0x30FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF))


@dataclass(frozen=True)
class Written:
    """What a model wrote down.

    Attributes:
        words: in their order, in seconds of the window.
        confidence: mean logarithm of the tokens' probabilities; None where the model does not tell.
        no_speech: probability that nobody speaks; None where the model does not tell.
    """

    words: tuple[TimedWord, ...]
    confidence: float | None = None
    no_speech: float | None = None

    @property
    def is_doubtful(self) -> bool:
        """Whether it may be better to listen again to less at once."""
        return self._repeats or self._is_guessed

    @property
    def is_invented(self) -> bool:
        """Whether nobody said this."""
        return self._repeats or (self._is_guessed and (self.no_speech or 0.0) > MOST_NO_SPEECH)

    @property
    def _is_guessed(self) -> bool:
        return self.confidence is not None and self.confidence < LEAST_CONFIDENCE

    @property
    def _repeats(self) -> bool:
        said = " ".join(word.text for word in self.words).encode()
        return len(said) > MOST_COMPRESSION * len(zlib.compress(said))


def words_of(tokenizer: Any, tokens: Sequence[int], times: Sequence[tuple[float, float]]) -> tuple[TimedWord, ...]:
    """Put tokens together to words.

    Args:
        tokenizer: decodes the tokens.
        tokens: in their order.
        times: start and end of each (seconds).

    Returns:
        The words; one begins with its first token and ends with its last.
    """
    text = ""
    firsts: list[int] = []  # the first and the last token that each character comes from
    lasts: list[int] = []
    begun: int | None = None
    for number in range(len(tokens)):
        decoded = str(tokenizer.decode(tokens[: number + 1]))
        # A character of several tokens is a replacement character until the last of them.
        text = decoded.rstrip("\ufffd")
        firsts += [number if begun is None else begun] * (len(text) - len(firsts))
        lasts += [number] * (len(text) - len(lasts))
        begun = (number if begun is None else begun) if text != decoded else None
    return tuple(
        TimedWord(text[start:end], times[firsts[start]][0], times[lasts[end - 1]][1]) for start, end in _spans(text)
    )


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Where each word of a text begins and ends."""
    begun: int | None = None
    for place, character in enumerate(f"{text} "):
        is_word = any(first <= ord(character) <= last for first, last in _UNSPACED)
        if begun is not None and (is_word or character.isspace()):
            yield begun, place
            begun = None
        if is_word:
            yield place, place + 1
        elif begun is None and not character.isspace():
            begun = place


def evenly(text: str, seconds: float) -> tuple[TimedWord, ...]:
    """Place the words of a model that tells no times: each takes as long as it has letters.

    Args:
        text: what was said.
        seconds: how long that took.
    """
    words = [text[start:end] for start, end in _spans(text)]
    letters = sum(map(len, words))
    placed: list[TimedWord] = []
    before = 0
    for word in words:
        placed.append(TimedWord(word, seconds * before / letters, seconds * (before + len(word)) / letters))
        before += len(word)
    return tuple(placed)
