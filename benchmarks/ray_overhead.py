"""What Ray costs on one machine: `lpgnet features` by itself and with `--engine ray`, whole commands in turn.

Run `python benchmarks/ray_overhead.py`; it takes half an hour on two CPU cores, prints a Markdown table, and puts it
into the documentation with `--write`. Base-size wav2vec2 and RoBERTa with random weights embed synthetic speech and
words whose lengths are distributed as IEMOCAP's, each time into a new store. Every command is a process of its own,
and starts what it needs: Python and torch, and Ray's cluster of this machine. Processor time is that of the command and
of all processes that it starts, looked up twice a second. `modalities` is what the stage says of each: the encoder's
loading and, with Ray, the start of the processes that hold it included.
"""

import csv
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

import psutil
import yaml
from page import ROOT, make_parser, publish

ENGINES = {"local": "without Ray", "ray": "`--engine ray`"}
# Between two looks at the processes (seconds).
LOOK_SECONDS = 0.5
_SECONDS = re.compile(r"computed \d+ (?:\([\d.]+ h\) )?in ([\d.]+) s")


@dataclass
class Engine:
    """What each round took: seconds by the clock and of processors, and what the stage said of its modalities."""

    seconds: list[float] = field(default_factory=list)
    processor_seconds: list[float] = field(default_factory=list)
    modalities: list[float] = field(default_factory=list)


def make_workplace(folder: Path, count: int) -> Path:
    """Write encoders, recordings, a table of utterances and a configuration, prepare the corpus, return the last."""
    from extraction import make_texts, save_encoders, write_speech

    save_encoders(folder)
    (folder / "corpus").mkdir()
    speech, texts = write_speech(folder / "corpus", count), make_texts(count)
    with (folder / "corpus" / "utterances.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["dialogue_id", "utterance_id", "audio", "text", "speaker", "session", "label"])
        for request, text in zip(speech, texts, strict=True):
            name = f"{request.utterance_id}.wav"
            rows.writerow([f"d{int(text.utterance_id) // 10}", name, name, text.source.text, "Ann", "1", "neu"])
    encoders = {
        name: {"name": f"hf:{folder / name}", "layers": "all", "precision": "fp32"} for name in ("audio", "text")
    }
    config = {
        "name": "overhead",
        "work": str(folder / "work"),
        "labels": {"neu": "neutral"},
        "corpus": {"reader": "table", "root": str(folder / "corpus"), "options": {"table": "utterances.csv"}},
        "encoders": encoders,
    }
    (folder / "x.yaml").write_text(yaml.safe_dump(config))
    subprocess.run(_command("prepare", folder / "x.yaml"), check=True, capture_output=True, cwd=ROOT)
    return folder / "x.yaml"


def _command(stage: str, config: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", f"lpgnet.pipeline.{stage}", "--config", str(config), *options]


def measure(config: Path, store: Path, name: str, engine: Engine) -> None:
    """Run the stage once, into a new store.

    Raises:
        SystemExit: it failed.
    """
    command = _command("features", config, "--features.store", str(store), "--engine", name, "--ray.address", "local")
    started = perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, stdout=out, cwd=ROOT)
        worked = _watch(process)
        seconds = perf_counter() - started
        out.seek(0)
        said = out.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: failed with exit code {process.returncode}")
    engine.seconds.append(seconds)
    engine.processor_seconds.append(worked)
    engine.modalities.append(sum(map(float, _SECONDS.findall(said))))


def _watch(process: "subprocess.Popen[bytes]") -> float:
    """Wait for a process, and return the processor seconds of it and of all that it starts."""
    seconds: dict[int, float] = {}
    while process.poll() is None:
        with suppress(psutil.Error):
            first = psutil.Process(process.pid)
            for one in (first, *first.children(recursive=True)):
                with suppress(psutil.Error):
                    seconds[one.pid] = sum(one.cpu_times()[:2])
        sleep(LOOK_SECONDS)
    return sum(seconds.values())


def table(folder: Path, count: int, rounds: int) -> Iterator[str]:
    """Measure the engines in turn, each round beginning with the other, and yield the table."""
    config, engines = make_workplace(folder, count), {name: Engine() for name in ENGINES}
    for index in range(rounds):
        for name in list(engines) if index % 2 == 0 else list(engines)[::-1]:
            print(f"round {index + 1} of {rounds}, {name}", file=sys.stderr, flush=True)
            measure(config, folder / f"{name}-{index}", name, engines[name])
    columns = (
        "engine",
        "whole command (s)",
        "of which modalities (s)",
        "processor time (s)",
        "x without Ray (by processor time)",
    )
    yield f"| {' | '.join(columns)} |"
    yield "|---|---|---|---|---|"
    for name, engine in engines.items():
        numbers = (engine.seconds, engine.modalities, engine.processor_seconds)
        ratios = [_ratio(engine, engines["local"], which) for which in ("seconds", "processor_seconds")]
        cells = [f"{median(values):.1f}" for values in numbers]
        yield f"| {ENGINES[name]} | {' | '.join(cells)} | {ratios[0]:.2f} ({ratios[1]:.2f}) |"


def _ratio(engine: Engine, other: Engine, which: str) -> float:
    pairs: Sequence[tuple[float, float]] = list(zip(getattr(engine, which), getattr(other, which), strict=True))
    return median(one / another for one, another in pairs)


def main() -> None:
    """Run everything in a temporary folder."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--utterances", type=int, default=500, help="of speech, and of words (default: 500)")
    parser.add_argument("--rounds", type=int, default=2, help="of both engines (default: 2)")
    options = parser.parse_args()
    how = f"{options.utterances} utterances of speech and of words, rounds: {options.rounds}"
    with tempfile.TemporaryDirectory() as name:
        lines = table(Path(name), options.utterances, options.rounds)
        publish(lines, script="ray_overhead.py", write=options.write, how=how)


if __name__ == "__main__":
    main()
