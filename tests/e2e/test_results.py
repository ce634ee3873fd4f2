"""Tables and comparisons as commands: side by side as one after another, and going on where they stopped."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

from tests.e2e.workplace import Run, Workplace

TWO_SEEDS = ["--crossval.seeds", "2", "--crossval.folds", "one", "--evaluation.missing_shares", "[1.0]"]


def table_of(workplace: Workplace) -> Path:
    return workplace.folder / "work" / "small" / "crossval"


def predictions_of(workplace: Workplace) -> dict[str, str]:
    files = sorted(table_of(workplace).rglob("predictions.jsonl"))
    return {str(file.relative_to(table_of(workplace))): file.read_text() for file in files}


def test_side_by_side_is_one_after_another_and_a_stopped_table_goes_on(workplace: Workplace, run: Run) -> None:
    options = [*TWO_SEEDS, "--crossval.models", "[lpgnet, concat]"]
    code, _, said = run(workplace.arguments("crossval", *options, "--crossval.workers", "2"))
    assert code == 0 and "crossval: runs in 2 processes of one thread\n" in said
    together = predictions_of(workplace)
    assert len(together) == 4
    shutil.rmtree(table_of(workplace) / "lpgnet")
    kept = {file: file.stat().st_mtime_ns for file in table_of(workplace).rglob("concat/**/predictions.jsonl")}
    code, _, said = run(workplace.arguments("crossval", *options, "--crossval.workers", "1"))
    assert code == 0 and "crossval: runs in 1 process of one thread\n" in said
    assert predictions_of(workplace) == together
    assert kept == {file: file.stat().st_mtime_ns for file in kept}, "what was measured is not measured again"
    row = [str(table_of(workplace) / name) for name in ("lpgnet", "concat")]
    code, compared, _ = run(["compare", *row, "--resamples", "100"])
    assert code == 0
    assert "seed1" in compared
    assert "weighted F1" in compared
    report = (table_of(workplace) / "report.html").read_text()
    assert "Differences from lpgnet" in report
    assert (table_of(workplace) / "table.tex").exists()


def test_a_killed_table_leaves_no_process_and_goes_on(workplace: Workplace, run: Run) -> None:
    options = [*TWO_SEEDS, "--crossval.workers", "2", "--training.epochs", "2000"]
    command = [sys.executable, "-m", "lpgnet.pipeline.crossval", *workplace.arguments("crossval", *options)[1:]]
    before = {path.name for path in (workplace.folder / "work" / "small").iterdir()}
    process = subprocess.Popen(command, cwd=workplace.folder, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while len(list(table_of(workplace).rglob("epoch-*.safetensors"))) < 2 and process.poll() is None:
        time.sleep(0.05)
    workers = children_of(process.pid)
    assert workers
    folder = workplace.folder / "work" / "small"
    kept = {path.name for path in folder.iterdir()}
    process.send_signal(signal.SIGKILL)
    process.wait()
    for _ in range(200):
        if not any(is_running(worker) for worker in workers):
            break
        time.sleep(0.05)
    assert not any(is_running(worker) for worker in workers)
    assert {path.name for path in folder.iterdir()} == kept <= {*before, "crossval"}, "nothing that was mapped is left"
    short = [*TWO_SEEDS, "--crossval.workers", "1"]
    assert run(workplace.arguments("crossval", *short))[0] == 0


def test_a_refitted_table(workplace: Workplace, run: Run) -> None:
    """Each run twice: the first chooses the epochs, the second is what is measured and compared."""
    options = [*TWO_SEEDS, "--crossval.models", "[concat]", "--crossval.refit", "true", "--crossval.workers", "2"]
    assert run(workplace.arguments("crossval", *options))[0] == 0
    fold = table_of(workplace) / "concat" / "3"
    assert sorted(path.name for path in fold.iterdir()) == ["seed0", "seed0-refit", "seed1", "seed1-refit"]
    assert json.loads((fold / "seed0-refit" / "measured.json").read_text())["refit"] is True
    assert (
        "then trained anew for as many epochs on these too (refitted)"
        in (table_of(workplace) / "report.html").read_text()
    )
    assert json.loads((table_of(workplace) / "results.json").read_text())["rows"][0]["refit"] is True
    before = (fold / "seed0-refit" / "predictions.jsonl").stat().st_mtime_ns
    assert run(workplace.arguments("crossval", *options))[0] == 0
    assert (fold / "seed0-refit" / "predictions.jsonl").stat().st_mtime_ns == before
    assert run(["compare", str(fold.parent), str(fold.parent), "--resamples", "10"])[0] == 0


def children_of(pid: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def is_running(pid: int) -> bool:
    import psutil

    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_overlays_are_rows_and_their_difference_is_told(workplace: Workplace, run: Run) -> None:
    folder = workplace.folder / "overlays"
    folder.mkdir()
    (folder / "no-gate-1.yaml").write_text(yaml.safe_dump({"model": {"path_gate": False}}))
    (folder / "precision.yaml").write_text(yaml.safe_dump({"training": {"mixed_precision": "bf16"}}))
    options = ["--crossval.overlays", f'["{folder}"]', "--crossval.table", "ablations", "--crossval.workers", "1"]
    code, out, _ = run(workplace.arguments("crossval", *TWO_SEEDS, *options))
    assert code == 0
    assert "no-gate-1" in out
    assert "Δ weighted F1 vs lpgnet" in out
    results = json.loads((workplace.folder / "work" / "small" / "ablations" / "results.json").read_text())
    full, ablated, bf16 = results["rows"]
    assert bf16["parameters"] == full["parameters"]
    assert bf16["model"] == "precision"
    assert ablated["parameters"] == full["parameters"] - 4 * 16 * 16
    low, high = ablated["differences"]["weighted_f1"]["interval"]
    assert low <= ablated["differences"]["weighted_f1"]["value"] <= high


def test_a_table_in_the_same_process_sees_what_was_prepared_since(workplace: Workplace, run: Run) -> None:
    options = ["--crossval.models", "[concat]", "--crossval.seeds", "1", "--crossval.folds", "one"]
    assert run(workplace.arguments("crossval", *options))[0] == 0
    before = json.loads((table_of(workplace) / "results.json").read_text())["rows"][0]["n"]
    manifest = workplace.folder / "work" / "small" / "manifest.jsonl"
    lines = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(lines[:-1]))
    assert run(workplace.arguments("crossval", *options))[0] == 0
    assert json.loads((table_of(workplace) / "results.json").read_text())["rows"][0]["n"] == before - 1


def test_rows_of_a_preset_and_of_other_embeddings_side_by_side(workplace: Workplace, run: Run) -> None:
    folder = workplace.folder / "overlays"
    folder.mkdir()
    (folder / "last-layer.yaml").write_text(yaml.safe_dump({"encoders": {"audio": {"layers": "last"}}}))
    (folder / "short.yaml").write_text(yaml.safe_dump({"encoders": {"text": {"context_turns": 0}}}))
    options = [*TWO_SEEDS, "--crossval.presets", "[lpgnet-plus]", "--crossval.overlays", f'["{folder}"]']
    options += ["--crossval.baseline", "lpgnet-plus", "--encoders.audio.layers", "all"]
    assert run(workplace.arguments("features", "--encoders.audio.layers", "all"))[0] == 0
    code, out, told = run(workplace.arguments("crossval", *options, "--crossval.workers", "2"))
    assert code == 0
    assert "Δ weighted F1 vs lpgnet-plus" in out
    assert all(f"\n{row}: WA 0." in f"\n{told}" for row in ("lpgnet", "lpgnet-plus", "last-layer", "short"))
    together = predictions_of(workplace)
    assert len(together) == 8
    shutil.rmtree(table_of(workplace))
    assert run(workplace.arguments("crossval", *options, "--crossval.workers", "1"))[0] == 0
    assert predictions_of(workplace) == together


def test_speakers_one_by_one(workplace: Workplace, run: Run) -> None:
    options = ["--splits.scheme", "speaker", "--crossval.seeds", "1", "--crossval.workers", "1"]
    code, _, _ = run(workplace.arguments("crossval", *options, "--training.epochs", "1"))
    assert code == 0
    results = json.loads((table_of(workplace) / "results.json").read_text())
    assert len(results["protocol"]["folds"]) == 6
    assert results["rows"][0]["n"] == 90, "every utterance is tested once, though all dialogues have two speakers"
    assert not any(speaker["seen"] for speaker in results["rows"][0]["speakers"].values())


def test_one_modality_of_a_model_of_both(workplace: Workplace, run: Run) -> None:
    assert run(workplace.arguments("train"))[0] == 0
    assert run(workplace.arguments("evaluate"))[0] == 0
    folder = workplace.folder / "work" / "small" / "runs" / "default"
    card = (folder / "best" / "README.md").read_text()
    for words in ("expected calibration error", "Trained for 3 epochs", "| Eve |", "verbatim"):
        assert words in card
    assert json.loads((folder / "best" / "config.json").read_text())["calibration_temperature"] > 0
    metrics = (folder / "metrics.json").read_text()
    assert [len(points) for points in json.loads(metrics)["missing"].values()] == [4, 4]
    assert all((folder / name).stat().st_size for name in ("missing.png", "reliability.png"))
    code, out, _ = run(workplace.arguments("evaluate", "--evaluation.modalities", "[audio]"))
    assert code == 0
    assert "with-audio-alone" in out
    assert (folder / "metrics.json").read_text() == metrics
    assert (folder / "best" / "README.md").read_text() == card
    code, out, _ = run(["compare", str(folder), str(folder / "with-audio-alone")])
    assert code == 0
    assert "A − B" in out


def rate(workplace: Workplace) -> None:
    """Make up raters for the corpus: two of three hear the label, and happy and angry turns excite."""
    folder = workplace.folder / "work" / "small"
    lines = (folder / "manifest.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    for number, row in enumerate(rows):
        votes = {row["label"]: 2, "neu" if row["label"] != "neu" else "sad": 1}
        arousal = 2.0 + 2.0 * (row["label"] in ("hap", "ang")) + number % 3 / 4
        row.update(votes=votes, valence=None, arousal=arousal if number % 5 else None, dominance=None)
        row["label"] = row["label"] if number % 4 else None
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = json.loads((folder / "corpus.json").read_text())
    (folder / "corpus.json").write_text(json.dumps({**corpus, "ranges": {"arousal": [1, 5]}}))


def test_votes_and_ratings_from_training_to_a_comparison(workplace: Workplace, run: Run) -> None:
    rate(workplace)
    folder = workplace.folder / "overlays"
    folder.mkdir()
    rated = {"model": {"dimensions": ["arousal"]}, "training": {"target": "distribution", "select": "ccc"}}
    (folder / "rated.yaml").write_text(yaml.safe_dump(rated))
    (folder / "same.yaml").write_text(yaml.safe_dump(rated))
    options = ["--crossval.overlays", f'["{folder}"]', "--crossval.workers", "1"]
    code, out, err = run(workplace.arguments("crossval", *TWO_SEEDS, *options))
    assert code == 0, err
    assert "best dev weighted_f1" in err and "best dev ccc" in err
    assert all(words in out for words in ("Raters' votes", "Δ JSD vs lpgnet", "rated: arousal", "1 to 5"))
    report = (table_of(workplace) / "report.html").read_text()
    assert report.count('alt="Predictions against ratings of ') == 2
    (seed,) = table_of(workplace).glob("rated/*/seed1")
    assert (seed / "arousal.png").stat().st_size
    card = (seed / "best" / "README.md").read_text()
    assert "Trained to predict the shares of the raters' votes" in card and "arousal (1 to 5), in the units" in card
    plain, first, second = json.loads((workplace.folder / "work/small/crossval/results.json").read_text())["rows"]
    assert plain["dimensions"] == {}
    assert "ccc.arousal" not in first["differences"]
    assert first["distribution"]["n"] == plain["distribution"]["n"] > plain["n"]
    assert first["dimensions"] == second["dimensions"]
    scores = first["dimensions"]["arousal"]
    assert (scores["low"], scores["high"]) == (1, 5)
    low, high = scores["intervals"]["ccc"]
    assert -1 <= low <= scores["ccc"] <= high <= 1
    rows = [str(table_of(workplace) / name) for name in ("rated", "same", "lpgnet")]
    code, out, _ = run(["compare", rows[0], rows[1], "--resamples", "50"])
    assert code == 0 and "CCC of arousal" in out and "JSD, cross-entropy and RMSE are better when lower" in out
    code, out, _ = run(["compare", rows[0], rows[2], "--resamples", "50"])
    assert code == 0 and "JSD" in out and "CCC" not in out


def test_two_processes_choose_the_epoch_with_the_least_loss(workplace: Workplace) -> None:
    rate(workplace)
    options = ["--model.dimensions", "[arousal]", "--training.target", "distribution", "--training.select", "loss"]
    options += ["--training.schedule", "constant"]
    trained = workplace.launch("train", *options, processes=2)
    assert trained.returncode == 0, trained.stderr
    folder = workplace.folder / "work" / "small" / "runs" / "default"
    log = [json.loads(line)["dev"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [scores["loss"] for scores in log]
    epoch = losses.index(min(losses)) + 1
    assert f"best dev loss {min(losses):.3f} in epoch {epoch}" in trained.stderr
    assert {"jsd.votes", "ccc.arousal", "ccc"} <= log[0].keys()
    assert workplace.launch("train", *options, processes=2).stderr.count("up to date") == 1
