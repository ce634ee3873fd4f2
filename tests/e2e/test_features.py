"""Extraction by several processes equals that of one, a killed one loses nothing, and bad encoders are told."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from lpgnet.cache import FeatureStore
from tests.e2e.workplace import DEMO, Run, Workplace, fails, read_table, write_table


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
    assert done.stdout.count("computed 90 ") == 2 and done.stdout.count("padded/real 1.") == 2
    assert_same_embeddings(workplace.folder / "work" / "store", store)
    writers = {path.name for path in store.rglob("*.arrow*")}
    assert len(writers) >= 4, "two modalities, each with a shard of either process"


def test_one_process_of_two_is_killed(workplace: Workplace, run: Run) -> None:
    """What the other had done is kept, and the next run computes what is missing and no more."""
    store = workplace.folder / "killed"
    options = ["--features.store", str(store)]
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "-m",
        "lpgnet.pipeline.features",
    ]
    command = [*launcher, *workplace.arguments("features", *options)[1:]]
    process = subprocess.Popen(command, cwd=workplace.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(store.glob("*/*.arrow*")) and process.poll() is None:
        time.sleep(0.002)
    for child in psutil.Process(process.pid).children():
        if child.environ().get("RANK") == "1":
            child.kill()
    assert process.wait() != 0
    kept = sum(len(part) for part in stores(store).values())
    assert kept
    code, out, _ = run(workplace.arguments("features", *options))
    cached = sum(int(count) for count in re.findall(r"(\d+) already cached", out))
    assert code == 0 and cached == kept
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


def test_what_auto_precision_came_to_is_kept_through_a_swap(workplace: Workplace, run: Run) -> None:
    auto = ["--encoders.audio.precision", "auto"]
    summary = workplace.folder / "work" / "small" / "features.json"
    assert run(workplace.arguments("features", *auto))[0] == 0
    values = json.loads(summary.read_text())
    name = values["audio"]["spec"]["name"]
    other = {"fp32": "bf16", "bf16": "fp32"}[values["audio"]["auto_precision"][name]]
    values["audio"]["auto_precision"][name] = other
    summary.write_text(json.dumps(values))
    assert run(workplace.arguments("features", *auto, "--encoders.audio.name", "librosa:prosody"))[0] == 0
    assert run(workplace.arguments("features", *auto))[0] == 0
    assert json.loads(summary.read_text())["audio"]["spec"]["precision"] == other


def test_what_is_wrong_with_shared_content_is_wrong_with_all(workplace: Workplace, run: Run) -> None:
    table = workplace.corpus / "utterances.csv"
    rows = read_table(table)
    shared = {name: rows[1][name] for name in ("audio", "start", "end")}
    rows[2] |= shared
    write_table(table, rows)
    path = workplace.corpus / rows[1]["audio"]
    samples, rate = soundfile.read(path, dtype="float32")
    first, last = (round(float(shared[name]) * rate) for name in ("start", "end"))
    samples[first:last] = np.nan
    soundfile.write(path.with_suffix(".wav"), samples, rate, subtype="FLOAT")
    table.write_text(table.read_text().replace(path.name, path.with_suffix(".wav").name))
    assert run(workplace.arguments("prepare"))[0] == 0
    skip = ["--features.on_error", "skip"]
    assert run(workplace.arguments("features", *skip))[0] == 0
    summary = json.loads((workplace.folder / "work" / "small" / "features.json").read_text())
    assert summary["audio"]["skipped"] == [rows[1]["utterance_id"], rows[2]["utterance_id"]]
    assert run(workplace.arguments("train", *skip))[0] == 0


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
    assert "batches of 2 and 4" in out
    options = ["--precision", "bf16", "--device", "cpu", "--batch_budget", "100000"]
    code, out, _ = run(["encoders", "check", f"hf:{tiny_encoders / 'audio'}", *options])
    assert code == 0 and "FAILS" not in out
    code, out, _ = run(["encoders", "check", f"hf:{tiny_encoders / 'audio'}", "--batch_budget", "5"])
    assert code == 1 and "holds no two of the samples" in out
