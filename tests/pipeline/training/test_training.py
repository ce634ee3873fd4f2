"""Training: what models can learn, and that stopping, cutting and averaging change nothing they should not."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from safetensors.torch import load_file
from scipy.stats import binomtest
from torch import Tensor

from lpgnet.model import load_model
from lpgnet.pipeline.common.processes import make_accelerator
from lpgnet.pipeline.config import Config, TrainingConfig
from lpgnet.pipeline.evaluation.development import measure_development
from lpgnet.pipeline.evaluation.run_results import RunResults
from lpgnet.pipeline.training.dialogues import collate
from lpgnet.pipeline.training.optimization import make_scheduler
from lpgnet.pipeline.training.runs import make_model
from lpgnet.pipeline.training.splits import Split
from lpgnet.pipeline.training.trainer import Trainer, drop_modalities, steps_per_epoch
from tests.pipeline.tensors import (
    RATED_MODEL,
    RATED_RECIPE,
    Rule,
    make_config,
    make_corpus,
    make_split,
    train,
    train_and_test,
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def interval(results: RunResults) -> tuple[float, float]:
    low, high = results.fused.intervals["wa"]
    return low, high


def is_at_chance(runs: Sequence[RunResults]) -> bool:
    """An exact test of all runs' utterances together.

    Each of two classes is as likely as the other, independently of all that the model sees and of every other
    utterance, so what it gets right is binomial. No machine and no rounding makes that fail more than once in a
    million times.
    """
    hits = sum(int(np.trace(run.fused.confusion)) for run in runs)
    return bool(binomtest(hits, sum(run.fused.n for run in runs)).pvalue > 1e-6)


def train_on_random_labels(kind: str, folder: Path, *, leak: bool) -> list[RunResults]:
    """Four runs, each on labels of its own; with the leak, training is given the test split with its labels."""
    model = {"hidden_size": 32, "num_attention_heads": 2, "dropout": 0.0}
    runs = []
    for seed in range(4):
        corpus = make_corpus("random", dialogues=48, seed=seed)
        split = make_split(corpus)
        if leak:
            split = Split(split.name, (*split.train, *split.test), split.test, split.test)
        runs.append(train_and_test(corpus, make_config(kind, model=model), folder / str(seed), split=split))
    return runs


@pytest.mark.parametrize("kind", ["lpgnet", "sdt", "text", "audio", "concat"])
def test_random_labels_score_at_chance(kind: str, tmp_path: Path) -> None:
    assert is_at_chance(train_on_random_labels(kind, tmp_path, leak=False))


# A linear layer on 12 numbers cannot learn 128 labels by heart.
@pytest.mark.parametrize("kind", ["lpgnet", "sdt", "text", "audio"])
def test_a_planted_leak_is_caught(kind: str, tmp_path: Path) -> None:
    assert not is_at_chance(train_on_random_labels(kind, tmp_path, leak=True))


def train_on(rule: Rule, config: Config, folder: Path, *, draws: int) -> list[RunResults]:
    return [train_and_test(make_corpus(rule, seed=seed), config, folder / str(seed)) for seed in range(draws)]


@pytest.mark.parametrize(("kind", "learns"), [("lpgnet", True), ("sdt", True), ("concat", False)])
def test_the_turn_before_is_learned_with_context_only(kind: str, learns: bool, tmp_path: Path) -> None:
    # SDT has to find the neighbor by its positions, and needs some width for that.
    model = {"hidden_size": 64, "num_attention_heads": 2} if kind == "sdt" else {}
    runs = train_on("previous", make_config(kind, model=model), tmp_path, draws=1 if learns else 4)
    assert interval(runs[0])[0] > 0.8 if learns else is_at_chance(runs)


@pytest.mark.parametrize(("kind", "learns"), [("lpgnet", True), ("text", False), ("audio", False)])
def test_the_xor_of_both_modalities_is_learned_by_fusion_only(kind: str, learns: bool, tmp_path: Path) -> None:
    runs = train_on("xor", make_config(kind), tmp_path, draws=1 if learns else 4)
    assert interval(runs[0])[0] > 0.8 if learns else is_at_chance(runs)


def make_trainer(config: Config, folder: Path, kind: type[Trainer] = Trainer) -> Trainer:
    corpus = make_corpus("text", dialogues=24)
    split = make_split(corpus)
    folder.mkdir(exist_ok=True)
    accelerator = make_accelerator(config.training.device, config.training.mixed_precision)
    return kind(config, split, folder, accelerator, make_model(config, corpus, split), measure_development)


def gradients_of_a_step(config: Config, folder: Path) -> tuple[dict[str, Tensor], float]:
    """The gradients that the optimizer sees in the first step, and the step's loss."""
    trainer = make_trainer(config, folder)
    model = trainer.raw_model.train()
    if hasattr(model, "context_norm"):
        model.context_norm.eval()  # its statistics are those of a batch, by definition
    found: dict[str, Tensor] = {}

    def keep(*_: object) -> None:
        found.update({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})

    trainer.optimizer.optimizer.register_step_pre_hook(keep)
    torch.manual_seed(0)
    return found, trainer.step(next(trainer.steps(1)))


