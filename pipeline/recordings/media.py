"""Recordings that are not as they should be: in containers that libsndfile cannot decode, and truncated ones.

PyAV, which brings FFmpeg, decodes the first (m4a, mp4, webm, mkv) to FLAC.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from lpgnet.pipeline.common.files import open_regular
from lpgnet.pipeline.corpora.audio import MAX_RATE, MAX_RECORDING_HOURS, MIN_RATE, is_truncated, open_audio
from lpgnet.pipeline.errors import PipelineError

if TYPE_CHECKING:
    import soundfile

EXTRA = "media"
# After four bytes of length in MP4 and QuickTime; at the beginning of Matroska and WebM; after RIFF's header in AVI.
_MP4, _MATROSKA, _AVI = b"ftyp", b"\x1a\x45\xdf\xa3", b"AVI "
# FFmpeg's names of the same formats.
_OPTIONS = {"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"}


def needs_decoding(path: Path) -> bool:
    """Tell whether a file is a video or audio container that libsndfile does not read, by its first bytes.

    Args:
        path: a file, which need not exist.

    Returns:
        True where it must be decoded by PyAV.
    """
    try:
        with open_regular(path) as file:
            head = file.read(12)
    except OSError:
        return False
    return head[4:8] == _MP4 or head[:4] == _MATROSKA or head[8:12] == _AVI


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
        _decode(path, target, min(max_seconds, MAX_RECORDING_HOURS * 3600))
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


def _decode(path: Path, target: Path, max_seconds: float) -> None:
    import soundfile

    try:
        import av
    except ImportError:
        raise PipelineError(
            f"{path}: is a video or MP4 audio, which needs the extra '{EXTRA}': pip install 'lpgnet[{EXTRA}]', "
            "or convert it to wav or flac"
        ) from None
    try:
        # By a stream and with these formats alone, so that no file makes FFmpeg open another; titles are not read.
        with (
            open_regular(path) as file,
            av.open(file, container_options=_OPTIONS, metadata_errors="ignore") as container,
        ):
            _write(container, target, path, max_seconds)
    except av.error.FFmpegError as error:
        raise PipelineError(f"{path}: cannot be decoded ({error.strerror}); copy or convert it again") from None
    except MemoryError:
        raise PipelineError(
            f"{path}: cannot be decoded (it asks for more memory than there is); copy it again"
        ) from None
    except (OSError, soundfile.LibsndfileError) as error:
        raise PipelineError(f"{path}: cannot be decoded to {target.parent} ({error})") from None


def _write(container: Any, target: Path, path: Path, max_seconds: float) -> None:
    """The first audio track frame by frame, so that an hour needs no more memory than a second."""
    import av
    import soundfile

    if not container.streams.audio:
        raise PipelineError(f"{path}: has no audio track")
    stream = container.streams.audio[0]
    if stream.codec_context is None:
        raise PipelineError(f"{path}: its audio track is of an unknown kind; copy or convert it again")
    _check_length((container.duration or 0) / av.time_base, path, max_seconds)
    channels, rate = stream.channels, stream.rate
    if not MIN_RATE <= rate <= MAX_RATE:
        raise PipelineError(f"{path}: has a sampling rate of {rate} Hz, which is outside {MIN_RATE} to {MAX_RATE}")
    resampler = av.AudioResampler(format="s16", layout=stream.layout, rate=rate)
    with soundfile.SoundFile(str(target), "w", rate, channels, "PCM_16") as sound:
        for frame in container.decode(stream):
            for even in resampler.resample(frame):
                sound.write(np.ascontiguousarray(even.to_ndarray().reshape(-1, channels)))
                _check_length(sound.frames / rate, path, max_seconds)
    if sound.frames == 0:
        raise PipelineError(f"{path}: its audio track holds no samples; copy or convert it again")


def _check_length(seconds: float, path: Path, max_seconds: float) -> None:
    if seconds > max_seconds:
        raise PipelineError(f"{path}: lasts longer than the limit of {max_seconds / 60:g} min; cut it into parts")
