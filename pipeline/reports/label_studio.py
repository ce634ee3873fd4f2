"""Timelines as tasks of Label Studio, for people to correct; `corpora/label_studio.py` reads the export."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from lpgnet.pipeline.corpora.label_studio import AUDIO, EMOTION, SPEAKER, TEXT
from lpgnet.pipeline.reports.rows import Timeline, TimelineRow, printable

# Where Label Studio serves local storage, which is a folder below the root that its environment names.
_LOCAL_FILES = "/data/local-files/?d="
RECORDINGS = "recordings"


def to_label_studio(timeline: Timeline) -> str:
    """Write a list of one task: the recording, and the turns as the regions of a prediction.

    A region has its emotion by `labels`, scored by its probability, its speaker and words by text areas, and each
    dimension by a number.
    """
    regions = [part for row in timeline.rows for part in _parts(_Region(timeline, row))]
    score = sum(row.probability for row in timeline.rows) / len(timeline.rows)
    prediction = {"model_version": "lpgnet", "score": score, "result": regions}
    task = {"data": {AUDIO: _address(timeline)}, "predictions": [prediction]}
    return json.dumps([task], ensure_ascii=False, indent=1) + "\n"


def _address(timeline: Timeline) -> str | None:
    """Return the address of the recording, in local storage of the name that its folder has."""
    if timeline.recording is None or timeline.audio is None:
        return None
    depth = len(PurePosixPath(timeline.audio).parts)
    folders = Path(os.path.abspath(timeline.recording)).parents
    # Of a recording that is to be beside the outputs, nobody must see where it lies now.
    folder = "" if timeline.beside or depth > len(folders) else folders[depth - 1].name
    return f"{_LOCAL_FILES}{quote(os.fsencode(f'{folder or RECORDINGS}/{timeline.audio}'))}"


@dataclass(frozen=True)
class _Region:
    """A turn of a timeline."""

    timeline: Timeline
    row: TimelineRow

    def part(self, name: str, kind: str, key: str, said: object) -> dict[str, Any]:
        """What one control says of the region; what all of them say has the same id."""
        row = self.row
        # Label Studio numbers the one channel that it shows 0.
        place = {"start": row.start, "end": row.end, "channel": row.channel or 0}
        return {
            "id": printable(f"{self.timeline.name} {row.utterance}"),
            "from_name": name,
            "to_name": AUDIO,
            "type": kind,
            "original_length": self.timeline.seconds,
            "value": {**place, key: said},
            "score": row.probability,
        }


def _parts(region: _Region) -> Iterator[dict[str, Any]]:
    row = region.row
    yield region.part(EMOTION, "labels", "labels", [row.label])
    for name, words in ((SPEAKER, row.speaker), (TEXT, row.text)):
        if words is not None:
            yield region.part(name, "textarea", "text", [words])
    for name, rating in row.dimensions.items():
        yield region.part(name, "number", "number", round(rating, 2))
