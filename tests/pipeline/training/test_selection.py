"""The epoch is chosen by the score that was asked for, on development dialogues, in one sitting or in several."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lpgnet.model import EmotionConfig
from lpgnet.pipeline.common.files import write_json
from lpgnet.pipeline.common.processes import make_accelerator
from lpgnet.pipeline.errors import PipelineError, UsageError
from lpgnet.pipeline.evaluation.development import development_loss, measure_development
from lpgnet.pipeline.evaluation.inference import Prediction
from lpgnet.pipeline.reports.run import write_training_plot
from lpgnet.pipeline.training.checkpoints import EpochLog
from lpgnet.pipeline.training.dialogues import Dialogue
from lpgnet.pipeline.training.freshness import run_inputs
from lpgnet.pipeline.training.labels import NO_LABEL
from lpgnet.pipeline.training.runs import LoadedCorpus, make_model, read_log, recipe_of
from lpgnet.pipeline.training.selection import Selection
from lpgnet.pipeline.training.targets import learned_shares
from lpgnet.pipeline.training.trainer import Development, Trainer
from tests.pipeline.tensors import make_config, make_corpus, make_split, train

CONSTANT: dict[str, Any] = {"schedule": "constant"}
SCORES = {"wa": 0.5, "ua": 0.5, "weighted_f1": 0.5, "macro_f1": 0.5}


class Script:
    """Measures what it is told to, epoch by epoch."""

    def __init__(self, name: str, values: Sequence[float]) -> None:
        self.name = name
        self.values = iter(values)

    def __call__(self, *_: object) -> Development:
        return Development({**SCORES, self.name: next(self.values)}, lambda: 1.0)


def trainer_of(select: str, measure: Any, folder: Path, **recipe: Any) -> Trainer:
    corpus, config = make_corpus("text", dialogues=12), make_config(select=select, batch_size=8, **recipe)
    folder.mkdir(exist_ok=True)
    split = make_split(corpus)
    return Trainer(config, split, folder, make_accelerator("cpu"), make_model(config, corpus, split), measure)


@pytest.mark.parametrize(
    ("select", "key", "values", "best"),
    [
        ("weighted_f1", "weighted_f1", [0.2, 0.6, 0.6, 0.4], 2),
        ("macro_f1", "macro_f1", [0.0, 0.1, 0.3, 0.2], 3),
        ("uar", "ua", [0.7, 0.6, 0.5, 0.4], 1),
        ("ccc", "ccc", [-1.0, -1.0, -1.0, -0.9], 4),
        ("ccc", "ccc", [-1.0, -1.0, -1.0, -1.0], 1),
        ("loss", "loss", [9.0, 2.5, 2.0, 2.0], 3),
        ("loss", "loss", [3.0, 4.0, 5.0, 6.0], 1),
    ],
)
def test_the_first_of_the_best_epochs_is_chosen(
    select: str, key: str, values: list[float], best: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = trainer_of(select, Script(key, values), tmp_path, epochs=4, **CONSTANT)
    trainer.fit()
    assert (trainer.best.epoch, trainer.best.dev[key]) == (best, values[best - 1])
    assert Selection(select).best(read_log(tmp_path)).epoch == best
    assert f"best dev {select} {values[best - 1]:.3f} in epoch {best}" in capsys.readouterr().err
    assert (tmp_path / "best" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("epochs", "values", "best"),
    [
        (8, [0.9, 0.1, 0.1, 0.1, 0.1, 0.8, 0.2, 0.3], 8),
        (8, [0.9, 0.1, 0.1, 0.1, 0.1, 0.8, 0.3, 0.3], 7),
        (5, [0.9, 0.9, 0.9, 0.3, 0.2], 4),
        (4, [0.9, 0.9, 0.9, 0.1], 4),
        (1, [0.4], 1),
    ],
)
@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_a_schedule_that_ends_is_followed_and_its_last_quarter_chosen_of(
    schedule: str, epochs: int, values: list[float], best: int, tmp_path: Path
) -> None:
    trainer = trainer_of("weighted_f1", Script("weighted_f1", values), tmp_path, epochs=epochs, schedule=schedule)
    trainer.fit()
    assert trainer.progress.epoch == epochs
    assert trainer.best.epoch == Selection.by(trainer.recipe).best(read_log(tmp_path)).epoch == best


def test_what_is_saved_is_the_chosen_epoch(tmp_path: Path) -> None:
    """Earlier epochs stand in for it, so that a run that is not finished has a model too."""

    class Noted(Trainer):
        def _save_best(self, development: Development) -> None:
            saved.append(self.progress.epoch)
            super()._save_best(development)

    saved: list[int] = []
    corpus, config = make_corpus("text", dialogues=12), make_config(epochs=8)
    split, script = make_split(corpus), Script("weighted_f1", [0.5, 0.7, 0.6, 0.9, 0.1, 0.1, 0.2, 0.3])
    Noted(config, split, tmp_path, make_accelerator("cpu"), make_model(config, corpus, split), script).fit()
    assert saved == [1, 2, 4, 7, 8]


def test_the_last_epoch_is_kept_where_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = trainer_of("last", Script("weighted_f1", [0.9, 0.8, 0.1]), tmp_path, epochs=3)
    trainer.fit()
    assert trainer.best.epoch == 3 and f"{tmp_path}: done in epoch 3" in capsys.readouterr().err


def test_a_run_of_the_time_when_patience_stopped_any_schedule_keeps_its_epoch(tmp_path: Path) -> None:
    """Its inputs have both, and its report still marks the epoch that was chosen."""
    write_json(tmp_path / "inputs.json", {"training": {"schedule": "one_cycle", "patience": 10, "epochs": 40}})
    recipe = recipe_of(tmp_path)
    assert (recipe.layer_rate, recipe.contrast) == (1.0, 0.0)
    log = [EpochLog(epoch, 1.0, {"weighted_f1": value}, 1e-3, 1.0) for epoch, value in ((1, 0.2), (2, 0.6), (3, 0.5))]
    assert Selection.by(recipe).best(log).epoch == 2


def test_a_loss_that_rises_ends_the_training(tmp_path: Path) -> None:
    trainer = trainer_of("loss", Script("loss", [3.0, 2.0, 2.5, 2.1, 1.0]), tmp_path, epochs=5, **CONSTANT, patience=2)
    trainer.fit()
    assert (trainer.progress.epoch, trainer.best.epoch) == (4, 2)


def test_a_resumed_run_knows_the_best_loss(tmp_path: Path) -> None:
    class Stopped(Script):
        def __call__(self, *_: object) -> Development:
            try:
                return super().__call__()
            except StopIteration:
                raise KeyboardInterrupt from None

    with pytest.raises(KeyboardInterrupt):
        trainer_of("loss", Stopped("loss", [2.0, 3.0]), tmp_path, epochs=4, **CONSTANT).fit()
    resumed = trainer_of("loss", Script("loss", [2.5, 2.2]), tmp_path, epochs=4, **CONSTANT)
    resumed.fit()
    assert (resumed.best.epoch, resumed.best.dev["loss"]) == (1, 2.0)


def test_scores_that_nothing_was_measured_by_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"key 'training\.select': the development split has nothing to measure loss"):
        trainer_of("loss", Script("ua", [0.5]), tmp_path, epochs=1).fit()


def rated_corpus() -> LoadedCorpus:
    """Text cues are labels, votes of 3 to 1, and valence; every dialogue's first turn has no majority."""
    corpus = make_corpus("text", dialogues=12)
    dialogues = tuple(_rate(dialogue) for dialogue in corpus.dialogues)
    return replace(corpus, dialogues=dialogues, ranges={"valence": (1.0, 5.0), "arousal": (1.0, 5.0)})


