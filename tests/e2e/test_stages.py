"""The four stages as commands: what they write, that nothing is done twice, and that a stop loses nothing."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tests.e2e.workplace import DEMO, ROOT, Run, Workplace, edit_in_disguise, read_table


def run_folder(workplace: Workplace, run: str = "default") -> Path:
    return workplace.folder / "work" / "small" / "runs" / run


def log_of(folder: Path) -> list[dict[str, object]]:
    """The log without what depends on the clock."""
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in entry.items() if name != "train_seconds"} for entry in entries]


def test_from_recordings_to_a_timeline(workplace: Workplace, run: Run, tmp_path: Path) -> None:
    assert run(workplace.arguments("train"))[0] == 0
    code, out, _ = run(workplace.arguments("evaluate"))
    folder = run_folder(workplace)
    assert code == 0 and "weighted F1" in out and "fused" in out
    for name in ("config.yaml", "environment.json", "metrics.jsonl", "metrics.json", "confusion.png", "training.png"):
        assert (folder / name).stat().st_size > 0
    card = (folder / "best" / "README.md").read_text()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert f"{metrics['heads']['fused']['weighted_f1']:.3f}" in card
    assert "What it must not be used for" in card

    recording = DEMO / "recording" / "recording.flac"
    code, out, _ = run(["predict", str(recording), "--model", str(folder), "--out", str(tmp_path / "out")])
    assert code == 0 and "emotion" in out
    rows = [json.loads(line) for line in (tmp_path / "out" / "recording.jsonl").read_text().splitlines()]
    table = read_table(tmp_path / "out" / "recording.csv")
    assert len(rows) == len(table) == (DEMO / "recording" / "recording.srt").read_text().count("-->")
    for row, cells in zip(rows, table, strict=True):
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert sum(row["modality_weights"].values()) == pytest.approx(1, abs=1e-5)
        assert row["label"] == max(row["probabilities"], key=row["probabilities"].get) == cells["label"]
        assert row["speaker"] and row["text"] == cells["text"]


def test_what_is_done_is_not_done_again(workplace: Workplace, run: Run) -> None:
    code, out, err = run(workplace.arguments("prepare"))
    assert code == 0 and "up to date" in err
    shards = sorted((workplace.folder / "work" / "store").rglob("*.arrow*"))
    code, out, err = run(workplace.arguments("features"))
    assert code == 0 and "computed" not in out and " on cpu " not in err
    assert sorted((workplace.folder / "work" / "store").rglob("*.arrow*")) == shards
    assert run(workplace.arguments("train"))[0] == 0
    before = (run_folder(workplace) / "best" / "model.safetensors").stat().st_mtime_ns
    code, out, err = run(workplace.arguments("train"))
    assert code == 0 and "up to date" in err and " on cpu " not in err
    assert (run_folder(workplace) / "best" / "model.safetensors").stat().st_mtime_ns == before


def test_an_edited_table_that_kept_its_size_and_time_is_read_again(workplace: Workplace, run: Run) -> None:
    table, manifest = workplace.corpus / "utterances.csv", workplace.folder / "work" / "small" / "manifest.jsonl"
    word = read_table(table)[0]["text"].split()[0]
    for path, old in ((table, word), (manifest, word[::-1])):
        assert "up to date" in run(workplace.arguments("prepare"))[2]
        edit_in_disguise(path, f"{old} ", f"{old[::-1]} ")
        code, out, err = run(workplace.arguments("prepare"))
        assert code == 0 and "up to date" not in err and "utterances in" in out
    assert f"{word[::-1]} " in manifest.read_text()


def test_a_stamp_of_an_earlier_version_leads_to_one_run(workplace: Workplace, run: Run) -> None:
    stamp = workplace.folder / "work" / "small" / "prepare.json"
    values = json.loads(stamp.read_text())
    for name in ("sources", "outputs"):
        values[name] = {path: [Path(path).stat().st_size, 17 * 10**14] for path in values[name]}
    stamp.write_text(json.dumps(values))
    assert "up to date" not in run(workplace.arguments("prepare"))[2]
    assert "up to date" in run(workplace.arguments("prepare"))[2]


def test_nothing_to_do_imports_no_torch(workplace: Workplace) -> None:
    arguments = workplace.arguments("features")
    code = (
        f"import sys; from lpgnet.pipeline.cli import main; assert main({arguments!r}) == 0; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0


def test_another_configuration_moves_the_earlier_run_aside(workplace: Workplace, run: Run) -> None:
    assert run(workplace.arguments("train"))[0] == 0
    code, _, err = run(workplace.arguments("train", "--training.seed", "1"))
    assert code == 0 and "default~1" in err
    assert (run_folder(workplace, "default~1") / "best" / "model.safetensors").exists()


def test_a_killed_run_resumes_to_identical_weights(workplace: Workplace) -> None:
    options = ["--training.epochs", "8"]
    whole = workplace.launch("train", *options, "--run", "whole")
    assert whole.returncode == 0, whole.stderr
    command = [
        sys.executable,
        "-m",
        "lpgnet.pipeline.train",
        *workplace.arguments("train", *options, "--run", "killed")[1:],
    ]
    process = subprocess.Popen(command, cwd=workplace.folder, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    checkpoints = run_folder(workplace, "killed") / "checkpoints"
    while not list(checkpoints.glob("epoch-0000[2-7].safetensors")) and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (run_folder(workplace, "killed") / "done.json").exists()
    resumed = workplace.launch("train", *options, "--run", "killed")
    assert resumed.returncode == 0 and "resuming after epoch" in resumed.stderr
    assert log_of(run_folder(workplace, "killed")) == log_of(run_folder(workplace, "whole"))
    weights = [load_file(run_folder(workplace, name) / "best" / "model.safetensors") for name in ("killed", "whole")]
    assert weights[0].keys() == weights[1].keys()
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


def test_two_processes_train_and_evaluate(workplace: Workplace, run: Run) -> None:
    trained = workplace.launch("train", processes=2)
    assert trained.returncode == 0, trained.stderr
    folder = run_folder(workplace)
    assert json.loads((folder / "environment.json").read_text())["processes"] == 2
    assert len(log_of(folder)) == 3
    evaluated = workplace.launch("evaluate", processes=2)
    assert evaluated.returncode == 0, evaluated.stderr
    two = (folder / "metrics.json").read_text()
    assert run(workplace.arguments("evaluate"))[0] == 0
    assert (folder / "metrics.json").read_text() == two
    assert run(workplace.arguments("train", "--run", "one"))[0] == 0
    together, alone = (
        json.loads((path / "best" / "config.json").read_text()) for path in (folder, run_folder(workplace, "one"))
    )
    assert together["distances"] == alone["distances"]
    assert together["trained_on"].pop("score")["split"] == "test"
    assert alone["trained_on"].pop("score")["split"] == "development"
    assert together["trained_on"] == alone["trained_on"]


@pytest.mark.parametrize("loss", ["ccc", "mse"])
def test_two_processes_learn_from_raters_as_one_does(workplace: Workplace, run: Run, loss: str) -> None:
    """Without dropout and BatchNorm, of which each process has its own, both take the same steps."""
    options = ["--model.type", "sdt", "--model.dropout", "0", "--training.target", "distribution"]
    options += ["--training.unagreed", "use", "--model.dimensions", "[valence, arousal, dominance]"]
    options += ["--model.dimension_loss", loss]
    trained = workplace.launch("train", *options, processes=2)
    assert trained.returncode == 0, trained.stderr
    assert run(workplace.arguments("train", *options, "--run", "one"))[0] == 0
    folders = (run_folder(workplace), run_folder(workplace, "one"))
    together, alone = ([entry["loss"] for entry in log_of(folder)] for folder in folders)
    assert len(together) == 3 and together == pytest.approx(alone, rel=1e-4)
    config = json.loads((folders[0] / "best" / "config.json").read_text())
    assert sorted(config["ranges"]) == sorted(config["dimensions"]) == ["arousal", "dominance", "valence"]


def test_a_run_that_is_not_trained_to_its_end_is_measured_with_a_warning(workplace: Workplace, run: Run) -> None:
    assert run(workplace.arguments("train"))[0] == 0
    assert "not trained to its end" not in run(workplace.arguments("evaluate"))[2]
    (run_folder(workplace) / "done.json").unlink()
    code, _, said = run(workplace.arguments("evaluate"))
    assert code == 0 and "warning: this run is not trained to its end" in said


def test_one_modality_alone(workplace: Workplace, run: Run) -> None:
    options = ["--model.modalities", "[audio]", "--run", "audio"]
    assert run(workplace.arguments("train", *options))[0] == 0
    assert run(workplace.arguments("evaluate", *options))[0] == 0
    config = json.loads((run_folder(workplace, "audio") / "best" / "config.json").read_text())
    assert list(config["encoders"]) == ["audio"]


def test_crossval_gives_a_row_a_model(workplace: Workplace, run: Run) -> None:
    options = ["--crossval.models", "[lpgnet, concat]", "--crossval.seeds", "2", "--crossval.folds", "one"]
    code, out, _ = run(workplace.arguments("crossval", *options))
    assert code == 0 and "±" in out
    rows = json.loads((workplace.folder / "work" / "small" / "crossval" / "results.json").read_text())["rows"]
    assert [row["model"] for row in rows] == ["lpgnet", "concat"]
    again = run(workplace.arguments("crossval", *options))[1]
    assert again == out


def test_an_exported_model_needs_nothing_else(workplace: Workplace, run: Run, tmp_path: Path) -> None:
    assert run(workplace.arguments("train"))[0] == 0
    out = tmp_path / "exported"
    arguments = ["export", "--model", str(run_folder(workplace)), "--out", str(out), "--bundle_encoders", "true"]
    assert run(arguments)[0] == 0
    recording = str(DEMO / "recording" / "recording.flac")
    timelines = []
    for model in (str(run_folder(workplace)), str(out)):
        assert run(["predict", recording, "--model", model, "--out", str(tmp_path / "t")])[0] == 0
        timelines.append((tmp_path / "t" / "recording.jsonl").read_text())
    assert timelines[0] == timelines[1]


def test_the_demo_encoders_go_the_same_way(workplace: Workplace, run: Run) -> None:
    options = [f"--encoders.{name}.name=hf:{DEMO / 'encoders' / name}" for name in ("audio", "text")]
    code, out, _ = run(workplace.arguments("features", *options))
    assert code == 0 and "computed" in out
    code, out, _ = run(workplace.arguments("features"))
    assert code == 0 and "computed" not in out, "the other encoders' embeddings stay cached"
