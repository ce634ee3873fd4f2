"""Files that people name must be regular, of a size that memory holds; all who read them say so in one line."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lpgnet.cache import addresses
from lpgnet.cache.places import as_root
from lpgnet.pipeline.common.files import MAX_TEXT_BYTES, is_address, read_regular, read_text
from lpgnet.pipeline.config import Config, parse_config
from lpgnet.pipeline.corpora import read_corpus
from lpgnet.pipeline.corpora.manifest import read_manifest
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.recordings.media import decodable, needs_decoding
from lpgnet.pipeline.recordings.transcripts import read_transcript

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="there are no such files"),
    pytest.mark.timeout(60),
]


@pytest.mark.parametrize(
    "root", ["a", "/a/b", "file:///a", "local:///a", "s3://a/b", "memory://a", "C:/a", "a://file://b"]
)
def test_there_is_one_meaning_of_an_address(root: str) -> None:
    assert is_address(root) == addresses.is_address(root) == isinstance(as_root(root), str)


def make_larger_than_memory(path: Path) -> None:
    path.touch()
    os.truncate(path, 20 * 10**9)


SPECIAL: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (lambda path: os.mkfifo(path), "it is a named pipe, and only regular files are read"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
    "folder": (Path.mkdir, "it is a folder"),
    "link to itself": (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    "20 GB": (make_larger_than_memory, "it has 20,000,000,000 bytes, and at most"),
}

READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "text": ("a.json", read_text),
    "config": ("a.yaml", lambda path: parse_config("train", ["--config", str(path)], Config)),
    "table": ("a.csv", lambda path: read_corpus("table", str(path.parent), table=path.name)),
    "manifest": ("manifest.jsonl", lambda path: read_manifest(path.parent)),
    "transcript": ("a.srt", read_transcript),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", SPECIAL)
def test_only_regular_files_are_read(tmp_path: Path, reader: str, kind: str) -> None:
    (name, read), (make, message) = READERS[reader], SPECIAL[kind]
    make(tmp_path / name)
    with pytest.raises(PipelineError) as caught:
        read(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_needs_no_decoding(tmp_path: Path, kind: str) -> None:
    SPECIAL[kind][0](tmp_path / "a.mp4")
    assert not needs_decoding(tmp_path / "a.mp4")
    with decodable(tmp_path / "a.mp4") as path:
        assert path == tmp_path / "a.mp4"


@pytest.mark.skipif(sys.platform != "linux", reason="there are no such files")
def test_a_file_of_the_kernel_is_as_long_as_it_says() -> None:
    assert read_regular("/proc/kmsg") == b""


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(256)) * 1000)
    assert read_regular(tmp_path / "a") == bytes(range(256)) * 1000
    assert len(read_regular(tmp_path / "a", limit=256_000)) == 256_000
    with pytest.raises(OSError, match="at most 255,999 are read"):
        read_regular(tmp_path / "a", limit=255_999)
    assert MAX_TEXT_BYTES > 10**9
