"""What silence around the words does to a model: trained on clips that have it, used on turns that have not.

Run `python benchmarks/silence.py`; it prints a Markdown table, and `--write` puts it into docs/benchmarks.md. The clips
are the utterances of the demo corpus, each with a second of the room's noise before and after the words, one after
another in a recording a dialogue. A model of the voice alone is trained on two sessions for each setting of
`encoders.audio.trim`, by the commands, and labels the recordings of the third session with turns from three sources:
the clips' own borders (a transcript), those of the words alone (another transcript), and voice activity. An utterance
gets the label of the turn that covers most of its words; one that no turn covers counts as wrong.
"""

import csv
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import numpy as np
import soundfile
import yaml
from page import ROOT, make_parser, publish

CORPUS = ROOT / "examples" / "demo" / "corpus"
# Around the words on each side (seconds), and how loud the room is (of full scale).
SILENCE, ROOM = 1.0, 10 ** (-55 / 20)
HELD_OUT = "3"
CLASSES = {"ang": "angry", "hap": "happy", "neu": "neutral", "sad": "sad"}


@dataclass(frozen=True)
class Clip:
    """An utterance: the clip's borders, those of its words (seconds of the recording), and its class."""

    start: float
    end: float
    first: float
    last: float
    label: str


@dataclass(frozen=True)
class Use:
    """A way to use a model: where its turns come from, and whether they are padded."""

    turns: str
    pads: bool = True


USES = (Use("clips"), Use("words", pads=False), Use("words"), Use("voice activity", pads=False), Use("voice activity"))


