"""Stamps: what a stage was made from, so that a stage whose inputs have not changed does nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lpgnet.pipeline.common.files import write_atomically


def stat_of(paths: Iterable[Path]) -> dict[str, list[int]]:
    """Size and modification time (microseconds) of each file; -1 where there is none."""
    return {str(path): _stat(path) for path in paths}


def _stat(path: Path) -> list[int]:
    try:
        stat = path.stat()
    except OSError:
        return [-1, -1]
    return [stat.st_size, round(stat.st_mtime * 1e6)]


def is_fresh(stamp: Path, inputs: dict[str, Any]) -> bool:
    """Whether the stamp was written for just these inputs."""
    try:
        return bool(json.loads(stamp.read_text(encoding="utf-8")) == json.loads(json.dumps(inputs)))
    except (OSError, ValueError):
        return False


def write_stamp(stamp: Path, inputs: dict[str, Any]) -> None:
    """Say what the stage was made from; written last, when all else stands."""
    stamp.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(stamp, json.dumps(inputs, indent=2) + "\n")
