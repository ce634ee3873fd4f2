"""Recordings that are not as they should be: in containers that libsndfile cannot decode, and truncated ones.

The first are decoded once, before their turns are looked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from lpgnet.pipeline.common.files import open_regular
from lpgnet.pipeline.corpora.audio import is_truncated, open_audio
from lpgnet.pipeline.corpora.containers import decode, is_container
from lpgnet.pipeline.corpora.limits import MAX_RECORDING_HOURS
from lpgnet.pipeline.errors import PipelineError

if TYPE_CHECKING:
    import soundfile


def needs_decoding(path: Path) -> bool:
    """Tell whether a file is a video or audio container that libsndfile does not read, by its first bytes.

    Args:
        path: a file, which need not exist.

    Returns:
        True where it must be decoded by PyAV.
    """
    try:
        with open_regular(path) as file:
            return is_container(file.read(12))
    except OSError:
        return False


@contextmanager
def decodable(path: Path, *, max_seconds: float = 3600.0 * MAX_RECORDING_HOURS) -> Iterator[Path]:
    """Give the file itself, or a temporary FLAC of its first audio track where libsndfile cannot read it.

    Args:
        path: a recording.
        max_seconds: a container that says that it is longer is not decoded, one that turns out to be not to its end;
            `MAX_RECORDING_HOURS` holds for all of them.

    Returns:
        A context manager that gives the path of a file that libsndfile reads.

    Raises:
        PipelineError: PyAV is not installed, or the file has no audio track, is damaged or too long.
    """
    if not needs_decoding(path):
        yield path
        return
    with TemporaryDirectory(prefix="lpgnet-") as folder:
        target = Path(folder) / f"{path.stem}.flac"
        with open_regular(path) as file:
            decode(file, target, name=str(path), max_seconds=max_seconds)
        yield target


@contextmanager
def as_far_as_it_goes(audio: Path) -> Iterator[tuple[Path, bool]]:
    """Give a recording, or what can be read of one that is truncated, such as by a disk that was full.

    Args:
        audio: a file that libsndfile reads.

    Returns:
        A context manager that gives the path of a whole file, and whether it is a part of the recording.

    Raises:
        PipelineError: the file is no audio, or nothing of it can be read.
    """
    if not is_truncated(str(audio)):
        yield audio, False
        return
    with TemporaryDirectory(prefix="lpgnet-") as folder:
        part = Path(folder) / f"{audio.stem}.w64"
        _copy_part(audio, part)
        yield part, True


def _copy_part(audio: Path, part: Path) -> None:
    import soundfile

    with open_audio(str(audio)) as sound:
        rate, channels = sound.samplerate, sound.channels
        try:
            with soundfile.SoundFile(str(part), "w", rate, channels, "FLOAT", format="W64") as copy:
                for block in _blocks_until_damage(sound):
                    copy.write(block)
        except soundfile.LibsndfileError as error:
            reason = str(error.error_string).rstrip(".")
            raise PipelineError(f"{audio}: cannot be copied to {part.parent} ({reason}); make room there") from None


def _blocks_until_damage(sound: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """Blocks of a second `(samples, channels)`, as many as can be decoded."""
    import soundfile

    while True:
        try:
            block = sound.read(sound.samplerate, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:
            return
        if not len(block):
            return
        yield block
