"""The one exception that callers of this package need to catch."""

from pathlib import Path


class ModelError(Exception):
    """A model cannot be built, loaded or run as asked; the message is one line and says what to do."""


def unwritable(path: Path, error: OSError) -> ModelError:
    """Say that a file cannot be written, and what to do."""
    reason = error.strerror or str(error)
    return ModelError(f"{path}: cannot be written: {reason}; free some space, or change its folder's permissions")
