"""`lpgnet search` on real runs: the same trials with any workers and stops, by no label of the test split."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from lpgnet.pipeline import cli
from lpgnet.pipeline.config import Config, parse_config
from tests.e2e.workplace import Run, Workplace, fails, read_table, write_config, write_table

SPACE = (
    "{training.learning_rate: {low: 1e-3, high: 1e-1, log: true}, "
    "model.hidden_size: [8, 16], model.kernel_size: [1, 3]}"
)
OPTIONS = ["--search.space", SPACE, "--search.trials", "5", "--search.seeds", "2", "--search.at_once", "2"]
STUDY = Path("work/small/search/default")


def search(place: Workplace, *more: str) -> list[str]:
    return place.arguments("search", *OPTIONS, *more)


def results(place: Workplace) -> Any:
    return json.loads((place.folder / STUDY / "results.json").read_text())


def table(place: Workplace) -> list[dict[str, Any]]:
    """What was tried and what it scored; how long it took differs."""
    return [{name: value for name, value in trial.items() if name != "seconds"} for trial in results(place)["trials"]]


def copy_of(place: Workplace, folder: Path, encoders: Path) -> Workplace:
    shutil.copytree(place.folder, folder, dirs_exist_ok=True)
    copy = Workplace(folder, folder / "corpus", folder / "x.yaml")
    write_config(copy.config, copy.corpus, encoders, folder / "work")
    assert cli.main(copy.arguments("prepare")) == 0
    return copy


@pytest.fixture(scope="module")
def searched(extracted: Workplace, tmp_path_factory: pytest.TempPathFactory, tiny_encoders: Path) -> Workplace:
    """A workplace with a search that was not stopped."""
    place = copy_of(extracted, tmp_path_factory.mktemp("searched"), tiny_encoders)
    assert cli.main(search(place, "--search.workers", "2")) == 0
    return place


def test_a_search_writes_its_trials_report_and_best(searched: Workplace, run: Run) -> None:
    found = results(searched)
    assert [trial["number"] for trial in found["trials"]] == [0, 1, 2, 3, 4]
    assert all(list(map(len, trial["scores"].values())) == [2] for trial in found["trials"])
    assert found["configured"] == 0 and found["test"] is None
    code, out, err = run(search(searched))
    assert code == 0 and "trials" not in err
    assert "as configured" in out and "The test data were not looked at." in out
    page = (searched.folder / STUDY / "report.html").read_text()
    assert "biased upward" in page and "The test data were not looked at." in page
    best = max(found["trials"], key=lambda trial: sum(trial["scores"]["3"]))
    overlay = searched.folder / STUDY / "best.yaml"
    laid = parse_config("train", searched.arguments("train", "--config", str(overlay))[1:], Config)
    assert laid.training.learning_rate == best["settings"]["training.learning_rate"]
    assert getattr(laid.model, "hidden_size", None) == best["settings"]["model.hidden_size"]
    assert list(yaml.safe_load(overlay.read_text())) == ["model", "training"]


def test_a_run_of_a_search_is_that_of_train(searched: Workplace) -> None:
    """Equivalence: a trial's score is what `train` reaches with its values."""
    trial = results(searched)["trials"][1]
    values = [f"--{key}={json.dumps(value)}" for key, value in trial["settings"].items()]
    assert cli.main(searched.arguments("train", "--training.seed", "1", *values)) == 0
    log = (searched.folder / "work/small/runs/default/metrics.jsonl").read_text().splitlines()
    # Of three epochs the last quarter is the last.
    assert json.loads(log[-1])["dev"]["weighted_f1"] == trial["scores"]["3"][1]


def test_no_run_is_measured_on_the_test_split(searched: Workplace) -> None:
    runs = list((searched.folder / STUDY / "runs").glob("*/3/seed*"))
    assert len(runs) == 10
    assert not any((run / name).exists() for run in runs for name in ("metrics.json", "predictions.jsonl"))


