"""Recordings: what a file holds, and reading one segment of it as a mono waveform at the rate that is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO

import numpy as np

from lpgnet.cache import file_digest
from lpgnet.cache.addresses import without_local_scheme
from lpgnet.pipeline.common.files import is_address, open_binary
from lpgnet.pipeline.corpora.containers import decoded_track, is_container
from lpgnet.pipeline.corpora.limits import (
    MAX_RATE,
    MAX_RECORDING_BYTES,
    MAX_RECORDING_HOURS,
    MAX_UTTERANCE_HOURS,
    MIN_RATE,
)
from lpgnet.pipeline.errors import PipelineError

if TYPE_CHECKING:
    import soundfile

# Published times are rounded; a turn may end this much after its file and is then cut at the file's end (seconds).
END_TOLERANCE = 0.05

# Decoded at once, so that of a long segment only one block has all its channels at the file's rate in memory (seconds).
BLOCK_SECONDS = 60.0
# The same where channels are many or the rate is high (samples of all channels).
BLOCK_SAMPLES = 2**24

# Bytes of a sample where it is stored as it is.
_SAMPLE_BYTES = {
    "PCM_S8": 1, "PCM_U8": 1, "ULAW": 1, "ALAW": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8
}  # fmt: skip
_COMPRESSED = ("FLAC", "OGG", "MPEG", "MP3")
# The most that a byte of a compressed file stands for: a FLAC frame of silence has 65,535 samples in some 10 bytes.
_SAMPLES_PER_BYTE = 2**13

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


def locate(root: str, audio: str, *, follow_links: bool = True) -> str:
    """Return the file or address of a manifest's `audio`.

    Args:
        root: folder or address of the corpus.
        audio: path relative to it.
        follow_links: allow links that lead out of the root; the owner of the corpus laid them.

    Raises:
        PipelineError: the path leaves the root.
    """
    root = without_local_scheme(root)
    if audio.startswith("/") or ".." in audio.split("/") or "://" in audio:
        raise PipelineError(f"audio '{audio}' leaves the corpus root; give a path relative to {root}")
    if is_address(root):
        return f"{root.rstrip('/')}/{audio}"
    file = os.path.join(root, audio)
    if not follow_links:
        refuse_link(file, root)
    return file


def refuse_link(file: str, root: str) -> None:
    """Refuse a local file that a link leads out of the root.

    Raises:
        PipelineError: one does, or no file can have this name.
    """
    try:
        inside = Path(os.path.realpath(file)).is_relative_to(os.path.realpath(without_local_scheme(root)))
    except ValueError:
        raise PipelineError(f"{file}: cannot be read (no file can have this name)") from None
    if not inside:
        raise PipelineError(
            f"{file}: a link leads out of {root}; copy the file there, or for a corpus of your own set "
            "corpus.follow_links to true"
        )


@contextmanager
def open_audio(file: str) -> Iterator[soundfile.SoundFile]:
    """Open a recording; libsndfile decodes wav, flac, ogg, opus and mp3, PyAV the sound of videos and of MP4 audio.

    Raises:
        PipelineError: the file is missing, empty, truncated or no audio.
    """
    import soundfile

    try:
        with _decodable(file) as source, soundfile.SoundFile(source, closefd=False) as sound:
            yield sound
    except FileNotFoundError:
        raise PipelineError(f"{file}: no such audio file") from None
    except OSError as error:
        raise PipelineError(f"{file}: cannot be read ({error.strerror or error})") from None
    except soundfile.LibsndfileError as error:
        raise PipelineError(f"{file}: {_why_unreadable(file, str(error.error_string))}") from None


@contextmanager
def _decodable(file: str) -> Iterator[str | int | BinaryIO | IO[bytes]]:
    """Give libsndfile a local file by its descriptor, which is several times faster than a Python stream.

    On Windows by its path: descriptors are no business of the system there.
    """
    with open_binary(file) as stream:
        container = is_container(stream.read(12))
        stream.seek(0)
        if not container:
            yield stream if is_address(file) else file if os.name == "nt" else _from_its_beginning(stream)
            return
    with decoded_track(file) as track:
        yield track if os.name == "nt" else _from_its_beginning(track)


def _from_its_beginning(stream: BinaryIO | IO[bytes]) -> int:
    """Return the descriptor of an open file, which libsndfile reads from where it stands."""
    os.lseek(stream.fileno(), 0, os.SEEK_SET)
    return stream.fileno()


def _why_unreadable(file: str, reason: str) -> str:
    try:
        with open_binary(file) as stream:
            head = stream.read(12)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    if not head:
        return "is empty; record or copy it again"
    if "lost sync" in reason:
        return "is damaged or truncated; copy it again"
    return f"is not audio that libsndfile reads ({reason.rstrip('.')}); convert it to wav or flac"


def describe(file: str) -> AudioInfo:
    """Read a recording's header and digest its content.

    Raises:
        PipelineError: the file is missing, empty, truncated or no audio, or its header says what cannot be.
    """
    with open_audio(file) as sound, open_binary(file) as stream:
        problem = _problem_of(sound, stream.seek(0, os.SEEK_END))
        if problem:
            raise PipelineError(f"{file}: {problem}")
        stream.seek(0)
        return AudioInfo(file_digest(stream), sound.samplerate, sound.frames, sound.channels)


def _problem_of(sound: soundfile.SoundFile, size: int) -> str | None:
    """Say what is wrong with the header of a file of `size` bytes, or None."""
    if sound.frames == 0:
        return "holds no samples; record or copy it again"
    if _is_truncated(sound, size):
        return "is truncated: it holds fewer samples than its header says; copy it again"
    if not MIN_RATE <= sound.samplerate <= MAX_RATE:
        return (
            f"has a sampling rate of {sound.samplerate} Hz, which is outside {MIN_RATE} to {MAX_RATE}; export it again"
        )
    hours = sound.frames / sound.samplerate / 3600
    if hours > MAX_RECORDING_HOURS or size > MAX_RECORDING_BYTES:
        return (
            f"has {hours:.0f} hours in {size:,} bytes, and at most {MAX_RECORDING_HOURS} hours and"
            f" {MAX_RECORDING_BYTES:,} bytes are read; cut it into parts"
        )
    return None


def is_truncated(file: str) -> bool:
    """Tell whether a recording holds fewer samples than its header says.

    Raises:
        PipelineError: the file is missing, empty or no audio.
    """
    with open_audio(file) as sound, open_binary(file) as stream:
        if _is_truncated(sound, stream.seek(0, os.SEEK_END)):
            return True
        return sound.format in _COMPRESSED and sound.frames > 0 and not _has_end(sound)


def _has_end(sound: soundfile.SoundFile) -> bool:
    """Whether the last sample can be decoded: what is compressed does not tell by its size."""
    import soundfile

    try:
        sound.seek(sound.frames - 1)
        return len(sound.read(1)) == 1
    except soundfile.LibsndfileError:
        return False


def _is_truncated(sound: soundfile.SoundFile, size: int) -> bool:
    return _TRUNCATED in _data_line(sound.extra_info) or sound.frames > _most_frames(sound, size)


def _most_frames(sound: soundfile.SoundFile, size: int) -> int:
    """Samples of each channel that a file of `size` bytes can hold."""
    sample = None if sound.format in _COMPRESSED else _SAMPLE_BYTES.get(sound.subtype)
    return size // (sample * sound.channels) if sample else size * _SAMPLES_PER_BYTE


def _data_line(log: str) -> str:
    """Return the log's line on the sample data (of wav, au or aiff).

    A streaming writer leaves 0 or 0xFFFFFFFF there: no damage.
    """
    lines = [line for line in log.splitlines() if line.strip().startswith(("data", "Data Size", "SSND"))]
    sizes = [line.split(":")[-1].split("(")[0].strip() for line in lines]
    return "" if not lines or sizes[0] in ("0", "4294967295", "-1") else lines[0]


def segment_of(file: str, info: AudioInfo, *, start: float | None, end: float | None, channel: int | None) -> Segment:
    """Turn times in seconds into samples of the file, with nulls resolved.

    Raises:
        PipelineError: the times or the channel do not lie in the file.
    """
    for name, time in (("start", start), ("end", end)):
        if time is not None and not 0 <= time * info.sampling_rate < float("inf"):
            raise PipelineError(f"has {time} s as its {name} in {file}, which is no time in a recording")
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
        PipelineError: the file cannot be decoded there, holds NaN or infinite samples, or the segment is too long.
    """
    if segment.seconds > MAX_UTTERANCE_HOURS * 3600:
        raise PipelineError(
            f"{segment.file}: its utterance lasts {segment.seconds / 3600:.1f} hours, and at most"
            f" {MAX_UTTERANCE_HOURS} are read at once; give it a start and an end, or cut it into turns"
        )
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
    stream = None
    if segment.sampling_rate != sampling_rate:
        import soxr

        stream = soxr.ResampleStream(segment.sampling_rate, sampling_rate, 1, dtype="float32", quality="HQ")
    with open_audio(segment.file) as sound:
        if sound.samplerate != segment.sampling_rate or (segment.channel or 0) >= sound.channels:
            raise PipelineError(f"{segment.file}: has changed since it was looked at; run again when it is complete")
        size = max(1, min(round(seconds * segment.sampling_rate), BLOCK_SAMPLES // sound.channels))
        sound.seek(segment.start)
        for start in range(segment.start, segment.end, size):
            block = _read_mono(sound, replace(segment, start=start, end=min(start + size, segment.end)))
            yield stream.resample_chunk(block, last=start + size >= segment.end) if stream else block
