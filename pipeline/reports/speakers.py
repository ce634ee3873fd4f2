"""What a timeline says of each speaker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lpgnet.pipeline.reports.rows import Timeline, TimelineRow


@dataclass(frozen=True)
class SpeakerSummary:
    """One speaker's turns.

    Attributes:
        turns: number of turns.
        seconds: speaking time.
        shares: share of the speaking time with each label.
        weights: mean weight of each modality.
        dimensions: mean of each dimension over the speaking time.
    """

    speaker: str | None
    turns: int
    seconds: float
    shares: dict[str, float]
    weights: dict[str, float]
    dimensions: dict[str, float]


def summaries(timeline: Timeline) -> list[SpeakerSummary]:
    """Sum up the turns of each speaker, in the order of their first appearance."""
    rows: dict[str | None, list[TimelineRow]] = {}
    for row in timeline.rows:
        rows.setdefault(row.speaker, []).append(row)
    return [_summary(timeline, speaker, own) for speaker, own in rows.items()]


def _summary(timeline: Timeline, speaker: str | None, rows: Sequence[TimelineRow]) -> SpeakerSummary:
    seconds = dict.fromkeys(timeline.labels, 0.0)
    for row in rows:
        seconds[row.label] += row.end - row.start
    total = sum(seconds.values())
    shares = {name: value / total if total else 0.0 for name, value in seconds.items()}
    # Turns without length count alike.
    spans = [row.end - row.start if total else 1.0 for row in rows]
    return SpeakerSummary(
        speaker,
        len(rows),
        total,
        shares,
        _means([row.modality_weights for row in rows], [1.0] * len(rows)),
        _means([row.dimensions for row in rows], spans),
    )


def _means(rows: Sequence[Mapping[str, float]], weights: Sequence[float]) -> dict[str, float]:
    """Return the weighted mean of each value."""
    return {
        name: sum(row[name] * weight for row, weight in zip(rows, weights, strict=True)) / sum(weights)
        for name in rows[0]
    }
