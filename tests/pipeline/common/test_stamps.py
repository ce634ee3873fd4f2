"""Stamps notice every change of content, and nothing else makes a stage run again."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lpgnet.pipeline.common import stamps
from lpgnet.pipeline.common.stamps import digests_of, is_fresh, write_stamp

Digests = Callable[..., dict[str, str | None]]


@pytest.fixture
def digests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Digests:
    """Digests files, `.wav` by the stat cache, which trusts young files here."""
    monkeypatch.setattr("lpgnet.cache.stat_cache._SETTLED_NS", 0)

    def digest(*paths: Path) -> dict[str, str | None]:
        return digests_of(paths, stat_cache=tmp_path / "stat.sqlite", large=(".wav",))

    return digest


def edit_in_disguise(path: Path, content: str) -> None:
    """Change a file's content, and nothing of its size and modification time."""
    stat = path.stat()
    path.write_text(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)


@pytest.mark.parametrize("name", ["table.csv", "recording.wav"])
def test_an_edit_that_keeps_size_and_time_is_noticed(digests: Digests, tmp_path: Path, name: str) -> None:
    path, stamp = tmp_path / name, tmp_path / "stamp.json"
    path.write_text("happy")
    write_stamp(stamp, {"files": digests(path)})
    assert is_fresh(stamp, {"files": digests(path)})
    edit_in_disguise(path, "angry")
    assert not is_fresh(stamp, {"files": digests(path)})


@pytest.mark.parametrize("name", ["table.csv", "recording.wav"])
def test_the_same_content_is_the_same_file(digests: Digests, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("happy")
    before = digests(path)
    other = tmp_path / "copy"
    other.write_text("happy")
    os.utime(other, (1, 1))
    other.replace(path)
    assert digests(path) == before


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read from here on."""
    names: list[str] = []
    read = stamps.digest_file
    monkeypatch.setattr(stamps, "digest_file", lambda path: (names.append(path.name), read(path))[1])
    return names


def test_a_large_file_is_read_once(digests: Digests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamps, "SMALL_BYTES", 5)
    small, table, recording = tmp_path / "small.csv", tmp_path / "table.csv", tmp_path / "a.WAV"
    for path, content in ((small, "happy"), (table, "unhappy"), (recording, "")):
        path.write_text(content)
    names = reads(monkeypatch)
    first = digests(small, table, recording, small)
    assert digests(small, table, recording) == first
    assert sorted(names) == ["a.WAV", "small.csv", "small.csv", "table.csv"]


def test_the_names_in_a_folder_are_what_it_holds(digests: Digests, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "b").touch()
    before, times = digests(folder), folder.stat()
    (folder / "a").touch()
    os.utime(folder, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert digests(folder) != before
    (folder / "a").unlink()
    assert digests(folder) == before


def test_what_cannot_be_read_has_no_digest(digests: Digests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither stops the others."""
    good, gone, pipe, strange = tmp_path / "a.wav", tmp_path / "b.wav", tmp_path / "c.wav", Path("nul\0.wav")
    good.write_text("happy")
    os.mkfifo(pipe)
    found = digests(good, gone, pipe, strange)
    assert list(found) == [str(path) for path in (good, gone, pipe, strange)]
    assert found[str(good)] and {found[str(path)] for path in (gone, pipe, strange)} == {None}

    growing, read = tmp_path / "d.wav", stamps.digest_file
    growing.write_text("x")

    def read_growing(path: Path) -> str:
        if path == growing:
            with path.open("a") as file:
                file.write("x")
        return read(path)

    monkeypatch.setattr(stamps, "digest_file", read_growing)
    assert digests(growing, good) == {str(growing): None, str(good): found[str(good)]}
    denied = tmp_path / "e.wav"
    denied.write_text("x")
    monkeypatch.setattr(stamps, "digest_file", lambda path: (_ for _ in ()).throw(PermissionError("denied")))
    assert digests(denied) == {str(denied): None}


BROKEN = ["", "{", "[" * 100_000, "9" * 5000, "\ufeff{}", "null", '{"files": {"a": [5, 1700000000000000]}}']


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_a_stamp_of_another_form_means_one_more_run(digests: Digests, tmp_path: Path, content: str) -> None:
    path, stamp = tmp_path / "a", tmp_path / "stamp.json"
    path.write_text("happy")
    stamp.write_text(content, encoding="utf-8")
    assert not is_fresh(stamp, {"files": digests(path)})
    write_stamp(stamp, {"files": digests(path)})
    assert is_fresh(stamp, {"files": digests(path)})


def test_bytes_that_are_no_text_are_no_stamp(tmp_path: Path) -> None:
    (tmp_path / "stamp.json").write_bytes(b"\xff\xfe\0")
    assert not is_fresh(tmp_path / "stamp.json", {})


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no UTF-8 exist on Linux alone")
def test_a_name_that_is_no_text_has_a_stamp(digests: Digests, tmp_path: Path) -> None:
    path, stamp = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav")), tmp_path / "stamp.json"
    path.write_text("happy")
    write_stamp(stamp, {"files": digests(path)})
    assert is_fresh(stamp, {"files": digests(path)}) and json.loads(stamp.read_text())
