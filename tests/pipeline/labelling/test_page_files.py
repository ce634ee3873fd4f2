"""The files of the served page: whose they are, and when they go."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lpgnet.pipeline.labelling import page_files as module
from lpgnet.pipeline.labelling import page_server
from lpgnet.pipeline.labelling.page_files import KEPT_HOURS, PREFIX, PageFiles, page_files, remove_leftovers

ROOT = Path(__file__).parents[3]


@pytest.fixture
def files(tmp_path: Path) -> PageFiles:
    made = PageFiles(tmp_path)
    for folder in (made.uploads, made.results, made.scratch):
        folder.mkdir()
    return made


def upload(files: PageFiles, content: str) -> Path:
    folder = files.uploads / content
    folder.mkdir(exist_ok=True)
    (folder / "call.wav").write_text(content)
    return folder


def make_old(path: Path) -> None:
    past = time.time() - KEPT_HOURS * 3600 - 10
    os.utime(path, (past, past))


def test_a_shared_upload_stays_until_its_last_session_ends(files: PageFiles) -> None:
    shared, own = upload(files, "a"), upload(files, "b")
    for session, folder in (("one", shared), ("one", own), ("two", shared)):
        files.own(session, folder)
    files.end("one")
    assert shared.is_dir() and not own.exists()
    files.end("two")
    assert not shared.exists()
    files.end("never seen")


def test_only_uploads_and_results_can_be_owned(files: PageFiles) -> None:
    outside = files.folder / "outside"
    outside.mkdir()
    for folder in (outside, files.uploads, files.folder, files.uploads / ".." / "outside"):
        files.own("one", folder)
    files.end("one")
    assert outside.is_dir() and files.uploads.is_dir()


def test_results_have_names_that_nobody_guesses(files: PageFiles) -> None:
    folder = files.new_results("one")
    (folder / "call.csv").write_text("x")
    assert len(folder.name) >= 43
    assert files.result(folder.name, "call.csv") == folder / "call.csv"
    for token, name in ((folder.name, ".."), ("..", "uploads"), (folder.name, "none"), ("", ""), (".", folder.name)):
        assert files.result(token, name) is None
    assert files.new_results("one") != folder


def test_what_is_old_goes_without_anybody_using_the_page(files: PageFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    old = [upload(files, "old"), files.new_results("one"), files.scratch / "old"]
    old[2].write_text("x")
    for path in old:
        make_old(path)
    new = [upload(files, "new"), files.new_results("one")]
    monkeypatch.setattr(page_server, "SWEEP_SECONDS", 0.01)

    async def serve_until_swept() -> None:
        sweeping = asyncio.create_task(page_server._sweep_regularly(files))
        while any(path.exists() for path in old):
            await asyncio.sleep(0.01)
        sweeping.cancel()

    asyncio.run(asyncio.wait_for(serve_until_swept(), timeout=30))
    assert all(path.exists() for path in new)


def test_the_page_of_documentation_says_how_long_files_are_kept() -> None:
    assert f"after {KEPT_HOURS} hours" in (ROOT / "docs" / "predict.md").read_text(encoding="utf-8")


def test_a_server_has_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    with page_files() as one, page_files() as two:
        assert one.folder != two.folder
        assert one.uploads.is_dir(), "the second has not taken the first for a leftover"
        assert one.folder.stat().st_mode & 0o77 == 0, "nobody else reads it"
    assert list(tmp_path.iterdir()) == []
    assert module.tempfile.tempdir == str(tmp_path)


def test_leftovers_of_the_dead_go_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    code = "import os\nfrom lpgnet.pipeline.labelling.page_files import page_files\nwith page_files(): os._exit(9)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert done.returncode == 9
    (left,) = tmp_path.iterdir()
    (tmp_path / "other").mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "other")
    (tmp_path / f"{PREFIX}file").write_text("x")
    remove_leftovers()
    assert not left.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"other", f"{PREFIX}link", f"{PREFIX}file"}
