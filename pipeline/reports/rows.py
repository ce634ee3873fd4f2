"""Timelines, which every output format is written from: the turns of a recording with their emotions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

NO_NAME = "speech"
_NOT_XML = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class TimelineRow:
    """One turn of a recording.

    Attributes:
        utterance: its id.
        start, end: times in seconds.
        label: the most probable class.
        probabilities: calibrated probability of each class.
        modality_weights: weight of each modality in the fusion; empty for a model of one modality.
    """

    utterance: str
    start: float
    end: float
    speaker: str | None
    text: str | None
    label: str
    probabilities: dict[str, float]
    modality_weights: dict[str, float]

    @property
    def probability(self) -> float:
        """The label's probability."""
        return self.probabilities[self.label]

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
    """

    name: str
    rows: tuple[TimelineRow, ...]
    recording: Path | None
    seconds: float
    choices: tuple[str, ...] = ()
    model: str = ""
    beside: bool = False

    @property
    def classes(self) -> list[str]:
        """The model's classes, in its order."""
        return list(self.rows[0].probabilities)

    def speakers(self) -> list[str | None]:
        """Return all speakers in order of first appearance."""
        return list(dict.fromkeys(row.speaker for row in self.rows))


def tiers(rows: Sequence[TimelineRow]) -> dict[str, list[TimelineRow]]:
    """Sort the turns into tiers by speaker, without overlaps, as annotation tools require.

    If turns of one speaker overlap, the later ones go to further tiers, `Ann 2` and so on.
    """
    found: dict[str, list[TimelineRow]] = {}
    for row in sorted(rows, key=lambda row: row.start):
        name = row.speaker or NO_NAME
        index = 1
        while (tier := name if index == 1 else f"{name} {index}") in found and found[tier][-1].end > row.start:
            index += 1
        found.setdefault(tier, []).append(row)
    return found


def printable(text: str) -> str:
    """Put text on one line and remove the control characters that XML and Praat do not allow."""
    return " ".join(_NOT_XML.sub(" ", text).split())


def cut_to(rows: Sequence[TimelineRow], seconds: float) -> list[TimelineRow]:
    """Cut rows off at the end of the recording, which published times exceed by a few hundredths of a second."""
    return [replace(row, end=min(row.end, seconds)) if row.start < seconds else row for row in rows]
