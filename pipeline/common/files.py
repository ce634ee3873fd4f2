"""Reading and writing small files: text, JSON objects, and a file that appears whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from lpgnet.pipeline.errors import PipelineError


def parse_object(line: str, *, where: str) -> dict[str, Any]:
    """Parse one JSON object; a PipelineError names the place otherwise."""
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise PipelineError(f"{where}: is not JSON ({error.msg} at column {error.colno})") from None
    if not isinstance(values, dict):
        raise PipelineError(f"{where}: is not a JSON object")
    return values


def read_text(path: Path) -> str:
    """Read a UTF-8 text file; a PipelineError says what is wrong otherwise."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise PipelineError(f"{path}: no such file; run the stage that makes it first") from None
    except UnicodeDecodeError as error:
        raise PipelineError(f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8") from None


def write_atomically(path: Path, text: str) -> None:
    """Write a text file whole or not at all: a temporary name, then a rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
