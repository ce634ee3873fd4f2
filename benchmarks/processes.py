"""Measuring in a process of its own, where nothing is warm and no memory is another's; it is no benchmark itself."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from page import ROOT

# As the commands have it: threads that wait give their core away.
THREADS = {"OMP_WAIT_POLICY": "PASSIVE"}


def in_a_process(script: str, *options: object) -> dict[str, Any]:
    """Run a script in a fresh process and return the JSON of the last line that it prints.

    Raises:
        SystemExit: it failed; with what it said.
    """
    command = [sys.executable, script, *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=THREADS | os.environ)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def memory() -> float:
    """Return the memory that this process holds (MB)."""
    return _status("VmRSS")


def peak_memory() -> float:
    """Return the most memory that this process has held (MB); `getrusage` would give its parent's if that is more."""
    return _status("VmHWM")


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024 / 1e6
