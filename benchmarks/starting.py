"""What commands cost before they do anything: help, errors, nothing to do, and a first short prediction.

Figures are processor time of whole commands, user and system, Python's start included, each in a process of its own
with one thread; the rows of a table take turns. Modules are compiled before anything is measured.

The demo: the corpus, encoders and recording (a minute, with its transcript) of `examples/demo`. The large corpus:
10,039 utterances in 151 dialogues, as IEMOCAP has, one short wav of noise each; its embeddings are random numbers, put
into the store under the real keys, so that nothing is left to extract.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from page import ROOT, make_parser, publish

UTTERANCES, DIALOGUES = 10_039, 151
DEMO, RECORDING = ROOT / "configs" / "demo.yaml", ROOT / "examples" / "demo" / "recording" / "recording.flac"
ENCODERS = {name: f"hf:{ROOT / 'examples' / 'demo' / 'encoders' / name}" for name in ("audio", "text")}
LPGNET = [sys.executable, "-m", "lpgnet"]
FEW = ["--training.epochs", "2"]
ONE_RUN = ["--crossval.models", "[lpgnet]", "--crossval.folds", "one", "--crossval.seeds", "1"]


@dataclass(frozen=True)
class Row:
    """A command in some state; `{round}` in a word is a number that is new each time."""

    state: str
    command: Sequence[str]
    code: int = 0

    @property
    def name(self) -> str:
        """What a user types, as far as it matters."""
        return " ".join(self.command[3:4]) if self.command[1] == "-m" else self.command[-1]


def seconds_of(row: Row, number: int, environment: dict[str, str]) -> float:
    """Run a command and return its processor seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [word.replace("{round}", str(number)) for word in row.command]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode != row.code:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def environment_of(folder: Path) -> dict[str, str]:
    """The environment of the commands: one thread, and compiled modules in a folder of their own."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return own | {"OMP_NUM_THREADS": "1", "PYTHONPYCACHEPREFIX": str(folder / "compiled")}


def measure(rows: Sequence[Row], environment: dict[str, str], rounds: int) -> Iterator[str]:
    """Yield a table of the rows' medians; a first round is not counted."""
    seconds: dict[Row, list[float]] = {row: [] for row in rows}
    for number in range(rounds + 1):
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
        for row, found in seconds.items():
            found.append(seconds_of(row, number, environment))
    yield from ("| command | state | CPU seconds | least |", "|---|---|---:|---:|")
    for row, found in seconds.items():
        yield f"| `{row.name}` | {row.state} | {statistics.median(found[1:]):.2f} | {min(found[1:]):.2f} |"


def stage(name: str, state: str, *arguments: str, code: int = 0) -> Row:
    """A row of a command of lpgnet."""
    return Row(state, (*LPGNET, name, *arguments), code)


def python(statement: str) -> Row:
    """A row of a statement of Python alone."""
    return Row("nothing of this project", (sys.executable, "-c", statement))


def demo_rows(folder: Path) -> list[Row]:
    """The commands on the demo, after what they have nothing to do after."""
    given = ["--config", str(DEMO), "--work", str(folder / "work"), "--features.store", str(folder / "store")]
    run = ["--model", str(folder / "work" / "demo" / "runs" / "default")]
    return [
        python("pass"),
        python("import torch"),
        python("from transformers import Wav2Vec2Model, RobertaModel"),
        stage("--help", "help"),
        stage("train", "help", "--help"),
        stage("predict", "help", "--help"),
        stage("train", "an unknown key", *given, "--training.epoch", "3", code=2),
        stage("prepare", "up to date", *given),
        stage("features", "up to date", *given),
        stage("train", "up to date", *given, *FEW),
        # Before the predictions: it tells the model its score, and they follow from that.
        stage("evaluate", "measured again", *given, *FEW),
        stage("predict", "up to date", str(RECORDING), *run, "--out", str(folder / "labelled")),
        stage("predict", "first, a minute", str(RECORDING), *run, "--out", str(folder / "new-{round}")),
        stage("crossval", "up to date", *given, *FEW, *ONE_RUN),
    ]


def make_corpus(root: Path) -> None:
    """Write a table, and a wav file of different noise for each utterance."""
    (root / "wav").mkdir(parents=True)
    noise = np.random.default_rng(0)
    rows = ["dialogue_id,utterance_id,audio,text,speaker,session,label"]
    for index in range(UTTERANCES):
        dialogue = index * DIALOGUES // UTTERANCES
        name, group = f"d{dialogue:03}_u{index:05}", dialogue % 5
        soundfile.write(root / "wav" / f"{name}.wav", noise.integers(-999, 999, 1600, dtype=np.int16), 16000)
        said = f"wav/{name}.wav,words of utterance {index}"
        rows.append(f"d{dialogue:03},{name},{said},s{group}{index % 2},{group},{'ab'[index % 2]}")
    (root / "table.csv").write_text("\n".join(rows) + "\n")


def fill_store(arguments: list[str]) -> None:
    """Write random rows under every key that the corpus needs, and that nobody speaks in its noise."""
    from lpgnet.pipeline.config import Config, parse_config
    from lpgnet.pipeline.corpora.manifest import read_manifest
    from lpgnet.pipeline.embeddings.prepared import encoded_modalities, prepare_modality
    from lpgnet.pipeline.embeddings.silence import sources, write_speech

    config = parse_config("features", arguments, Config)
    manifest, numbers = read_manifest(config.folder), np.random.default_rng(0)
    for modality in encoded_modalities(config.encoders):
        prepared = prepare_modality(config, manifest, modality)
        with prepared.stored.own.writer(prepared.spec.to_dict()) as writer:
            for request in prepared.plan.requests:
                writer.add(request.key, numbers.standard_normal((1, 768), np.float32), n_frames=1)
        if modality == "audio":
            write_speech(config.folder, {source: [] for source in sources(prepared.plan)})


def large_rows(folder: Path, environment: dict[str, str]) -> list[Row]:
    """The commands on the large corpus, made and trained on here."""
    make_corpus(folder / "corpus")
    values: dict[str, Any] = {
        "name": "large",
        "work": str(folder),
        "labels": {"a": "first", "b": "second"},
        "corpus": {"root": str(folder / "corpus"), "options": {"table": "table.csv"}},
        "encoders": {name: {"name": encoder, "precision": "fp32"} for name, encoder in ENCODERS.items()},
        "features": {"store": str(folder / "store")},
        "model": {"hidden_size": 16},
        "training": {"epochs": 1},
    }
    config = folder / "large.yaml"
    config.write_text(json.dumps(values))
    rows = [stage(name, "up to date", "--config", str(config)) for name in ("prepare", "features", "train")]
    seconds_of(rows[0], 0, environment)
    fill_store(["--config", str(config)])
    return rows


def tables(folder: Path, rounds: int) -> Iterator[str]:
    """Yield the lines of both tables."""
    environment = environment_of(folder)
    yield from ("**The demo**", "")
    yield from measure(demo_rows(folder / "demo"), environment, rounds)
    yield from ("", f"**{UTTERANCES:,} utterances**", "")
    yield from measure(large_rows(folder / "large", environment), environment, rounds)


def main() -> None:
    """Measure, print and, if asked to, write the tables."""
    parser = make_parser(str(__doc__))
    parser.add_argument("--rounds", type=int, default=5, help="times that each command is measured")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines = tables(Path(folder), options.rounds)
        publish(lines, script="starting.py", write=options.write, how=f"medians of {options.rounds} rounds")


if __name__ == "__main__":
    main()
