"""Published scores on IEMOCAP with four classes; they are comparable only under the same protocol."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A score that a paper reports.

    Attributes:
        score: percentage and metric, as reported.
        protocol: how it was measured, as far as known.
    """

    name: str
    score: str
    protocol: str


PUBLISHED = (
    Published("LPGNet", "over 87 accuracy and F1", "unknown"),
    Published("MERITS-L", "86.48 weighted F1", "unknown"),
    Published("HCAM", "85.9 weighted F1", "session 5 held out"),
    Published("CORECT", "84.6 weighted F1", "session 5 held out, three modalities, without excited"),
    Published("COGMEN", "84.5 weighted F1", "session 5 held out, three modalities, without excited"),
    Published("MemoCMT", "81.85 WA", "random split by utterance, which leaks speakers and dialogues"),
    Published("SMCN", "75.6 WA, 77.6 UA", "leave one session out"),
)
