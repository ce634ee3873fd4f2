"""A file is read again exactly when there is any doubt that it is what it was."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lpgnet.cache import FeatureStore, StatCache, StoreError, audio_key, file_digest, text_key
from lpgnet.cache.stat_cache import _stat

Values = dict[str, Any]


class Reader:
    """Reads files and notes which."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, path: Path) -> Values:
        self.read.append(path.name)
        return {"content": path.read_bytes().decode("latin-1"), "size": path.stat().st_size}

    def names(self) -> list[str]:
        """The files that were read since this was asked last."""
        read, self.read = self.read, []
        return sorted(read)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trusts files however recently they changed, so that no test has to wait."""
    monkeypatch.setattr("lpgnet.cache.stat_cache._SETTLED_NS", 0)


@pytest.fixture
def corpus(tmp_path: Path, settled: None) -> list[Path]:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / name).write_bytes(name.encode() * 10)
    return sorted(folder.iterdir())


@pytest.fixture
def known(tmp_path: Path, corpus: list[Path]) -> tuple[StatCache, Reader]:
    """A cache that knows the whole corpus."""
    cache, reader = StatCache(tmp_path / "stat" / "files.sqlite"), Reader()
    cache.lookup_many(corpus, reader)
    assert reader.names() == ["a", "b", "c"]
    return cache, reader


def test_an_unchanged_file_is_not_read(known: tuple[StatCache, Reader], corpus: list[Path]) -> None:
    cache, reader = known
    fresh = [{"content": path.read_text(), "size": 10} for path in corpus]
    assert StatCache(cache.path).lookup_many([*corpus, corpus[0]], reader) == [*fresh, fresh[0]]
    assert cache.lookup(corpus[1], reader) == fresh[1]
    assert reader.names() == []


def edit(path: Path) -> None:
    path.write_bytes(b"other")


def edit_in_place_and_restore_its_time(path: Path) -> None:
    stat = path.stat()
    with open(path, "r+b") as file:
        file.write(b"x")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def replace_by_another_of_equal_size_and_time(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"z" * 10)
    shutil.copystat(path, other)
    other.replace(path)


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize(
    "change", [edit, edit_in_place_and_restore_its_time, replace_by_another_of_equal_size_and_time, touch]
)
def test_a_changed_file_alone_is_read_again(
    known: tuple[StatCache, Reader], corpus: list[Path], change: Callable[[Path], None]
) -> None:
    cache, reader = known
    change(corpus[1])
    assert [value["content"] for value in cache.lookup_many(corpus, reader)] == [path.read_text() for path in corpus]
    assert reader.names() == ["b"]
    cache.lookup_many(corpus, reader)
    assert reader.names() == []


def test_a_file_that_changed_just_now_is_not_trusted(tmp_path: Path) -> None:
    cache, reader, file = StatCache(tmp_path / "files.sqlite"), Reader(), tmp_path / "a"
    file.write_bytes(b"one")
    for _ in range(2):
        cache.lookup(file, reader)
    assert reader.names() == ["a", "a"]


def test_a_file_from_the_future_is_not_trusted(tmp_path: Path, settled: None) -> None:
    cache, reader, file = StatCache(tmp_path / "files.sqlite"), Reader(), tmp_path / "a"
    file.write_bytes(b"one")
    os.utime(file, (4e9, 4e9))
    for _ in range(2):
        cache.lookup(file, reader)
    assert reader.names() == ["a", "a"]


def test_a_file_that_changes_while_it_is_read_is_read_again(tmp_path: Path, settled: None) -> None:
    file, lengths = tmp_path / "a", iter([1, 2])
    file.write_bytes(b"")

    def read(path: Path) -> Values:
        size = path.stat().st_size
        if length := next(lengths, None):
            path.write_bytes(bytes(length))
        return {"size": size}

    assert StatCache(tmp_path / "files.sqlite").lookup(file, read) == {"size": 2}


def test_a_file_that_never_holds_still_is_an_error(tmp_path: Path, settled: None) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"")

    def read(path: Path) -> Values:
        path.write_bytes(path.read_bytes() + b"x")
        return {}

    with pytest.raises(StoreError, match="changes while it is read"):
        StatCache(tmp_path / "files.sqlite").lookup(file, read)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere"):
        StatCache(tmp_path / "files.sqlite").lookup(tmp_path / "nowhere", Reader())


def test_what_was_read_before_an_error_is_remembered(tmp_path: Path, corpus: list[Path]) -> None:
    cache, reader = StatCache(tmp_path / "files.sqlite"), Reader()

    def read(path: Path) -> Values:
        if path.name == "c":
            raise RuntimeError("cannot decode")
        return reader(path)

    with pytest.raises(RuntimeError):
        cache.lookup_many(corpus, read)
    reader.names()
    cache.lookup_many(corpus, reader)
    assert reader.names() == ["c"]


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + bytes(4000), None])
def test_a_damaged_database_costs_time_and_nothing_else(
    known: tuple[StatCache, Reader], corpus: list[Path], content: bytes | None
) -> None:
    cache, reader = known
    whole = cache.path.read_bytes()
    cache.path.write_bytes(whole[:5000] + bytes(3000) if content is None else content)
    for _ in range(3):
        values = cache.lookup_many(corpus, reader)
        assert [value["content"] for value in values] == [path.read_text() for path in corpus]
    assert reader.names()[:3] == ["a", "a", "b"] or reader.names() == []
    cache.lookup_many(corpus, reader)
    assert reader.names() == []


def test_every_byte_of_the_database(known: tuple[StatCache, Reader], corpus: list[Path]) -> None:
    cache, reader = known
    whole = cache.path.read_bytes()
    for position in [*range(0, 100, 3), *range(len(whole) - 600, len(whole), 7)]:
        changed = bytearray(whole)
        changed[position] ^= 0x15
        cache.path.write_bytes(changed)
        values = cache.lookup_many(corpus, reader)
        assert [value["content"] for value in values] == [path.read_text() for path in corpus], position


def test_an_altered_entry_is_not_believed(known: tuple[StatCache, Reader], corpus: list[Path]) -> None:
    cache, reader = known
    with sqlite3.connect(cache.path) as database:
        database.execute('UPDATE files SET value = \'{"content": "wrong"}\'')
    assert cache.lookup(corpus[0], reader)["content"] == "a" * 10
    assert reader.names() == ["a"]


def test_a_read_only_database_is_used_and_a_missing_folder_is_no_error(
    known: tuple[StatCache, Reader], corpus: list[Path], tmp_path: Path
) -> None:
    _, reader = known
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    for _ in range(2):
        assert len(StatCache(blocked / "files.sqlite").lookup_many(corpus, reader)) == 3
        assert reader.names() == ["a", "b", "c"]


def test_names_that_are_not_unicode(tmp_path: Path, settled: None) -> None:
    cache, reader = StatCache(tmp_path / "files.sqlite"), Reader()
    file = tmp_path / os.fsdecode(b"caf\xe9")
    file.write_bytes(b"x")
    assert cache.lookup(file, reader) == cache.lookup(file, reader) == {"content": "x", "size": 1}
    assert len(reader.read) == 1


def test_a_relative_path_is_the_same_file(
    known: tuple[StatCache, Reader], corpus: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, reader = known
    monkeypatch.chdir(corpus[0].parent)
    assert cache.lookup(Path("a"), reader)["content"] == "a" * 10 and reader.names() == []


def test_thousands_of_files(tmp_path: Path, settled: None) -> None:
    cache, reader, folder = StatCache(tmp_path / "files.sqlite"), Reader(), tmp_path / "many"
    folder.mkdir()
    files = [folder / str(number) for number in range(1200)]
    for file in files:
        file.write_text(file.name)
    for _ in range(2):
        assert [value["content"] for value in cache.lookup_many(files, reader)] == [file.name for file in files]
    assert len(reader.read) == 1200


def test_several_processes_share_a_database(processes: Any, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(200):
        (folder / str(number)).write_text(f"file {number}")
    started = [processes.start("look_up", tmp_path / "files.sqlite", folder, seed) for seed in range(4)]
    assert [processes.wait(process) for process in started] == [0] * 4


def segments(cache: StatCache, corpus: list[Path]) -> dict[str, bytes]:
    """Two segments a file, keyed by what the file holds."""

    def digest(path: Path) -> Values:
        with open(path, "rb") as file:
            return {"digest": file_digest(file)}

    values = cache.lookup_many(corpus, digest)
    return {
        f"{path.name}{start}": audio_key(value["digest"], start, start + 5, None)
        for path, value in zip(corpus, values, strict=True)
        for start in (0, 5)
    }


def test_exactly_the_right_rows_are_computed_again(tmp_path: Path, corpus: list[Path]) -> None:
    cache, store = StatCache(tmp_path / "files.sqlite"), FeatureStore(tmp_path / "store", "a" * 16)
    before = segments(cache, corpus)
    with store.writer({}) as writer:
        for key in before.values():
            writer.add(key, np.ones((1, 2), np.float32), n_frames=1)
    touch(corpus[0])
    assert store.missing(segments(cache, corpus).values()) == []
    renamed = corpus[1].rename(corpus[1].with_name("renamed"))
    assert store.missing(segments(cache, [corpus[0], renamed, corpus[2]]).values()) == []
    edit(corpus[2])
    after = segments(cache, [corpus[0], renamed, corpus[2]])
    assert store.missing(after.values()) == [after["c0"], after["c5"]]
    assert FeatureStore(tmp_path / "store", "b" * 16).missing(before.values()) == list(before.values())


def test_edited_text_changes_the_rows_that_have_it_in_their_context() -> None:
    def keys(lines: list[str]) -> list[bytes]:
        return [text_key(line, lines[max(0, turn - 1) : turn]) for turn, line in enumerate(lines)]

    before, after = keys(["one", "two", "three", "four"]), keys(["one", "2", "three", "four"])
    assert [turn for turn in range(4) if before[turn] != after[turn]] == [1, 2]


class Versions:
    """Computes values of addresses, and notes of which."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.sure = True

    def __call__(self, address: str) -> tuple[Values, bool]:
        self.read.append(address)
        return {"value": len(self.read)}, self.sure


