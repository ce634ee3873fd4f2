"""Lists of recordings: what is read of them, and what is wrong with a row."""

import json
from pathlib import Path
from typing import Any

import pytest

from lpgnet.pipeline.corpora.manifest import Corpus, Manifest, Utterance, write_manifest
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.recordings.lists import ListedRecording, read_list
from lpgnet.pipeline.recordings.sources import RecordingSource, RemoteSource, Source, find_sources
from tests.growth import grows_too_fast


def write(folder: Path, suffix: str, rows: list[dict[str, Any]]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / f"list.{suffix}"
    if suffix == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_rows_are_read_whatever_stands_beside_them(tmp_path: Path, suffix: str) -> None:
    rows = [
        {"recording": "a b.wav", "transcript": "é.srt", "x": [1]},
        {"recording": "/b.wav", "transcript": None, "x": None},
    ]
    path = write(tmp_path, suffix, rows)
    expected = [ListedRecording("a b.wav", "é.srt"), ListedRecording("/b.wav", None)]
    assert list(read_list(str(path))) == expected
    assert list(read_list(str(write(tmp_path, suffix, [{"recording": "a.wav"}])))) == [ListedRecording("a.wav", None)]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize("value", [None, "", "  ", 7, ["a.wav"], "a\0.wav"])
def test_an_error_names_the_file_and_the_row(tmp_path: Path, suffix: str, value: Any) -> None:
    column = [{"recording": value}] if suffix == "parquet" and not isinstance(value, str) else [{"recording": "a.wav"}]
    path = write(tmp_path, suffix, [*column, {"recording": value}])
    row = ("line" if suffix == "jsonl" else "row") + (" 2" if column[0]["recording"] == "a.wav" else " 1")
    with pytest.raises(
        PipelineError, match=rf"list\.{suffix}, {row}: has no path or address in the column 'recording'"
    ):
        list(read_list(str(path)))


@pytest.mark.parametrize("value", [".", "./", "/", "file://", "a" * 300 + ".wav", "a/" * 3000 + "a.wav"])
def test_what_is_no_path_is_told_with_its_row(tmp_path: Path, value: str) -> None:
    rows = [{"recording": "a.wav"}, {"recording": value}]
    with pytest.raises(PipelineError, match=r"list\.jsonl, line 2: has "):
        find_sources([str(write(tmp_path, "jsonl", rows))], None)


def test_a_long_value_is_refused_before_each_row_has_it(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = 20_000
    values = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array(["x" * 1_000_000]))
    pq.write_table(pa.table({"recording": values}), path := tmp_path / "list.parquet")
    assert path.stat().st_size < 2_000_000
    with pytest.raises(PipelineError, match=r"list\.parquet, row 1: has, or a row after it, more letters"):
        next(read_list(str(path)))


def test_names_lead_out_of_no_folder(tmp_path: Path) -> None:
    import fsspec

    keys = ["/out/calls/../../../evil.wav", "/out/calls/a.wav", "/evil/a.wav"]
    for key in keys:
        fsspec.filesystem("memory").pipe_file(key, b"x")
    rows = [{"recording": f"memory:/{key}"} for key in keys]
    listed = write(tmp_path, "jsonl", [*rows, {"recording": "memory://b/../../../x.wav"}])
    for given in ("memory://out/calls", str(listed)):
        for source in find_sources([given], None):
            assert ".." not in Path(source.name).parts and not Path(source.name).is_absolute()


def test_a_folder_that_cannot_be_listed_is_not_one_without_transcripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be listed now would be labelled without the transcript that stands beside it."""
    import fsspec

    files = fsspec.filesystem("memory")
    files.pipe_file("/listed/a.wav", b"x")
    files.pipe_file("/listed/a.srt", b"x")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("access denied to made-up-secret-key-1234")

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up-secret-key-1234")
    monkeypatch.setattr(type(files), "ls", refuse)
    with pytest.raises(PipelineError, match=r"memory://listed: cannot be read \(PermissionError: .* to \*\*\*\)"):
        find_sources(["memory://listed/a.wav"], None)


def test_a_dialogue_whose_recordings_are_at_an_address_knows_when_they_change(tmp_path: Path) -> None:
    import fsspec

    utterances = tuple(Utterance("d", f"d-{n}", f"{n}.wav", text="yes") for n in range(2))
    write_manifest(tmp_path, Manifest(Corpus("c", "memory://dialogues", "table", 1), utterances))
    files = fsspec.filesystem("memory")
    found = []
    for content in (b"x", b"xx"):
        files.pipe_file("/dialogues/0.wav", content)
        (source,) = find_sources([str(tmp_path)], None)
        assert source.files == [tmp_path / "manifest.jsonl"]
        found.append(source.versions)
    before, after = found
    assert before.keys() == after.keys() == {"memory://dialogues/0.wav", "memory://dialogues/1.wav"}
    assert {file for file in before if before[file] != after[file]} == {"memory://dialogues/0.wav"}


def test_what_is_no_list(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"list\.parquet: has no column 'recording'"):
        list(read_list(str(write(tmp_path, "parquet", [{"path": "a.wav"}]))))
    for content, message in ((b"", "cannot be read as Parquet"), (b"PAR1", "cannot be read as Parquet")):
        (tmp_path / "x.parquet").write_bytes(content)
        with pytest.raises(PipelineError, match=rf"x\.parquet: {message}"):
            list(read_list(str(tmp_path / "x.parquet")))
    (tmp_path / "x.jsonl").write_bytes(b'{"recording": "a.wav"}\n[]\n')
    with pytest.raises(PipelineError, match=r"x\.jsonl, line 2: is not a JSON object"):
        list(read_list(str(tmp_path / "x.jsonl")))
    (tmp_path / "x.jsonl").write_bytes(b'{"recording": "\xff"}\n')
    with pytest.raises(PipelineError, match=r"x\.jsonl: is not UTF-8"):
        list(read_list(str(tmp_path / "x.jsonl")))
    with pytest.raises(PipelineError, match=r"none\.jsonl: no such file"):
        list(read_list(str(tmp_path / "none.jsonl")))


def test_paths_are_relative_to_the_list(tmp_path: Path) -> None:
    for name in ("deep/a.wav", "deep/a.srt", "b.wav", "t.srt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    outside = tmp_path.parent / "c.wav"
    rows = [
        {"recording": "deep/a.wav"},
        {"recording": "b.wav", "transcript": "t.srt"},
        {"recording": str(outside)},
        {"recording": "../c.wav"},
        {"recording": "../d.wav"},
        {"recording": "deep/a.wav"},
    ]
    sources = find_sources([str(write(tmp_path, "jsonl", rows))], None)
    assert sources[0] == RecordingSource("deep/a", tmp_path / "deep" / "a.wav", tmp_path / "deep" / "a.srt")
    assert sources[1] == RecordingSource("b", tmp_path / "b.wav", tmp_path / "t.srt")
    assert [source.name for source in sources] == ["deep/a", "b", "c", "d"], (
        "each once, and none leads out of the folder"
    )


def files_at(root: str, *names: str) -> Any:
    import fsspec

    files = fsspec.filesystem("memory")
    for name in names:
        files.pipe(f"/{root}/{name}", name.encode())
    return files


def sources_at(*given: str) -> list[Source]:
    return find_sources(given, None)


def test_a_folder_at_an_address_is_listed() -> None:
    files_at("one", "a.wav", "a.srt", "deep/b.MP3", "notes.txt", ".hidden.wav")
    found = sources_at("memory://one/")
    assert all(isinstance(source, RemoteSource) for source in found)
    assert [(source.name, str(source), source.size) for source in found] == [
        ("a", "memory://one/a.wav", 5),
        ("deep/b", "memory://one/deep/b.MP3", 10),
    ]
    assert [getattr(source, "transcript", "") for source in found] == ["memory://one/a.srt", None]
    assert set(found[0].versions) == {"memory://one/a.wav", "memory://one/a.srt"}
    assert sources_at("memory://one") == found


def test_another_file_under_a_name_is_another_version() -> None:
    files = files_at("two", "a.wav")
    (before,) = sources_at("memory://two/a.wav")
    assert sources_at("memory://two/a.wav") == [before]
    files.pipe("/two/a.wav", b"b.wav")
    (after,) = sources_at("memory://two")
    assert after.versions != before.versions


def test_names_of_addresses_and_files_are_told_apart(tmp_path: Path) -> None:
    files_at("three", "x/a.wav", "y/a.wav", "y/a.mp3")
    (tmp_path / "a.wav").touch()
    given = ["memory://three/x/a.wav", "memory://three/y/a.wav", "memory://three/y/a.mp3", str(tmp_path / "a.wav")]
    names = [source.name for source in sources_at(*given)]
    assert len(set(names)) == 4 and not any(Path(name).is_absolute() or ".." in Path(name).parts for name in names)
    assert names[0].endswith("three/x/a") and names[2].endswith("three/y/a.mp3")


def test_a_list_of_addresses_and_one_at_an_address(tmp_path: Path) -> None:
    files = files_at("four", "calls/a.wav", "words/a.srt")
    (tmp_path / "t.srt").touch()
    rows = [
        {"recording": "memory://four/calls/a.wav", "transcript": "t.srt"},
        {"recording": "memory://four/calls/gone.wav"},
    ]
    first, gone = find_sources([str(write(tmp_path, "jsonl", rows))], None)
    assert isinstance(first, RemoteSource) and first.transcript == str(tmp_path / "t.srt")
    assert first.files == [tmp_path / "t.srt"] and set(first.versions) == {"memory://four/calls/a.wav"}
    assert gone.name == "gone", "it is told when it is to be labelled"
    files.pipe("/four/list.jsonl", b'{"recording": "calls/a.wav", "transcript": "words/a.srt"}')
    (found,) = sources_at("memory://four/list.jsonl")
    assert isinstance(found, RemoteSource)
    assert (found.name, found.recording, found.transcript) == (
        "calls/a",
        "memory://four/calls/a.wav",
        "memory://four/words/a.srt",
    )


def test_what_is_wrong_with_an_address() -> None:
    for address, message in (
        ("memory://nothing/a.wav", "memory://nothing/a.wav: no such recording"),
        ("nosuchscheme://x/a.wav", "no such protocol is known"),
        ("s3://me:hunter2@bucket/a.wav", "a login or a . in it"),
    ):
        with pytest.raises(PipelineError, match=message) as raised:
            sources_at(address)
        assert "hunter2" not in str(raised.value)


def test_as_many_of_one_name_as_there_are_are_told_apart_in_linear_time(tmp_path: Path) -> None:
    """As recordings that are all called `audio.wav`, each in a folder of its own."""

    def make(size: int) -> str:
        rows = [{"recording": f"/calls/{number}/audio.wav"} for number in range(size // 10)]
        path = tmp_path / f"{size}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    assert not grows_too_fast(lambda path: find_sources([path], None), make)
