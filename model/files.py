"""Files of a model: written whole or not at all."""

import os
from pathlib import Path

from lpgnet.model.errors import ModelError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, and rename it: what was there before stays until then.

    Raises:
        ModelError: the disk is full or the folder read-only.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        reason = error.strerror or str(error)
        raise ModelError(
            f"{path}: cannot be written: {reason}; free some space, or change its folder's permissions"
        ) from error
