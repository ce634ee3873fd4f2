"""Launches: parts are balanced, and a launcher that starts fewer processes than asked for is found out."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpgnet.pipeline.common.processes import Launch, balance, current_launch


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
    assert "asked for 2 processes and started one" in done.stderr
    assert "torch.distributed.run --nproc_per_node 2" in done.stderr
