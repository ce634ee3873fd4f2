"""Labelling on a Ray cluster equals that of one process, and what is lost on its way is made good."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import soundfile

from lpgnet.pipeline.common import ray_stream
from lpgnet.pipeline.config import PredictionConfig
from lpgnet.pipeline.labelling.model_folders import local_parts
from tests.e2e.test_predict_many import SRT, failures, parquet_rows
from tests.e2e.test_ray_features import on
from tests.e2e.workplace import RECORDING, Run, fails
from tests.ray_cluster import add_node, workers

pytest.importorskip("ray")


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    """Twelve recordings, of which one is bad; two have a transcript."""
    waveform, rate = soundfile.read(RECORDING, dtype="float32")
    folder = tmp_path / "calls"
    folder.mkdir()
    for number in range(11):
        soundfile.write(folder / f"{number:02}.wav", waveform[number * rate : (number + 5) * rate], rate)
    for number in range(2):
        (folder / f"{number:02}.srt").write_text(SRT)
    (folder / "bad.wav").write_text("no audio at all")
    return folder


@pytest.fixture
def arguments(trained: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """The command, with outputs in a folder of tmp_path."""

    def make(out: str, *more: str | Path) -> list[str]:
        options = ["--model", str(trained), "--out", str(tmp_path / out), "--diarizer", "none"]
        return ["predict", *options, "--device", "cpu", *map(str, more)]

    return make


def assert_same_dataset(one: Path, other: Path) -> None:
    """Equal rows, but for the numbers, which the company in a batch changes a little."""
    rows, others = parquet_rows(one), parquet_rows(other)
    assert len(rows) == len(others) > 0
    for mine, its in zip(rows, others, strict=True):
        assert list(mine) == list(its)
        for name, value in mine.items():
            assert its[name] == (pytest.approx(value, abs=1e-5) if isinstance(value, float) else value), name
    assert failures(one) == failures(other)


def test_three_nodes_label_as_one_process_does(
    arguments: Callable, run: Run, calls: Path, tmp_path: Path, ray_cluster: Any
) -> None:
    code, _, alone = run(arguments("one", calls, "--formats", "parquet,jsonl,html"))
    assert code == 1
    code, out, err = run(arguments("three", calls, "--formats", "parquet,jsonl,html", *on(ray_cluster)))
    assert code == 1
    assert "predict: 3 processes on 3 machines of Ray, 1 processor each" in err.splitlines()
    assert err.splitlines()[-1] == alone.splitlines()[-1]
    assert sum("failed: " in line for line in err.splitlines()) == 1 and "Traceback" not in err
    assert out.splitlines() == [f"labelled: 11 recordings, 28 turns; in {tmp_path / 'three' / 'timelines.parquet'}"]
    assert_same_dataset(tmp_path / "one", tmp_path / "three")
    for name in (path.stem for path in calls.glob("*.wav") if path.stem != "bad"):
        mine, its = (
            [json.loads(line) for line in (tmp_path / out / f"{name}.jsonl").read_text().splitlines()]
            for out in ("one", "three")
        )
        assert [row["label"] for row in mine] == [row["label"] for row in its]
        assert (tmp_path / "three" / f"{name}.html").exists()
    for engine in ([], on(ray_cluster)):
        code, _, err = run(arguments("three", calls, "--formats", "parquet,jsonl,html", *engine))
        assert code == 1 and "up to date: 11 of 12" in err, "what one engine did is done for the other"


def test_one_recording_fails_as_here(arguments: Callable, run: Run, calls: Path, ray_cluster: Any) -> None:
    bad = [calls / "bad.wav", "--formats", "parquet"]
    local = fails(run, arguments("one", *bad)).splitlines()[-1]
    assert fails(run, arguments("three", *bad, *on(ray_cluster, encoders=1))).splitlines()[-1] == local
    asr = [calls / "02.wav", "--asr", f"hf:{RECORDING.parents[1] / 'encoders' / 'audio'}", "--language", "de"]
    local = fails(run, arguments("one", *asr), "key 'language'", code=2).splitlines()[-1]
    assert fails(run, arguments("three", *asr, *on(ray_cluster, encoders=1)), code=2).splitlines()[-1] == local


def test_without_the_extra_it_says_what_to_install(
    arguments: Callable, run: Run, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    fails(run, arguments("out", calls, "--engine", "ray"), "pip install 'lpgnet[ray]'")


def test_a_model_that_cannot_be_loaded_is_told_as_here(
    arguments: Callable, run: Run, calls: Path, trained: Path, tmp_path: Path, ray_cluster: Any
) -> None:
    model = shutil.copytree(trained / "best", tmp_path / "model")
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    local = fails(run, arguments("one", calls, "--model", str(model))).splitlines()[-1]
    told = fails(run, arguments("two", calls, "--model", str(model), *on(ray_cluster, encoders=1)))
    assert told.splitlines()[-1] == local


def test_every_machine_needs_the_model_its_encoders_and_further_models(trained: Path, tmp_path: Path) -> None:
    config = PredictionConfig(model=str(trained), asr=f"hf:{tmp_path}", aligner="hf:someone/model-on-the-hub")
    config_file, weights, *folders, asr = local_parts(config)
    assert [config_file, weights] == [trained / "best" / name for name in ("config.json", "model.safetensors")]
    assert {folder.name for folder in folders} == {"audio", "text"} and all(folder.is_dir() for folder in folders)
    assert asr == tmp_path
    (audio,) = local_parts(PredictionConfig(model=str(trained), modalities="audio"))[2:]
    moved = local_parts(PredictionConfig(model=str(trained), text_encoder=f"hf:{tmp_path}"))[2:]
    assert set(moved) == {audio, tmp_path}


def parts(out: Path) -> set[Path]:
    return set((out / "timelines.parquet").glob("*.parquet"))


def test_processes_and_a_machine_are_killed(
    arguments: Callable,
    run: Run,
    calls: Path,
    tmp_path: Path,
    ray_cluster: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray_stream, "PATIENCE", 3.0)
    killed: list[int] = []
    ended = Event()

    def spoil() -> None:
        """Kill a process that loads, two that have written, and a machine that is not the head."""
        while len(killed) < 3 and not ended.wait(0.05):
            found = [one for node in ray_cluster.list_all_nodes() for one in workers(node, "Labeller")]
            new = [one for one in found if one.pid not in killed]
            if new and len(parts(tmp_path / "three")) >= len(killed):
                new[0].kill()
                killed.append(new[0].pid)
        while len(parts(tmp_path / "three")) < 4 and not ended.wait(0.05):
            pass
        ray_cluster.remove_node(next(iter(ray_cluster.worker_nodes)), allow_graceful=False)

    with ThreadPoolExecutor(1) as pool:
        spoiled = pool.submit(spoil)
        try:
            code, _, err = run(arguments("three", calls, "--formats", "parquet,jsonl", *on(ray_cluster)))
        finally:
            ended.set()
            spoiled.result()
            add_node(ray_cluster)
    assert code == 1 and len(killed) == 3
    assert err.splitlines()[-1].startswith("lpgnet: error: 1 of 12 recordings could not be labelled"), err
    assert run(arguments("one", calls, "--formats", "parquet"))[0] == 1
    assert_same_dataset(tmp_path / "one", tmp_path / "three")


def test_the_driver_is_killed_and_the_run_resumed(
    arguments: Callable, run: Run, calls: Path, tmp_path: Path, ray_cluster: Any
) -> None:
    command = arguments("three", calls, "--formats", "parquet", *on(ray_cluster, encoders=1))
    driver = subprocess.Popen(
        [sys.executable, "-m", "lpgnet", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while not parts(tmp_path / "three"):
        assert driver.poll() is None, driver.communicate()
        time.sleep(0.05)
    driver.kill()
    driver.communicate()
    _until_idle(ray_cluster)
    kept = {path: path.read_bytes() for path in parts(tmp_path / "three")}
    code, _, err = run(command)
    assert code == 1 and re.search(r"up to date: (\d+) of 12", err), err
    assert {path: path.read_bytes() for path in kept} == kept, "what was done is not done again"
    assert run(arguments("one", calls, "--formats", "parquet"))[0] == 1
    assert_same_dataset(tmp_path / "one", tmp_path / "three")


def _until_idle(cluster: Any) -> None:
    """Ray ends the processes of a driver that is gone."""
    for _ in range(600):
        if not [one for node in cluster.list_all_nodes() for one in workers(node, "Labeller")]:
            return
        time.sleep(0.1)
    raise AssertionError("processes of a killed driver go on")