def test_a_version_is_believed_until_it_is_another(tmp_path: Path) -> None:
    compute, path = Versions(), tmp_path / "files.sqlite"

    def look_up(kind: str, **versions: str) -> dict[str, Values]:
        return StatCache(path).lookup_versions(kind, versions, compute)

    first = look_up("a", x="1", y="1")
    assert look_up("a", y="1", x="1") == first and compute.read == ["x", "y"]
    assert look_up("a", x="2", y="1") == {"x": {"value": 3}, "y": first["y"]}
    assert look_up("b", x="2") == {"x": {"value": 4}}, "several things are known of one file"
    assert look_up("a", x="2") == {"x": {"value": 3}}
    compute.sure = False
    assert look_up("a", x="3") == {"x": {"value": 5}}
    assert look_up("a", x="3") == {"x": {"value": 6}}
    assert look_up("a", x="2") == {"x": {"value": 3}}
    path.write_bytes(b"no database" * 1000)
    assert look_up("a", x="2") == {"x": {"value": 7}}


@pytest.mark.parametrize("address", ["a\0b", "\udc80\ud800", "", "s3://bucket/\u00e4"])
def test_any_text_is_an_address_and_none_is_a_path(tmp_path: Path, settled: None, address: str) -> None:
    cache, file = StatCache(tmp_path / "files.sqlite"), tmp_path / "a"
    file.write_bytes(b"x")
    known = cache.lookup(file, Reader())
    for name in (address, str(file)):
        assert cache.lookup_versions("a", {name: _stat(str(file))}, Versions()) == {name: {"value": 1}}
    reader = Reader()
    assert cache.lookup(file, reader) == known and not reader.read


def test_what_is_done_is_remembered_when_an_address_fails(tmp_path: Path) -> None:
    cache, compute = StatCache(tmp_path / "files.sqlite"), Versions()

    def fail_at_z(address: str) -> tuple[Values, bool]:
        if address == "z":
            raise KeyboardInterrupt
        return compute(address)

    with pytest.raises(KeyboardInterrupt):
        cache.lookup_versions("a", {"y": "1", "z": "1"}, fail_at_z)
    cache.lookup_versions("a", {"y": "1", "z": "1"}, compute)
    assert compute.read == ["y", "z"]
