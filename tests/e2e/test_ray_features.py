"""Extraction on a Ray cluster equals that of one process, and what is lost on its way is made good."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import Any

import psutil
import pytest
import yaml

import lpgnet
from lpgnet.pipeline.common import ray_stream
from lpgnet.pipeline.common.ray_cluster import Place, check_nodes, connected, find_nodes
from lpgnet.pipeline.config import RayConfig
from lpgnet.pipeline.errors import PipelineError
from tests.e2e.test_features import assert_same_embeddings
from tests.e2e.workplace import DEMO, Run, Workplace, fails, read_table, write_config, write_table
from tests.ray_cluster import NODES, add_node, workers

pytest.importorskip("ray")
UTTERANCES = 6
# What `lpgnet` does, also where it would ignore Ctrl-C, as a shell's background process does.
HEEDS_SIGNALS = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from lpgnet.pipeline.cli import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def base_encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wav2vec2 and a RoBERTa of base size with random weights."""
    import torch
    from transformers import (
        AutoTokenizer,
        RobertaConfig,
        RobertaModel,
        Wav2Vec2Config,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2Model,
    )

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("base")
    Wav2Vec2Model(Wav2Vec2Config()).save_pretrained(folder / "audio")
    Wav2Vec2FeatureExtractor().save_pretrained(folder / "audio")
    tokenizer = AutoTokenizer.from_pretrained(DEMO / "encoders" / "text")
    tokenizer.save_pretrained(folder / "text")
    RobertaModel(RobertaConfig(vocab_size=50_265, max_position_embeddings=514, pad_token_id=1)).save_pretrained(
        folder / "text"
    )
    return folder


def on(cluster: Any, *, encoders: int | None = None) -> list[str]:
    """The options for a cluster; where one process is enough for a test, another need not load what it needs."""
    number = [] if encoders is None else ["--ray.encoders", str(encoders)]
    return ["--engine", "ray", "--ray.address", cluster.address, *number]


def test_base_encoders_on_three_nodes_fill_the_store_as_one_process_does(
    workplace: Workplace, base_encoders: Path, run: Run, ray_cluster: Any
) -> None:
    table = workplace.corpus / "utterances.csv"
    write_table(table, read_table(table)[:UTTERANCES])
    write_config(workplace.config, workplace.corpus, base_encoders, workplace.folder / "work")
    assert run(workplace.arguments("prepare"))[0] == 0
    code, alone, _ = run(workplace.arguments("features", "--features.store", str(workplace.folder / "one")))
    assert code == 0
    three = workplace.folder / "three"
    code, out, err = run(workplace.arguments("features", "--features.store", str(three), *on(ray_cluster)))
    assert code == 0, err
    assert_same_embeddings(workplace.folder / "one", three)
    assert out.count(f"computed {UTTERANCES} ") == alone.count(f"computed {UTTERANCES} ") == 2
    assert "2 processes on 3 machines of Ray, 1 processor each" in err
    descriptions = [
        {path.parent.name: json.loads(path.read_text()) for path in root.glob("*/encoder.json")}
        for root in (workplace.folder / "one", three)
    ]
    assert descriptions[0] == descriptions[1]
    code, out, _ = run(workplace.arguments("features", "--features.store", str(three), *on(ray_cluster)))
    assert code == 0 and "computed" not in out


def without_times(text: str) -> list[str]:
    """The lines of a summary without what differs from run to run, or with how well batches are filled."""
    kept = re.sub(r" in [\d.]+ s.*|searched .*", "", text)
    return kept.splitlines()


