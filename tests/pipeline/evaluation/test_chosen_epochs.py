"""The chosen epoch of a run, with its development score and that of the test split by the same name."""

import json
from pathlib import Path

import pytest

from lpgnet.pipeline.common.files import write_json
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.evaluation.chosen_epochs import ChosenEpoch, chosen_epoch
from lpgnet.pipeline.evaluation.run_results import read_results
from lpgnet.pipeline.training.freshness import INPUTS_FILE, LOG_FILE
from tests.pipeline.tensors import make_config, make_corpus, train_and_test

TEST = {"weighted_f1": 0.4, "ua": 0.3, "ccc": 0.2}


def write_log(folder: Path, select: str, *epochs: dict[str, float]) -> None:
    entries = [
        {"epoch": n, "loss": 1.0, "dev": scores, "learning_rate": 0.1, "train_seconds": 1.0}
        for n, scores in enumerate(epochs, start=1)
    ]
    (folder / LOG_FILE).write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    write_json(folder / INPUTS_FILE, {"training": {"select": select, "schedule": "constant"}})


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ("weighted_f1", ChosenEpoch(2, 3, "weighted_f1", 0.9, 0.4)),
        ("uar", ChosenEpoch(3, 3, "ua", 0.8, 0.3)),
        ("ccc", ChosenEpoch(1, 3, "ccc", 0.7, 0.2)),
        ("loss", ChosenEpoch(1, 3, "weighted_f1", 0.5, 0.4)),
        ("last", ChosenEpoch(3, 3, "weighted_f1", 0.0, 0.4)),
    ],
)
def test_the_test_score_is_of_the_same_name(tmp_path: Path, select: str, expected: ChosenEpoch) -> None:
    epochs = [{"weighted_f1": 0.5, "ua": 0.1, "ccc": 0.7, "loss": 1.0}, {"weighted_f1": 0.9, "ua": 0.1}, {"ua": 0.8}]
    whole = [{"weighted_f1": 0.0, "ua": 0.0, "ccc": 0.0, "loss": 2.0} | scores for scores in epochs]
    write_log(tmp_path, select, *whole)
    assert chosen_epoch(tmp_path, TEST) == expected


def test_what_does_not_tell_and_what_is_damaged(tmp_path: Path) -> None:
    assert chosen_epoch(tmp_path, TEST) is None
    write_log(tmp_path, "weighted_f1", {"weighted_f1": 0.5}, {"ua": 0.5})
    with pytest.raises(PipelineError, match=r"metrics\.jsonl: an epoch has no dev\.weighted_f1; delete"):
        chosen_epoch(tmp_path, TEST)
    write_log(tmp_path, "weighted_f1", {"weighted_f1": 0.5})
    assert chosen_epoch(tmp_path, {}) == ChosenEpoch(1, 1, "weighted_f1", 0.5, None), "the test split has no label"


def test_a_run_tells_the_epoch_of_its_model(tmp_path: Path) -> None:
    results = train_and_test(
        make_corpus("text", dialogues=24), make_config(epochs=3, select="uar", schedule="constant"), tmp_path
    )
    log = [json.loads(line) for line in (tmp_path / LOG_FILE).read_text().splitlines()]
    chosen = results.chosen
    assert chosen is not None
    assert (chosen.trained, chosen.score, chosen.test) == (3, "ua", results.fused.ua)
    assert chosen.development == log[chosen.epoch - 1]["dev"]["ua"] == max(entry["dev"]["ua"] for entry in log)
    assert results.dropout == 0.1
    assert read_results(tmp_path) == results
