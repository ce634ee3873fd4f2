"""Extraction by several processes equals that of one, a killed one loses nothing, and bad encoders are told."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cache import FeatureStore
from tests.e2e.workplace import DEMO, Run, Workplace, fails


def stores(root: Path) -> dict[str, FeatureStore]:
    return {path.parent.name: FeatureStore(root, path.parent.name) for path in root.glob("*/encoder.json")}


def assert_same_embeddings(left: Path, right: Path) -> None:
    """Same keys, and values as close as two extractions are."""
    one, two = stores(left), stores(right)
    assert one.keys() == two.keys() and one
    for fingerprint, store in one.items():
        keys = list(store.keys())
        assert keys == list(two[fingerprint].keys()) and keys
        for a, b in zip(store.read(keys), two[fingerprint].read(keys), strict=True):
            assert a.n_frames == b.n_frames
            assert np.linalg.norm(a.values - b.values) <= 1e-5 * np.linalg.norm(a.values)


def test_two_processes_fill_the_store_as_one_does(workplace: Workplace) -> None:
    store = workplace.folder / "two"
    done = workplace.launch("features", "--features.store", str(store), processes=2)
    assert done.returncode == 0, done.stderr
    assert_same_embeddings(workplace.folder / "work" / "store", store)
    writers = {path.name for path in store.rglob("*.arrow*")}
    assert len(writers) >= 4, "two modalities, each with a shard of either process"


def test_a_killed_process_loses_what_was_not_written_and_nothing_else(workplace: Workplace, run: Run) -> None:
    store = workplace.folder / "killed"
    options = ["--features.store", str(store)]
    command = [sys.executable, "-m", "pipeline.features", *workplace.arguments("features", *options)[1:]]
    process = subprocess.Popen(command, cwd=workplace.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(store.glob("*/*.arrow*")) and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert run(workplace.arguments("features", *options))[0] == 0
    assert_same_embeddings(workplace.folder / "work" / "store", store)


def test_a_renamed_recording_is_known_and_an_edited_one_is_not(workplace: Workplace, run: Run) -> None:
    table = workplace.corpus / "utterances.csv"
    first = next((workplace.corpus / "audio").glob("*.flac"))
    first.rename(first.with_name("renamed.flac"))
    table.write_text(table.read_text().replace(first.name, "renamed.flac"))
    assert run(workplace.arguments("prepare"))[0] == 0
    code, out, _ = run(workplace.arguments("features"))
    assert code == 0 and "computed" not in out
    table.write_text(table.read_text().replace("i am", "i really am", 1))
    assert run(workplace.arguments("prepare"))[0] == 0
    code, out, _ = run(workplace.arguments("features"))
    assert code == 0 and "computed 1 in" in out


def test_another_encoder_and_back(workplace: Workplace, run: Run) -> None:
    other = ["--encoders.audio.name", "librosa:prosody"]
    code, out, _ = run(workplace.arguments("features", *other))
    assert code == 0 and "audio by librosa:prosody" in out and "computed 90" in out
    code, out, _ = run(workplace.arguments("features"))
    assert code == 0 and "computed" not in out
    code, out, _ = run(workplace.arguments("features", *other))
    assert code == 0 and "computed" not in out


def test_kept_frames_train_like_their_mean(workplace: Workplace, run: Run) -> None:
    options = ["--encoders.audio.pooling", "none"]
    for stage in ("features", "train"):
        assert run(workplace.arguments(stage, *options))[0] == 0


def test_turns_before_the_utterance_change_its_embedding(workplace: Workplace, run: Run) -> None:
    code, out, _ = run(workplace.arguments("features", "--encoders.text.context_turns", "2"))
    assert code == 0 and "computed" in out


@pytest.fixture
def broken(tmp_path: Path, tiny_encoders: Path) -> Path:
    folder = tmp_path / "broken"
    shutil.copytree(tiny_encoders / "audio", folder)
    return folder


def drop_a_weight(folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights.pop(next(name for name in weights if "layers.0" in name))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def ask_for_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "made_up", "auto_map": {"AutoModel": "code.Model", "AutoConfig": "code.Config"}}
    (folder / "config.json").write_text(json.dumps(config))


BREAKS = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "is no checkpoint"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "has no weights"),
    "a weight is missing": (drop_a_weight, "layers.0"),
    "needs its own code": (ask_for_code, "trust_remote_code"),
}


@pytest.mark.parametrize("kind", BREAKS)
def test_a_broken_encoder_is_told(workplace: Workplace, run: Run, broken: Path, kind: str) -> None:
    damage, message = BREAKS[kind]
    damage(broken)
    fails(run, workplace.arguments("features", "--encoders.audio.name", f"hf:{broken}"), str(broken), message)


@pytest.mark.parametrize(
    ("name", "fragments"),
    [
        (f"hf:{DEMO / 'encoders' / 'text'}", ["text", "audio"]),
        ("hf:./no/such/folder", ["no/such/folder"]),
        ("librosa:prosdy", ["did you mean 'librosa:prosody'?"]),
        ("wav2vec2", ["family:model"]),
    ],
)
def test_a_wrong_encoder_is_told(workplace: Workplace, run: Run, name: str, fragments: list[str]) -> None:
    fails(run, workplace.arguments("features", "--encoders.audio.name", name), *fragments)


def test_a_hub_that_cannot_be_reached(workplace: Workplace, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = workplace.launch("features", "--encoders.audio.name", "hf:facebook/wav2vec2-base")
    assert done.returncode == 1
    for fragment in ("facebook/wav2vec2-base", "HF_HUB_OFFLINE", "local folder", "examples/demo/encoders/audio"):
        assert fragment in done.stderr


def test_the_encoders_command(run: Run, tiny_encoders: Path) -> None:
    code, out, _ = run(["encoders", "list", "wavlm"])
    assert code == 0 and "hf:microsoft/wavlm" in out
    code, out, _ = run(["encoders", "check", f"hf:{tiny_encoders / 'audio'}"])
    assert code == 0 and "a batch equals each alone" in out and "FAILS" not in out