def test_damage_is_told_as_the_local_engine_tells_it(
    workplace: Workplace, run: Run, ray_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the names that files have here, also where these are relative, which the nodes resolve as we do."""
    monkeypatch.chdir(workplace.folder)
    sound_only(workplace)
    workplace.config.write_text(workplace.config.read_text().replace(f"{workplace.folder}/", ""))
    rows = read_table(workplace.corpus / "utterances.csv")
    names = sorted({row["audio"] for row in rows})
    with (workplace.corpus / names[0]).open("r+b") as file:
        # The header is sound, what follows is not: it is found when the sound is decoded.
        file.seek(2000)
        file.write(bytes(4000))
    (workplace.corpus / names[1]).write_bytes(b"no audio")
    assert run(workplace.arguments("prepare"))[0] == 0
    summary = workplace.folder / "work" / "small" / "features.json"
    told = {}
    for name, engine in (("local", []), ("ray", on(ray_cluster, encoders=1))):
        options = ["--features.store", name, *engine]
        skipped = run(workplace.arguments("features", *options, "--features.on_error", "skip"))
        written = json.loads(summary.read_text())
        stopped = run(workplace.arguments("features", *options))
        bad = sorted(line for line in skipped[2].splitlines() if line.startswith("bad utterance"))
        last = stopped[2].splitlines()[-1]
        told[name] = (skipped[0], without_times(skipped[1]), written, bad, stopped[0], last)
    for one, other in zip(told["local"], told["ray"], strict=True):
        assert one == other
    assert told["ray"][0] == 0 and told["ray"][4] == 1 and len(told["ray"][3]) > 2
    assert "bad utterance" in told["ray"][3][0] and str(workplace.folder) not in "".join(told["ray"][3])
    assert_same_embeddings(Path("local"), Path("ray"))


def test_several_processes_are_refused(workplace: Workplace, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    fails(run, workplace.arguments("features", "--engine", "ray"), "start one process", code=2)


def test_without_the_extra_it_says_what_to_install(
    workplace: Workplace, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    err = fails(run, workplace.arguments("features", "--engine", "ray"), "pip install 'lpgnet[ray]'")
    assert len(err.splitlines()) == 1


def test_no_cluster_at_the_address(workplace: Workplace, run: Run) -> None:
    store = ["--features.store", str(workplace.folder / "new")]
    options = ["--engine", "ray", "--ray.address", "127.0.0.1:1"]
    fails(run, workplace.arguments("features", *store, *options), "no Ray cluster answers at 127.0.0.1:1")


def test_no_cluster_at_the_address_of_the_environment(
    workplace: Workplace, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    store = ["--features.store", str(workplace.folder / "new")]
    fails(
        run, workplace.arguments("features", *store, "--engine", "ray"), "answers at 127.0.0.1:1", "check RAY_ADDRESS"
    )


def test_an_encoder_that_cannot_be_loaded_is_told_once(workplace: Workplace, run: Run, ray_cluster: Any) -> None:
    store = ["--features.store", str(workplace.folder / "new")]
    broken = workplace.folder / "broken"
    shutil.copytree(Path(_encoder_of(workplace)), broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    broken_name = ["--encoders.audio.name", f"hf:{broken}"]
    local = fails(run, workplace.arguments("features", *store, *broken_name)).splitlines()[-1]
    ray = fails(run, workplace.arguments("features", *store, *broken_name, *on(ray_cluster, encoders=1))).splitlines()[
        -1
    ]
    assert ray == local


def test_a_node_with_another_version_is_named(
    workplace: Workplace, run: Run, ray_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lpgnet, "__version__", "9.9")
    store = ["--features.store", str(workplace.folder / "new")]
    fails(run, workplace.arguments("features", *store, *on(ray_cluster)), socket.gethostname(), "this machine 9.9")


def test_a_node_without_a_file_is_named(ray_cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    with connected(RayConfig(address=ray_cluster.address)):
        nodes, here = find_nodes(), Place(str(tmp_path), None)
        assert check_nodes(nodes, [Path("there")], here) == nodes and len(nodes) == NODES
        with pytest.raises(PipelineError, match=f"{socket.gethostname()}: has no gone, or not the one"):
            check_nodes(nodes, [Path("there"), Path("gone")], here)


def test_a_node_with_another_file_of_the_name_is_named(
    ray_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, text in (("here", "one model"), ("there", "another")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(text)
    monkeypatch.chdir(tmp_path / "here")
    with connected(RayConfig(address=ray_cluster.address)):
        nodes, path = find_nodes(), Path("config.json")
        assert check_nodes(nodes, [path], Place(str(tmp_path / "here"), None)) == nodes
        with pytest.raises(PipelineError, match=r"has no config.json, or not the one"):
            check_nodes(nodes, [path], Place(str(tmp_path / "there"), None))


def test_a_cluster_that_others_use_is_waited_for_and_said(ray_cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    said = []

    def leave(line: str) -> None:
        said.append(line)
        for other in others:
            ray.kill(other)

    class Other:
        def stay(self) -> None:
            pass

    def work(_: object) -> Any:
        return ray.data.range(1).map(lambda row: row, num_cpus=1)

    monkeypatch.setattr(ray_stream, "QUIET", 1.0)
    monkeypatch.setattr(ray_stream, "say", leave)
    with connected(RayConfig(address=ray_cluster.address)):
        others = [ray.remote(Other).options(num_cpus=1).remote() for _ in range(NODES)]
        ray.get([other.stay.remote() for other in others])
        assert list(ray_stream.stream(work, find_nodes())) == [{"id": 0}]
    (line,) = said
    assert "nothing is done after 1 s" in line and f"0 of {NODES} processors" in line


def _encoder_of(workplace: Workplace) -> str:
    found = re.search(r"hf:(\S+/audio)", workplace.config.read_text())
    assert found
    return found[1]


def sound_only(workplace: Workplace) -> None:
    """Have an encoder that is ready sooner than those that need torch, each time a process is started."""
    config = yaml.safe_load(workplace.config.read_text())
    config["encoders"] = {"audio": {"name": "librosa:prosody"}}
    workplace.config.write_text(yaml.safe_dump(config))


@pytest.fixture
def whole_demo(workplace: Workplace, run: Run) -> Workplace:
    """The sound of the whole demo corpus, prepared: a dozen chunks for two encoders."""
    shutil.rmtree(workplace.corpus)
    workplace.corpus.symlink_to(DEMO / "corpus")
    sound_only(workplace)
    assert run(workplace.arguments("prepare"))[0] == 0
    return workplace


def shards(root: Path) -> set[Path]:
    return set(root.glob("*/*.arrow"))


@contextmanager
def meanwhile(work: Callable[[Event], None]) -> Iterator[None]:
    """Do something in a thread while the block runs, which is told by an event when the block has ended."""
    ended = Event()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work, ended)
        try:
            yield
        finally:
            ended.set()
        done.result()


def check_nothing_is_lost(workplace: Workplace, root: Path, confirmed: set[Path], run: Run) -> None:
    """Every shard is still there, every row is sound, and the rows are those of one process."""
    assert confirmed <= shards(root)
    alone = workplace.folder / "alone"
    assert run(workplace.arguments("features", "--features.store", str(alone)))[0] == 0
    assert_same_embeddings(alone, root)
    assert run(["cache", "verify", "--store", str(root)])[0] == 0


def test_a_worker_is_killed_ten_times(whole_demo: Workplace, run: Run, ray_cluster: Any) -> None:
    root, killed, confirmed = whole_demo.folder / "killed", [], set()

    def kill_ten(ended: Event) -> None:
        while len(killed) < 10 and not ended.is_set():
            ended.wait(0.05)
            # Three are killed while they load the encoder, the others after they have written.
            if len(killed) >= 3 and not shards(root) - confirmed:
                continue
            embedders = [one for node in ray_cluster.list_all_nodes() for one in workers(node, "Embedder")]
            if new := [one for one in embedders if one.pid not in killed]:
                confirmed.update(shards(root))
                new[0].kill()
                killed.append(new[0].pid)

    with meanwhile(kill_ten):
        code, out, err = run(whole_demo.arguments("features", "--features.store", str(root), *on(ray_cluster)))
    assert code == 0, err
    assert len(killed) == 10 and confirmed
    assert "computed 540 " in out and "raylet" not in out + err
    check_nothing_is_lost(whole_demo, root, confirmed, run)


def test_two_nodes_of_three_are_killed(
    whole_demo: Workplace, run: Run, ray_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encoder that has no machine left is not waited for: its work is shared out again."""
    monkeypatch.setattr(ray_stream, "PATIENCE", 3.0)
    root, confirmed, on_head = whole_demo.folder / "killed", set(), []

    def kill_two(ended: Event) -> None:
        while len(shards(root)) < 3:
            assert not ended.is_set()
            time.sleep(0.02)
        confirmed.update(shards(root))
        on_head.extend(workers(ray_cluster.head_node, "Embedder"))
        for node in ray_cluster.worker_nodes.copy():
            ray_cluster.remove_node(node, allow_graceful=False)

    try:
        with meanwhile(kill_two):
            code, _, err = run(whole_demo.arguments("features", "--features.store", str(root), *on(ray_cluster)))
    finally:
        for _ in range(NODES - len(ray_cluster.list_all_nodes())):
            add_node(ray_cluster)
    assert code == 0, err
    assert "2 processes on 3 machines" in err
    # Where Ray put one of the two on the machine that is left, that one does the rest.
    assert on_head or "1 process on 1 machine" in err
    check_nothing_is_lost(whole_demo, root, confirmed, run)


@pytest.mark.parametrize(("number", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_a_signal_stops_it_and_leaves_nothing_running(whole_demo: Workplace, number: int, word: str) -> None:
    root = whole_demo.folder / "stopped"
    command = [sys.executable, "-c", HEEDS_SIGNALS, *whole_demo.arguments("features")]
    options = ["--features.store", str(root), "--engine", "ray", "--ray.address", "local"]
    process = subprocess.Popen(
        [*command, *options], cwd=whole_demo.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not shards(root) and process.poll() is None:
        time.sleep(0.05)
    started = psutil.Process(process.pid).children(recursive=True)
    # A terminal sends Ctrl-C to all of them.
    for one in [psutil.Process(process.pid), *(started if number == signal.SIGINT else [])]:
        with suppress(psutil.Error):
            one.send_signal(number)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 128 + number, err
    assert err.splitlines()[-1].startswith(f"lpgnet: {word}; finished work is kept")
    assert all(line.startswith(("lpgnet: ", "features: ", "speech: ", "audio: ")) for line in err.splitlines()), err
    assert "Traceback" not in err and not out
    assert not psutil.wait_procs(started, timeout=120)[1]
