"""A training step computes what its loss needs, from embeddings as they lie in memory, and gives the same numbers."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from lpgnet.model import ModelError
from tests.model.precision import CLOSE, double_precision, doubled
from tests.model.test_packing import LENGTHS, LOSSES, MODELS, make_model, make_targets


def of_dialogues(batch: Any) -> dict[str, list[torch.Tensor]]:
    """The inputs of each dialogue without padding, in memory of its own."""
    return {
        name: [rows[:length].clone() for rows, length in zip(values, batch.lengths, strict=True)]
        for name, values in batch.inputs.items()
    }


def step(model: Any, arguments: dict[str, Any], **how: Any) -> tuple[torch.Tensor, Any, dict[str, torch.Tensor]]:
    """The loss, its terms and the gradients of a training step, and the buffers after it; the model stays as it was."""
    model.train().zero_grad()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    torch.manual_seed(1)
    output = model(**arguments, **how)
    output.loss.backward()
    moved = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    for name, buffer in model.named_buffers():
        moved[name] = buffer.clone()
        buffer.copy_(before[name])
    return output.loss, output.loss_terms, moved


def assert_same(model: Any, arguments: dict[str, Any], others: dict[str, Any], **how: Any) -> None:
    arguments, others = (given | {"inputs": doubled(given["inputs"])} for given in (arguments, others))
    with double_precision():
        (loss, terms, expected), (found, of_found, moved) = step(model.double(), arguments), step(model, others, **how)
    torch.testing.assert_close(found, loss, **CLOSE)
    torch.testing.assert_close(of_found.counts, terms.counts)
    for name, value in expected.items():
        torch.testing.assert_close(moved[name], value, msg=lambda text, name=name: f"{name}: {text}", **CLOSE)


@pytest.mark.parametrize("name", MODELS)
def test_dialogues_as_they_lie_give_what_padded_ones_give(name: str, make_batch: Callable[..., Any]) -> None:
    model, batch = make_model(name), make_batch(LENGTHS)
    arguments, both = batch.arguments(), (batch.inputs, of_dialogues(batch))
    assert_same(model, arguments, arguments | {"inputs": both[1]})
    with double_precision():
        whole, parts = (model.eval()(**arguments | {"inputs": doubled(inputs)}).logits for inputs in both)
    torch.testing.assert_close(parts[batch.mask], whole[batch.mask], **CLOSE)


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_without_targets_is_computed_whole(name: str, make_batch: Callable[..., Any]) -> None:
    model, batch = make_model(name).eval(), make_batch(LENGTHS)
    whole = model(batch.inputs, batch.masks, batch.mask)
    torch.testing.assert_close(model(batch.inputs, batch.masks, batch.mask, targets_only=True).logits, whole.logits)


def test_their_gradient_reaches_them(make_batch: Callable[..., Any]) -> None:
    model, batch = make_model("lpgnet").eval(), make_batch(LENGTHS)
    padded = {name: values.requires_grad_() for name, values in doubled(batch.inputs).items()}
    parts = {name: [own.requires_grad_() for own in rows] for name, rows in doubled(of_dialogues(batch)).items()}
    with double_precision():
        for inputs in (padded, parts):
            model.double()(**batch.arguments() | {"inputs": inputs}).loss.backward()
    for name, rows in parts.items():
        for own, values in zip(rows, padded[name].grad, strict=True):
            torch.testing.assert_close(own.grad, values[: len(own)], **CLOSE)


@pytest.mark.parametrize("wrong", ["one fewer", "a turn fewer", "a turn more", "another width"])
def test_dialogues_that_the_mask_does_not_fit_are_refused(wrong: str, make_batch: Callable[..., Any]) -> None:
    batch = make_batch(LENGTHS)
    inputs = of_dialogues(batch)
    first, *rest = inputs["audio"]
    changed = {"one fewer": rest, "a turn fewer": [first[1:], *rest], "another width": [first[..., 1:], *rest]}
    inputs["audio"] = changed.get(wrong, [torch.cat([first, first[:1]]), *rest])
    with pytest.raises(ModelError, match="audio: dialogues of shapes"):
        make_model("lpgnet")(**batch.arguments() | {"inputs": inputs})


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ["lpgnet", "lpgnet, every variant", "lpgnet, text", "sdt", "concat"])
def test_turns_without_a_target_are_no_part_of_the_loss(name: str, loss: str, make_batch: Callable[..., Any]) -> None:
    """With dropout, whose draws fall on the same turns."""
    batch = make_targets(make_batch(LENGTHS, unlabelled=0.6), loss)
    model = make_model(name, **LOSSES[loss], dropout=0.4)
    assert_same(model, batch.arguments(), batch.arguments(), targets_only=True)


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    name=st.sampled_from(list(MODELS)),
    loss=st.sampled_from(list(LOSSES)),
    unlabelled=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    missing=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 1000),
)
def test_so_they_are_not_in_any_dialogues(
    lengths: list[int],
    name: str,
    loss: str,
    unlabelled: float,
    missing: float,
    seed: int,
    make_batch: Callable[..., Any],
) -> None:
    batch = make_targets(make_batch(lengths, missing=missing, unlabelled=unlabelled, seed=seed), loss)
    arguments = batch.arguments()
    others = arguments | {"inputs": of_dialogues(batch)}
    assert_same(make_model(name, **LOSSES[loss]), arguments, others, targets_only=True)


@pytest.mark.parametrize("name", ["lpgnet", "lpgnet, every variant", "sdt"])
def test_what_they_alone_need_is_not_computed(name: str, make_batch: Callable[..., Any]) -> None:
    model, batch = make_model(name).train(), make_batch(LENGTHS, unlabelled=0.0)
    half = replace(batch, labels=batch.labels.masked_fill(torch.arange(max(LENGTHS)) % 2 == 0, -100))
    found = []
    for one in (batch, half):
        with FlopCounterMode(display=False) as counter:
            model(**one.arguments(), targets_only=True).loss.backward()
        found.append(counter.get_total_flops())
    assert found[1] < 0.85 * found[0]


def test_logits_of_turns_with_a_target_stand_where_they_stood(make_batch: Callable[..., Any]) -> None:
    model, batch = make_model("lpgnet").eval(), make_batch(LENGTHS, unlabelled=0.5)
    given = batch.arguments() | {"inputs": doubled(batch.inputs)}
    with double_precision():
        some, every = (model.double()(**given, targets_only=only).logits for only in (True, False))
    known = batch.labels != -100
    torch.testing.assert_close(some[known], every[known], **CLOSE)
