"""Timelines: the turns of a recording with their emotions, as JSON Lines and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.manifest import write_atomically


@dataclass(frozen=True)
class TimelineRow:
    """One turn of a recording.

    Attributes:
        start, end: seconds.
        probabilities: of each class.
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


def write_timeline(rows: Sequence[TimelineRow], folder: Path, name: str) -> list[Path]:
    """Write `<name>.jsonl` and `<name>.csv`, each whole or not at all; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.jsonl", folder / f"{name}.csv"]
    for path, text in zip(paths, (to_json_lines(rows), to_csv(rows)), strict=True):
        write_atomically(path, text)
    return paths


def to_json_lines(rows: Sequence[TimelineRow]) -> str:
    """One JSON object a turn."""
    return "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)


def to_csv(rows: Sequence[TimelineRow]) -> str:
    """One line a turn; the probabilities are columns `p_<class>`, the weights `w_<modality>`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    classes, modalities = list(rows[0].probabilities), list(rows[0].modality_weights)
    names = [*(f"p_{name}" for name in classes), *(f"w_{name}" for name in modalities)]
    writer.writerow(["utterance", "start", "end", "speaker", "text", "label", *names])
    for row in rows:
        numbers = [*(row.probabilities[name] for name in classes), *(row.modality_weights[name] for name in modalities)]
        known = [row.utterance, f"{row.start:.3f}", f"{row.end:.3f}", row.speaker or "", row.text or "", row.label]
        writer.writerow([*known, *(f"{number:.6f}" for number in numbers)])
    return text.getvalue()
