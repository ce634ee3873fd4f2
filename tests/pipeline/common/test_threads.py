"""Threads sleep while they wait in every command and process that it starts; small networks get one; no library does.

What OpenMP was told is read from OpenMP itself, which prints it when torch loads it (OMP_DISPLAY_ENV).
"""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from torch import nn

from lpgnet.feature_extractors import load_encoder
from lpgnet.pipeline import crossval
from lpgnet.pipeline.cli import STAGES
from lpgnet.pipeline.common import threads
from lpgnet.pipeline.common.console import say_once
from lpgnet.pipeline.common.side_by_side import default_workers, run_side_by_side
from lpgnet.pipeline.common.threads import one_thread, place, settle_threads, threads_for, usable_cores
from lpgnet.pipeline.corpora import voice_activity
from lpgnet.pipeline.embeddings.extraction import Extraction, embed
from lpgnet.pipeline.embeddings.plan import Request, Words
from lpgnet.pipeline.evaluation.tables import Job
from lpgnet.pipeline.training import trainer
from tests.pipeline.tensors import make_config, make_corpus, train_and_test
from tests.pipeline.work import write_environment

ROOT = Path(__file__).parents[3]
NAMES = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY", threads.OURS)
CHECK = ["encoders", "check", "hf:examples/demo/encoders/text", "--device", "cpu"]
WAYS = {
    "lpgnet": ["-m", "lpgnet", *CHECK],
    "the installed script": ["-c", "import sys; from lpgnet.pipeline.cli import main; sys.exit(main())", *CHECK],
    "a stage as a module": ["-m", "lpgnet.pipeline.encoders", *CHECK[1:]],
    "a launcher": [
        *("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1"),
        *("-m", "lpgnet.pipeline.encoders", *CHECK[1:]),
    ],
}
# What libgomp says of itself: how often a thread looks before it sleeps.
SPINS = re.compile(r"GOMP_SPINCOUNT = '(\d+)'")
gomp = pytest.mark.skipif(sys.platform != "linux", reason="torch has another OpenMP there")


def run(arguments: list[str], **settings: str) -> subprocess.CompletedProcess[str]:
    """Run Python where nobody has set anything about threads but `settings`."""
    environment = {name: value for name, value in os.environ.items() if name not in NAMES} | settings
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)


def spins(arguments: list[str], **settings: str) -> int:
    """How often the threads of a command look before they sleep; a launcher is another's, and speaks before it."""
    done = run(arguments, OMP_DISPLAY_ENV="VERBOSE", **settings)
    assert done.returncode == 0, done.stderr
    return int(SPINS.findall(done.stderr)[-1])


@gomp
@pytest.mark.parametrize("way", WAYS)
def test_the_threads_of_a_command_sleep_while_they_wait(way: str) -> None:
    assert spins(WAYS[way]) == 0


def test_no_stage_imports_torch_before_threads_are_settled() -> None:
    """As a module, a stage settles them by importing cli; what it imports before that must not load OpenMP."""
    before = set()
    for stage in STAGES:
        body = ast.parse((ROOT / "pipeline" / f"{stage}.py").read_text(encoding="utf-8")).body
        modules = []
        for node in body:
            if isinstance(node, ast.Import):
                modules += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules.append(str(node.module))
        before |= {*modules[: modules.index("lpgnet.pipeline.cli")]} - {"__future__"}
    code = f"import sys, {', '.join(sorted(before))}; sys.exit('torch' in sys.modules)"
    assert run(["-c", code]).returncode == 0


@gomp
@pytest.mark.parametrize(("setting", "expected"), [({"OMP_WAIT_POLICY": "ACTIVE"}, None), ({"GOMP_SPINCOUNT": "5"}, 5)])
def test_what_the_user_has_set_stays(setting: dict[str, str], expected: int | None) -> None:
    found = spins(WAYS["lpgnet"], **setting)
    assert found == expected if expected else found > 1_000_000


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY"])
def test_whoever_says_how_threads_wait_is_not_contradicted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _nothing_set(monkeypatch) | {name: "5"}
    monkeypatch.setenv(name, "5")
    settle_threads()
    assert _set() == before


def test_importing_the_library_changes_nothing() -> None:
    """Neither the environment nor how many threads torch has, though silero-vad would have one from then on."""
    code = """
        import os, torch
        before = dict(os.environ), torch.get_num_threads()
        import lpgnet, lpgnet.pipeline.cli, lpgnet.pipeline.train, lpgnet.pipeline.predict
        from lpgnet.pipeline.corpora.voice_activity import load_network
        assert all(getattr(lpgnet, name) for name in dir(lpgnet))
        load_network()
        names = [name for name in os.environ if name.startswith(("OMP", "KMP", "GOMP", "MKL", "OPENBLAS"))]
        assert [(name, before[0].get(name)) for name in names] == [(name, os.environ[name]) for name in names]
        assert before[1] == torch.get_num_threads()
    """
    done = run(["-c", "import textwrap; exec(textwrap.dedent('''" + code + "'''))"], OMP_NUM_THREADS="2")
    assert done.returncode == 0, done.stderr


