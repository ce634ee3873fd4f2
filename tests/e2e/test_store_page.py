"""The worked example of docs/store.md: its script and its commands, run as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tests.e2e.workplace import ROOT

PAGE = ROOT / "docs" / "store.md"


def blocks() -> list[tuple[str, str]]:
    return re.findall(r"<!-- example: (\S+) -->\n```\w*\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("configs", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def test_the_worked_example(folder: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    commands = [line for name, text in blocks() if name == "commands" for line in text.splitlines()]
    (folder / "mine.py").write_text(dict(blocks())["mine.py"])
    assert len(commands) == 9
    for command in commands:
        program, *words = command.split()
        python = [sys.executable, "-m", "lpgnet"] if program == "lpgnet" else [sys.executable]
        # Trained for long enough to see that it runs.
        words += ["--training.epochs", "1"] if words[0] in ("train", "evaluate") else []
        done = subprocess.run([*python, *words], cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stderr}"
    assert len(load_file(folder / "text.safetensors")) == len((folder / "mine.txt").read_text().splitlines())
    assert (folder / "text" / "README.md").exists() and (folder / "work/demo/runs/mine/metrics.json").exists()
