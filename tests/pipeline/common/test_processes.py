"""Launches: parts are balanced, and a launcher that starts fewer processes than asked for is found out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpgnet.pipeline.common import processes
from lpgnet.pipeline.common.processes import (
    Launch,
    balance,
    current_launch,
    device_kind,
    make_accelerator,
    resolve_device,
)
from lpgnet.pipeline.common.side_by_side import default_workers
from lpgnet.pipeline.errors import UsageError

untold = pytest.mark.skipif(sys.platform == "win32", reason="no command line of another process is told there")


@given(costs=st.lists(st.floats(0.1, 30), max_size=60), parts=st.integers(1, 5))
def test_parts_hold_everything_once_and_are_balanced(costs: list[float], parts: int) -> None:
    items = list(range(len(costs)))
    cut = balance(items, costs, parts)
    assert sorted(item for part in cut for item in part) == items
    assert all(part == sorted(part) for part in cut)
    loads = [sum(costs[item] for item in part) for part in cut]
    assert max(loads) - min(loads) <= max(costs, default=0) + 1e-9


def test_the_environment_says_which_process_this_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "2")
    assert current_launch() == Launch(2, 4)
    assert not current_launch().is_main


@untold
def test_accelerate_launch_without_gpus_is_told_apart() -> None:
    if any(name.startswith("nvidia") for name in os.listdir("/dev")):
        pytest.skip("accelerate starts as many processes as asked for where there are GPUs")
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--num_processes",
        "2",
        "-m",
        "lpgnet.pipeline.train",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "asked for 2 processes but started one" in done.stderr
    assert "torch.distributed.run --nproc_per_node 2" in done.stderr


PARENT = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', sys.argv[1]]))"
CHILD = """
from pathlib import Path
from lpgnet.pipeline.common import processes
processes.PROC = Path({proc!r})
print(processes._requested_processes())
"""


@untold
@pytest.mark.parametrize("words", [["--num_processes", "3"], ["--num-processes=3"], ["-n", "3"]])
@pytest.mark.parametrize("proc", ["/proc", "/nowhere"])
def test_the_command_of_the_launcher_is_read(words: list[str], proc: str) -> None:
    child = CHILD.format(proc=proc)
    done = subprocess.run([sys.executable, "-c", PARENT, child, *words], capture_output=True, text=True)
    assert done.stdout.strip() == "3", done.stderr


@pytest.mark.parametrize("words", [["-n"], ["--num_processes", "many"], ["--other", "3"], []])
def test_other_words_of_the_launcher_mean_one_process(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_parent_command", lambda: ["accelerate", "launch", *words])
    assert processes._requested_processes() == 1


def test_without_command_lines_nothing_is_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processes, "PROC", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert processes._parent_command() == []


def gpus(monkeypatch: pytest.MonkeyPatch, *, cuda: int = 0, mps: bool = False) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: cuda)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: mps)


def test_auto_takes_the_gpu_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch)
    assert resolve_device("auto") == "cpu"
    gpus(monkeypatch, mps=True)
    assert resolve_device("auto") == resolve_device("mps") == "mps"
    assert resolve_device("cpu") == "cpu"
    gpus(monkeypatch, cuda=2)
    assert resolve_device("auto") == "cuda:0"
    assert resolve_device("cuda:1") == "cuda:1"
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    assert resolve_device("auto") == "cuda:1"


def test_several_processes_do_not_share_an_apple_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, mps=True)
    assert default_workers("auto") == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert device_kind("auto") == "cpu"
    with pytest.raises(UsageError, match=r"device is mps.*several processes"):
        device_kind("mps")


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps"])
def test_a_gpu_that_is_not_there_is_a_wrong_setting(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch)
    for ask in (resolve_device, make_accelerator, default_workers):
        with pytest.raises(UsageError, match=f"device is {device}, but torch finds no such GPU"):
            ask(device)


def test_half_precision_needs_a_cuda_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, mps=True)
    with pytest.raises(UsageError, match="fp16 needs a CUDA GPU"):
        make_accelerator("auto", "fp16")
