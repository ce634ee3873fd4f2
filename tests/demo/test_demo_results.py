"""The demo as it is shipped: fusing is worth something on held-out voices, and the new recording is labelled."""

import csv
import json
from pathlib import Path

import pytest

from lpgnet.pipeline import cli

ROOT = Path(__file__).parents[2]
RECORDING = ROOT / "examples" / "demo" / "recording"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the default configuration, trained and evaluated."""
    work = tmp_path_factory.mktemp("work")
    options = ["--config", "configs/demo.yaml", "--work", str(work), "--features.store", str(work / "store")]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        for stage in ("prepare", "features", "train", "evaluate"):
            assert cli.main([stage, *options]) == 0
    return work / "demo" / "runs" / "default"


def test_fusing_is_worth_something_on_voices_that_were_held_out(run: Path) -> None:
    heads = json.loads((run / "metrics.json").read_text())["heads"]
    fused = heads["fused"]["weighted_f1"]
    assert fused >= 0.85
    assert fused >= 0.05 + max(heads[name]["weighted_f1"] for name in ("text", "audio"))


def test_the_new_recording_gets_its_true_labels(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    arguments = [str(RECORDING / "recording.flac"), "--model", str(run), "--out", str(tmp_path)]
    assert cli.main(["predict", *arguments]) == 0
    rows = [json.loads(line) for line in (tmp_path / "recording.jsonl").read_text().splitlines()]
    names = {"ang": "angry", "hap": "happy", "neu": "neutral", "sad": "sad"}
    with (RECORDING / "recording.truth.csv").open(newline="") as file:
        truth = [names[row["label"]] for row in csv.DictReader(file)]
    right = sum(row["label"] == label for row, label in zip(rows, truth, strict=True))
    assert right >= 0.8 * len(truth)
