"""A recording that is no file, or whose header lies, is refused in one line, soon and in little memory."""

import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lpgnet.cache import StatCache
from lpgnet.pipeline.corpora import audio
from lpgnet.pipeline.corpora.audio import Segment, describe, locate, read_blocks, read_segment, segment_of
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.embeddings.plan import plan_audio
from lpgnet.pipeline.errors import PipelineError

RATE = 16_000
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such files")


def wav(path: Path, *, rate: int = RATE, size: int | None = None, channels: int = 1, samples: int = 100) -> None:
    """A wav file of 16 bit whose header is written by hand; `size` is what it says of its sample data."""
    data = bytes(2 * channels * samples)
    size = len(data) if size is None else size
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * channels * 2, channels * 2, 16)
    header = b"RIFF" + struct.pack("<I", (36 + size) % 2**32) + b"WAVEfmt " + struct.pack("<I", 16) + form
    path.write_bytes(header + b"data" + struct.pack("<I", size) + data)


def sparse(path: Path, size: int) -> None:
    """A wav file that says that it goes on to its end, which takes no disk."""
    wav(path, size=2**32 - 1)
    os.truncate(path, size)


def make_socket(path: Path) -> None:
    # The name of a socket may have a hundred letters.
    folder = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(f"/proc/self/fd/{folder}/{path.name}" if sys.platform == "linux" else str(path))
    os.close(folder)


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (os.mkfifo, "it is a named pipe"),
    "socket": (make_socket, "it is a socket"),
    "folder": (Path.mkdir, "it is a folder"),
    "link to a device": (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
    "link to itself": (lambda path: path.symlink_to(path), "cannot be read"),
    "rate of 1 Hz": (lambda path: wav(path, rate=1), "sampling rate of 1 Hz"),
    "rate of 2 GHz": (lambda path: wav(path, rate=2 * 10**9), "sampling rate of 2000000000 Hz"),
    "more samples than bytes": (lambda path: wav(path, size=10**6), "truncated"),
    "20 GB without content": (lambda path: sparse(path, 20 * 10**9), "at most 48 hours and 17,179,869,184 bytes"),
}
if sys.platform == "linux":
    HOSTILE["link to memory"] = (lambda path: path.symlink_to("/proc/self/mem"), "mem.wav: ")
    HOSTILE["link to the kernel's log"] = (lambda path: path.symlink_to("/proc/kmsg"), "mem.wav: ")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_the_file_is_the_problem_of_its_utterances_alone(tmp_path: Path, kind: str, scheme: str) -> None:
    make, message = HOSTILE[kind]
    make(tmp_path / "mem.wav")
    soundfile.write(tmp_path / "good.wav", np.zeros(RATE), RATE)
    turns = [Utterance("d", name, f"{name}.wav") for name in ("good", "mem")]
    plan = plan_audio(turns, f"{scheme}{tmp_path}", StatCache(tmp_path / "stat.sqlite"))
    assert [request.utterance_id for request in plan.requests] == ["good"]
    assert [problem.utterance_id for problem in plan.problems] == ["mem"]
    assert message in plan.problems[0].message and "\n" not in plan.problems[0].message


@pytest.mark.parametrize("name", ["a\0b.wav", "a\udc80\ud800.wav", "x" * 300 + ".wav"])
def test_a_name_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / "good.wav", np.zeros(RATE), RATE)
    turns = [Utterance("d", "good", "good.wav"), Utterance("d", "bad", name)]
    for follow_links in (True, False):
        plan = plan_audio(turns, str(tmp_path), StatCache(tmp_path / "stat.sqlite"), follow_links=follow_links)
        assert [problem.utterance_id for problem in plan.problems] == ["bad"]
        assert len(plan.requests) == 1


