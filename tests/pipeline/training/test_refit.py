"""Trained once more, on the development dialogues too: what is taken from the first run, and what is said of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lpgnet.model.configuration import read_config
from lpgnet.pipeline.common.processes import make_accelerator
from lpgnet.pipeline.config import Config, SplitsConfig
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.evaluation.development import measure_development
from lpgnet.pipeline.evaluation.run_results import evaluate_run
from lpgnet.pipeline.reports.run import write_run_report, write_training_plot
from lpgnet.pipeline.reports.targets import describe_refit
from lpgnet.pipeline.training import refit as module
from lpgnet.pipeline.training.freshness import Refit, is_done
from lpgnet.pipeline.training.refit import first_folder, read_first, refit_folder, refit_run, with_development
from lpgnet.pipeline.training.runs import read_inputs, read_log, recipe_of, refit_of
from lpgnet.pipeline.training.splits import make_split as make_speaker_split
from lpgnet.pipeline.training.trainer import Trainer, train_run
from tests.pipeline.tensors import make_config, make_corpus, make_split

CORPUS = make_corpus("text", dialogues=24)
SPLIT = make_split(CORPUS)
CONFIG = make_config(epochs=8, class_weights="inverse")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def train_twice(folder: Path, config: Config = CONFIG) -> tuple[Path, Path]:
    """The folders of the first run and of the second one."""
    first, second = folder / "seed0", folder / "seed0-refit"
    accelerator = make_accelerator("cpu")
    train_run(config, CORPUS, SPLIT, first, accelerator, measure_development)
    refit_run(config, CORPUS, SPLIT, first, second, accelerator)
    return first, second


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    torch.set_num_threads(1)
    return train_twice(tmp_path_factory.mktemp("twice"))


def test_the_second_run_learns_from_all_for_as_many_epochs(twice: tuple[Path, Path]) -> None:
    first, second = twice
    chosen = read_first(first)
    assert chosen.epochs in (7, 8) and chosen.select == "weighted_f1"
    models = [read_config(folder / "best" / "config.json") for folder in (first, second)]
    assert [one.trained_on["dialogues"] for one in models] == [len(SPLIT.train), len(SPLIT.train) + len(SPLIT.dev)]
    assert models[0].calibration_temperature == models[1].calibration_temperature == chosen.temperature
    assert models[0].distances == models[1].distances != {}
    assert models[0].class_weights != models[1].class_weights, "of all that it learns from"
    log = read_log(second)
    assert [entry.epoch for entry in log] == list(range(1, chosen.epochs + 1))
    assert all(entry.dev == {} for entry in log)
    assert log[-1].learning_rate < 0.05 * CONFIG.training.learning_rate, "the rate has fallen"
    assert (recipe_of(second).select, recipe_of(second).epochs) == ("last", chosen.epochs)


def test_its_standardization_is_of_all_that_it_learns_from(twice: tuple[Path, Path]) -> None:
    found = [load_file(folder / "best" / "model.safetensors")["mixes.text.mean"] for folder in twice]
    turns = torch.cat([d.inputs["text"] for d in with_development(SPLIT, CORPUS.dialogues).train])
    torch.testing.assert_close(found[1], turns.mean(0))
    assert not torch.equal(*found)


def test_no_development_score_is_claimed_for_it(twice: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = (read_config(folder / "best" / "config.json").trained_on["score"] for folder in twice)
    assert first["split"] == "development" and second is None


def test_its_folder_and_its_card_tell_it(twice: tuple[Path, Path]) -> None:
    first, second = twice
    assert refit_of(first) is None and refit_of(second) == read_first(first)
    results, folder = evaluate_run(
        CONFIG, CORPUS, with_development(SPLIT, CORPUS.dialogues), second, make_accelerator("cpu")
    )
    write_training_plot(second)
    write_run_report(results, folder, CONFIG)
    card = " ".join((second / "best" / "README.md").read_text().split())
    epochs = read_first(first).epochs
    assert (
        "epoch chosen by weighted F1 on development dialogues by a first run, "
        f"then trained anew for {epochs} epochs on these too (refitted)"
    ) in card
    assert "which was fitted by the first run on the development dialogues" in card
    trained_on = read_config(second / "best" / "config.json").trained_on
    assert trained_on["score"]["split"] == "test" and trained_on["dialogues"] == len(SPLIT.train) + len(SPLIT.dev)
    assert is_done(second, read_inputs(second / "inputs.json")), "what evaluate adds is no change of the run"


def test_done_twice_is_up_to_date(twice: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for folder in twice for path in folder.rglob("*.safetensors")}
    train_twice(twice[0].parent)
    assert capsys.readouterr().err.count("up to date") == 2
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_first_run_that_ended_elsewhere_makes_another_second_one(
    twice: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = read_first(twice[0])
    accelerator = make_accelerator("cpu")
    for epochs in (2, 3):
        monkeypatch.setattr(module, "read_first", lambda _, epochs=epochs: replace(found, epochs=epochs))
        refit_run(CONFIG, CORPUS, SPLIT, twice[0], tmp_path / "second", accelerator)
    assert len(read_log(tmp_path / "second")) == 3 and len(read_log(tmp_path / "second~1")) == 2


def test_resumed_is_uninterrupted(twice: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(trainer: Trainer) -> None:
        if trainer.progress.epoch == 3:
            raise KeyboardInterrupt
        write_log(trainer)

    write_log = Trainer._write_log
    accelerator = make_accelerator("cpu")
    monkeypatch.setattr(Trainer, "_write_log", stop)
    with pytest.raises(KeyboardInterrupt):
        refit_run(CONFIG, CORPUS, SPLIT, twice[0], tmp_path / "second", accelerator)
    monkeypatch.setattr(Trainer, "_write_log", write_log)
    refit_run(CONFIG, CORPUS, SPLIT, twice[0], tmp_path / "second", accelerator)
    weights = [load_file(folder / "best" / "model.safetensors") for folder in (twice[1], tmp_path / "second")]
    assert all(torch.equal(values, weights[1][name]) for name, values in weights[0].items())


def test_with_a_constant_rate_the_best_of_any_epoch_counts(tmp_path: Path) -> None:
    config = make_config(epochs=9, schedule="constant", patience=1)
    first, second = train_twice(tmp_path, config)
    assert len(read_log(second)) == read_first(first).epochs <= len(read_log(first))


@pytest.mark.parametrize(
    "broken", [5, [], {}, {"epochs": 0}, {"select": "best", "epochs": 2, "temperature": 1.0, "distances": {}}]
)
def test_what_a_folder_says_of_it_is_read_or_refused_in_one_line(broken: Any, tmp_path: Path) -> None:
    (tmp_path / "inputs.json").write_text(json.dumps({"training": {}, "refit": broken}))
    with pytest.raises(PipelineError, match=r"inputs\.json: key 'refit'") as caught:
        refit_of(tmp_path)
    assert "\n" not in str(caught.value)


def test_all_labels_of_development_dialogues_are_learned_also_those_that_were_not_developed_on() -> None:
    """Of speakers who stood aside while others were developed on."""
    dialogues = [
        replace(one, utterances=tuple(replace(turn, speaker=f"{turn.speaker}{n // 8}") for turn in one.utterances))
        for n, one in enumerate(CORPUS.dialogues)
    ]
    split = make_speaker_split(dialogues, SplitsConfig(scheme="speaker", test=["A2", "B2"], dev="speaker"))
    known = {one.dialogue_id: one for one in dialogues}
    assert any(not torch.equal(one.labels, known[one.dialogue_id].labels) for one in split.dev)
    learned = with_development(split, dialogues)
    assert learned.dev == () and learned.test == split.test
    assert [one.dialogue_id for one in learned.train] == [one.dialogue_id for one in (*split.train, *split.dev)]
    assert all(one is known[one.dialogue_id] for one in learned.train)


def test_the_second_run_is_beside_the_first_one(tmp_path: Path) -> None:
    first, second = tmp_path / "seed3", tmp_path / "seed3-refit"
    assert refit_folder(first) == second and first_folder(second) == first_folder(first) == first


def test_in_words() -> None:
    one = Refit("loss", 1, 1.0)
    assert describe_refit(one, "session") == (
        "epoch chosen by loss on development dialogues of whole sessions by a first run, "
        "then trained anew for 1 epoch on these too (refitted)"
    )