@pytest.mark.parametrize("dimension_loss", [None, "ccc", "mse"])
@pytest.mark.parametrize("kind", ["lpgnet", "sdt", "concat"])
def test_micro_batches_give_the_gradients_of_one_batch(kind: str, dimension_loss: str | None, tmp_path: Path) -> None:
    model: dict[str, Any] = {"dropout": 0.0}
    settings: dict[str, Any] = {"max_gradient_norm": 1e9, "class_weights": "inverse", "model": model}
    if dimension_loss is not None:
        model |= RATED_MODEL | {"dimension_loss": dimension_loss}
        settings |= RATED_RECIPE
    whole, loss = gradients_of_a_step(make_config(kind, **settings), tmp_path / "one")
    parts, summed = gradients_of_a_step(make_config(kind, micro_batches=3, **settings), tmp_path / "three")
    assert summed == pytest.approx(loss, rel=1e-5)
    assert whole.keys() == parts.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-4, atol=1e-6)


def test_micro_batches_are_contrasted_one_by_one(tmp_path: Path) -> None:
    """The anchors' losses are those of their own part, and are divided by the anchors of all parts."""
    model = {"dropout": 0.0, "fused_weight": 0.0, "branch_weight": 0.0, "distillation_weight": 0.0}
    settings: dict[str, Any] = {"contrast": 1.0, "class_weights": "inverse", "ema_decay": 0.0, "model": model}
    _, loss = gradients_of_a_step(make_config(micro_batches=2, **settings), tmp_path / "two")
    trainer = make_trainer(make_config(**settings), tmp_path / "one")
    trainer.raw_model.train().context_norm.eval()  # type: ignore[operator, union-attr]
    step = next(trainer.steps(1))
    parts = [collate(part) for part in (step[: -(-len(step) // 2)], step[-(-len(step) // 2) :])]
    terms = [trainer.raw_model(one.inputs, one.masks, one.mask, labels=one.labels).loss_terms for one in parts]
    expected = sum(one.sums[-1] for one in terms) / sum(one.counts[-1] for one in terms)
    assert loss == pytest.approx(expected.item(), rel=1e-5)


def test_the_first_look_at_a_step_draws_no_dropout_and_moves_no_statistics(tmp_path: Path) -> None:
    """Micro-batches run twice where there are ratings; that must not show where their loss weighs nothing."""
    model = {"dropout": 0.5, "dimension_weight": 0.0} | RATED_MODEL
    looked, loss = gradients_of_a_step(make_config(micro_batches=2, model=model), tmp_path / "rated")
    plain, same = gradients_of_a_step(make_config(micro_batches=2, model={"dropout": 0.5}), tmp_path / "plain")
    assert loss == same and all(torch.equal(looked[name], gradient) for name, gradient in plain.items())


class StoppedTrainer(Trainer):
    """Stops as a kill would, after the third epoch's checkpoint is written and before its log is."""

    def _write_log(self) -> None:
        if self.progress.epoch == 3:
            raise KeyboardInterrupt
        super()._write_log()


RECIPES: list[dict[str, Any]] = [
    {"kind": "lpgnet", "modality_dropout": 0.3},
    {"kind": "lpgnet", "schedule": "cosine", "ema_decay": 0.0, "micro_batches": 2},
    {"kind": "sdt", "class_weights": "inverse", "contrast": 0.5},
    {"kind": "lpgnet", "micro_batches": 2, "model": RATED_MODEL, **RATED_RECIPE},
]


@pytest.mark.parametrize("recipe", RECIPES, ids=["one cycle", "cosine, no average", "sdt", "raters"])
def test_resumed_is_uninterrupted(recipe: dict[str, Any], tmp_path: Path) -> None:
    config = make_config(epochs=5, **recipe)
    make_trainer(config, tmp_path / "whole").fit()
    with pytest.raises(KeyboardInterrupt):
        make_trainer(config, tmp_path / "stopped", StoppedTrainer).fit()
    make_trainer(config, tmp_path / "stopped").fit()
    states = [load_file(_last_checkpoint(tmp_path / name)) for name in ("whole", "stopped")]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    logs = [_log(tmp_path / name) for name in ("whole", "stopped")]
    assert logs[0] == logs[1]
    assert len(logs[0]) == 5


def _last_checkpoint(folder: Path) -> Path:
    path = max((folder / "checkpoints").glob("epoch-*.safetensors"))
    assert path.name == "epoch-00005.safetensors"
    return path


def _log(folder: Path) -> list[dict[str, object]]:
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in entry.items() if name != "train_seconds"} for entry in entries]


def test_the_average_of_the_weights_is_what_is_saved(tmp_path: Path) -> None:
    trainer = make_trainer(make_config(epochs=1), tmp_path)
    trainer.fit()
    saved, last = load_model(tmp_path / "best").state_dict(), trainer.raw_model.state_dict()
    average = trainer.average.module.state_dict()  # type: ignore[union-attr]
    assert all(torch.equal(saved[name], average[name]) for name in saved)
    assert any(not torch.equal(saved[name], last[name]) for name in saved)


def test_without_an_average_the_last_weights_are_saved(tmp_path: Path) -> None:
    trainer = make_trainer(make_config(epochs=1, ema_decay=0.0), tmp_path)
    trainer.fit()
    saved, last = load_model(tmp_path / "best").state_dict(), trainer.raw_model.state_dict()
    assert all(torch.equal(saved[name], last[name]) for name in saved)


def test_every_checkpoint_has_its_temperature(tmp_path: Path) -> None:
    train(make_corpus("text", dialogues=24), make_config(epochs=2), tmp_path / "run")
    config = json.loads((tmp_path / "run" / "best" / "config.json").read_text())
    assert 0.1 <= config["calibration_temperature"] <= 10


def test_modality_dropout_takes_one_of_several_and_never_the_last() -> None:
    corpus = make_corpus("text", dialogues=12)
    batch = collate(corpus.dialogues)
    batch.masks["audio"][:, :2] = False
    torch.manual_seed(0)
    dropped = drop_modalities(batch, 1.0, ["text", "audio"])
    left = sum(mask.long() for mask in dropped.masks.values())
    assert (left == 1).all(), "one of both, or the only one, is left"
    assert dropped.masks["text"][:, :2].all()
    assert 0.3 < dropped.masks["text"][:, 2:].float().mean() < 0.7
    assert drop_modalities(batch, 0.0, ["text", "audio"]).masks["audio"].equal(batch.masks["audio"])
    assert drop_modalities(batch, 1.0, ["text"]).masks["text"].equal(batch.masks["text"]), "a model of text keeps it"


@given(dialogues=st.integers(1, 200), batch_size=st.integers(1, 40), processes=st.integers(1, 17))
def test_every_step_has_a_dialogue_for_every_process(dialogues: int, batch_size: int, processes: int) -> None:
    assume(dialogues >= processes)
    steps = steps_per_epoch(dialogues, batch_size, processes)
    sizes = [len(part) for part in np.array_split(np.arange(dialogues), steps)]
    assert min(sizes) >= processes


@pytest.mark.parametrize("steps", [1, 5, 10, 11])
def test_a_training_of_few_steps_has_a_rate(steps: int) -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = make_scheduler(optimizer, TrainingConfig(learning_rate=0.1, warmup_share=0.1), steps)
    for _ in range(steps):
        assert 0 <= optimizer.param_groups[0]["lr"] <= 0.1
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_the_rate_rises_to_its_peak_and_falls_to_nothing(schedule: Any) -> None:
    recipe = TrainingConfig(schedule=schedule, learning_rate=0.1, warmup_share=0.2)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = make_scheduler(optimizer, recipe, 50)
    rates = []
    for _ in range(50):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    peak = rates.index(max(rates))
    assert max(rates) == pytest.approx(0.1, rel=1e-2)
    assert 8 <= peak <= 11
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 0.001