def test_a_command_that_is_called_as_a_function_changes_nothing() -> None:
    code = "import os; from lpgnet.pipeline.cli import main; main(['--help']); print('OMP_WAIT_POLICY' in os.environ)"
    assert run(["-c", code]).stdout.splitlines()[-1] == "False"


def test_workers_are_told_what_their_parent_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _nothing_set(monkeypatch)
    settle_threads()
    file = tmp_path / "told"
    list(run_side_by_side(write_environment, [file], workers=1))
    assert file.read_text() == "OMP_WAIT_POLICY=PASSIVE, 1 thread"


def test_in_a_share_of_a_machine_there_are_as_many_threads_as_the_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container with `--cpus 1.5`, whose processes see all cores of the machine."""
    limit = tmp_path / "cpu.max"
    monkeypatch.setattr(threads, "CPU_LIMIT", limit)
    monkeypatch.setattr(threads, "_permitted_cores", lambda: 64)
    assert usable_cores() == 64
    for text, cores in (("max 100000", 64), ("150000 100000", 2), ("5000 100000", 1), ("9900000 100000", 64), ("", 64)):
        limit.write_text(text)
        assert usable_cores() == default_workers("cpu") == cores
    _nothing_set(monkeypatch)
    settle_threads()
    assert "OMP_NUM_THREADS" not in _set()
    limit.write_text("400000 100000")
    settle_threads()
    assert _set()["OMP_NUM_THREADS"] == "4"
    limit.write_text("200000 100000")
    settle_threads()
    assert _set()["OMP_NUM_THREADS"] == "4"


SIZES = [(0, 1), (5_000_000, 1), (5_000_001, 2), (36_000_000, 8), (95_000_000, 16)]


@pytest.mark.parametrize(("parameters", "expected"), SIZES)
def test_a_network_gets_no_more_threads_than_it_can_use(
    parameters: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread for each five million parameters, and those that there are at most."""
    monkeypatch.setattr(threads, "COUNT_IS_SET", False)
    network = nn.Module()
    network.weight = nn.Parameter(torch.empty(parameters, device="meta"))
    before = torch.get_num_threads()
    torch.set_num_threads(16)
    try:
        with threads_for(network):
            assert torch.get_num_threads() == expected
            with one_thread(), threads_for(network):
                assert torch.get_num_threads() == 1
            assert torch.get_num_threads() == expected
        with pytest.raises(ZeroDivisionError), threads_for(network):
            raise ZeroDivisionError
        assert torch.get_num_threads() == 16
        with threads_for(object()):
            assert torch.get_num_threads() == 16
        monkeypatch.setattr(threads, "COUNT_IS_SET", True)
        with threads_for(network):
            assert torch.get_num_threads() == 16
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("first_leaves_first", [True, False])
def test_threads_of_a_program_that_overlap_leave_what_they_found(first_leaves_first: bool) -> None:
    """Each finds its own count afterwards, and so does a thread that starts later."""
    before, counts = torch.get_num_threads(), {}
    inside, leave, left = Event(), Event(), Event()

    def second() -> None:
        with one_thread():
            inside.set()
            assert leave.wait(60)
            counts["meanwhile"] = torch.get_num_threads()
        counts["second"] = torch.get_num_threads()
        left.set()

    torch.set_num_threads(8)
    try:
        with ThreadPoolExecutor(1) as pool:
            with one_thread():
                done = pool.submit(second)
                assert inside.wait(60)
                if not first_leaves_first:
                    leave.set()
                    assert left.wait(60)
                    assert torch.get_num_threads() == 1
            leave.set()
            done.result()
        with ThreadPoolExecutor(1) as pool:
            counts["later"] = pool.submit(torch.get_num_threads).result()
        assert counts == {"meanwhile": 1, "second": 8, "later": 8} and torch.get_num_threads() == 8
    finally:
        torch.set_num_threads(before)


def test_a_network_is_not_kept_to_the_threads_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "COUNT_IS_SET", False)
    large = nn.Module()
    large.weight = nn.Parameter(torch.empty(20_000_000, device="meta"))

    def compute() -> int:
        with threads_for(large):
            return torch.get_num_threads()

    before = torch.get_num_threads()
    torch.set_num_threads(8)
    try:
        with one_thread(), ThreadPoolExecutor(1) as pool:
            assert pool.submit(compute).result() == 4
    finally:
        torch.set_num_threads(before)


def test_between_the_runs_of_a_table_the_threads_are_those_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []
    monkeypatch.setattr(crossval, "run_job", lambda job: found.append(torch.get_num_threads()))
    config = make_config()
    jobs = [Job("row", "fold", config, Path(str(seed))) for seed in (1, 2)]
    config = replace(config, crossval=replace(config.crossval, workers=1))
    before = torch.get_num_threads()
    torch.set_num_threads(8)
    try:
        between = [torch.get_num_threads() for _ in crossval.run_jobs(jobs, config)]
    finally:
        torch.set_num_threads(before)
    assert found == [1, 1] and between == [8, 8]


