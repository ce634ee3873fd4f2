"""Models that were damaged, or were made to do harm: nothing is served of them, and one line says what is wrong."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from lpgnet.feature_extractors import resolve_spec
from lpgnet.pipeline import cli
from tests.e2e.workplace import DEMO, Run, Workplace, fails
from tests.pipeline.training.holder import held_elsewhere

RECORDING = DEMO / "recording" / "recording.flac"


def run_folder(workplace: Workplace, run: str = "default") -> Path:
    return workplace.folder / "work" / "small" / "runs" / run


@pytest.fixture(scope="module")
def trained(extracted: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trained model; to be copied, not changed."""
    work = tmp_path_factory.mktemp("trained")
    shutil.copytree(extracted.folder / "work", work, dirs_exist_ok=True)
    assert cli.main(extracted.arguments("train", "--work", str(work))) == 0
    return work / "small" / "runs" / "default" / "best"


@pytest.fixture
def best(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained model, to break."""
    return Path(shutil.copytree(trained, tmp_path / "run" / "best"))


def predict(model: Path, *options: str) -> list[str]:
    return ["predict", str(RECORDING), "--model", str(model), "--out", str(model.parent / "timelines"), *options]


def test_weights_that_are_not_finite_are_refused_everywhere(workplace: Workplace, run: Run) -> None:
    assert run(workplace.arguments("train"))[0] == 0
    best = run_folder(workplace) / "best"
    path = best / "model.safetensors"
    weights = load_file(path)
    weights["fused_head.bias"][0] = math.nan
    save_file(weights, path)
    for arguments in (workplace.arguments("evaluate"), predict(best), predict(best.parent)):
        fails(run, arguments, str(path), "fused_head.bias has numbers that are not finite")
    assert not list(best.parent.glob("timelines/*")) and not (best.parent / "predictions.jsonl").exists()
    code, _, err = run(workplace.arguments("train"))
    assert code == 0 and "best/model.safetensors went away or changed" in err
    assert run(workplace.arguments("evaluate"))[0] == 0


def test_bytes_that_flipped_are_refused_everywhere(best: Path, run: Run) -> None:
    path = best / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    out = str(best.parent / "exported")
    fails(run, predict(best), str(path), "is damaged")
    fails(run, ["export", "--model", str(best), "--out", out, "--bundle_encoders", "true"], str(path), "is damaged")


def change(folder: Path, key: str, value: Any) -> None:
    """Give a key of `config.json`, such as `encoders.text.name`, another value, or remove it."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    *parents, last = key.split(".")
    inside = config
    for name in parents:
        inside = inside[name]
    if value == "removed":
        del inside[last]
    else:
        inside[last] = value
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("calibration_temperature", 0),
        ("calibration_temperature", math.nan),
        ("hidden_size", 10**9),
        ("encoders", "removed"),
        ("encoders", {}),
        ("encoders.text", "removed"),
        ("encoders.text", {}),
        ("encoders.text", 5),
        ("encoders.text.name", None),
        ("encoders.text.fingerprint", "removed"),
        ("encoders.text.fingerprint", 5),
        ("encoders.audio.layers", [-1]),
        ("encoders.audio.layers", {"a": 1}),
        ("encoders.audio.max_seconds", "30"),
        ("encoders.audio.trust_remote_code", "yes"),
        ("encoders.audio.more", 1),
        ("trained_on", 5),
        ("trained_on.hours", "1"),
        ("trained_on.about", "removed"),
        ("trained_on.about.speech", "sung"),
        ("trained_on.score.ua", math.nan),
        ("trained_on.more", 1),
        ("distances", []),
        ("distances.audio", {}),
        ("distances.audio.mean", math.nan),
        ("distances.audio.mean", "1"),
        ("distances.audio.turn_deviation", -1),
    ],
)
def test_a_configuration_that_is_none_is_named_with_its_key(best: Path, run: Run, key: str, value: Any) -> None:
    change(best, key, value)
    fails(run, predict(best), str(best / "config.json"), *key.split(".")[:2])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("encoders.text.pooling", ["mean"]),
        ("encoders.text.precision", 5),
        ("encoders.text.modality", "video"),
        ("encoders.audio.max_seconds", math.nan),
        ("encoders.audio.name", "nothing"),
        ("encoders.audio.name", "hf:"),
        ("input_sizes.text", [3, 17]),
    ],
)
def test_encoders_that_cannot_be_are_refused_in_one_line(best: Path, run: Run, key: str, value: Any) -> None:
    change(best, key, value)
    fails(run, predict(best))


def test_a_model_cannot_allow_itself_to_run_code(best: Path, run: Run, tmp_path: Path) -> None:
    """Its own folder says that its encoder may, and has that encoder beside it, with the right fingerprint."""
    encoder, sign = best / "encoders" / "text", tmp_path / "code ran"
    spec = json.loads((best / "config.json").read_text())["encoders"]["text"]
    shutil.copytree(spec["name"].removeprefix("hf:"), encoder)
    config = json.loads((encoder / "config.json").read_text())
    own = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}
    (encoder / "config.json").write_text(json.dumps(config | {"model_type": "own", "auto_map": own}))
    (encoder / "own.py").write_text(
        f"open({str(sign)!r}, 'w').close()\n"
        "from transformers import RobertaConfig, RobertaModel\n"
        "class OwnConfig(RobertaConfig): pass\n"
        "class OwnModel(RobertaModel): pass\n"
    )
    settings = {key: spec[key] for key in ("modality", "layers", "pooling", "precision")}
    fingerprint = resolve_spec(f"hf:{encoder}", **settings, trust_remote_code=True).fingerprint
    change(best, "encoders.text.trust_remote_code", True)
    change(best, "encoders.text.fingerprint", fingerprint)
    fails(run, predict(best), str(encoder), "allow it with --trust_remote_code true")
    assert not sign.exists()
    run(predict(best, "--trust_remote_code", "true"))
    assert sign.exists(), "the permission is what kept it from running"


def test_processes_that_diverge_end_together(workplace: Workplace) -> None:
    done = workplace.launch("train", "--training.learning_rate", "1e30", processes=2)
    assert done.returncode != 0
    assert "training diverged in step 2 (epoch 1)" in done.stderr
    assert not list(run_folder(workplace).rglob("*.safetensors"))


def test_processes_that_are_kept_out_end_together(workplace: Workplace) -> None:
    with held_elsewhere(run_folder(workplace)) as holder:
        done = workplace.launch("train", processes=2)
    assert done.returncode != 0
    assert f"is being trained by process {holder.pid}" in done.stderr
    assert not run_folder(workplace).exists()


def test_a_table_is_kept_out_of_runs_that_are_being_trained(workplace: Workplace, run: Run) -> None:
    options = ["--crossval.models", "[concat]", "--crossval.seeds", "2", "--crossval.folds", "one"]
    arguments = workplace.arguments("crossval", *options, "--crossval.workers", "2")
    with held_elsewhere(workplace.folder / "work" / "small" / "crossval" / "concat" / "3" / "seed1") as holder:
        fails(run, arguments, f"is being trained by process {holder.pid}", "--name NAME")
    assert run(arguments)[0] == 0
    assert not list(workplace.folder.rglob("*.lock"))
