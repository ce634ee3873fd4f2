"""Files of a model: written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from lpgnet.model.errors import ModelError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file as `written_whole` does.

    Raises:
        ModelError: the disk is full or the folder read-only.
    """
    with written_whole(path) as part:
        part.write_bytes(content)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary name to write a file under, and rename it: what was there before stays until then.

    Raises:
        ModelError: the disk is full or the folder read-only.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelError(
            f"{path}: cannot be written: {reason}; free some space, or change its folder's permissions"
        ) from error
