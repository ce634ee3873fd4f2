"""Stamps: what a stage was made from, so that a stage whose inputs have not changed does nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from lpgnet.pipeline.common.files import write_atomically


def stat_of(paths: Iterable[Path]) -> dict[str, list[int]]:
    """Return the size and modification time (microseconds) of each file; -1 where there is none."""
    return {str(path): _stat(path) for path in paths}


def _stat(path: Path) -> list[int]:
    try:
        stat = path.stat()
    except OSError:
        return [-1, -1]
    return [stat.st_size, round(stat.st_mtime * 1e6)]


def is_fresh(stamp: Path, inputs: Mapping[str, object]) -> bool:
    """Tell whether the stamp was written for exactly these inputs."""
    try:
        return bool(json.loads(stamp.read_text(encoding="utf-8")) == json.loads(json.dumps(inputs)))
    except (OSError, ValueError, RecursionError):
        return False


def write_stamp(stamp: Path, inputs: Mapping[str, object]) -> None:
    """Write what the stage was made from; call it last, when all else is written."""
    stamp.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(stamp, json.dumps(inputs, indent=2) + "\n")