def _rate(dialogue: Dialogue) -> Dialogue:
    cue = dialogue.labels.float()
    labels = dialogue.labels.clone()
    labels[0] = NO_LABEL
    valence = 2 + 2 * cue
    valence[1] = torch.nan
    votes = torch.stack([3 - 2 * cue, 1 + 2 * cue], dim=-1)
    return replace(dialogue, labels=labels, votes=votes, ratings={"valence": valence, "arousal": valence * torch.nan})


@pytest.mark.parametrize("select", ["ccc", "loss"])
def test_a_run_on_votes_and_ratings(select: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = make_config(
        select=select, epochs=3, target="distribution", unagreed="use", model={"dimensions": ["valence"]}, **CONSTANT
    )
    train(rated_corpus(), config, tmp_path)
    log = read_log(tmp_path)
    votes = {"jsd.votes", "cross_entropy.votes", "macro_f1.votes"}
    assert log[0].dev.keys() == {*SCORES, *votes, "ccc.valence", "pearson.valence", "rmse.valence", "ccc", "loss"}
    assert all(entry.dev["ccc"] == entry.dev["ccc.valence"] for entry in log)
    best = (min if select == "loss" else max)(entry.dev[select] for entry in log)
    assert f"best dev {select} {best:.3f}" in capsys.readouterr().err
    assert recipe_of(tmp_path).select == select
    write_training_plot(tmp_path)


def test_the_loss_by_hand() -> None:
    run = [
        Prediction("d.0", "d", 0, {"fused": [0.5, 0.5]}, {}),
        Prediction("d.1", "d", NO_LABEL, {"fused": [0.25, 0.75]}, {}),
        Prediction("d.2", "d", NO_LABEL, {"fused": [0.1, 0.9]}, {}),
    ]
    targets = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 0.0]])
    surprise = (np.log(2) + 0.5 * np.log(4) + 0.5 * np.log(4 / 3)) / 2
    model = EmotionConfig(dimension_weight=0.5)
    assert development_loss(run, targets, None, model) == pytest.approx(surprise)
    assert development_loss(run, targets, 0.2, model) == pytest.approx(surprise + 0.5 * 0.8)
    assert development_loss(run, 0 * targets, 0.2, model) == pytest.approx(0.4)
    assert development_loss(run, 0 * targets, None, model) is None


