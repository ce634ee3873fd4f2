"""What every diarizer takes and gives, so that one can stand in for another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

# Of the audio that a diarizer is given (Hz).
SAMPLING_RATE = 16_000


@dataclass(frozen=True)
class SpeakerCount:
    """How many speakers there are, as far as somebody knows.

    Attributes:
        exact: this many; then the other two are None.
        least, most: at least and at most this many.
    """

    exact: int | None = None
    least: int | None = None
    most: int | None = None

    @property
    def is_given(self) -> bool:
        """Whether anything is known."""
        return self != SpeakerCount()

    def bounds(self, n_voices: int) -> tuple[int, int]:
        """The least and the most speakers among `n_voices` pieces of speech, which cannot be more than these."""
        least, most = self.exact or self.least or 1, self.exact or self.most or n_voices
        return min(least, n_voices), min(max(least, most), n_voices)

    def __str__(self) -> str:
        named = (("at least", self.least), ("at most", self.most))
        return str(self.exact or " and ".join(f"{words} {number}" for words, number in named if number))


@dataclass(frozen=True)
class SpeakerTurn:
    """A stretch of one speaker's speech; `start` and `end` in seconds from the first sample that was given."""

    start: float
    end: float
    speaker: str


class Diarizer(Protocol):
    """Who speaks when. An entry point of the group `lpgnet.diarizers` gives a class or function that makes one.

    It is called as `make(device)`, with a device as torch names it, when the first recording needs it.
    """

    def diarize(self, blocks: Iterable[np.ndarray], count: SpeakerCount) -> list[SpeakerTurn]:
        """Find who speaks when, in memory that does not grow with the audio.

        Args:
            blocks: successive float32 waveforms `(samples,)` of one recording at 16 kHz, of any lengths.
            count: how many speakers there are, as far as somebody knows.

        Returns:
            Turns in the order of their starts, with any names of the speakers; turns of several speakers may overlap.
        """
        ...
