"""Training on several machines by the commands of docs/scale.md as they stand there; a machine is a launcher here."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from safetensors.numpy import load_file

from tests.e2e.workplace import ROOT, Run, Workplace
from tests.ray_cluster import started

PAGE = ROOT / "docs" / "scale.md"
BLOCKS = dict(re.findall(r"<!-- example: (\S+) -->\n```\w*\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL))
# What stands for Slurm, which is not here: its lines, and a launcher for each of two nodes.
SLURM = """
scontrol() { echo 127.0.0.1; echo 127.0.0.1; }
srun() {
    shift
    SLURM_NODEID=0 "$@" & first=$!
    SLURM_NODEID=1 "$@" && wait $first
}
"""
# A launch that went wrong has been seen to hang; one that is well takes some seconds.
PATIENCE = 270


def free_port() -> int:
    """Return a port that nothing listens on, of those that the script for Slurm chooses from."""
    for offset in range(10_000):
        port = 20_000 + (os.getpid() + offset) % 10_000
        with socket.socket() as listening, suppress(OSError):
            listening.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def run_folder(folder: Path) -> Path:
    return folder / "work" / "small" / "runs" / "default"


def machine(command: str, folder: Path, **environment: object) -> subprocess.Popen[str]:
    """Begin what is typed on a machine whose working folder is this one."""
    (folder / "configs").mkdir(exist_ok=True)
    (folder / "configs" / "x.yaml").write_bytes((folder / "x.yaml").read_bytes())
    values = {name: str(value) for name, value in environment.items()}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.Popen(
        ["bash", "-c", command],
        cwd=folder,
        env=os.environ | {"PATH": path, "HOST": "127.0.0.1", "GPUS": "1", "PYTHONFAULTHANDLER": "1"} | values,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@contextmanager
def machines(command: str, folders: Sequence[Path]) -> Iterator[list[subprocess.Popen[str]]]:
    """Begin a command on as many machines as there are folders; all that it started ends with the block."""
    port = free_port()
    begun = [machine(command, folder, NODE=node, PORT=port) for node, folder in enumerate(folders)]
    try:
        yield begun
    finally:
        for process in begun:
            end(process)


def end(process: subprocess.Popen[str]) -> None:
    """End a machine as a loss of power does: its launcher, and what that started in sessions of their own."""
    with suppress(psutil.NoSuchProcess):
        machine = psutil.Process(process.pid)
        for one in [machine, *machine.children(recursive=True)]:
            one.kill()
    process.communicate()


def run_on(command: str, folders: Sequence[Path]) -> tuple[list[int], list[str]]:
    """Run a command on machines; return the exit code of each, and what each said."""
    with machines(command, folders) as begun:
        try:
            said = [process.communicate(timeout=PATIENCE)[1] for process in begun]
        except subprocess.TimeoutExpired:
            raise AssertionError("\n".join(where_it_is(process) for process in begun)) from None
        return [process.returncode for process in begun], said


def where_it_is(process: subprocess.Popen[str]) -> str:
    """Ask the processes of a machine that hangs what they are doing, which ends them: Python's fault handler tells."""
    with suppress(psutil.NoSuchProcess):
        machine = psutil.Process(process.pid)
        for one in [*machine.children(recursive=True), machine]:
            with suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGABRT)
    return process.communicate()[1]


def assert_same_run(folder: Path, reference: Path) -> None:
    found, expected = (load_file(path / "best" / "model.safetensors") for path in (folder, reference))
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=1e-4, abs=1e-6), name
    without_time = re.compile(r', "train_seconds": [^}]*')
    found_log, log = (without_time.sub("", (path / "metrics.jsonl").read_text()) for path in (folder, reference))
    assert len(log.splitlines()) == 3 and found_log.splitlines()[0][:40] == log.splitlines()[0][:40]


@pytest.fixture(scope="module")
def reference(extracted: Workplace) -> Path:
    """The run of one machine with two processes."""
    done = extracted.launch("train", "--run", "reference", processes=2)
    assert done.returncode == 0, done.stderr
    return run_folder(extracted.folder).with_name("reference")


def test_two_machines_train_as_one_with_two_processes(workplace: Workplace, reference: Path) -> None:
    codes, said = run_on(BLOCKS["accelerate"], [workplace.folder] * 2)
    assert codes == [0, 0], said
    assert_same_run(run_folder(workplace.folder), reference)


def test_a_job_of_slurm_trains_as_one_machine(workplace: Workplace, reference: Path) -> None:
    environment = {"SLURM_JOB_ID": free_port() - 20_000, "SLURM_NNODES": 2, "SLURM_JOB_NODELIST": "node[1-2]"}
    process = machine(SLURM + BLOCKS["slurm"], workplace.folder, **environment)
    try:
        _, said = process.communicate(timeout=PATIENCE)
    finally:
        end(process)
    assert process.returncode == 0, said
    assert_same_run(run_folder(workplace.folder), reference)


