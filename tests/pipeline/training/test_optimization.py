"""What moves the weights: which of them decay, and a layer mix that learns fast enough to find its layer."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lpgnet.feature_extractors import EncoderSpec
from lpgnet.model import EmotionModel, build_model, load_model
from lpgnet.pipeline.config import TrainingConfig
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.embeddings.plan import Embeddings
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.training.checkpoints import Progress, load_checkpoint, save_checkpoint
from lpgnet.pipeline.training.dialogues import Dialogue, make_dialogue
from lpgnet.pipeline.training.freshness import CHECKPOINT_FOLDER
from lpgnet.pipeline.training.optimization import make_optimizer, make_scheduler, parameter_groups
from lpgnet.pipeline.training.runs import LoadedCorpus
from tests.pipeline.tensors import make_config, train
from tests.pipeline.training.test_training import make_trainer

LAYERS, TURNS, TELLING = 5, 8, 3


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def layered_corpus(seed: int) -> LoadedCorpus:
    """Made-up audio of five layers, of which the fourth alone (number 3) carries the label, as the sign of its mean."""
    rng = np.random.default_rng(seed)
    spec = EncoderSpec("audio", "audio", "all", "mean", "fp32", None, None, False, "audio")
    dialogues = tuple(_layered(f"d{number:02d}", rng) for number in range(60))
    return LoadedCorpus(dialogues, {"audio": spec}, f"layers, seed {seed}")


def _layered(name: str, rng: np.random.Generator) -> Dialogue:
    labels = rng.integers(0, 2, TURNS)
    utterances = [Utterance(name, f"{name}.{turn}") for turn in range(TURNS)]
    values = rng.standard_normal((TURNS, LAYERS, 24)).astype(np.float32)
    values[:, TELLING] += 2 * labels[:, None] - 1.0
    rows = {utterance.utterance_id: row for row, utterance in enumerate(utterances)}
    return make_dialogue(
        name, utterances, labels.tolist(), {"audio": Embeddings(values, rows)}, votes=torch.zeros(TURNS, 2)
    )


def learned_mix(kind: str, layer_rate: float, folder: Path, seed: int = 0) -> list[float]:
    """The shares of the layers in the mix of a model that was trained on them."""
    recipe = {"epochs": 12, "batch_size": 2, "learning_rate": 1e-3, "layer_rate": layer_rate, "ema_decay": 0.0}
    config = make_config(kind, model={"modalities": ["audio"]}, **recipe)  # type: ignore[arg-type]
    train(layered_corpus(seed), config, folder)
    weights = load_model(folder / "best").mixes["audio"].layer_weights
    return weights.softmax(0).tolist()  # type: ignore[operator, union-attr, no-any-return]


@pytest.mark.parametrize("kind", ["lpgnet", "concat"])
def test_the_mix_finds_the_layer_that_tells(kind: str, tmp_path: Path) -> None:
    found, slow = learned_mix(kind, 30.0, tmp_path / "fast"), learned_mix(kind, 1.0, tmp_path / "slow")
    assert found[TELLING] > 0.7, found
    assert max(slow) < 0.3, "at the rate of the other weights the layers stay nearly alike"


MODELS: dict[str, dict[str, Any]] = {
    "lpgnet": {"hidden_size": 8, "distance_bias": True, "dimensions": ["valence"], "ranges": {"valence": [1.0, 5.0]}},
    "lpgnet, every variant": {
        "hidden_size": 8,
        "context_norm": "layer",
        "voice_neighbours": True,
        "speaker_turn_bias": True,
        "local_layers": 3,
        "distance_bias": True,
    },
    "sdt": {"hidden_size": 8, "num_attention_heads": 2},
    "concat": {},
}


def model_of(name: str) -> EmotionModel:
    sizes = {"text": [1, 6], "audio": [3, 5]}
    return build_model(name.partition(",")[0], input_sizes=sizes, num_labels=4, **MODELS[name])


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_is_in_one_group(name: str) -> None:
    model = model_of(name)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    matrices, vectors, layers = ([names[id(one)] for one in group] for group in parameter_groups(model))
    assert sorted([*matrices, *vectors, *layers]) == sorted(names.values())
    assert layers == ["mixes.audio.layer_weights"]
    assert all(name.endswith(".weight") and "norm" not in name for name in matrices)
    rest = [one for one in vectors if not one.endswith(".bias") and "norm" not in one]
    assert rest == {"lpgnet": ["raw_slopes"], "lpgnet, every variant": ["raw_slopes", "voice_bias"]}.get(name, [])
    assert {len(dict(model.named_parameters())[name].shape) for name in matrices} <= {2, 3}


def test_matrices_alone_decay(tmp_path: Path) -> None:
    """Of a step without a gradient nothing but the decay is left."""
    model, recipe = model_of("lpgnet"), TrainingConfig(learning_rate=0.1, weight_decay=0.5, layer_rate=3.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = make_optimizer(model, recipe)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    decayed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    matrices, _, _ = parameter_groups(model)
    assert decayed == {name for name, one in model.named_parameters() if any(one is other for other in matrices)}
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.1, 0.3])


def rates(schedule: Any, steps: int) -> Iterator[list[float]]:
    recipe = TrainingConfig(schedule=schedule, learning_rate=0.1, layer_rate=30.0, warmup_share=0.2)
    optimizer = make_optimizer(model_of("concat"), recipe)
    scheduler = make_scheduler(optimizer, recipe, steps)
    for _ in range(steps):
        yield [group["lr"] for group in optimizer.param_groups]
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "constant"])
def test_every_schedule_keeps_the_layers_ahead(schedule: str) -> None:
    found = list(rates(schedule, 20))
    assert max(chain(*found)) == pytest.approx(3.0, rel=0.02)
    for matrices, vectors, layers in found:
        assert (vectors, layers) == pytest.approx((matrices, 30 * matrices))


def test_a_checkpoint_of_one_group_is_refused_in_one_line(tmp_path: Path) -> None:
    trainer = make_trainer(make_config(epochs=1), tmp_path)
    before = replace(trainer.state, optimizer=torch.optim.AdamW(trainer.raw_model.parameters()))
    save_checkpoint(tmp_path / CHECKPOINT_FOLDER, before, Progress(epoch=1))
    with pytest.raises(
        PipelineError, match=r"its optimizer has 1 groups of parameters, not 3; remove it to train anew"
    ):
        load_checkpoint(tmp_path / CHECKPOINT_FOLDER, trainer.state)


def test_a_model_without_layers_to_mix_trains(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    assert parameter_groups(model)[2] == []
    optimizer = make_optimizer(model, TrainingConfig())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
