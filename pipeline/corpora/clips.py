"""Clips that a corpus holds inside other files, such as Parquet: each is written once, as a file of its own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lpgnet.pipeline.corpora.limits import MAX_CLIP_BYTES
from lpgnet.pipeline.errors import PipelineError, failed_file

# Of recordings: what a clip's own name may give to that of its file, though readers go by the content.
SUFFIXES = {
    *(".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff", ".au", ".w64"),
    *(".mp4", ".m4a", ".mov", ".mkv", ".webm", ".avi"),
}
_BLOCK = 2**20


@dataclass(frozen=True)
class Clips:
    """A folder of clips that are named by their content, so that equal ones are one file and none is written twice."""

    folder: Path

    def keep(self, content: bytes, name: str | None) -> Path:
        """Write a clip, unless it is there, whole or not at all.

        Args:
            content: of the file.
            name: that it had, if it had one.

        Returns:
            Its path.

        Raises:
            PipelineError: it cannot be written, or is larger than a clip may be.
        """
        path = self._path(hashlib.sha256(content).hexdigest(), name)
        with suppress(OSError):
            if path.is_file() and path.stat().st_size == len(content):
                return path
        _check_size(len(content))
        with self._part() as part:
            part.write_bytes(content)
            os.replace(part, path)
        return path

    def keep_stream(self, stream: IO[bytes], name: str | None) -> Path:
        """Write a clip as `keep` does, with one block of it in memory.

        Raises:
            PipelineError: it cannot be read or written, or is larger than a clip may be.
        """
        with self._part() as part:
            path = self._path(_copy(stream, part), name)
            os.replace(part, path)
        return path

    @contextmanager
    def _part(self) -> Iterator[Path]:
        """Give a path of the folder for a clip that is not whole yet, which is gone afterwards."""
        temporary = self.folder / f".clip.{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            yield temporary
        except OSError as error:
            raise failed_file(error, temporary) from None
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _path(self, digest: str, name: str | None) -> Path:
        suffix = Path(name or "").suffix.lower()
        return self.folder / f"{digest[:32]}{suffix if suffix in SUFFIXES else ''}"


def _copy(stream: IO[bytes], path: Path) -> str:
    """Copy a stream and return its digest; what says that it is small may never end."""
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        while block := stream.read(_BLOCK):
            size += len(block)
            _check_size(size)
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def _check_size(size: int) -> None:
    if size > MAX_CLIP_BYTES:
        raise PipelineError(f"has more than {MAX_CLIP_BYTES:,} bytes, and no larger clip is unpacked")
