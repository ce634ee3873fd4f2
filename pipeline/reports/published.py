"""Published figures for IEMOCAP with four classes, each with its protocol; none is comparable without it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """What a paper reports.

    Attributes:
        score: in per cent, in the metric's own words.
        protocol: how it was measured, as far as is known here.
    """

    name: str
    score: str
    protocol: str


PUBLISHED = (
    Published("LPGNet", "over 87 accuracy and F1", "not published in what is known here"),
    Published("MERITS-L", "86.48 weighted F1", "not known here"),
    Published("HCAM", "85.9 weighted F1", "session 5 held out"),
    Published("CORECT", "84.6 weighted F1", "session 5 held out, three modalities, excited left out"),
    Published("COGMEN", "84.5 weighted F1", "session 5 held out, three modalities, excited left out"),
    Published("MemoCMT", "81.85 WA", "random split by utterance, which leaks speakers and dialogues"),
    Published("SMCN", "75.6 WA, 77.6 UA", "leave one session out"),
)
