"""Training that diverges stops at the first number that is not finite, and saves none."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lpgnet.model import load_model
from lpgnet.pipeline.errors import NotFiniteError, UsageError
from lpgnet.pipeline.training.dialogues import Dialogue
from lpgnet.pipeline.training.trainer import Trainer
from tests.pipeline.tensors import make_config, make_corpus, train
from tests.pipeline.training.test_training import make_trainer

ADVICE = r"; lower training\.learning_rate \(it is \S+\), or look for extreme values in the embeddings$"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def assert_all_finite(folder: Path) -> None:
    for path in folder.rglob("*.safetensors"):
        assert all(values.isfinite().all() for values in load_file(path).values()), path
    for path in folder.rglob("*.json*"):
        assert not re.search(r"\b(NaN|Infinity)\b", path.read_text()), path


@pytest.mark.parametrize("rate", [1e10, 1e30])
@pytest.mark.parametrize("kind", ["lpgnet", "sdt", "concat"])
def test_a_rate_that_is_far_too_large_is_told(kind: str, rate: float, tmp_path: Path) -> None:
    config = make_config(kind, epochs=3, learning_rate=rate, schedule="constant", warmup_share=0.0)
    with pytest.raises(NotFiniteError, match=r"training diverged in step \d+ \(epoch \d\): .*" + ADVICE):
        train(make_corpus("text", dialogues=24), config, tmp_path / "run")
    assert_all_finite(tmp_path)
    assert not (tmp_path / "run" / "done.json").exists()


class Planted(Trainer):
    """Sees one step whose embeddings are beyond float32 when they are standardized: the 2nd of the 3rd epoch."""

    def steps(self, epoch: int) -> Iterator[list[Dialogue]]:
        for number, dialogues in enumerate(super().steps(epoch), start=1):
            yield [_extreme(dialogue) for dialogue in dialogues] if (epoch, number) == (3, 2) else dialogues


def _extreme(dialogue: Dialogue) -> Dialogue:
    return replace(dialogue, inputs={name: values * 1e38 for name, values in dialogue.inputs.items()})


def test_the_first_step_is_named_and_the_epochs_before_are_kept(tmp_path: Path) -> None:
    config = make_config(epochs=5)
    make_trainer(config, tmp_path / "whole").fit()
    planted = make_trainer(config, tmp_path / "planted", Planted)
    step = 2 * planted.steps_per_epoch + 2
    with pytest.raises(NotFiniteError, match=rf"in step {step} \(epoch 3\): the loss is (nan|inf)" + ADVICE):
        planted.fit()
    assert_all_finite(tmp_path / "planted")
    load_model(tmp_path / "planted" / "best")
    make_trainer(config, tmp_path / "planted").fit()
    saved = [load_file(tmp_path / name / "checkpoints" / "epoch-00005.safetensors") for name in ("whole", "planted")]
    assert all(torch.equal(values, saved[1][name]) for name, values in saved[0].items())


def test_a_gradient_that_is_not_finite_is_told_although_the_loss_is(tmp_path: Path) -> None:
    trainer = make_trainer(make_config(epochs=2), tmp_path)
    trainer.raw_model.fused_head.weight.register_hook(lambda gradient: gradient * math.inf)  # type: ignore[union-attr]
    with pytest.raises(NotFiniteError, match=r"in step 1 \(epoch 1\): the norm of the gradient is (nan|inf)"):
        trainer.fit()
    assert not list(tmp_path.rglob("*.safetensors"))


# One step an epoch, so that no later step shows what it did.
ONE_STEP: dict[str, Any] = {"epochs": 2, "batch_size": 64, "schedule": "constant", "warmup_share": 0.0}


def test_weights_that_the_last_step_of_an_epoch_spoils_are_not_saved(tmp_path: Path) -> None:
    trainer = make_trainer(make_config(**ONE_STEP), tmp_path)
    bias = trainer.raw_model.fused_head.bias
    trainer.optimizer.optimizer.register_step_post_hook(lambda *_: bias.data.fill_(math.inf))  # type: ignore[union-attr, operator]
    with pytest.raises(NotFiniteError, match=r"in step 1 \(epoch 1\): the weights after it are not finite"):
        trainer.fit()
    assert not list(tmp_path.rglob("*.safetensors"))


def test_weights_that_are_finite_and_predict_nothing_are_not_saved(tmp_path: Path) -> None:
    trainer = make_trainer(make_config(learning_rate=1e25, ema_decay=0.0, **ONE_STEP), tmp_path)
    what = r"afterwards, on the development split: utterance \S+: the model gives it probabilities"
    with pytest.raises(NotFiniteError, match=rf"in step 1 \(epoch 1\): {what}"):
        trainer.fit()
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("recipe", [{"learning_rate": 1e38}, {"learning_rate": 1e20, "weight_decay": 1e20}])
def test_a_recipe_beyond_float32_is_wrong_usage(recipe: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"training\.learning_rate .* and training\.weight_decay .* beyond"):
        make_trainer(make_config(**recipe), tmp_path)


def test_training_that_is_well_is_left_alone(tmp_path: Path) -> None:
    train(make_corpus("text", dialogues=24), make_config(epochs=2), tmp_path / "run")
    assert_all_finite(tmp_path)
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2
    assert json.loads((tmp_path / "run" / "done.json").read_text())["results"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="half precision needs a CUDA GPU")
def test_half_precision_may_skip_steps_but_not_for_ever(tmp_path: Path) -> None:
    # Two steps an epoch; after 17 that are skipped, the first scale of 65,536 is below 1.
    config = make_config(epochs=12, device="cuda", mixed_precision="fp16")
    skipping = make_trainer(config, tmp_path / "skipping")
    scaler = skipping.accelerator.scaler
    scaler.load_state_dict(scaler.state_dict() | {"scale": 2.0**40})
    skipping.fit()
    assert scaler.get_scale() < 2.0**40, "some steps were skipped"
    assert_all_finite(tmp_path)
    spoiled = make_trainer(config, tmp_path / "spoiled")
    spoiled.raw_model.fused_head.weight.register_hook(lambda gradient: gradient * math.inf)  # type: ignore[union-attr]
    with pytest.raises(
        NotFiniteError, match=r"the gradient is beyond half precision; .*set training.mixed_precision to"
    ):
        spoiled.fit()
