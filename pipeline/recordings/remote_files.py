"""Recordings at fsspec addresses: fetching one, and the transcript beside it."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from lpgnet.pipeline.common.remote_files import RemoteFiles, open_at
from lpgnet.pipeline.corpora.limits import MAX_RECORDING_BYTES
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.recordings.transcripts import first_transcript

_BLOCK = 2**20


def transcript_beside(address: str, remote: RemoteFiles) -> str | None:
    """Find the transcript that stands beside a recording."""
    folder, _, name = address.rpartition("/")
    found = first_transcript(name, remote.names(folder).__contains__)
    return f"{folder}/{found}" if found else None


def fetch(address: str, folder: Path) -> Path:
    """Copy a file at an address into a folder, under its own name.

    Raises:
        PipelineError: it cannot be read, or is larger than recordings are.
    """
    target, size = folder / PurePosixPath(address).name, 0
    with open_at(address) as file, target.open("wb") as copy:
        while block := file.read(_BLOCK):
            size += len(block)
            if size > MAX_RECORDING_BYTES:
                raise PipelineError(f"{address}: has more than {MAX_RECORDING_BYTES:,} bytes; split it")
            copy.write(block)
    return target
