"""What every output is written from: the turns of a recording with their emotions."""

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
        start, end: seconds.
        probabilities: of each class, calibrated as the model was.
        modality_weights: how much each modality weighed in the fusion; empty for a model of one modality.
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
        """Of the label."""
        return self.probabilities[self.label]

    @property
    def weights_text(self) -> str:
        """The weights for people: `text 40 %, audio 60 %`."""
        return ", ".join(f"{name} {weight:.0%}" for name, weight in self.modality_weights.items()) or "-"


@dataclass(frozen=True)
class Timeline:
    """A recording's turns in the order of their starts.

    Attributes:
        name: of the outputs, without a suffix.
        rows: at least one.
        recording: the file, where the turns are in one.
        seconds: its length.
        choices: how the turns came about, a line each.
        model: the folder of the model.
    """

    name: str
    rows: tuple[TimelineRow, ...]
    recording: Path | None
    seconds: float
    choices: tuple[str, ...] = ()
    model: str = ""

    @property
    def classes(self) -> list[str]:
        """The model's classes, in its order."""
        return list(self.rows[0].probabilities)

    def speakers(self) -> list[str | None]:
        """Everybody who speaks, by first appearance."""
        return list(dict.fromkeys(row.speaker for row in self.rows))


def tiers(rows: Sequence[TimelineRow]) -> dict[str, list[TimelineRow]]:
    """The turns of each speaker, apart from each other as annotation tiers want it.

    Of turns of one speaker that overlap, the later ones stand in further tiers, `Ann 2` and so on.
    """
    found: dict[str, list[TimelineRow]] = {}
    for row in sorted(rows, key=lambda row: row.start):
        name = row.speaker or NO_NAME
        number = 1
        while (tier := name if number == 1 else f"{name} {number}") in found and found[tier][-1].end > row.start:
            number += 1
        found.setdefault(tier, []).append(row)
    return found


def printable(text: str) -> str:
    """The text on one line, without the control characters that XML and Praat cannot hold."""
    return " ".join(_NOT_XML.sub(" ", text).split())


def cut_to(rows: Sequence[TimelineRow], seconds: float) -> list[TimelineRow]:
    """The rows, none of which ends after the recording (published times may, by a few hundredths of a second)."""
    return [replace(row, end=min(row.end, seconds)) if row.start < seconds else row for row in rows]
