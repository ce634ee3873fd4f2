"""Names without the folders of this machine: those that lead there, and those for people."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lpgnet.pipeline.common.shared_names import portable, rename_all, shown

KEPT = ("work", "hf:FacebookAI/roberta-base", "hf:encoders/audio", "s3://bucket/corpus", "librosa:prosody", "", "a: b")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder that holds the current one, `home/project`."""
    (tmp_path / "home" / "project").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "home" / "project")
    return tmp_path / "home"


@pytest.mark.parametrize("name", KEPT)
def test_what_is_no_folder_of_this_machine_stays(home: Path, name: str) -> None:
    assert portable(name) == shown(name) == name


@pytest.mark.parametrize(
    ("inside", "led", "told"),
    [
        ("project/work", "work", "work"),
        ("project/a/b", "a/b", "a/b"),
        ("corpora/iemocap", "../corpora/iemocap", "iemocap"),
        ("../elsewhere/x", "../../elsewhere/x", "x"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "hf:", "imported:"])
def test_paths_are_relative_and_people_see_the_last_name(
    home: Path, inside: str, led: str, told: str, prefix: str
) -> None:
    path = os.path.normpath(home / inside)
    assert portable(f"{prefix}{path}") == f"{prefix}{led}"
    assert shown(f"{prefix}{path}") == shown(f"{prefix}{led}") == f"{prefix}{told}"
    assert Path(portable(path)).absolute().resolve() == Path(path).resolve()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("~nobody-of-this-name/corpora/x", "x"),
        ("a/../../x", "x"),
        (r"C:\Users\bob\x", "x"),
        ("hf:C:/Users/bob/x", "hf:x"),
        (r"\\server\bob\corpora\x", "x"),
    ],
)
def test_people_see_no_folder_however_it_is_written(home: Path, name: str, told: str) -> None:
    assert shown(name) == told


@pytest.mark.parametrize("rename", [shown, portable])
def test_what_logs_in_to_an_address_is_nowhere(rename: Callable[[str], str]) -> None:
    assert rename("s3://key:secret@bucket/a@b") == "s3://bucket/a@b"
    assert rename("zip://x.csv::https://bob:secret@host:8080/x.zip") == "zip://x.csv::https://host:8080/x.zip"


def test_from_outside_the_home_folder_leads_its_sign(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert portable(f"hf:{home / 'models' / 'x'}") == "hf:home/models/x", "it lies in the current folder"
    (tmp_path / "scratch").mkdir()
    monkeypatch.chdir(tmp_path / "scratch")
    assert portable(f"hf:{home / 'models' / 'x'}") == "hf:~/models/x"
    assert shown("hf:~/models/x") == "hf:x"
    assert portable(f"file://{home / 'corpus'}") == "~/corpus"


def test_every_text_of_a_configuration_is_renamed_but_no_key(home: Path) -> None:
    path = str(home / "corpora" / "x")
    values = {path: [path, 3, None, {"a": f"hf:{path}"}]}
    assert rename_all(values, shown) == {path: ["x", 3, None, {"a": "hf:x"}]}
