"""Standard output that is a pipe without a reader, closed, full, or ASCII."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.workplace import Workplace

if sys.platform == "win32":
    pytest.skip("needs a shell", allow_module_level=True)

LPGNET = f"{shlex.quote(sys.executable)} -m lpgnet"
# Python holds back what it prints to a pipe, and writes it when it ends, unless this says otherwise.
BUFFERING = [{}, {"PYTHONUNBUFFERED": "1"}]


def config_of(workplace: Workplace) -> str:
    """The option that names its configuration, as a shell takes it."""
    return f"--config {shlex.quote(str(workplace.config))}"


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the shell; its exit code is the first program's that failed."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, env=inherited | environment
    )


@pytest.mark.parametrize("buffering", BUFFERING)
@pytest.mark.parametrize("command", ["--help", "train --help", "encoders list", "encoders --help"])
def test_a_reader_that_has_gone(command: str, buffering: dict[str, str]) -> None:
    """It reads nothing at all, so that every write fails."""
    done = shell(f"{LPGNET} {command} | true", **buffering)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_has_gone_ends_no_work(workplace: Workplace) -> None:
    config = config_of(workplace)
    done = shell(f"{LPGNET} train {config} | true && {LPGNET} evaluate {config} 2>&1 | true")
    assert (done.returncode, "rror" in done.stderr) == (0, False)
    assert (workplace.folder / "work" / "small" / "runs" / "default" / "metrics.json").exists()


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed(workplace: Workplace, tmp_path: Path, closed: str) -> None:
    """No file that is opened later may become standard output."""
    name = tmp_path.name
    done = shell(f"{LPGNET} prepare {config_of(workplace)} --name {name} {closed}")
    assert (done.returncode, "rror" in done.stderr) == (0, False)
    assert (workplace.folder / "work" / name / "corpus.json").read_text().startswith("{")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("buffering", BUFFERING)
@pytest.mark.parametrize("command", ["--help", "encoders list"])
def test_full(command: str, buffering: dict[str, str]) -> None:
    done = shell(f"{LPGNET} {command} >/dev/full", **buffering)
    message = "lpgnet: error: standard output: cannot be written (No space left on device); the work itself is done\n"
    assert (done.returncode, done.stderr) == (1, message)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_messages_that_cannot_be_written_end_no_work(workplace: Workplace, tmp_path: Path) -> None:
    name = tmp_path.name
    assert shell(f"{LPGNET} prepare {config_of(workplace)} --name {name} 2>/dev/full").returncode == 0
    assert (workplace.folder / "work" / name / "manifest.jsonl").exists()


def test_ascii(workplace: Workplace) -> None:
    rows = workplace.corpus / "utterances.csv"
    rows.write_text(rows.read_text(encoding="utf-8").replace(",Ann,", ",Zoë,"), encoding="utf-8")
    done = shell(f"{LPGNET} prepare {config_of(workplace)}", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii() and ("Zo\\xeb" in done.stdout or "Zoë" not in rows.read_text(encoding="utf-8"))
