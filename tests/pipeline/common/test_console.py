"""Progress where nobody sees a bar: lines in a log file."""

import io

import pytest
from rich.console import Console

from lpgnet.pipeline.common import console
from lpgnet.pipeline.common.console import progress_bar


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is written to standard error, which is no terminal."""
    log = io.StringIO()
    monkeypatch.setattr(console, "messages", Console(file=log, width=200))
    return log


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, which tests set."""
    now = [0.0]
    monkeypatch.setattr(console, "perf_counter", lambda: now[0])
    return now


def lines_of(log: io.StringIO, clock: list[float], *, steps: int, seconds: float) -> list[str]:
    """Go through a task in equal steps and return the lines that it leaves in the log."""
    with progress_bar("speed", unit="s of audio") as bar:
        task = bar.add_task("audio", total=steps, speed="")
        for _ in range(steps):
            clock[0] += seconds / steps
            bar.update(task, advance=1, speed="3 x real time")
    return log.getvalue().splitlines()


def test_a_line_for_every_5_percent(log: io.StringIO, clock: list[float]) -> None:
    lines = lines_of(log, clock, steps=100, seconds=400)
    assert len(lines) == 20
    assert lines[0] == "audio: 5 of 100 s of audio  3 x real time"
    assert lines[-1].startswith("audio: 100 of 100")


def test_a_line_every_half_minute(log: io.StringIO, clock: list[float]) -> None:
    assert len(lines_of(log, clock, steps=3600, seconds=3600)) == 120


def test_short_work_leaves_few_lines(log: io.StringIO, clock: list[float]) -> None:
    assert lines_of(log, clock, steps=100, seconds=1) == []
    assert len(lines_of(log, clock, steps=100, seconds=10)) <= 5


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(console, "messages", Console(file=terminal, width=80, force_terminal=True))
    with progress_bar("speed", unit="files") as bar:
        bar.update(bar.add_task("audio", total=2, speed=""), advance=1)
    assert "\x1b[" in terminal.getvalue()
