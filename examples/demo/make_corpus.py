"""Make the demo corpus, what made-up raters say of it, and the demo recording from espeak-ng and seeds."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import language
import numpy as np
from raters import DIMENSIONS, Opinion, ask, truth
from speech import SAMPLING_RATE, Manner, Vector, Voice, Waveform, jitter, speak, write_flac

HERE = Path(__file__).parent
SEED = 20
RATERS_SEED = 21  # of their own: whatever they say, the speech stays as it is
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

_STEP = SAMPLING_RATE // 1000  # turns start and end on whole milliseconds, so that the tables are exact
_NOISE = 5e-4  # standard deviation: a quiet room


@dataclass(frozen=True)
class Turn:
    """What is said, by whom, with what feeling, and where that feeling shows."""

    voice: Voice
    text: str
    label: str
    cue: str

    @property
    def words(self) -> str:
        """The feeling that the words tell."""
        return "plain" if self.cue == "voice" else self.label


@dataclass(frozen=True)
class Spoken:
    """A turn as it was spoken; times in seconds."""

    turn: Turn
    manner: Manner
    start: float
    end: float

    @property
    def truth(self) -> Vector:
        """Valence, arousal and dominance of what was spoken."""
        return truth(self.turn.words, self.manner)


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
    told: list[Spoken] = []
    for index, (session, voices) in enumerate(SESSIONS.items()):
        turns = _plan(voices, DIALOGUES * TURNS, (index, len(SESSIONS)), rng)
        for dialogue in range(DIALOGUES):
            part = turns[dialogue * TURNS : (dialogue + 1) * TURNS]
            name = f"s{session}d{dialogue + 1:02d}"
            audio = f"audio/{name}.flac"
            waveform, spoken = _perform(part, PAUSES, rng)
            write_flac(folder / audio, waveform)
            rows += [_row(name, number, audio, session, one) for number, one in enumerate(spoken, start=1)]
            told += spoken
    _write_utterances(folder / "utterances.csv", rows, _ask_raters(told))
    cues = [(row.utterance_id, one.turn.cue, *_rounded(one.truth)) for row, one in zip(rows, told, strict=True)]
    _write_table(folder / "truth.csv", ["utterance_id", "cue", *DIMENSIONS], cues)


def _row(dialogue: str, number: int, audio: str, session: str, spoken: Spoken) -> Utterance:
    turn, name = spoken.turn, f"{dialogue}u{number:02d}"
    return Utterance(dialogue, name, audio, spoken.start, spoken.end, turn.voice.name, session, turn.text, turn.label)


def _ask_raters(told: Iterable[Spoken]) -> list[Opinion]:
    rng = np.random.default_rng(RATERS_SEED)
    return [ask(spoken.turn.label, spoken.turn.cue, spoken.truth, rng) for spoken in told]


def _write_utterances(path: Path, rows: Iterable[Utterance], opinions: Iterable[Opinion]) -> None:
    votes = [f"votes.{label}" for label in language.LABELS]
    said = [
        (*astuple(row), *(opinion.votes[label] for label in language.LABELS), *opinion.ratings.values())
        for row, opinion in zip(rows, opinions, strict=True)
    ]
    _write_table(path, [*Utterance.__dataclass_fields__, *votes, *DIMENSIONS], said)


def _rounded(values: Vector) -> list[float]:
    return [round(float(value), 3) for value in values]


def _make_recording(folder: Path, rng: np.random.Generator) -> None:
    """Write a recording with voices that the corpus does not have and words of all its sessions."""
    turns = _plan(RECORDING_VOICES, RECORDING_TURNS, (0, 1), rng)
    waveform, spoken = _perform(turns, RECORDING_PAUSES, rng)
    write_flac(folder / "recording.flac", waveform)
    cues = [
        f"{i}\n{_clock(one.start)} --> {_clock(one.end)}\n{one.turn.voice.name}: {one.turn.text}\n"
        for i, one in enumerate(spoken, start=1)
    ]
    (folder / "recording.srt").write_text("\n".join(cues), encoding="utf-8")
    rows = [
        (one.start, one.end, one.turn.voice.name, one.turn.text, one.turn.label, one.turn.cue, *_rounded(one.truth))
        for one in spoken
    ]
    header = ["start", "end", "speaker", "text", "label", "cue", *DIMENSIONS]
    _write_table(folder / "recording.truth.csv", header, rows)


def _plan(voices: tuple[Voice, Voice], count: int, share: tuple[int, int], rng: np.random.Generator) -> list[Turn]:
    """Plan every label with every cue equally often, in an order that tells nothing of either."""
    kinds = [(label, cue) for label in language.LABELS for cue in CUES]
    order = rng.permutation(count) % len(kinds)
    speaker = int(rng.integers(2))
    turns = []
    for label, cue in (kinds[i] for i in order):
        text = language.turn("plain" if cue == "voice" else label, rng, share)
        turns.append(Turn(voices[speaker], text, label, cue))
        speaker = speaker if rng.random() < 0.15 else 1 - speaker
    return turns


def _perform(turns: Iterable[Turn], pauses: tuple[int, int], rng: np.random.Generator) -> tuple[Waveform, list[Spoken]]:
    """Speak the turns one after the other; return the waveform and the turns as they were spoken."""
    parts: list[Waveform] = [_pause(pauses, rng)]
    spoken = []
    for turn in turns:
        manner = jitter(MANNERS["plain" if turn.cue == "words" else turn.label], rng)
        sound = _whole_steps(speak(turn.text, turn.voice, manner))
        start = sum(map(len, parts))
        spoken.append(Spoken(turn, manner, start / SAMPLING_RATE, (start + len(sound)) / SAMPLING_RATE))
        parts += [sound, _pause(pauses, rng)]
    waveform = np.concatenate(parts)
    return waveform + rng.normal(0, _NOISE, len(waveform)), spoken


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
