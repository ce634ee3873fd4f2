"""A folder with a config and a corpus, and running the commands in it."""

import csv
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "demo"
RECORDING = DEMO / "recording" / "recording.flac"
DIALOGUES_PER_SESSION = 3
DIMENSIONS = ("valence", "arousal", "dominance")

# Runs a command in this process: its exit code, standard output and standard error.
Run = Callable[[list[str]], tuple[int, str, str]]


@dataclass(frozen=True)
class Workplace:
    """A folder with a config, a corpus and nothing done yet."""

    folder: Path
    corpus: Path
    config: Path

    def arguments(self, stage: str, *more: str) -> list[str]:
        return [stage, "--config", str(self.config), *more]

    def launch(self, stage: str, *more: str, processes: int = 1) -> subprocess.CompletedProcess[str]:
        """Run a stage as a command of its own, with several processes where asked for."""
        python = [sys.executable, "-m"]
        if processes > 1:
            python += ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), "-m", "--"]
        command = [*python, f"lpgnet.pipeline.{stage}", *self.arguments(stage, *more)[1:]]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True)


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_table(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def edit_in_disguise(path: Path, old: str, new: str) -> None:
    """Change a file's content, and nothing of its size and modification time."""
    stat, content = path.stat(), path.read_bytes()
    assert old.encode() in content and len(old) == len(new)
    path.write_bytes(content.replace(old.encode(), new.encode()))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)


def reduce_corpus(target: Path) -> None:
    """The first dialogues of each session of the demo corpus."""
    rows = read_table(DEMO / "corpus" / "utterances.csv")
    sessions: dict[str, list[str]] = {}
    for row in rows:
        kept = sessions.setdefault(row["session"], [])
        if row["dialogue_id"] not in kept:
            kept.append(row["dialogue_id"])
    chosen = {name for names in sessions.values() for name in names[:DIALOGUES_PER_SESSION]}
    (target / "audio").mkdir(parents=True)
    rows = [row for row in rows if row["dialogue_id"] in chosen]
    write_table(target / "utterances.csv", rows)
    for audio in {row["audio"] for row in rows}:
        shutil.copy(DEMO / "corpus" / audio, target / audio)


def write_config(path: Path, corpus: Path, encoders: Path, work: Path) -> None:
    values = {
        "name": "small",
        "work": str(work),
        "labels": {"ang": "angry", "hap": "happy", "neu": "neutral", "sad": "sad"},
        "corpus": {
            "reader": "table",
            "root": str(corpus),
            "options": {"table": "utterances.csv", "ranges": {name: [1, 5] for name in DIMENSIONS}},
        },
        "encoders": {
            name: {"name": f"hf:{encoders / name}", "layers": "all", "precision": "fp32"} for name in ("audio", "text")
        },
        "features": {"store": str(work / "store"), "workers": 0},
        "model": {"hidden_size": 16},
        "training": {"epochs": 3, "batch_size": 3, "tracker": "none"},
        "evaluation": {"bootstrap": 50},
    }
    path.write_text(yaml.safe_dump(values))


def fails(run: Run, arguments: list[str], *fragments: str, code: int = 1) -> str:
    """The command fails with one line that holds every fragment, and no traceback."""
    found, _, err = run(arguments)
    assert found == code, err
    line = err.strip().splitlines()[-1]
    assert line.startswith("lpgnet: error: ")
    assert "Traceback" not in err and "unexpected" not in line
    for fragment in fragments:
        assert fragment in err, f"{fragment!r} is not in {err!r}"
    return err


def until(page: Any, expression: str) -> None:
    """Wait until an expression is true; Playwright's own wait evaluates strings, which the report's policy forbids."""
    deadline = time.monotonic() + 60
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"never true: {expression}"
        page.wait_for_timeout(20)