@pytest.mark.parametrize(("kind", "said"), [("cpu", "1 process of one thread\n"), ("cuda", "1 process\n")])
def test_only_on_a_cpu_a_table_tells_of_threads(
    kind: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(crossval, "run_job", lambda _: None)
    monkeypatch.setattr(crossval, "device_kind", lambda _: kind, raising=False)
    config = make_config()
    config = replace(config, crossval=replace(config.crossval, workers=1))
    list(crossval.run_jobs([Job("row", "fold", config, Path("nowhere"))], config))
    assert capsys.readouterr().err == f"crossval: runs in {said}"


def test_how_many_threads_is_known_to_be_set() -> None:
    """Also where this process sets it itself, because it may use a share of the machine only."""
    code = "from lpgnet.pipeline.common.threads import COUNT_IS_SET; print(COUNT_IS_SET)"
    assert run(["-c", code]).stdout == "False\n"
    assert run(["-c", code], OMP_NUM_THREADS="2").stdout == "True\n"


def test_a_child_does_not_take_the_number_of_its_parent_for_that_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = tmp_path / "cpu.max"
    limit.write_text("200000 100000")
    monkeypatch.setattr(threads, "CPU_LIMIT", limit)
    monkeypatch.setattr(threads, "_permitted_cores", lambda: 64)
    _nothing_set(monkeypatch)
    settle_threads()
    code = "from lpgnet.pipeline.common.threads import COUNT_IS_SET; print(COUNT_IS_SET)"
    assert run(["-c", code], **_set()).stdout == "False\n"
    assert run(["-c", code], **_set() | {"OMP_NUM_THREADS": "3"}).stdout == "True\n", "set for the child alone"
    _nothing_set(monkeypatch)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    settle_threads()
    assert run(["-c", code], **_set()).stdout == "True\n", "the user's, though it is the same"


def test_people_read_in_how_many_threads_and_how_they_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "COUNT_IS_SET", False)
    _nothing_set(monkeypatch)
    large, small = nn.Module(), nn.Linear(2, 2)
    large.weight = nn.Parameter(torch.empty(10_000_000, device="meta"))
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        assert place("cuda:0", large) == "on cuda:0"
        assert place("cpu", small) == "on cpu in 1 thread"
        assert place("cpu", large) == "on cpu in 2 threads"
        monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
        assert place("cpu", large) == "on cpu in 2 threads that sleep while they wait"
        monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
        assert place("cpu", large) == "on cpu in 2 threads that spin while they wait"
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("kind", ["lpgnet", "sdt"])
def test_a_small_network_learns_and_predicts_the_same_whatever_the_machine(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the last bit, and as in the workers of a table, which have one thread each."""
    monkeypatch.setattr(threads, "COUNT_IS_SET", False)
    monkeypatch.setattr(trainer.Trainer, "step", _in_one_thread(trainer.Trainer.step))
    say_once.cache_clear()
    before, found = torch.get_num_threads(), []
    for count in (1, 4):
        torch.set_num_threads(count)
        try:
            results = train_and_test(
                make_corpus("text", dialogues=12), make_config(kind, epochs=2), tmp_path / str(count)
            )
            assert torch.get_num_threads() == count
        finally:
            torch.set_num_threads(before)
        weights = (tmp_path / str(count) / "best" / "model.safetensors").read_bytes()
        found.append((weights, results.fused, results.calibration))
        noted = json.loads((tmp_path / str(count) / "environment.json").read_text())
        assert noted["threads"] == 1, "not what torch has outside"
    assert repr(found[0]) == repr(found[1])
    assert capsys.readouterr().err.count("train: on cpu in 1 thread\n") == 1


def _in_one_thread(step: Callable[..., float]) -> Callable[..., float]:
    def checked(*arguments: Any) -> float:
        assert torch.get_num_threads() == 1
        return step(*arguments)

    return checked


def test_small_encoders_compute_in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "COUNT_IS_SET", False)
    encoder = load_encoder(f"hf:{ROOT / 'examples' / 'demo' / 'encoders' / 'text'}", precision="fp32", device="cpu")
    counts: list[int] = []
    encoder.model.register_forward_pre_hook(lambda *_: counts.append(torch.get_num_threads()))
    before, done = torch.get_num_threads(), Extraction()
    torch.set_num_threads(4)
    try:
        requests = [Request("u", bytes(16), Words("a word"))]
        list(embed(encoder, requests, done, device="cpu", workers=0, batch_budget=None))
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
    assert done.computed == 1 and set(counts) == {1}


def test_voice_activity_hears_in_one_thread_and_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two take longer than one by its small network."""
    heard: list[int] = []
    voice_activity.load_network.cache_clear()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        network = voice_activity.load_network()
        hook = network.register_forward_pre_hook(lambda *_: heard.append(torch.get_num_threads()))
        voice_activity.speech_probabilities([torch.zeros(16_000).numpy()])
        hook.remove()
        assert set(heard) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Remove what is set, and put back at the end what was."""
    for name in NAMES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return {}


def _set() -> dict[str, str]:
    return {name: os.environ[name] for name in NAMES if name in os.environ}


def test_what_is_set_already_is_not_set_again(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", counts.append)
    with one_thread() if torch.get_num_threads() == 1 else threads_for(None):
        pass
    assert not counts