def test_killed_and_with_another_number_of_workers_it_is_the_same_search(
    searched: Workplace, extracted: Workplace, tmp_path: Path, tiny_encoders: Path
) -> None:
    place = copy_of(extracted, tmp_path, tiny_encoders)
    command = [sys.executable, "-m", "lpgnet", *search(place, "--search.workers", "1")]
    with subprocess.Popen(command, cwd=place.folder, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        while not (place.folder / STUDY / "results.json").exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    kept = table(place)
    assert 1 <= len(kept) < 5
    first = place.folder / STUDY / "runs/trial-0000/3/seed0/done.json"
    written = first.stat().st_mtime_ns
    assert cli.main(search(place, "--search.workers", "2")) == 0
    assert table(place) == table(searched)
    assert table(place)[: len(kept)] == kept and first.stat().st_mtime_ns == written


def test_the_labels_of_the_test_split_change_nothing(
    searched: Workplace, extracted: Workplace, tmp_path: Path, tiny_encoders: Path
) -> None:
    """Those of the session that is tested on say something else, its ratings too: trials and scores are the same."""
    place = copy_of(extracted, tmp_path, tiny_encoders)
    rows = read_table(place.corpus / "utterances.csv")
    turned = {"ang": "hap", "hap": "neu", "neu": "sad", "sad": "ang"}
    for row in rows:
        if row["session"] == "3":
            row["label"] = turned[row["label"]]
            row |= {name: "1.0" for name in ("valence", "arousal", "dominance") if row[name]}
    write_table(place.corpus / "utterances.csv", rows)
    assert cli.main(place.arguments("prepare")) == 0
    assert cli.main(search(place, "--search.workers", "2")) == 0
    assert table(place) == table(searched)
    assert results(place)["inputs"]["data"] != results(searched)["inputs"]["data"]


def test_the_test_data_are_looked_at_once(searched: Workplace, tmp_path: Path, run: Run) -> None:
    place = Workplace(tmp_path, searched.corpus, searched.config)
    shutil.copytree(searched.folder / STUDY, tmp_path / "work/small/search/default")
    for name in ("manifest.jsonl", "corpus.json", "prepare.json", "features.json", "speech.json"):
        if (known := searched.folder / "work/small" / name).exists():
            shutil.copy(known, tmp_path / "work/small" / name)
    there = ["--work", str(tmp_path / "work"), "--search.workers", "2"]
    code, out, _ = run(search(place, *there, "--search.show_test", "true"))
    assert code == 0 and "looked at once, on 20" in out and "after 5 trials" in out
    look = results(place)["test"]
    best = max(results(place)["trials"], key=lambda trial: sum(trial["scores"]["3"]))["number"]
    assert (look["trial"], look["trials"]) == (best, 5) and 0 <= look["scores"]["weighted_f1"] <= 1
    measured = list((tmp_path / STUDY / "runs").rglob("metrics.json"))
    assert {path.parents[2].name for path in measured} == {f"trial-{best:04d}"}

    for path in measured:
        path.unlink()
    more = ["--search.trials", "6", "--search.show_test", "true"]
    code, out, _ = run(search(place, *there, *more))
    assert code == 0 and "1 later trial was chosen with that knowledge" in out and "5 †" in out
    assert results(place)["test"] == look
    assert not list((tmp_path / STUDY / "runs").rglob("metrics.json"))
    assert "chosen with that knowledge" in (tmp_path / STUDY / "report.html").read_text()

    # Killed between the note and the scores: the scores of the same trial, and no others.
    path = tmp_path / STUDY / "results.json"
    path.write_text(json.dumps(results(place) | {"test": look | {"scores": None}}))
    shutil.rmtree(tmp_path / STUDY / f"runs/trial-{best:04d}")
    code, out, _ = run(search(place, *there, "--search.trials", "6"))
    assert code == 0 and "are not there yet" in out
    assert cli.main(search(place, *there, *more)) == 0
    assert results(place)["test"] == look


def test_what_cannot_be_trained_is_a_row_and_what_is_the_same_is_not_trained_again(
    searched: Workplace, run: Run
) -> None:
    space = "{training.learning_rate: [1e-3, 1e30], model.type: [lpgnet, concat], model.hidden_size: [16, 18]}"
    options = ["--search.space", space, "--search.study", "bad", "--search.seeds", "1", "--search.workers", "2"]
    code, out, _ = run(searched.arguments("search", *options, "--search.at_once", "8"))
    assert code == 0
    folder = searched.folder / "work/small/search/bad"
    trials = json.loads((folder / "results.json").read_text())["trials"]
    assert len(trials) == 8 and "of which 5 failed" in out
    assert len({json.dumps(trial["settings"]) for trial in trials}) == 8
    for trial in trials:
        values, reason = trial["settings"], trial["reason"] or ""
        if values["model.type"] == "lpgnet" and values["model.hidden_size"] == 18:
            assert "num_attention_heads is 4 and must divide hidden_size" in reason
        else:
            assert ("diverged" in reason) == (values["training.learning_rate"] == 1e30)
            assert str(folder) not in reason
        assert (trial["same_as"] is not None) == (
            values["model.type"] == "concat" and values["model.hidden_size"] == 18
        )
    trained = {path.name for path in (folder / "runs").iterdir()}
    assert trained == {f"trial-{n:04d}" for n, t in enumerate(trials) if t["same_as"] is None} - {
        f"trial-{n:04d}" for n, t in enumerate(trials) if "must divide" in (t["reason"] or "")
    }
    worse = ["--search.space", "{training.learning_rate: [1e30]}", "--search.study", "worse", "--search.seeds", "1"]
    fails(run, searched.arguments("search", *worse), "all trials failed; the first: fold 3: training diverged")


def test_a_study_of_other_settings_or_data_is_refused(searched: Workplace, run: Run) -> None:
    before = table(searched)
    fails(run, search(searched, "--training.epochs", "4"), "begun with other training", "--search.study", code=2)
    fails(run, search(searched, "--splits.test", "['1']"), "begun with other fold, splits", code=2)
    fails(run, search(searched, "--search.seeds", "1"), "begun with other seeds", code=2)
    fails(run, search(searched, "--search.space", "{model.hidden_size: [8]}"), "begun with other space", code=2)
    fails(run, search(searched, "--search.space", "{labels: [{}]}"), "key 'search.space': labels", code=2)
    fails(run, search(searched, "--evaluation.modalities", "[text]"), "evaluation.modalities is for", code=2)
    fails(run, searched.arguments("search"), "key 'search.space': name what to search", code=2)
    assert table(searched) == before


def test_without_optuna_one_line_says_what_to_install(
    extracted: Workplace, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    fails(run, search(extracted), "pip install 'lpgnet[search]'")
