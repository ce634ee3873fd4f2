"""Containers that libsndfile does not read: decoded with the extra, refused without it."""

import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.recordings.media import as_far_as_it_goes, decodable, needs_decoding


@pytest.fixture
def m4a(tmp_path: Path) -> Path:
    return write_container(tmp_path / "call.m4a", "aac")


def write_container(path: Path, codec: str, *, video: bool = False, seconds: float = 2.0) -> Path:
    """A tone, with an empty picture where asked for."""
    av = pytest.importorskip("av", reason="the extra 'media' is not installed")
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(int(48_000 * seconds)) / 48_000)
    with av.open(str(path), "w") as container:
        picture = container.add_stream("mpeg4", rate=5) if video else None
        if picture is not None:
            picture.width, picture.height, picture.pix_fmt = 32, 32, "yuv420p"
        stream = container.add_stream(codec, rate=48_000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.stack([tone, tone]).astype(np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 48_000
        if picture is not None:
            for _ in range(10):
                container.mux(picture.encode(av.VideoFrame(32, 32, "yuv420p")))
            container.mux(picture.encode())
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "codec", "video"), [("a.m4a", "aac", False), ("a.mp4", "aac", True), ("a.mkv", "ac3", True)]
)
def test_the_sound_of_a_container(tmp_path: Path, name: str, codec: str, video: bool) -> None:
    path = write_container(tmp_path / name, codec, video=video)
    assert needs_decoding(path)
    with decodable(path) as audio:
        waveform, rate = soundfile.read(audio, always_2d=True)
        assert rate == 48_000 and waveform.shape[1] == 2
        assert len(waveform) / rate == pytest.approx(2.0, abs=0.1)
        spectrum = np.abs(np.fft.rfft(waveform[:rate, 0]))
        assert spectrum.argmax() == pytest.approx(440, abs=2)
    assert not audio.exists(), "the temporary file is removed"


def test_without_the_extra_it_is_named(m4a: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(PipelineError, match=r"pip install 'lpgnet\[media\]'"), decodable(m4a):
        pass


def test_a_damaged_container(m4a: Path) -> None:
    m4a.write_bytes(m4a.read_bytes()[:200])
    with pytest.raises(PipelineError, match=r"call\.m4a: cannot be decoded"), decodable(m4a):
        pass


def test_a_video_without_sound(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="the extra 'media' is not installed")
    with av.open(str(tmp_path / "mute.mp4"), "w") as container:
        picture = container.add_stream("mpeg4", rate=5)
        picture.width, picture.height, picture.pix_fmt = 32, 32, "yuv420p"
        for _ in range(10):
            container.mux(picture.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(picture.encode())
    with pytest.raises(PipelineError, match="has no audio track"), decodable(tmp_path / "mute.mp4"):
        pass


def test_a_container_of_another_format_than_it_begins_like(tmp_path: Path) -> None:
    """FFmpeg reads lists of further files; none of them is opened."""
    pytest.importorskip("av", reason="the extra 'media' is not installed")
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x18ftyp\n#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n")
    with pytest.raises(PipelineError, match=r"a\.mp4: cannot be decoded"), decodable(tmp_path / "a.mp4"):
        pass


def test_what_libsndfile_reads_is_read_as_it_is(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 8000)
    with decodable(tmp_path / "a.wav") as audio:
        assert audio == tmp_path / "a.wav"


def test_a_container_that_says_it_is_too_long_is_not_decoded(tmp_path: Path) -> None:
    path = write_container(tmp_path / "call.m4a", "aac", seconds=90.0)
    content = bytearray(path.read_bytes())
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    content[start:end] = bytes(end - start)
    path.write_bytes(content)
    problem = r"call\.m4a: lasts longer than the limit of 1 min"
    with pytest.raises(PipelineError, match=problem), decodable(path, max_seconds=60):
        pass
    with pytest.raises(PipelineError, match="cannot be decoded"), decodable(path, max_seconds=120):
        pass


def test_a_container_that_says_nothing_is_decoded_to_the_limit(tmp_path: Path) -> None:
    """Its length may be missing or wrong."""
    path = write_container(tmp_path / "call.mkv", "ac3", seconds=90.0)
    content = path.read_bytes()
    # Matroska's element of the duration, a number of 8 bytes, becomes one that is to be skipped.
    assert content.count(b"\x44\x89\x88") == 1
    path.write_bytes(content.replace(b"\x44\x89\x88", b"\x44\x88\x88"))
    problem = r"call\.mkv: lasts longer than the limit of 1 min"
    with pytest.raises(PipelineError, match=problem), decodable(path, max_seconds=60):
        pass
    with decodable(path, max_seconds=91) as audio:
        assert soundfile.info(audio).duration == pytest.approx(90.0, abs=0.1)


@pytest.mark.parametrize("suffix", ["wav", "aiff", "au", "flac", "mp3"])
def test_a_truncated_recording_is_known_for_one(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"call.{suffix}"
    noise = 0.1 * np.random.default_rng(0).standard_normal(160_000)
    soundfile.write(path, noise, 16_000)
    with as_far_as_it_goes(path) as (whole, is_part):
        assert (whole, is_part) == (path, False)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with as_far_as_it_goes(path) as (part, is_part):
        assert is_part and 50_000 < soundfile.info(str(part)).frames < 90_000


def test_a_full_disk_is_no_end_of_a_recording(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    soundfile.write(tmp_path / "call.wav", np.zeros(320_000), 16_000)
    (tmp_path / "call.wav").write_bytes((tmp_path / "call.wav").read_bytes()[:-100])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, before[1]))
    try:
        with pytest.raises(PipelineError, match="cannot be copied to"), as_far_as_it_goes(tmp_path / "call.wav"):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