def make_corpus(folder: Path) -> dict[str, list[Clip]]:
    """Write a recording of clips for each dialogue, the table, and transcripts; return the held-out session's clips."""
    for name in ("audio", "clips", "words"):
        (folder / name).mkdir(parents=True)
    with (CORPUS / "utterances.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    held_out: dict[str, list[Clip]] = {}
    changed = []
    for name in dict.fromkeys(row["dialogue_id"] for row in rows):
        turns = [row for row in rows if row["dialogue_id"] == name]
        clips = write_recording(folder / "audio" / f"{name}.wav", turns)
        for row, clip in zip(turns, clips, strict=True):
            changed.append(row | {"audio": f"audio/{name}.wav", "start": clip.start, "end": clip.end})
        if turns[0]["session"] == HELD_OUT:
            held_out[name] = clips
            write_turns(folder / "clips" / f"{name}.rttm", [(clip.start, clip.end) for clip in clips])
            write_turns(folder / "words" / f"{name}.rttm", [(clip.first, clip.last) for clip in clips])
    with (folder / "utterances.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, changed[0])
        writer.writeheader()
        writer.writerows(changed)
    return held_out


def write_recording(path: Path, turns: Sequence[dict[str, str]]) -> list[Clip]:
    """Write the clips of a dialogue one after another, in one room."""
    sound, rate = soundfile.read(CORPUS / turns[0]["audio"], dtype="float32")
    quiet = np.zeros(round(SILENCE * rate), np.float32)
    parts, clips, length = [], [], 0
    for turn in turns:
        words = sound[round(float(turn["start"]) * rate) : round(float(turn["end"]) * rate)]
        parts += [quiet, words, quiet]
        first, last = length + len(quiet), length + len(quiet) + len(words)
        times = [sample / rate for sample in (length, last + len(quiet), first, last)]
        clips.append(Clip(*times, CLASSES[turn["label"]]))
        length = last + len(quiet)
    noise = np.random.default_rng(len(path.stem) + length).normal(0, ROOM, length).astype(np.float32)
    soundfile.write(path, np.concatenate(parts) + noise, rate)
    return clips


def write_turns(path: Path, turns: Sequence[tuple[float, float]]) -> None:
    """Write turns without words as RTTM."""
    lines = [f"SPEAKER {path.stem} 1 {a:.4f} {b - a:.4f} <NA> <NA> {n} <NA> <NA>" for n, (a, b) in enumerate(turns)]
    path.write_text("\n".join(lines) + "\n")


def train(folder: Path, trim: str, seeds: int) -> list[Path]:
    """Train a model for each seed by the commands and return their run folders."""
    values = yaml.safe_load((ROOT / "configs" / "demo.yaml").read_text())
    values |= {"name": trim, "work": str(folder / "work"), "splits": {"scheme": "session", "test": [HELD_OUT]}}
    values["corpus"]["root"] = str(folder)
    values["encoders"]["audio"] |= {"trim": trim}
    del values["encoders"]["text"]
    values["model"] |= {"type": "audio"}
    values["features"] = {"store": str(folder / "store")}
    config = folder / f"{trim}.yaml"
    config.write_text(yaml.safe_dump(values))
    run("prepare", config)
    run("features", config)
    for seed in range(seeds):
        run("train", config, "--run", str(seed), "--training.seed", str(seed))
    return [folder / "work" / trim / "runs" / str(seed) for seed in range(seeds)]


def run(stage: str, config: Path, *options: str) -> None:
    """Run a command of the project in a process of its own."""
    command = [sys.executable, "-m", f"lpgnet.pipeline.{stage}", "--config", str(config), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)


def score(model: Path, folder: Path, clips: dict[str, list[Clip]], use: Use) -> tuple[float, str]:
    """Label the held-out recordings and return the weighted F1, and what was said of the turns' sound."""
    from lpgnet.pipeline.labelling.emotion_pipeline import EmotionPipeline

    pipeline = EmotionPipeline.from_pretrained(model, device="cpu")
    if not use.pads:
        config = replace(pipeline.model.config, audio_silence={})
        pipeline.model.config = config
    truth, guesses, said = [], [], ""
    for name, utterances in clips.items():
        transcript = None if use.turns == "voice activity" else folder / use.turns / f"{name}.rttm"
        timeline = pipeline.label_recording(folder / "audio" / f"{name}.wav", transcript)
        said = next((line for line in timeline.choices if line.startswith(("padded", "trimmed"))), said)
        for clip in utterances:
            overlaps = [min(row.end, clip.last) - max(row.start, clip.first) for row in timeline.rows]
            best = int(np.argmax(overlaps))
            truth.append(clip.label)
            guesses.append(timeline.rows[best].label if overlaps[best] > 0 else "none")
    return weighted_f1(truth, guesses), said


def weighted_f1(truth: Sequence[str], guesses: Sequence[str]) -> float:
    """Compute F1 per class, weighted by the class's utterances."""
    from lpgnet.pipeline.evaluation.metrics import scores

    names = [*CLASSES.values(), "none"]
    confusion = np.zeros((len(names), len(names)), np.int64)
    for right, guess in zip(truth, guesses, strict=True):
        confusion[names.index(right), names.index(guess)] += 1
    return float(scores(confusion)["weighted_f1"])


def table(folder: Path, seeds: int) -> Iterator[str]:
    """Train, score, and give the lines of the table."""
    clips = make_corpus(folder)
    yield "| trained with | turns by | heard | weighted F1 | by seed |"
    yield "|---|---|---|---:|---|"
    for trim in ("none", "speech"):
        models = train(folder, trim, seeds)
        for use in USES if trim == "none" else [use for use in USES if use.pads]:
            found = [score(model, folder, clips, use) for model in models]
            values = [value for value, _ in found]
            heard = found[0][1].partition(":")[0] or "as they are"
            each = ", ".join(f"{value:.3f}" for value in values)
            yield f"| `trim: {trim}` | {use.turns} | {heard} | {mean(values):.3f} | {each} |"


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="models a setting (default: 3)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines = table(Path(folder), options.seeds)
        publish(lines, script="silence.py", write=options.write, how=f"{options.seeds} models a setting")


if __name__ == "__main__":
    main()
