"""Measuring in a process of its own, where nothing is warm and no memory is another's; it is no benchmark itself."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from page import ROOT


def in_a_process(script: str, *options: object, **environment: str) -> dict[str, Any]:
    """Run a script in a fresh process and return the JSON of the last line that it prints.

    Args:
        script: the file.
        options: its options.
        environment: variables that it has besides, or instead of, those of this process.

    Raises:
        SystemExit: it failed; with what it said, and below that one line that tells which it was.
    """
    command = [sys.executable, script, *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | environment)
    if done.returncode:
        raise SystemExit(f"{done.stderr}{' '.join(command)}: failed with exit code {done.returncode}")
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
