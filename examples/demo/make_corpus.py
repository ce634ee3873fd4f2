"""Make the demo corpus and the demo recording from nothing but espeak-ng and a seed."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import language
import numpy as np
from speech import SAMPLING_RATE, Manner, Voice, Waveform, jitter, speak, write_flac

HERE = Path(__file__).parent
SEED = 20
DIALOGUES = 18  # a session
TURNS = 10  # a dialogue
PAUSES = (220, 360)  # between turns, milliseconds
RECORDING_TURNS = 24
RECORDING_PAUSES = (400, 700)
CUES = ("voice", "words", "both")

SESSIONS = {
    "1": (Voice("Ada", "en-us+f2", 48, 188), Voice("Ben", "en-us+m3", 46, 194, 0.5)),
    "2": (Voice("Cleo", "en-us+f4", 50, 196, -0.3), Voice("Dan", "en-gb+m7", 52, 188, -0.5)),
    "3": (Voice("Eve", "en-us+f5", 44, 186, 0.3), Voice("Finn", "en-us+m1", 50, 192)),
}
RECORDING_VOICES = (Voice("Ann", "en-us+f3", 46, 190, 0.2), Voice("Bob", "en-us+m5", 50, 190, -0.2))

MANNERS = {
    "ang": Manner(pitch=6, spread=120, rate=1.3, tilt=6.0, drive=4.0),
    "hap": Manner(pitch=32, spread=250, rate=1.1, tilt=2.5),
    "neu": Manner(spread=25),
    "sad": Manner(pitch=-22, spread=25, rate=0.82, tilt=-6.0, gap=1),
    "plain": Manner(spread=90),
}
LABELS = ("ang", "hap", "neu", "sad")

_STEP = SAMPLING_RATE // 1000  # turns start and end on whole milliseconds, so that the tables are exact
_NOISE = 5e-4  # standard deviation: a quiet room


@dataclass(frozen=True)
class Turn:
    """What is said, by whom, with what feeling, and where that feeling shows."""

    voice: Voice
    text: str
    label: str
    cue: str


@dataclass(frozen=True)
class Utterance:
    """One row of the corpus's table; times in seconds."""

    dialogue_id: str
    utterance_id: str
    audio: str
    start: float
    end: float
    speaker: str
    session: str
    text: str
    label: str


def main() -> None:
    """Make both beside this file."""
    rng = np.random.default_rng(SEED)
    _make_corpus(HERE / "corpus", rng)
    _make_recording(HERE / "recording", rng)


def _make_corpus(folder: Path, rng: np.random.Generator) -> None:
    rows: list[Utterance] = []
    cues: list[tuple[str, str]] = []
    for index, (session, voices) in enumerate(SESSIONS.items()):
        turns = _plan(voices, DIALOGUES * TURNS, (index, len(SESSIONS)), rng)
        for dialogue in range(DIALOGUES):
            part = turns[dialogue * TURNS : (dialogue + 1) * TURNS]
            made = _make_dialogue(folder, f"s{session}d{dialogue + 1:02d}", session, part, rng)
            rows += made
            cues += [(row.utterance_id, turn.cue) for row, turn in zip(made, part, strict=True)]
    fields = list(Utterance.__dataclass_fields__)
    _write_table(folder / "utterances.csv", fields, map(astuple, rows))
    _write_table(folder / "truth.csv", ["utterance_id", "cue"], cues)


def _make_dialogue(
    folder: Path, name: str, session: str, turns: Sequence[Turn], rng: np.random.Generator
) -> list[Utterance]:
    audio = f"audio/{name}.flac"
    waveform, times = _perform(turns, PAUSES, rng)
    write_flac(folder / audio, waveform)
    return [
        Utterance(name, f"{name}u{i:02d}", audio, start, end, turn.voice.name, session, turn.text, turn.label)
        for i, (turn, (start, end)) in enumerate(zip(turns, times, strict=True), start=1)
    ]


def _make_recording(folder: Path, rng: np.random.Generator) -> None:
    """Write a recording with voices that the corpus does not have and words of all its sessions."""
    turns = _plan(RECORDING_VOICES, RECORDING_TURNS, (0, 1), rng)
    waveform, times = _perform(turns, RECORDING_PAUSES, rng)
    write_flac(folder / "recording.flac", waveform)
    cues = [
        f"{i}\n{_clock(start)} --> {_clock(end)}\n{turn.voice.name}: {turn.text}\n"
        for i, (turn, (start, end)) in enumerate(zip(turns, times, strict=True), start=1)
    ]
    (folder / "recording.srt").write_text("\n".join(cues), encoding="utf-8")
    rows = [(*span, turn.voice.name, turn.text, turn.label, turn.cue) for turn, span in zip(turns, times, strict=True)]
    _write_table(folder / "recording.truth.csv", ["start", "end", "speaker", "text", "label", "cue"], rows)


def _plan(voices: tuple[Voice, Voice], count: int, share: tuple[int, int], rng: np.random.Generator) -> list[Turn]:
    """Plan every label with every cue equally often, in an order that tells nothing of either."""
    kinds = [(label, cue) for label in LABELS for cue in CUES]
    order = rng.permutation(count) % len(kinds)
    speaker = int(rng.integers(2))
    turns = []
    for label, cue in (kinds[i] for i in order):
        text = language.turn("plain" if cue == "voice" else label, rng, share)
        turns.append(Turn(voices[speaker], text, label, cue))
        speaker = speaker if rng.random() < 0.15 else 1 - speaker
    return turns


def _perform(
    turns: Iterable[Turn], pauses: tuple[int, int], rng: np.random.Generator
) -> tuple[Waveform, list[tuple[float, float]]]:
    """Speak the turns one after the other; return the waveform and each turn's start and end, seconds."""
    parts: list[Waveform] = [_pause(pauses, rng)]
    times = []
    for turn in turns:
        manner = MANNERS["plain" if turn.cue == "words" else turn.label]
        spoken = _whole_steps(speak(turn.text, turn.voice, jitter(manner, rng)))
        start = sum(map(len, parts))
        times.append((start / SAMPLING_RATE, (start + len(spoken)) / SAMPLING_RATE))
        parts += [spoken, _pause(pauses, rng)]
    waveform = np.concatenate(parts)
    return waveform + rng.normal(0, _NOISE, len(waveform)), times


def _pause(pauses: tuple[int, int], rng: np.random.Generator) -> Waveform:
    return np.zeros(int(rng.integers(*pauses)) * _STEP)


def _whole_steps(waveform: Waveform) -> Waveform:
    return np.pad(waveform, (0, -len(waveform) % _STEP))


def _clock(seconds: float) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    return f"00:{minutes:02d}:{milliseconds // 1000:02d},{milliseconds % 1000:03d}"


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