@pytest.mark.skipif(" " in sys.executable, reason="Ray puts the path of Python into a shell's line as it is")
def test_ray_train_trains_as_one_machine(
    workplace: Workplace, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = BLOCKS["train_on_ray.py"]
    assert "use_gpu=True" in script
    (workplace.folder / "train_on_ray.py").write_text(script.replace("use_gpu=True", "use_gpu=False"))
    with started(nodes=2) as cluster:
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        process = machine("python train_on_ray.py --config configs/x.yaml", workplace.folder)
        try:
            _, said = process.communicate(timeout=2 * PATIENCE)
        finally:
            end(process)
    assert process.returncode == 0, said
    assert_same_run(run_folder(workplace.folder), reference)


@pytest.fixture
def other(workplace: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another machine's copy of all that the first has: nothing is shared."""
    folder = tmp_path_factory.mktemp("other")
    shutil.copytree(workplace.folder, folder, dirs_exist_ok=True)
    text = workplace.config.read_text()
    (folder / workplace.config.name).write_text(text.replace(str(workplace.folder), str(folder)))
    return folder


def test_without_a_shared_folder_the_run_is_on_the_first_machine(
    workplace: Workplace, other: Path, reference: Path
) -> None:
    codes, said = run_on(BLOCKS["torchrun"], [workplace.folder, other])
    assert codes == [0, 0], said
    assert_same_run(run_folder(workplace.folder), reference)
    assert not run_folder(other).exists()
    assert_refused(BLOCKS["torchrun"], [workplace.folder, other], "the state of the run")


def test_without_a_shared_folder_nothing_is_taken_up(workplace: Workplace, other: Path, run: Run) -> None:
    assert run(workplace.arguments("train", "--training.keep_checkpoints", "true"))[0] == 0
    (run_folder(workplace.folder) / "done.json").unlink()
    assert_refused(BLOCKS["torchrun"], [workplace.folder, other], "the last epoch")


def test_machines_with_other_data_are_refused(workplace: Workplace, other: Path) -> None:
    config = other / workplace.config.name
    config.write_text(config.read_text().replace("epochs: 3", "epochs: 4"))
    manifest = other / "work" / "small" / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace('"label": "neu"', '"label": "hap"', 1))
    assert_refused(BLOCKS["torchrun"], [workplace.folder, other], "training, data")


def test_a_machine_that_cannot_begin_is_not_waited_for(workplace: Workplace, other: Path) -> None:
    (other / "work" / "small" / "manifest.jsonl").unlink()
    codes, said = run_on(BLOCKS["torchrun"], [workplace.folder, other])
    assert codes == [1, 1]
    assert "differ in the state of the run; give every machine" in said[0]
    assert "manifest.jsonl" in said[1] and "differ in" not in said[1]


def assert_refused(command: str, folders: Sequence[Path], what: str) -> None:
    """Every machine ends with one line that says in what they differ; none waits for another."""
    codes, said = run_on(command, folders)
    assert codes == [1, 1], said
    for folder, lines in zip(folders, said, strict=True):
        told = f"lpgnet: error: {run_folder(folder)}: the processes of this launch differ in {what}; "
        assert told in lines, lines


def test_a_machine_that_is_gone_ends_the_launch_and_the_same_command_goes_on(workplace: Workplace, run: Run) -> None:
    """The other machine does not wait; what was trained until then is as of a run that nobody stopped."""
    long = " --training.epochs 20 --training.keep_checkpoints true"
    command = BLOCKS["torchrun"].rstrip() + long
    with machines(command, [workplace.folder] * 2) as (first, second):
        checkpoints = run_folder(workplace.folder) / "checkpoints"
        while not list(checkpoints.glob("epoch-0000[2-9].safetensors")) and first.poll() is None:
            time.sleep(0.005)
        end(second)
        said = first.communicate(timeout=PATIENCE)[1]
        assert first.returncode == 1
    assert not (run_folder(workplace.folder) / "done.json").exists()
    codes, said = run_on(command, [workplace.folder] * 2)
    assert codes == [0, 0] and "resuming after epoch" in said[0]


def test_options_of_a_stage_are_not_taken_for_the_launchers() -> None:
    """`--run` would be short for one of torchrun's own."""
    from torch.distributed.run import get_args_parser

    launch = "python -m torch.distributed.run --nproc_per_node 2"
    command = ["make", "--dry-run", "train", f"LAUNCH={launch}", "ARGS=--run named"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    line = next(line for line in printed.splitlines() if "lpgnet.pipeline.train" in line)
    parsed = get_args_parser().parse_args(shlex.split(line)[3:])
    assert parsed.training_script == "lpgnet.pipeline.train"
    assert parsed.training_script_args[-2:] == ["--run", "named"]