def test_the_loss_is_of_what_is_learned() -> None:
    (dialogue, *_) = rated_corpus().dialogues
    labels = [row for row, label in enumerate(dialogue.labels.tolist()) if label != NO_LABEL]
    majority = learned_shares(dialogue, make_config().training, 2)
    assert majority.sum(-1).tolist() == [0.0] + [1.0] * 7
    assert majority[labels].argmax(-1).tolist() == dialogue.labels[labels].tolist()
    shares = learned_shares(dialogue, make_config(target="distribution").training, 2)
    assert torch.equal(shares[1:], dialogue.votes[1:] / 4)
    assert shares[0].sum() == 0
    used = learned_shares(dialogue, make_config(target="distribution", unagreed="use").training, 2)
    assert torch.equal(used, dialogue.votes / 4)
    (plain, *_) = make_corpus("text", dialogues=12).dialogues
    assert learned_shares(plain, make_config(target="distribution").training, 2).sum() == 8


def test_one_process_and_batches_of_any_size_measure_the_same() -> None:
    corpus, config = rated_corpus(), make_config(model={"dimensions": ["valence"]})
    model = make_model(config, corpus, make_split(corpus))
    found = [
        measure_development(
            model, corpus.dialogues, config.classes, replace(config.training, batch_size=size), make_accelerator("cpu")
        ).scores
        for size in (1, 5)
    ]
    assert found[0] == pytest.approx(found[1], abs=1e-5)


@pytest.mark.parametrize(
    ("dimensions", "message"),
    [
        ([], "ccc needs dimensions; give model.dimensions, such as"),
        (["valence"], "ccc needs ratings of valence in the development split"),
    ],
)
def test_concordance_needs_dimensions_and_ratings(dimensions: list[str], message: str, tmp_path: Path) -> None:
    corpus, split = rated_corpus(), make_split(rated_corpus())
    unrated = tuple(replace(one, ratings={}) for one in split.dev)
    config = make_config(select="ccc", model={"dimensions": dimensions})
    with pytest.raises(UsageError, match=rf"key 'training\.select': {message}"):
        train(corpus, config, tmp_path / "run", split=replace(split, dev=unrated))
    assert not (tmp_path / "run").exists(), "what is there is left alone"


def test_how_a_run_chose_is_read_from_its_inputs(tmp_path: Path) -> None:
    write_json(tmp_path / "inputs.json", {"training": {"seed": 0}})
    assert recipe_of(tmp_path).select == "weighted_f1"
    for broken in ("best", 3, ["loss"], None):
        (tmp_path / "inputs.json").write_text(json.dumps({"training": {"select": broken}}))
        with pytest.raises(PipelineError, match=r"inputs\.json: key 'training': .*select"):
            recipe_of(tmp_path)


def test_runs_of_before_are_still_the_same_runs() -> None:
    """A setting that came later is no input where it has the value of before."""
    corpus = make_corpus("text", dialogues=12)
    inputs = [run_inputs(make_config(select=name), corpus, make_split(corpus).name) for name in ("weighted_f1", "loss")]
    assert "select" not in inputs[0]["training"]  # type: ignore[operator]
    assert inputs[1]["training"]["select"] == "loss"  # type: ignore[index]
    old = make_config(patience=10, **CONSTANT)
    stamp: Any = run_inputs(old, corpus, make_split(corpus).name)
    assert stamp["training"].keys().isdisjoint({"contrast", "keep_checkpoints"})
    assert "dev" not in stamp["splits"] and "refit" not in stamp
    new: Any = run_inputs(make_config(contrast=0.2), corpus, make_split(corpus).name)
    assert (new["training"]["contrast"], new["training"]["layer_rate"]) == (0.2, 30.0)


def test_no_run_is_one_of_the_time_when_all_weights_decayed() -> None:
    """Not even where its recipe reads the same: the rate of the mixes came with the other decay."""
    corpus = make_corpus("text", dialogues=12)
    stamp: Any = run_inputs(make_config(layer_rate=1.0, patience=10, **CONSTANT), corpus, make_split(corpus).name)
    assert stamp["training"]["layer_rate"] == 1.0
