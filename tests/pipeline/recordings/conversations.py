"""Conversations whose speakers are known, and how far a diarizer is from them; the benchmark takes both from here."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile

from lpgnet.pipeline.recordings.diarizers import SAMPLING_RATE, SpeakerTurn
from lpgnet.pipeline.recordings.transcripts import TimedTurn

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "examples" / "demo"
TELEPHONE = ROOT / "tests" / "data" / "conversation" / "sample.wav"
# How many speak in each of the conversations of neutral demo voices.
SPEAKERS = (2, 2, 2, 3, 3, 3, 4, 4, 5, 5)
_TURNS = 20
_PAUSES = (0.2, 0.7)


@dataclass(frozen=True)
class Conversation:
    """A mono waveform at 16 kHz, and who speaks when in it."""

    name: str
    waveform: np.ndarray
    turns: tuple[SpeakerTurn, ...]

    @property
    def n_speakers(self) -> int:
        """How many speak."""
        return len({turn.speaker for turn in self.turns})


@dataclass(frozen=True)
class Score:
    """How far turns are from the truth: shares of the time spoken, without a collar and with overlap counted.

    Attributes:
        least_covered: of the true turns longer than a second, the share of the least covered by its speaker's turns.
    """

    n_speakers: int
    error: float
    missed: float
    false: float
    confused: float
    least_covered: float


def telephone() -> Conversation:
    """A real telephone conversation of 30 seconds."""
    waveform, _ = soundfile.read(TELEPHONE, dtype="float32")
    lines = [line.split() for line in TELEPHONE.with_suffix(".rttm").read_text().splitlines()]
    turns = (SpeakerTurn(float(line[3]), float(line[3]) + float(line[4]), line[7]) for line in lines)
    return Conversation("telephone", waveform, tuple(turns))


def demo_recording() -> Conversation:
    """The demo's recording: synthetic voices, which change with the emotion."""
    waveform, _ = soundfile.read(DEMO / "recording" / "recording.flac", dtype="float32")
    rows = _table(DEMO / "recording" / "recording.truth.csv")
    turns = (SpeakerTurn(float(row["start"]), float(row["end"]), row["speaker"]) for row in rows)
    return Conversation("demo recording", waveform, tuple(turns))


def neutral_conversation(number: int) -> Conversation:
    """Put twenty neutral utterances of the demo corpus one after another, with pauses between."""
    random = np.random.default_rng(number)
    said = _neutral()
    speakers = [str(name) for name in random.choice(sorted(said), SPEAKERS[number], replace=False)]
    parts, turns = [np.zeros(SAMPLING_RATE // 2, np.float32)], []
    for place in range(_TURNS):
        speaker = speakers[place] if place < len(speakers) else str(random.choice(_others(speakers, turns)))
        words = said[speaker][random.integers(len(said[speaker]))]
        start = sum(map(len, parts)) / SAMPLING_RATE
        turns.append(SpeakerTurn(start, start + len(words) / SAMPLING_RATE, speaker))
        parts += [words, np.zeros(round(random.uniform(*_PAUSES) * SAMPLING_RATE), np.float32)]
    waveform = np.concatenate(parts)
    waveform += random.normal(0, 5e-4, len(waveform)).astype(np.float32)
    return Conversation(f"{SPEAKERS[number]} neutral voices", waveform, tuple(turns))


def _others(speakers: Sequence[str], turns: Sequence[SpeakerTurn]) -> list[str]:
    return [speaker for speaker in speakers if speaker != turns[-1].speaker]


@cache
def _neutral() -> dict[str, list[np.ndarray]]:
    """The neutral utterances of each speaker of the demo corpus."""
    said: dict[str, list[np.ndarray]] = {}
    for row in _table(DEMO / "corpus" / "utterances.csv"):
        if row["label"] == "neu":
            first, last = (round(float(row[time]) * SAMPLING_RATE) for time in ("start", "end"))
            words, _ = soundfile.read(DEMO / "corpus" / row["audio"], start=first, stop=last, dtype="float32")
            said.setdefault(row["speaker"], []).append(words)
    return said


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def score(found: Sequence[SpeakerTurn | TimedTurn], truth: Sequence[SpeakerTurn]) -> Score:
    """Compare turns with the truth."""
    from pyannote.core import Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate

    metric = DiarizationErrorRate(collar=0.0, skip_overlap=False)
    theirs, ours = _annotation(truth), _annotation(found)
    whole = Timeline([Segment(0.0, max(turn.end for turn in (*truth, *found)))])
    parts = metric(theirs, ours, uem=whole, detailed=True)
    shares = (parts[name] / parts["total"] for name in ("missed detection", "false alarm", "confusion"))
    mapping = metric.optimal_mapping(theirs, ours)
    covered = [
        sum(
            max(0.0, min(turn.end, other.end) - max(turn.start, other.start))
            for other in found
            if mapping.get(other.speaker) == turn.speaker
        )
        / (turn.end - turn.start)
        for turn in truth
        if turn.end - turn.start > 1
    ]
    n_speakers = len({turn.speaker for turn in found})
    return Score(n_speakers, parts["diarization error rate"], *shares, min(covered, default=1.0))


def _annotation(turns: Sequence[SpeakerTurn | TimedTurn]) -> object:
    from pyannote.core import Annotation, Segment

    annotation = Annotation()
    for number, turn in enumerate(turns):
        annotation[Segment(turn.start, turn.end), number] = turn.speaker
    return annotation
