"""Timelines, which every output format is written from: the turns of a recording with their emotions."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from pathlib import Path, PurePosixPath

NO_NAME = "speech"
# The label of a turn whose most probable class is not probable enough.
UNCERTAIN = "uncertain"
WARNING = "warning: "
_NOT_XML = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class TimelineRow:
    """One turn of a recording.

    Attributes:
        utterance: its id.
        start, end: times in seconds.
        label: the most probable class, or `UNCERTAIN` where it is not probable enough.
        probabilities: calibrated probability of each class.
        modality_weights: weight of each modality in the fusion; empty for a model of one modality.
        channel: 0-based channel of the recording that the turn is on, or None for all of them mixed.
        dimensions: valence, arousal and dominance, in the units of the corpus that the model was trained on; empty for
            a model without heads for them.
    """

    utterance: str
    start: float
    end: float
    speaker: str | None
    text: str | None
    label: str
    probabilities: dict[str, float]
    modality_weights: dict[str, float]
    channel: int | None = None
    dimensions: dict[str, float] = field(default_factory=dict)

    @property
    def guess(self) -> str:
        """The most probable class, which the label is unless it is uncertain."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def probability(self) -> float:
        """The probability of the most probable class."""
        return self.probabilities[self.guess]

    @property
    def weights_text(self) -> str:
        """The modality weights in words, as in `text 40%, audio 60%`."""
        return ", ".join(f"{name} {weight:.0%}" for name, weight in self.modality_weights.items()) or "-"


@dataclass(frozen=True)
class Timeline:
    """A recording's turns in the order of their starts.

    Attributes:
        name: name of the outputs, without a suffix.
        rows: the turns, at least one.
        recording: the audio file, or None if the turns are in several.
        seconds: duration of the recording.
        choices: lines that say how the turns were found.
        model: folder of the model.
        beside: the recording is to be found beside the outputs, so that their links name it without a folder.
        about_model: lines that say what the model is good for: a sentence, and perhaps a warning.
        ranges: the lowest and the highest rating of each dimension of the rows, in the corpus that the model was
            trained on.
    """

    name: str
    rows: tuple[TimelineRow, ...]
    recording: Path | None
    seconds: float
    choices: tuple[str, ...] = ()
    model: str = ""
    beside: bool = False
    about_model: tuple[str, ...] = ()
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def notes(self) -> list[str]:
        """What people must know before they read a label: what the model is good for, and all warnings."""
        return [*self.about_model, *self.warnings]

    @property
    def warnings(self) -> list[str]:
        """What is doubtful about this recording."""
        return [line for line in self.choices if line.startswith(WARNING)]

    @property
    def classes(self) -> list[str]:
        """The model's classes, in its order."""
        return list(self.rows[0].probabilities)

    @property
    def labels(self) -> list[str]:
        """What a turn can be labelled: the classes, then `UNCERTAIN`."""
        return list(dict.fromkeys([*self.classes, UNCERTAIN]))

    @property
    def audio(self) -> str | None:
        """The recording as a corpus of it and its neighbors names it: by its folders below theirs, if it has some."""
        if self.recording is None:
            return None
        return str(PurePosixPath(self.name).parent / self.recording.name)

    @property
    def dimensions(self) -> list[str]:
        """The dimensions that the model gives, in its order."""
        return list(self.rows[0].dimensions)

    def range_text(self, dimension: str) -> str:
        """Return the range of a dimension, as in `1 to 5`."""
        low, high = self.ranges[dimension]
        return f"{low:g} to {high:g}"

    def speakers(self) -> list[str | None]:
        """Return all speakers in order of first appearance."""
        return list(dict.fromkeys(row.speaker for row in self.rows))


def tiers(rows: Sequence[TimelineRow]) -> dict[str, list[TimelineRow]]:
    """Sort the turns into tiers by speaker, without overlaps, as annotation tools require.

    If turns of one speaker overlap, the later ones go to further tiers, `Ann 2` and so on.
    """
    lanes: dict[str, Lanes] = defaultdict(Lanes)
    found: dict[tuple[str, int], list[TimelineRow]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.start):
        name = row.speaker or NO_NAME
        found[name, lanes[name].take(row.start, row.end)].append(row)
    names = Names()
    return {names.unused(f"{name} {lane}" if lane > 1 else name): own for (name, lane), own in found.items()}


class Lanes:
    """Lanes for turns that overlap, numbered from 1: a turn takes the first one in which nothing is left."""

    def __init__(self) -> None:
        self._busy: list[tuple[float, int]] = []
        self._free: list[int] = []

    def take(self, start: float, end: float) -> int:
        """Give the lane of a turn; turns come in the order of their starts."""
        while self._busy and self._busy[0][0] <= start:
            heappush(self._free, heappop(self._busy)[1])
        lane = heappop(self._free) if self._free else len(self._busy) + 1
        heappush(self._busy, (end, lane))
        return lane


class Names:
    """Names that are told apart: of several that are alike, all but the first get a number."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._last: Counter[str] = Counter()

    def unused(self, name: str) -> str:
        """Give the name, or `name (2)` and so on where it is taken; it is taken from then on."""
        title = name
        while title in self._taken:
            self._last[name] += 1
            title = f"{name} ({self._last[name] + 1})"
        self._taken.add(title)
        return title


def printable(text: str) -> str:
    """Put text on one line and remove the control characters that XML and Praat do not allow."""
    return " ".join(_NOT_XML.sub(" ", text).split())


def cut_to(rows: Sequence[TimelineRow], seconds: float) -> list[TimelineRow]:
    """Cut rows off at the end of the recording, which published times exceed by a few hundredths of a second."""
    return [replace(row, end=min(row.end, seconds)) if row.start < seconds else row for row in rows]
