"""Timelines as tables: JSON Lines and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from lpgnet.pipeline.common.spreadsheets import harmless
from lpgnet.pipeline.reports.rows import Timeline, TimelineRow


def to_json_lines(timeline: Timeline) -> str:
    """Write one JSON object per turn; if the model gives dimensions, `ranges` are theirs."""
    return "".join(json.dumps(_object(timeline, row), ensure_ascii=False) + "\n" for row in timeline.rows)


def _object(timeline: Timeline, row: TimelineRow) -> dict[str, Any]:
    values = asdict(row)
    dimensions = values.pop("dimensions")
    return {**values, "dimensions": dimensions, "ranges": timeline.ranges} if dimensions else values


def to_csv(timeline: Timeline, *, raw: bool = False) -> str:
    """Write one line per turn; columns `p_<class>` are the probabilities, `w_<modality>` the modality weights.

    The dimensions that the model gives have columns of their names, in the units of the corpus.

    Args:
        timeline: what is written.
        raw: leave cells that a spreadsheet would run as a formula as they are.
    """
    modalities = list(timeline.rows[0].modality_weights)
    names = [*(f"p_{name}" for name in timeline.classes), *(f"w_{name}" for name in modalities), *timeline.dimensions]
    header = ["utterance", "start", "end", "speaker", "text", "label", *names]
    rows = [header, *(_cells(row) for row in timeline.rows)]
    return _csv(rows if raw else [[harmless(cell) for cell in row] for row in rows])


def _cells(row: TimelineRow) -> list[str]:
    numbers = [*row.probabilities.values(), *row.modality_weights.values(), *row.dimensions.values()]
    known = [row.utterance, f"{row.start:.3f}", f"{row.end:.3f}", row.speaker or "", row.text or "", row.label]
    return [*known, *(f"{number:.6f}" for number in numbers)]


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    # A carriage return ends a row, and Python quotes it only from 3.13 on.
    quoting = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:
        (quoting if any("\r" in cell for cell in row) else writer).writerow(row)
    return text.getvalue()
