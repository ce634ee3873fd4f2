"""What the features stage keeps of an experiment: which encoder embedded each modality, and what was skipped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpgnet.cache.store import FINGERPRINT
from lpgnet.pipeline.common.files import read_json, write_json
from lpgnet.pipeline.errors import PipelineError

FEATURES_FILE = "features.json"


@dataclass(frozen=True)
class Served:
    """Embeddings that need no extraction because those of all layers are stored.

    Attributes:
        fingerprint: that of the encoder with all layers.
        layers: which of them are read; -1 is the last.
        utterances: how many are read there.
    """

    fingerprint: str
    layers: list[int]
    utterances: int

    @property
    def line(self) -> str:
        """Say it in one line."""
        return f"{self.utterances} are read from those of all layers, {self.fingerprint[:12]}"

    def soundness(self) -> dict[str, bool]:
        """Say of each key whether its value makes sense."""
        return {
            "served.fingerprint": bool(FINGERPRINT.fullmatch(self.fingerprint)),
            "served.layers": bool(self.layers),
            "served.utterances": self.utterances >= 0,
        }


@dataclass(frozen=True)
class ModalitySummary:
    """One modality of an experiment.

    Attributes:
        spec: the encoder's spec, as JSON types.
        auto_precision: by encoder name, what `auto` was resolved to; kept, so that another device does not change it.
        context_turns: turns that the text encoder reads before the utterance (turns).
        utterances: how many need an embedding.
        skipped: ids of those that have none and that the user chose to leave out.
        served: which are read from the embeddings of all layers.
        trim: none, or speech where each was cut to its speech.
    """

    spec: dict[str, Any]
    auto_precision: dict[str, str]
    context_turns: int
    utterances: int
    skipped: list[str]
    served: Served | None = None
    trim: str = "none"

    def problems(self) -> list[str]:
        """Name the keys whose values make no sense."""
        # Imported late, as everywhere: a start of the command needs no encoders.
        from lpgnet.feature_extractors.spec import PRECISIONS

        sound = {
            "spec.name": isinstance(self.spec.get("name"), str),
            "spec.fingerprint": bool(FINGERPRINT.fullmatch(str(self.spec.get("fingerprint")))),
            "auto_precision": set(self.auto_precision.values()) <= {*PRECISIONS} - {"auto"},
            "context_turns": self.context_turns >= 0,
            "utterances": self.utterances >= 0,
            **(self.served.soundness() if self.served else {}),
            "trim": self.trim in ("none", "speech"),
        }
        return [key for key, is_sound in sound.items() if not is_sound]


def read_summaries(folder: Path) -> dict[str, ModalitySummary]:
    """Read an experiment's summaries, by modality; empty before the stage's first run.

    Raises:
        PipelineError: the file is damaged; names it and the key.
    """
    path = folder / FEATURES_FILE
    summaries = read_json(path, dict[str, ModalitySummary]) if path.exists() else {}
    for modality, summary in summaries.items():
        if wrong := summary.problems():
            where = f"['{modality}'].{wrong[0]}"
            raise PipelineError(f"{path}: wrong value @ {where}; delete it and run the features stage again")
    return summaries


def write_summaries(folder: Path, summaries: Mapping[str, ModalitySummary]) -> None:
    """Write the summaries, keeping those of other modalities."""
    write_json(folder / FEATURES_FILE, read_summaries(folder) | dict(summaries))