@pytest.mark.parametrize("start", [-1.0, float("nan"), float("inf"), float("-inf"), 1e305, 1e20])
@pytest.mark.parametrize("side", ["start", "end"])
def test_a_time_that_is_in_no_recording(tmp_path: Path, start: float, side: str) -> None:
    wav(tmp_path / "a.wav")
    info = describe(str(tmp_path / "a.wav"))
    with pytest.raises(PipelineError, match=r"a\.wav"):
        segment_of(str(tmp_path / "a.wav"), info, channel=None, **({"start": None, "end": None} | {side: start}))
    bad = Utterance("d", "u", "a.wav", **{side: start})
    plan = plan_audio([bad, Utterance("d", "v", "a.wav")], str(tmp_path), None)
    assert [problem.utterance_id for problem in plan.problems] == ["u"]


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    wav(tmp_path / "a.wav")
    (tmp_path / "a.wav").chmod(0)
    with as_an_ordinary_user():
        plan = plan_audio([Utterance("d", "u", "a.wav")], str(tmp_path), None)
    assert "cannot be read (Permission denied)" in plan.problems[0].message


@contextmanager
def as_an_ordinary_user() -> Iterator[None]:
    """Root may read everything."""
    user = os.geteuid()
    os.seteuid(user or 65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_compressed_file_cannot_hold_for_ever(tmp_path: Path) -> None:
    """The count of samples in a FLAC's header, 36 bits behind the rate, is anybody's."""
    soundfile.write(tmp_path / "a.flac", np.zeros(RATE), RATE)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21:26] = bytes([content[21] | 0x0F, 255, 255, 255, 255])
    (tmp_path / "a.flac").write_bytes(content)
    with pytest.raises(PipelineError, match="truncated"):
        describe(str(tmp_path / "a.flac"))


def test_an_hour_of_silence_in_little_flac_is_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.zeros(3600 * RATE, np.int16), RATE)
    assert describe(str(tmp_path / "a.flac")).seconds == 3600


def test_an_utterance_that_memory_would_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "MAX_UTTERANCE_HOURS", 1 / 3600)
    wav(tmp_path / "a.wav", samples=RATE + 1)
    segment = Segment(str(tmp_path / "a.wav"), 0, RATE + 1, 0, RATE)
    with pytest.raises(PipelineError, match="give it a start and an end"):
        read_segment(segment, RATE)
    assert sum(len(block) for block in read_blocks(segment, RATE, seconds=60)) == RATE + 1, "a search reads blocks"


def test_a_block_is_smaller_where_channels_are_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "BLOCK_SAMPLES", 800)
    wav(tmp_path / "a.wav", channels=8, samples=250)
    blocks = list(read_blocks(Segment(str(tmp_path / "a.wav"), 0, 250, None, RATE), RATE, seconds=60))
    assert [len(block) for block in blocks] == [100, 100, 50]


def test_a_file_that_is_another_by_now(tmp_path: Path) -> None:
    wav(tmp_path / "a.wav")
    for stale in (Segment(str(tmp_path / "a.wav"), 0, 10, 3, RATE), Segment(str(tmp_path / "a.wav"), 0, 10, 0, 8000)):
        with pytest.raises(PipelineError, match="has changed"):
            read_segment(stale, RATE)


def test_a_recording_that_is_still_written_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        wav(tmp_path / f"{name}.wav")
    real = audio.file_digest

    def digest_of_a_growing_file(stream: object) -> str:
        digest = real(stream)  # type: ignore[arg-type]
        if getattr(stream, "name", "").endswith("a.wav"):
            with (tmp_path / "a.wav").open("ab") as file:
                file.write(b"\0\0")
        return digest

    monkeypatch.setattr(audio, "file_digest", digest_of_a_growing_file)
    turns = [Utterance("d", name, f"{name}.wav") for name in "ab"]
    plan = plan_audio(turns, str(tmp_path), StatCache(tmp_path / "stat.sqlite"))
    assert [request.utterance_id for request in plan.requests] == ["b"]
    assert "changes while it is read" in plan.problems[0].message


def test_links_out_of_the_root_are_followed_where_that_is_wanted(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    for folder in (root, elsewhere):
        folder.mkdir()
        wav(folder / "a.wav")
    (root / "out").symlink_to(elsewhere)
    (root / "in.wav").symlink_to(root / "a.wav")
    (tmp_path / "link").symlink_to(root)
    for base in (str(root), str(tmp_path / "link"), f"file://{root}"):
        assert Path(locate(base, "out/a.wav")).is_file()
        assert Path(locate(base, "in.wav", follow_links=False)).is_file(), "a link within the root leads nowhere else"
        with pytest.raises(PipelineError, match=r"a link leads out of .*corpus\.follow_links"):
            locate(base, "out/a.wav", follow_links=False)
