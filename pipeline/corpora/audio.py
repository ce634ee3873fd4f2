"""Recordings: what a file holds, and reading one segment of it as a mono waveform at the rate that is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from lpgnet.cache import file_digest
from lpgnet.pipeline.errors import PipelineError

if TYPE_CHECKING:
    import soundfile

# Published times are rounded; a turn may end this much after its file and is then cut at the file's end (seconds).
END_TOLERANCE = 0.05

# Decoded at once, so that of a long segment only one block has all its channels at the file's rate in memory (seconds).
BLOCK_SECONDS = 60.0

# libsndfile says so in its log when a header announces more than the file holds.
_TRUNCATED = "(should be "


@dataclass(frozen=True)
class AudioInfo:
    """What a recording holds.

    Attributes:
        digest: of the file's content.
        sampling_rate: in samples per second.
        n_samples: per channel.
    """

    digest: str
    sampling_rate: int
    n_samples: int
    channels: int

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.n_samples / self.sampling_rate


@dataclass(frozen=True)
class Segment:
    """A stretch of one recording: samples at the file's own rate, `end` exclusive; channel None mixes all channels."""

    file: str
    start: int
    end: int
    channel: int | None
    sampling_rate: int

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return (self.end - self.start) / self.sampling_rate


def is_address(root: str) -> bool:
    """Tell whether a root is an fsspec address such as `memory://corpus` rather than a local folder."""
    return "://" in root


def locate(root: str, audio: str) -> str:
    """Return the file or address of a manifest's `audio`.

    Raises:
        PipelineError: the path leaves the root.
    """
    if audio.startswith("/") or ".." in audio.split("/") or is_address(audio):
        raise PipelineError(f"audio '{audio}' leaves the corpus root; give a path relative to {root}")
    return f"{root.rstrip('/')}/{audio}" if is_address(root) else os.path.join(root, audio)


@contextmanager
def open_binary(file: str) -> Iterator[BinaryIO]:
    """Open a local file or an fsspec address for reading."""
    if is_address(file):
        import fsspec

        with fsspec.open(file, "rb") as stream:
            yield stream
    else:
        with open(file, "rb") as stream:
            yield stream


def _encoded(source: str | BinaryIO) -> str | bytes | BinaryIO:
    """A path as bytes where the system takes them: soundfile encodes no name that is not text."""
    return os.fsencode(source) if isinstance(source, str) and os.name != "nt" else source


@contextmanager
def open_audio(file: str) -> Iterator[soundfile.SoundFile]:
    """Open a recording; libsndfile decodes wav, flac, ogg, opus and mp3.

    Raises:
        PipelineError: the file is missing, empty, truncated or no audio.
    """
    import soundfile

    try:
        with _decodable(file) as source, soundfile.SoundFile(_encoded(source)) as sound:
            yield sound
    except FileNotFoundError:
        raise PipelineError(f"{file}: no such audio file") from None
    except OSError as error:
        raise PipelineError(f"{file}: cannot be read ({error.strerror or error})") from None
    except soundfile.LibsndfileError as error:
        raise PipelineError(f"{file}: {_why_unreadable(file, str(error.error_string))}") from None


@contextmanager
def _decodable(file: str) -> Iterator[str | BinaryIO]:
    """Give libsndfile a local file by its path, which is several times faster than a Python stream."""
    with open_binary(file) as stream:
        yield stream if is_address(file) else file


def _why_unreadable(file: str, reason: str) -> str:
    with open_binary(file) as stream:
        head = stream.read(12)
    if not head:
        return "is empty; record or copy it again"
    if head[4:8] == b"ftyp" or head[:4] == b"\x1a\x45\xdf\xa3":
        return "is MP4, M4A, WebM or Matroska, which libsndfile cannot decode; convert it to wav or flac first"
    if "lost sync" in reason:
        return "is damaged or truncated; copy it again"
    return f"is not audio that libsndfile reads ({reason.rstrip('.')}); convert it to wav or flac"


