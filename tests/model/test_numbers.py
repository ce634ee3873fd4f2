"""The numbers of version 0.1.0: the weights that a seed gives, and what three steps of training make of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from lpgnet.model import EmotionModel, build_model

DATA = Path(__file__).parent / "data"
SIZES = {"text": [1, 6], "audio": [3, 5]}
TINY: dict[str, Any] = {"hidden_size": 4, "num_attention_heads": 2}
CASES: dict[str, dict[str, Any]] = {
    "lpgnet": TINY,
    "lpgnet-three-modalities": TINY | {"input_sizes": {**SIZES, "vision": [2, 4]}},
    "lpgnet-text": TINY | {"modalities": ["text"]},
    "lpgnet-other-order": TINY | {"modalities": ["audio", "text"]},
    "lpgnet-causal-distance-bias": TINY | {"causal": True, "distance_bias": True},
    "lpgnet-projections-per-path": TINY | {"projections_per_path": True},
    "lpgnet-no-gates": TINY | {"path_gate": False, "modality_gate": False},
    "lpgnet-no-cross-modal": TINY | {"cross_modal": False, "kernel_size": 1},
    "lpgnet-class-weights": TINY | {"class_weights": [0.5, 2.0, 1.0, 3.0], "temperature": 2.0},
    "sdt": TINY,
    "sdt-no-speakers": TINY | {"speaker_embedding": False},
    "sdt-text": TINY | {"modalities": ["text"]},
    "concat": {},
    "concat-audio": {"modalities": ["audio"]},
}


def make_model(case: str, **fields: Any) -> EmotionModel:
    torch.manual_seed(0)
    return build_model(case.partition("-")[0], **({"input_sizes": SIZES} | CASES[case] | fields))


def stored(file: str, case: str) -> dict[str, Tensor]:
    tensors = load_file(DATA / file)
    prefix = f"{case}/"
    return {k.removeprefix(prefix).removeprefix("lpgnet."): x for k, x in tensors.items() if k.startswith(prefix)}


@pytest.mark.parametrize("case", CASES)
def test_a_seed_gives_the_same_weights(case: str) -> None:
    """Bit for bit where both ran on one processor; others round the draws' last bit otherwise."""
    found = {**make_model(case).state_dict(), "next": torch.rand(1)}  # and as many numbers were drawn
    expected = stored("initial.safetensors", case)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-7, rtol=1e-6, msg=name)


@pytest.mark.parametrize("case", CASES)
def test_three_steps_of_training_give_the_same_numbers(case: str, make_batch: Callable[..., Any]) -> None:
    """Those of the models that padded their batches, but for dropout, whose draws fall on other turns in a row."""
    model, losses = make_model(case, dropout=0.0).train(), []
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for seed in range(3):
        loss = model(**make_batch([5, 3, 6], sizes=model.config.input_sizes, seed=seed).arguments()).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    batch = make_batch([4, 2], sizes=model.config.input_sizes, seed=9)
    logits = model.eval()(**batch.arguments()).logits[batch.mask].detach()
    found = {**model.state_dict(), "losses": torch.stack(losses), "logits": logits}
    expected = stored("trained.safetensors", case)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-5, msg=name)
