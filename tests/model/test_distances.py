"""How far embeddings lie from those that a model is standardized with: by hand, as a plain loop, and bounded."""

from typing import Any

import pytest
import torch

from lpgnet.model import MODEL_TYPES, EmotionModel, build_model

SIZES = {"text": [1, 6], "audio": [3, 5]}


def make(kind: str = "lpgnet", **sizes: Any) -> EmotionModel:
    return build_model(kind, input_sizes=sizes or SIZES, **({} if kind == "concat" else {"hidden_size": 8}))


def test_by_hand() -> None:
    model = make(text=[2, 2])
    model.standardize_("text", torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[1.0, 2.0], [4.0, 1.0]]))
    values = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[2.0, 4.0], [4.0, 0.0]]])
    # (1 + 4 + 1 + 0) / 4
    assert model.distances("text", values).tolist() == [0.0, 1.5]


def test_one_dimension_that_hardly_varied_does_not_decide() -> None:
    model = make(text=[1, 100])
    std = torch.ones(1, 100)
    std[0, 0] = 1e-4
    model.standardize_("text", torch.zeros(1, 100), std)
    assert model.distances("text", torch.ones(1, 1, 100)).item() == pytest.approx((25 + 99) / 100)


@pytest.mark.parametrize("kind", MODEL_TYPES)
@pytest.mark.parametrize("modality", SIZES)
def test_the_utterances_behind_the_statistics_have_about_one(kind: str, modality: str) -> None:
    torch.manual_seed(0)
    model, values = make(kind), 3.0 + 2.0 * torch.randn(500, *SIZES[modality])
    model.standardize_(modality, values.mean(0), values.std(0, correction=0))
    found = model.distances(modality, values)
    assert found.shape == (500,) and found.mean().item() == pytest.approx(1.0, abs=1e-3)
    one_by_one = [((row - values.mean(0)) / values.std(0, correction=0)).square().mean() for row in values]
    torch.testing.assert_close(found, torch.stack(one_by_one), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.distances(modality, values[3:4]), found[3:4])


def test_measuring_leaves_no_gradient() -> None:
    assert not make().distances("audio", torch.ones(2, 3, 5, requires_grad=True)).requires_grad
