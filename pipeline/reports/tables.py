"""Timelines as tables: JSON Lines and CSV."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict

from lpgnet.pipeline.reports.rows import Timeline


def to_json_lines(timeline: Timeline) -> str:
    """Write one JSON object per turn."""
    return "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in timeline.rows)


def to_csv(timeline: Timeline) -> str:
    """Write one line per turn; columns `p_<class>` are the probabilities, `w_<modality>` the modality weights."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    modalities = list(timeline.rows[0].modality_weights)
    names = [*(f"p_{name}" for name in timeline.classes), *(f"w_{name}" for name in modalities)]
    writer.writerow(["utterance", "start", "end", "speaker", "text", "label", *names])
    for row in timeline.rows:
        numbers = [*row.probabilities.values(), *row.modality_weights.values()]
        known = [row.utterance, f"{row.start:.3f}", f"{row.end:.3f}", row.speaker or "", row.text or "", row.label]
        writer.writerow([*known, *(f"{number:.6f}" for number in numbers)])
    return text.getvalue()
