"""Clips that a corpus holds inside other files, such as Parquet: each is written once, as a file of its own."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lpgnet.pipeline.errors import failed_file

# Of recordings: what a clip's own name may give to that of its file, though readers go by the content.
SUFFIXES = {
    *(".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff", ".au", ".w64"),
    *(".mp4", ".m4a", ".mov", ".mkv", ".webm", ".avi"),
}


@dataclass(frozen=True)
class Clips:
    """A folder of clips that are named by their content, so that equal ones are one file and none is written twice."""

    folder: Path

    def keep(self, content: bytes, name: str | None) -> Path:
        """Write a clip, unless it is there, whole or not at all.

        Args:
            content: of the file.
            name: that it had; its suffix is kept.

        Returns:
            Its path.

        Raises:
            PipelineError: it cannot be written.
        """
        suffix = Path(name or "").suffix.lower()
        digest = hashlib.sha256(content).hexdigest()[:32]
        path = self.folder / f"{digest}{suffix if suffix in SUFFIXES else ''}"
        try:
            if not path.is_file() or path.stat().st_size != len(content):
                self._write(path, content)
        except OSError as error:
            raise failed_file(error, path) from None
        return path

    def _write(self, path: Path, content: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_bytes(content)
            os.replace(temporary, path)
        except OSError:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
