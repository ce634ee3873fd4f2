"""The sound of videos and of MP4 audio (mp4, m4a, mov, mkv, webm, avi), which libsndfile does not read.

PyAV, which brings FFmpeg, decodes the first audio track to FLAC of 16 bits, from its beginning and to its end: a
timestamp to seek to is as exact as the container likes (milliseconds in Matroska), and what a codec gives depends on
what it decoded before. The samples are those that FFmpeg writes to a wav file, up to some in the last frame of AAC:
what the container says that a codec put before the sound is cut off, and before a track that begins late is no silence.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from lpgnet.pipeline.common.files import is_address, open_binary
from lpgnet.pipeline.corpora.limits import MAX_RATE, MAX_RECORDING_HOURS, MIN_RATE
from lpgnet.pipeline.errors import MissingExtraError, PipelineError

EXTRA = "media"
# After four bytes of length in MP4 and QuickTime; at the beginning of Matroska and WebM; after RIFF's header in AVI.
_MP4, _MATROSKA, _AVI = b"ftyp", b"\x1a\x45\xdf\xa3", b"AVI "
_RIFF = b"RIFF"
# Of a RIFF chunk that was written without going back to its head.
_UNTOLD_SIZES = (0, 2**32 - 1)
# FFmpeg's names of the same formats.
_OPTIONS = {"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"}
# A file whose last packet ends so much before its header says was cut off (seconds); headers round.
_MISSING_END = 0.25
# Decoded tracks that a process keeps for the next segment of the same file: utterances come in any order. So many are
# few of the files that a process may have open, and so much (bytes) are some ten hours of stereo on disk.
_KEPT_TRACKS = 64
_KEPT_BYTES = 4 * 2**30
_tracks: dict[object, IO[bytes]] = {}


def is_container(head: bytes | None) -> bool:
    """Tell by the first 12 bytes of a file whether its sound must be decoded by PyAV; a device may give None."""
    return head is not None and _begins_as_container(head)


def _begins_as_container(head: bytes) -> bool:
    return head[4:8] == _MP4 or head[:4] == _MATROSKA or head[8:12] == _AVI


@contextmanager
def decoded_track(file: str) -> Iterator[IO[bytes]]:
    """Give the sound of a container as a FLAC file without a name, which ends with this process however it ends.

    A process keeps the last ones, so that a recording of an hour is decoded once for all its utterances.

    Args:
        file: a local file or an address.

    Raises:
        PipelineError: PyAV is not installed, or the file has no audio track, is damaged, truncated or too long.
    """
    state = file, _state(file)
    track = _tracks.pop(state, None) or _decode_to_temporary(file)
    try:
        yield track
    finally:
        if other := _tracks.pop(state, None):
            other.close()
        _tracks[state] = track
        _close_oldest()


def _close_oldest() -> None:
    """Keep no more than the bounds allow, and the track that was used last whatever its size."""
    sizes = {state: os.fstat(track.fileno()).st_size for state, track in _tracks.items()}
    while len(sizes) > 1 and (len(sizes) > _KEPT_TRACKS or sum(sizes.values()) > _KEPT_BYTES):
        oldest = next(iter(sizes))
        del sizes[oldest]
        _tracks.pop(oldest).close()


def forget_tracks() -> None:
    """Close the tracks that are kept."""
    while _tracks:
        _tracks.popitem()[1].close()


def _state(file: str) -> object:
    """What changes when the file does."""
    if is_address(file):
        from fsspec.core import url_to_fs

        system, path = url_to_fs(file)
        return system.checksum(path)
    found = os.stat(file)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _decode_to_temporary(file: str) -> IO[bytes]:
    track: IO[bytes] = tempfile.TemporaryFile(prefix="lpgnet-")  # noqa: SIM115 (it is kept)
    try:
        with open_binary(file) as source:
            whole = decode(source, track, name=file)
        if not whole:
            raise PipelineError(f"{file}: is truncated: it ends before its header says; copy it again")
    except BaseException:
        track.close()
        raise
    return track


def decode(
    source: BinaryIO, target: Path | IO[bytes], *, name: str, max_seconds: float = 3600.0 * MAX_RECORDING_HOURS
) -> bool:
    """Decode the first audio track of a container to FLAC, in memory that does not grow with its length.

    Args:
        source: the container.
        target: where the FLAC file goes.
        name: of the container, for errors.
        max_seconds: a container that says that it is longer is not decoded, one that turns out to be not to its end;
            `MAX_RECORDING_HOURS` holds for all of them.

    Returns:
        False where the file ends before its header says.

    Raises:
        PipelineError: PyAV is not installed, or there is no audio track, or it is damaged or too long.
    """
    import soundfile

    try:
        import av
    except ImportError:
        raise MissingExtraError(
            f"{name}: is a video or MP4 audio, which needs the extra '{EXTRA}': pip install 'lpgnet[{EXTRA}]', "
            "or convert it to wav or flac"
        ) from None
    try:
        # By a stream and with these formats alone, so that no file makes FFmpeg open another; titles are not read.
        with av.open(source, container_options=_OPTIONS, metadata_errors="ignore") as container:
            whole = _write(container, target, name, min(max_seconds, 3600.0 * MAX_RECORDING_HOURS))
            return whole and _is_whole_riff(source)
    except av.error.FFmpegError as error:
        raise PipelineError(f"{name}: cannot be decoded ({error.strerror}); copy or convert it again") from None
    except MemoryError:
        raise PipelineError(
            f"{name}: cannot be decoded (it asks for more memory than there is); copy it again"
        ) from None
    except (OSError, soundfile.LibsndfileError) as error:
        place = target.parent if isinstance(target, Path) else tempfile.gettempdir()
        raise PipelineError(f"{name}: cannot be decoded to {place} ({error})") from None


def _write(container: Any, target: Path | IO[bytes], name: str, max_seconds: float) -> bool:
    """The first audio track frame by frame, so that an hour needs no more memory than a second."""
    import av
    import soundfile

    _check_length((container.duration or 0) / av.time_base, name, max_seconds)
    stream = _audio_track(container, name)
    channels, rate = stream.channels, stream.rate
    resampler = av.AudioResampler(format="s16", layout=stream.layout, rate=rate)
    end = 0.0
    with soundfile.SoundFile(_opened(target), "w", rate, channels, "PCM_16", format="FLAC", closefd=False) as sound:
        for packet in container.demux():
            end = max(end, _end_of(packet))
            for frame in packet.decode() if packet.stream is stream else ():
                for even in resampler.resample(frame):
                    sound.write(np.ascontiguousarray(even.to_ndarray().reshape(-1, channels)))
                    _check_length(sound.frames / rate, name, max_seconds)
    if sound.frames == 0:
        raise PipelineError(f"{name}: its audio track holds no samples; copy or convert it again")
    # The length that FFmpeg tells of an AVI file is of the chunks that are there, with the empty ones of a late track.
    return container.format.name == "avi" or end >= _said_end(container) - _MISSING_END


def _is_whole_riff(source: BinaryIO) -> bool:
    """Tell whether the RIFF chunks of an AVI file, several of a large one, are there to their end; True of no RIFF."""
    place, end = 0, source.seek(0, os.SEEK_END)
    while place < end:
        source.seek(place)
        head = source.read(8)
        if not head.startswith(_RIFF[: len(head)]):
            break  # what follows the last chunk is no matter
        size = int.from_bytes(head[4:], "little")
        if size in _UNTOLD_SIZES:
            break
        if place + 8 + size > end:
            return False
        place += 8 + size + size % 2  # chunks begin at even places
    return True


def _audio_track(container: Any, name: str) -> Any:
    """The first audio track, if it is one that can be decoded."""
    if not container.streams.audio:
        raise PipelineError(f"{name}: has no audio track")
    stream = container.streams.audio[0]
    if stream.codec_context is None:
        raise PipelineError(f"{name}: its audio track is of an unknown kind; copy or convert it again")
    if not MIN_RATE <= stream.rate <= MAX_RATE:
        raise PipelineError(
            f"{name}: has a sampling rate of {stream.rate} Hz, which is outside {MIN_RATE} to {MAX_RATE}"
        )
    return stream


def _end_of(packet: Any) -> float:
    """When a packet of any track ends (seconds); 0 where it does not say."""
    if packet.pts is None or packet.time_base is None:
        return 0.0
    return float((packet.pts + (packet.duration or 0)) * packet.time_base)


def _said_end(container: Any) -> float:
    """When the last track ends, by what the container says of its tracks or else of itself (seconds)."""
    import av

    tracks = [stream for stream in container.streams if stream.duration and stream.time_base]
    if tracks:
        return max(float(((stream.start_time or 0) + stream.duration) * stream.time_base) for stream in tracks)
    return ((container.start_time or 0) + (container.duration or 0)) / av.time_base


def _opened(target: Path | IO[bytes]) -> str | int | IO[bytes]:
    """What libsndfile takes: on Windows descriptors are no business of the system."""
    if isinstance(target, Path):
        return str(target)
    return target if os.name == "nt" else target.fileno()


def _check_length(seconds: float, name: str, max_seconds: float) -> None:
    if seconds > max_seconds:
        raise PipelineError(f"{name}: lasts longer than the limit of {max_seconds / 60:g} min; cut it into parts")
