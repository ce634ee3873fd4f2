"""The ways that other systems take, run on this one: what is published and removed is the same."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from lpgnet.cache import files


@pytest.fixture(autouse=True)
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "sys", SimpleNamespace(platform="win32"))


def test_a_file_is_closed_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *paths: (opened.append(file.closed), replace(*paths)))
    with files.part_file(tmp_path) as (part, file):
        file.write(b"rows")
        files.publish(part, file, tmp_path / "shard")
    assert opened == [True]
    assert os.listdir(tmp_path) == ["shard"] and (tmp_path / "shard").read_bytes() == b"rows"


def test_no_folder_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError("a folder cannot be opened")

    monkeypatch.setattr(os, "open", refuse)
    files.sync_folder(tmp_path)


def test_a_part_that_can_be_removed_is_abandoned(tmp_path: Path) -> None:
    (tmp_path / f".{files.machine_name()}-0{files.PART_SUFFIX}").touch()
    assert files.remove_abandoned(tmp_path) == 1
    assert not os.listdir(tmp_path)
