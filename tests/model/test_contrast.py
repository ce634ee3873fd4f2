"""Supervised contrast: against a plain loop, in the loss of every model, and where there is nothing to contrast."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lpgnet.model import EmotionModel, LossConfig, build_model, loss_counts, self_distillation
from lpgnet.model.base import Targets
from lpgnet.model.contrast import contrast_count, contrast_sum
from tests.model.conftest import SIZES, random_batch

WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 3.0])


def by_loop(hidden: Tensor, labels: Tensor, weights: Tensor, temperature: float) -> tuple[float, float]:
    """The sum and the count, one pair of turns after the other."""
    turns = range(len(labels))
    unit = [one / one.norm() for one in hidden.detach()]
    total, count = 0.0, 0.0
    for anchor in turns:
        others = [turn for turn in turns if turn != anchor]
        alike = [turn for turn in others if labels[turn] == labels[anchor]]
        if not alike:
            continue
        score = {turn: math.exp(float(unit[anchor] @ unit[turn]) / temperature) for turn in others}
        losses = [-math.log(score[turn] / sum(score.values())) for turn in alike]
        total += float(weights[anchor]) * sum(losses) / len(alike)
        count += float(weights[anchor])
    return total, count


@given(
    labels=st.lists(st.integers(0, 3), max_size=9),
    temperature=st.sampled_from([0.1, 0.5, 2.0]),
    seed=st.integers(0, 99),
)
def test_it_is_what_a_plain_loop_sums(labels: list[int], temperature: float, seed: int) -> None:
    hidden = torch.randn(len(labels), 5, generator=torch.Generator().manual_seed(seed), requires_grad=True)
    numbers = torch.tensor(labels, dtype=torch.long)
    weights = WEIGHTS[numbers]
    found = contrast_sum(hidden, numbers, weights, temperature)
    total, count = by_loop(hidden, numbers, weights, temperature)
    assert found.item() == pytest.approx(total, rel=1e-4, abs=1e-5)
    assert contrast_count(numbers, weights).item() == pytest.approx(count)
    (gradient,) = torch.autograd.grad(found, hidden)
    assert gradient.isfinite().all()
    assert gradient.any() == ((len(set(labels)) > 1 and count > 0) or (len(labels) > 2 and count > 0))


def test_worked_out_by_hand() -> None:
    """Two turns of one class at right angles, and one of another class opposite to the first."""
    hidden = torch.tensor([[2.0, 0.0], [0.0, 0.5], [-3.0, 0.0]])
    labels, weights = torch.tensor([0, 0, 1]), torch.ones(3)
    first = -math.log(1 / (1 + math.exp(-1)))
    second = -math.log(1 / 2)
    assert contrast_sum(hidden, labels, weights, 1.0).item() == pytest.approx(first + second)
    assert contrast_count(labels, weights).item() == 2


def test_the_gradient_is_that_of_differences() -> None:
    hidden = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 0, 1, 2, 0])
    gradient = torch.autograd.grad(contrast_sum(hidden, labels, torch.ones(6), 0.5), hidden)[0]
    step = 1e-3
    for place in ((0, 0), (3, 2), (4, 1)):
        moved = [hidden.detach().clone() for _ in range(2)]
        moved[0][place] += step
        moved[1][place] -= step
        up, down = (contrast_sum(one, labels, torch.ones(6), 0.5).item() for one in moved)
        assert (up - down) / (2 * step) == pytest.approx(gradient[place].item(), abs=2e-3)


@pytest.mark.parametrize("labels", [[], [1], [0, 1, 2], [2, 2, 2]], ids=["none", "one", "no pair", "one class"])
def test_where_there_is_little_to_contrast(labels: list[int]) -> None:
    hidden = torch.randn(len(labels), 4, requires_grad=True)
    numbers = torch.tensor(labels, dtype=torch.long)
    found = contrast_sum(hidden, numbers, torch.ones(len(labels)), 0.1)
    found.backward()
    assert found.isfinite() and hidden.grad is not None and hidden.grad.isfinite().all()
    pairs = len(set(labels)) < len(labels)
    assert (found > 0).item() == pairs
    assert contrast_count(numbers, torch.ones(len(labels))).item() == (len(labels) if pairs else 0)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30])
def test_vectors_of_any_length(scale: float) -> None:
    hidden = (scale * torch.randn(5, 4)).requires_grad_()
    contrast_sum(hidden, torch.tensor([0, 0, 1, 1, 1]), torch.ones(5), 0.1).backward()
    assert hidden.grad is not None and hidden.grad.isfinite().all() and hidden.grad.abs().max() < 1e6


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_changes_what_rounding_the_vectors_changes(kind: torch.dtype) -> None:
    hidden, labels = torch.randn(8, 16).to(kind), torch.tensor([0, 1] * 4)
    exact = contrast_sum(hidden.float(), labels, torch.ones(8), 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        found = contrast_sum(hidden, labels, torch.ones(8), 0.1)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact)


def model_of(kind: str, **loss: Any) -> EmotionModel:
    torch.manual_seed(0)
    sizes = {} if kind == "concat" else {"hidden_size": 8, "num_attention_heads": 2}
    return build_model(kind, input_sizes=SIZES, num_labels=4, **sizes, **loss).eval()


def terms_of(model: EmotionModel, batch: Any) -> Any:
    return model(**batch.arguments()).loss_terms


@pytest.mark.parametrize("kind", ["lpgnet", "sdt", "concat"])
def test_no_weight_changes_nothing(kind: str) -> None:
    batch = random_batch([5, 3, 6])
    plain, without = (terms_of(model_of(kind, **loss), batch) for loss in ({}, {"contrast_weight": 0.0}))
    assert plain.names == without.names and "contrast" not in plain.names
    assert torch.equal(plain.sums, without.sums) and torch.equal(plain.normalize(), without.normalize())


@pytest.mark.parametrize("class_weights", [None, WEIGHTS.tolist()])
@pytest.mark.parametrize("kind", ["lpgnet", "sdt", "concat"])
def test_it_is_one_more_term_of_labelled_turns(kind: str, class_weights: Any) -> None:
    """Smoothing and votes do not enter it, padding and turns without a label take no part."""
    batch = random_batch([5, 3, 6])
    votes = torch.full((3, 6, 4), 0.25) * batch.mask[..., None]
    settings = {"class_weights": class_weights, "label_smoothing": 0.1}
    fused = []
    model = model_of(kind, contrast_weight=0.3, contrast_temperature=0.5, **settings)
    model.fused_head.register_forward_pre_hook(lambda _, given: fused.append(given[0].detach()))  # type: ignore[union-attr]
    plain = terms_of(model_of(kind, **settings), batch)
    terms = terms_of(model, batch)
    known = batch.mask & (batch.labels != -100)
    labels = batch.labels[known]
    weights = torch.ones(len(labels)) if class_weights is None else WEIGHTS[labels]
    layout = model.pack(batch.inputs, batch.masks, batch.mask, Targets()).layout
    total, count = by_loop(layout.unpack(fused[0])[known], labels, weights, 0.5)
    assert terms.names == (*plain.names, "contrast")
    assert torch.equal(terms.sums[:-1], plain.sums) and torch.equal(terms.counts[:-1], plain.counts)
    assert terms.sums[-1].item() == pytest.approx(total, rel=1e-4)
    assert terms.counts[-1].item() == pytest.approx(count)
    expected = plain.normalize().item() + 0.3 * total / count
    assert terms.normalize().item() == pytest.approx(expected, rel=1e-5)
    voted = model(**(batch.arguments() | {"votes": votes})).loss_terms
    assert voted.sums[-1].item() == pytest.approx(total, rel=1e-4)
    counts = model.loss_counts(batch.labels, batch.mask, batch.masks, votes)
    assert torch.equal(counts, voted.counts)


def test_each_batch_of_a_step_is_contrasted_by_itself() -> None:
    model = model_of("lpgnet", contrast_weight=1.0)
    batches = [random_batch([5, 3], seed=1), random_batch([6], seed=2), random_batch([1], seed=3)]
    counts = sum(model.loss_counts(b.labels, b.mask, b.masks) for b in batches)
    terms = [terms_of(model, batch) for batch in batches]
    assert torch.equal(counts, sum(one.counts for one in terms))
    assert terms[2].sums[-1] == 0 and counts[-1] > 0  # type: ignore[index]
    mean = sum(one.sums[-1] for one in terms) / counts[-1]  # type: ignore[index]
    torch.testing.assert_close(sum(one.means(counts)[-1] for one in terms), mean)


def test_a_loss_without_the_representation_is_refused() -> None:
    batch, config = random_batch([4]), LossConfig(contrast_weight=1.0)
    assert len(loss_counts(batch.labels, batch.mask, batch.masks, [], config)) == 2
    with pytest.raises(ValueError, match="needs the fused representation"):
        self_distillation(torch.randn(1, 4, 4), {}, batch.labels, batch.mask, batch.masks, config)


def test_turns_of_one_class_come_together() -> None:
    torch.manual_seed(0)
    hidden, labels = torch.randn(20, 6).requires_grad_(), torch.arange(20) % 2
    optimizer = torch.optim.Adam([hidden], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        contrast_sum(hidden, labels, torch.ones(20), 0.5).backward()
        optimizer.step()
    unit = torch.nn.functional.normalize(hidden.detach(), dim=-1)
    cosines = unit @ unit.T
    same = labels[:, None] == labels
    assert cosines[same].min() > 0.9 and cosines[~same].max() < -0.9
