"""Reading recordings: a segment is what the whole file holds there, and bad files are told in one line."""

from pathlib import Path

import fsspec
import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from lpgnet.pipeline.corpora.audio import Segment, describe, locate, read_segment, segment_of
from lpgnet.pipeline.errors import PipelineError

RATE = 16000
NOISE = (0.1 * np.random.default_rng(0).standard_normal((2 * RATE, 2))).astype(np.float32)


@pytest.fixture(scope="module")
def stereo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "stereo.wav"
    soundfile.write(path, NOISE, RATE, subtype="FLOAT")
    return path


@settings(max_examples=30)
@given(start=st.integers(0, 2 * RATE - 1), length=st.integers(1, RATE), channel=st.sampled_from([None, 0, 1]))
def test_a_segment_is_a_slice_of_the_file(stereo: Path, start: int, length: int, channel: int | None) -> None:
    end = min(start + length, 2 * RATE)
    waveform = read_segment(Segment(str(stereo), start, end, channel, RATE), RATE)
    whole = NOISE.mean(axis=1) if channel is None else NOISE[:, channel]
    assert waveform.dtype == np.float32
    assert np.array_equal(waveform, whole[start:end])


def test_resampling_is_by_soxr(tmp_path: Path) -> None:
    path = tmp_path / "high.flac"
    soundfile.write(path, NOISE[:, 0], 44100)
    info = describe(str(path))
    stored = soundfile.read(path, dtype="float32")[0]
    waveform = read_segment(segment_of(str(path), info, start=None, end=None, channel=None), RATE)
    assert np.array_equal(waveform, soxr.resample(stored, 44100, RATE, quality="HQ").astype(np.float32))


def test_an_address_gives_what_the_file_gives(stereo: Path) -> None:
    with fsspec.open("memory://corpus/a.wav", "wb") as file:
        file.write(stereo.read_bytes())
    local, remote = str(stereo), locate("memory://corpus", "a.wav")
    assert describe(remote) == describe(local)
    segments = [Segment(file, 100, 900, 1, RATE) for file in (local, remote)]
    assert np.array_equal(*(read_segment(segment, RATE) for segment in segments))


def test_nulls_are_resolved_before_the_key(stereo: Path, tmp_path: Path) -> None:
    info = describe(str(stereo))
    assert segment_of("f", info, start=None, end=None, channel=None) == Segment("f", 0, 2 * RATE, None, RATE)
    mono = tmp_path / "mono.wav"
    soundfile.write(mono, NOISE[:, 0], RATE)
    assert segment_of("f", describe(str(mono)), start=0.5, end=1.0, channel=None) == Segment("f", 8000, RATE, 0, RATE)


@pytest.mark.parametrize("ending", [2.04, 2.05])
def test_a_rounded_end_is_cut_at_the_end_of_the_file(stereo: Path, ending: float) -> None:
    assert segment_of("f", describe(str(stereo)), start=1.0, end=ending, channel=None).end == 2 * RATE


@pytest.mark.parametrize(
    ("start", "end", "channel", "message"),
    [
        (0.0, 2.2, None, "ends at 2.200 s, but its file f ends at"),
        (2.0, None, None, "leaves no samples"),
        (3.0, None, None, "leaves no samples"),
        (None, None, 2, "needs channel 2 of f, which has 2"),
    ],
)
def test_times_outside_the_file(stereo: Path, start: float, end: float, channel: int, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        segment_of("f", describe(str(stereo)), start=start, end=end, channel=channel)


def bad_files(folder: Path, stereo: Path) -> dict[str, bytes]:
    flac = folder / "whole.flac"
    soundfile.write(flac, NOISE, RATE)
    return {
        "empty.wav": b"",
        "text.wav": b"not audio at all " * 50,
        "cut.wav": stereo.read_bytes()[:50_000],
        "video.mp4": b"\x00\x00\x00\x18ftypmp42" + bytes(1000),
    }


def test_bad_files_are_named_with_what_to_do(stereo: Path, tmp_path: Path) -> None:
    expected = {
        "empty.wav": "is empty",
        "text.wav": "is not audio",
        "cut.wav": "is truncated",
        "video.mp4": r"cannot be decoded|lpgnet\[media\]",
    }
    for name, content in bad_files(tmp_path, stereo).items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(PipelineError, match=expected[name]) as caught:
            describe(str(tmp_path / name))
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(PipelineError, match=r"gone.wav: no such audio file"):
        describe(str(tmp_path / "gone.wav"))
    with pytest.raises(PipelineError, match="cannot be read"):
        describe(str(tmp_path))


def test_a_flac_that_breaks_off_is_told_when_it_is_read(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.flac", tmp_path / "cut.flac"
    soundfile.write(whole, NOISE, RATE)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    info = describe(str(cut))
    with pytest.raises(PipelineError, match="truncated"):
        read_segment(segment_of(str(cut), info, start=None, end=None, channel=None), RATE)
    early = Segment(str(cut), 0, 4096, 0, RATE)
    assert len(read_segment(early, RATE)) == 4096


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    path = tmp_path / "nan.wav"
    soundfile.write(path, np.array([0.1, value, 0.2], np.float32), RATE, subtype="FLOAT")
    with pytest.raises(PipelineError, match="NaN or infinite"):
        read_segment(Segment(str(path), 0, 3, 0, RATE), RATE)


@pytest.mark.parametrize("audio", ["/etc/passwd", "../x.wav", "a/../../x.wav", "s3://bucket/x.wav"])
def test_paths_stay_inside_the_root(audio: str) -> None:
    with pytest.raises(PipelineError, match="leaves the corpus root"):
        locate("data", audio)
