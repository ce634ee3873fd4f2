"""One training in a run's folder at a time, whatever happens to the processes."""

import errno
import multiprocessing
import os
import platform
import re
from pathlib import Path
from typing import Any

import pytest

from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.training import run_lock as module
from lpgnet.pipeline.training.run_lock import run_lock
from tests.pipeline.tensors import make_config, make_corpus, train
from tests.pipeline.training.holder import held_elsewhere
from tests.pipeline.work import add_one_under_the_lock


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("recipe", [{}, {"seed": 1}], ids=["the same run", "another configuration"])
def test_a_second_training_is_told_who_holds_the_folder(recipe: dict[str, Any], tmp_path: Path) -> None:
    corpus, folder = make_corpus("text", dialogues=24), tmp_path / "runs" / "default"
    train(corpus, make_config(epochs=1), folder)
    (folder / "done.json").unlink()
    with held_elsewhere(folder) as holder:
        before = contents(tmp_path)
        with pytest.raises(PipelineError) as caught:
            train(corpus, make_config(epochs=1, **recipe), folder)
        assert contents(tmp_path) == before
        who = (
            rf"process {holder.pid} on {re.escape(platform.node())} since 2\d\d\d-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d"
        )
        assert re.search(rf"{re.escape(str(folder))}: is being trained by {who}; .*--run NAME", str(caught.value))
    train(corpus, make_config(epochs=1, **recipe), folder)
    assert (folder / "done.json").exists(), "the lock of a killed process is in nobody's way"
    assert ("default~1" in os.listdir(tmp_path / "runs")) == bool(recipe)


def test_a_run_that_is_done_needs_no_lock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus, folder = make_corpus("text", dialogues=24), tmp_path / "run"
    train(corpus, make_config(epochs=1), folder)
    with held_elsewhere(folder):
        train(corpus, make_config(epochs=1), folder)
    assert "up to date" in capsys.readouterr().err


def test_nothing_stays_behind(tmp_path: Path) -> None:
    with run_lock(tmp_path / "run"):
        assert os.listdir(tmp_path) == [".run.lock"]
    assert os.listdir(tmp_path) == []
    with pytest.raises(KeyboardInterrupt), run_lock(tmp_path / "run"):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_runs_beside_each_other_do_not_wait(tmp_path: Path) -> None:
    with run_lock(tmp_path / "a"), run_lock(tmp_path / "b"):
        assert sorted(os.listdir(tmp_path)) == [".a.lock", ".b.lock"]


def test_processes_take_turns(tmp_path: Path) -> None:
    """A file that is removed and made again all the time still lets one process in at a time."""
    context = multiprocessing.get_context("spawn")
    arguments = (tmp_path / "run", tmp_path / "count", 150)
    processes = [context.Process(target=add_one_under_the_lock, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert (tmp_path / "count").read_text() == "600"


@pytest.mark.parametrize("content", [b"", b"\x1b[31mred", b"\xff\xfe\n", b"\n\n", b"x" * 10**6], ids=len)
def test_whatever_stands_in_the_file_does_no_harm(content: bytes, tmp_path: Path) -> None:
    with held_elsewhere(tmp_path / "run"):
        (tmp_path / ".run.lock").write_bytes(content)
        with pytest.raises(PipelineError, match="is being trained by") as caught, run_lock(tmp_path / "run"):
            pass
    assert str(caught.value).isprintable() and len(str(caught.value)) < len(str(tmp_path)) + 400


def test_a_file_system_without_locks_is_told_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_locks(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(module, "lock", no_locks)
    with run_lock(tmp_path / "run"):
        pass
    assert "this file system has no locks (No locks available)" in capsys.readouterr().err
