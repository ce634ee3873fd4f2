"""Workers end with their parent, however it ends, and never see a Ctrl-C, not even while they start."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from lpgnet.pipeline.common.side_by_side import run_side_by_side
from tests.pipeline.work import begin_and_wait, touch

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")

# Two workers begin their work and do not come to its end.
SIDE_BY_SIDE = """
    import signal, sys
    from pathlib import Path
    from lpgnet.pipeline.common.side_by_side import run_side_by_side
    from tests.pipeline.work import begin_and_wait

    if __name__ == "__main__":
        # A process that is started in the background of a shell ignores interrupts, and so do its children.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            list(run_side_by_side(begin_and_wait, [Path(sys.argv[1]) / name for name in "ab"], workers=2))
        except KeyboardInterrupt:
            sys.exit(130)
"""
# One process of a launch, which waits for a minute when it knows of the others.
LAUNCHED = """
    import os, sys
    from pathlib import Path
    from lpgnet.pipeline.common.processes import make_accelerator
    from tests.pipeline.work import begin_and_wait

    make_accelerator("cpu")
    begin_and_wait(Path(sys.argv[1]) / os.environ["RANK"])
"""
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


@contextmanager
def started(script: str, folder: Path, launcher: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that runs a script, and with it the group of processes that a Ctrl-C reaches."""
    path = folder / "script.py"
    path.write_text(textwrap.dedent(script))
    command = [sys.executable, *launcher, str(path), str(folder)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    with process:
        try:
            yield process
        finally:
            with suppress(psutil.Error):
                for left in family(process):
                    left.kill()


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """A process and all that it started; a launcher starts its own in sessions of their own."""
    parent = psutil.Process(process.pid)
    return [parent, *parent.children(recursive=True)]


def all_end(processes: list[psutil.Process]) -> bool:
    """Whether they end within seconds; on an idle machine it takes some hundredths of one."""
    deadline = time.monotonic() + 10
    while left := [process for process in processes if is_running(process)]:
        if time.monotonic() > deadline:
            print("still there:", left)
            return False
        time.sleep(0.01)
    return True


def is_running(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def workers_of_this_process() -> list[psutil.Process]:
    return list(filter(is_worker, psutil.Process().children()))


def is_worker(process: psutil.Process) -> bool:
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def is_importing(process: psutil.Process) -> bool:
    """Whether it is a worker that has begun to run and not yet begun to work."""
    return is_worker(process) and process.cpu_times().user > 0.1


def wait_for(*files: Path) -> None:
    while not all(file.exists() for file in files):
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("script", "launcher", "names"), [(SIDE_BY_SIDE, [], "ab"), (LAUNCHED, TORCHRUN, "01")], ids=["pool", "launch"]
)
def test_workers_end_when_their_parent_is_killed(tmp_path: Path, script: str, launcher: list[str], names: str) -> None:
    with started(script, tmp_path, launcher) as parent:
        wait_for(*(tmp_path / name for name in names))
        workers = family(parent)[1:]
        assert len(workers) >= 2
        parent.kill()
        assert all_end(workers)


@pytest.mark.parametrize("while_starting", [True, False])
def test_pressing_ctrl_c_twice_shows_no_traceback(tmp_path: Path, while_starting: bool) -> None:
    with started(SIDE_BY_SIDE, tmp_path, []) as parent:
        if while_starting:
            while not any(map(is_importing, family(parent))):
                time.sleep(0.001)
        else:
            wait_for(tmp_path / "a", tmp_path / "b")
        everybody = family(parent)
        for _ in range(2):
            os.killpg(parent.pid, signal.SIGINT)
        assert parent.stderr
        assert "Traceback" not in parent.stderr.read()
        assert parent.wait() in (130, -signal.SIGINT)
        assert all_end(everybody)


def test_an_interrupt_of_a_worker_changes_nothing(tmp_path: Path) -> None:
    """From its first moment on, to the end of its work."""
    files = [tmp_path / str(number) for number in range(3)]
    done = threading.Event()

    def interrupt() -> None:
        while not done.is_set():
            for worker in workers_of_this_process():
                with suppress(psutil.Error):
                    worker.send_signal(signal.SIGINT)
            time.sleep(0.02)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        assert set(run_side_by_side(touch, files, workers=2)) == set(files)
    finally:
        done.set()
        thread.join()
    assert all(file.exists() for file in files)


def test_a_ctrl_c_that_comes_while_workers_start_is_not_lost(tmp_path: Path) -> None:
    def press(signal_number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, press)
    timer = threading.Timer(0.001, lambda: os.kill(os.getpid(), signal.SIGINT))
    try:
        with pytest.raises(KeyboardInterrupt):
            timer.start()
            list(run_side_by_side(begin_and_wait, [tmp_path / name for name in "ab"], workers=2))
    finally:
        signal.signal(signal.SIGINT, before)
    assert not workers_of_this_process()
