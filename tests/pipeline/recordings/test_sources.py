"""What the predict stage is pointed to: names that do not collide and do not leave the output folder."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpgnet.pipeline.corpora.manifest import Corpus, Manifest, Utterance, write_manifest
from lpgnet.pipeline.errors import UsageError
from lpgnet.pipeline.recordings.sources import DialogueSource, RecordingSource, find_sources


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def test_a_folder_gives_its_recordings_with_their_transcripts(tmp_path: Path) -> None:
    for name in ("b.wav", "a.FLAC", "a.srt", "deep/er/c.mp4", "notes.txt", "._b.wav", ".hidden.wav"):
        touch(tmp_path / name)
    sources = find_sources([str(tmp_path)], None)
    assert [source.name for source in sources] == ["a", "b", "deep/er/c"]
    assert isinstance(sources[0], RecordingSource) and sources[0].transcript == tmp_path / "a.srt"


def test_names_are_told_apart(tmp_path: Path) -> None:
    paths = [touch(tmp_path / name) for name in ("one/call.wav", "one/call.mp3", "two/call.wav", "other.wav")]
    names = [source.name for source in find_sources([str(path) for path in [*paths, paths[0]]], None)]
    assert names == ["one/call.wav", "one/call.mp3", "two/call", "other"], "and a recording that is given twice is one"
    folders = [touch(tmp_path / day / "in" / "call.wav").parents[1] for day in ("mon", "tue")]
    names = [source.name for source in find_sources([str(folder) for folder in folders], None)]
    assert names == ["mon/in/call", "tue/in/call"]


@given(
    st.lists(st.sampled_from(["a.wav", "a.mp3", "x/a.wav", "x/a.flac", "y/a.wav", "y/x/a.wav", "b.wav"]), max_size=9)
)
def test_no_two_recordings_have_one_name(files: list[str]) -> None:
    names = [source.name for source in find_sources(files, None)]
    assert len(set(names)) == len(names) == len(set(files))
    assert not any("~" in name or ".." in Path(name).parts or Path(name).is_absolute() for name in names)


def test_a_manifest_gives_its_dialogues(tmp_path: Path) -> None:
    utterances = tuple(Utterance(name, f"{name}-{n}", text="hi") for name in ("../../up", "d2") for n in range(2))
    write_manifest(tmp_path, Manifest(Corpus("c", str(tmp_path), "table", 1), utterances))
    for path in (tmp_path, tmp_path / "manifest.jsonl"):
        sources = find_sources([str(path)], None)
        assert all(isinstance(source, DialogueSource) for source in sources)
        assert [source.name for source in sources] == ["up", "d2"], "an id does not lead out of the output folder"


@pytest.mark.skipif(os.name == "nt", reason="links need a permission there")
def test_a_link_that_leads_nowhere_is_told_and_a_device_is_no_recording(tmp_path: Path) -> None:
    (tmp_path / "gone.wav").symlink_to(tmp_path / "unplugged" / "a.wav")
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    (tmp_path / "zero.wav").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.wav")
    assert [source.name for source in find_sources([str(tmp_path)], None)] == ["gone", "loop"]


def test_a_transcript_of_several_names_them(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav", "sub/c.wav", "b.srt"):
        touch(tmp_path / name)
    rttm = tmp_path / "all.rttm"
    rttm.write_text("SPKR-INFO b 1 <NA> <NA> <NA> unknown Bob <NA>\nSPEAKER a 1 0.5 1.0 <NA> <NA> Ann <NA> <NA>\n")
    sources = find_sources([str(tmp_path)], str(rttm))
    assert [source.transcript for source in sources] == [rttm, tmp_path / "b.srt", None]  # type: ignore[union-attr]
    rttm.write_text("SPEAKER a.wav 1 0.5 1.0 <NA> <NA> Ann <NA> <NA>\n")
    with pytest.raises(UsageError, match="names none of the recordings"):
        find_sources([str(tmp_path)], str(rttm))
    touch(tmp_path / "sub" / "a.wav")
    rttm.write_text("SPEAKER a 1 0.5 1.0 <NA> <NA> Ann <NA> <NA>\n")
    with pytest.raises(UsageError, match="holds turns of a, which several recordings are called"):
        find_sources([str(tmp_path)], str(rttm))