def describe(file: str) -> AudioInfo:
    """Read a recording's header and digest its content.

    Raises:
        PipelineError: the file is missing, empty, truncated or no audio.
    """
    with open_audio(file) as sound:
        if sound.frames == 0:
            raise PipelineError(f"{file}: holds no samples; record or copy it again")
        if _TRUNCATED in _data_line(sound.extra_info):
            raise PipelineError(f"{file}: is truncated: it holds fewer samples than its header says; copy it again")
        rate, frames, channels = sound.samplerate, sound.frames, sound.channels
    with open_binary(file) as stream:
        return AudioInfo(file_digest(stream), rate, frames, channels)


def _data_line(log: str) -> str:
    """Return the log's line on the sample data; a streaming writer leaves 0 or 0xFFFFFFFF there: no damage."""
    lines = [line for line in log.splitlines() if line.strip().startswith("data")]
    sizes = [line.split(":")[-1].split("(")[0].strip() for line in lines]
    return "" if not lines or sizes[0] in ("0", "4294967295", "-1") else lines[0]


def segment_of(file: str, info: AudioInfo, *, start: float | None, end: float | None, channel: int | None) -> Segment:
    """Turn times in seconds into samples of the file, with nulls resolved.

    Raises:
        PipelineError: the times or the channel do not lie in the file.
    """
    first = 0 if start is None else round(start * info.sampling_rate)
    last = info.n_samples if end is None else round(end * info.sampling_rate)
    if last - info.n_samples > END_TOLERANCE * info.sampling_rate:
        raise PipelineError(f"ends at {end:.3f} s, but its file {file} ends at {info.seconds:.3f} s")
    last = min(last, info.n_samples)
    if first >= last:
        raise PipelineError(
            f"starts at {start} s and ends at {last / info.sampling_rate:.3f} s in {file}: that leaves no samples"
        )
    if channel is not None and channel >= info.channels:
        raise PipelineError(f"needs channel {channel} of {file}, which has {info.channels} (counted from 0)")
    return Segment(file, first, last, 0 if info.channels == 1 else channel, info.sampling_rate)


def read_segment(segment: Segment, sampling_rate: int) -> np.ndarray:
    """Decode a segment and resample it (soxr HQ).

    Returns:
        A float32 waveform `(samples,)` at `sampling_rate`.

    Raises:
        PipelineError: the file cannot be decoded there, or holds NaN or infinite samples.
    """
    blocks = list(read_blocks(segment, sampling_rate, seconds=BLOCK_SECONDS))
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def _read_mono(sound: soundfile.SoundFile, segment: Segment) -> np.ndarray:
    """Read a segment's samples; the file is already at its start."""
    samples = sound.read(segment.end - segment.start, dtype="float32", always_2d=True)
    if len(samples) < segment.end - segment.start:
        raise PipelineError(f"{segment.file}: is truncated after {segment.start + len(samples)} samples; copy it again")
    mono = samples.mean(axis=1) if segment.channel is None else samples[:, segment.channel]
    if not np.isfinite(mono).all():
        raise PipelineError(f"{segment.file}: has NaN or infinite samples; export it again")
    return np.ascontiguousarray(mono)


def read_blocks(segment: Segment, sampling_rate: int, *, seconds: float) -> Iterator[np.ndarray]:
    """Decode a segment block by block and resample it as one stream (soxr HQ), so that blocks join without a seam.

    Args:
        segment: what to decode.
        sampling_rate: of the waveforms (Hz).
        seconds: of audio that is decoded at once.

    Yields:
        Successive float32 waveforms `(samples,)` at `sampling_rate`, all of them together as `read_segment` gives.

    Raises:
        PipelineError: as `read_segment` does.
    """
    size = max(1, round(seconds * segment.sampling_rate))
    stream = None
    if segment.sampling_rate != sampling_rate:
        import soxr

        stream = soxr.ResampleStream(segment.sampling_rate, sampling_rate, 1, dtype="float32", quality="HQ")
    with open_audio(segment.file) as sound:
        sound.seek(segment.start)
        for start in range(segment.start, segment.end, size):
            block = _read_mono(sound, replace(segment, start=start, end=min(start + size, segment.end)))
            yield stream.resample_chunk(block, last=start + size >= segment.end) if stream else block
