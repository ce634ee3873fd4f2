"""Dialogues in one row give what padded ones give, and know nothing of each other."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lpgnet.model import EmotionModel, EmotionOutput, ModelError, build_model
from lpgnet.model.layers import ROWS_IN_CACHE, Dropout, InputMix
from lpgnet.model.packing import lay_out
from tests.model.precision import CLOSE, double_precision, doubled

SIZES = {"text": [1, 6], "audio": [3, 5]}
RANGES = {"valence": [1.0, 5.0], "arousal": [0.0, 1.0]}
EVERY_VARIANT: dict[str, Any] = {
    "context_norm": "layer",
    "voice_neighbours": True,
    "speaker_turn_bias": True,
    "local_layers": 3,
    "distance_bias": True,
}
MODELS: dict[str, dict[str, Any]] = {
    "lpgnet": {},
    "lpgnet, every variant": EVERY_VARIANT,
    "lpgnet, every variant, causal": EVERY_VARIANT | {"causal": True},
    "lpgnet, causal": {"causal": True, "distance_bias": True},
    "lpgnet, kernel 1": {"kernel_size": 1},
    "lpgnet, kernel 4": {"kernel_size": 4},
    "lpgnet, causal, kernel 5": {"causal": True, "kernel_size": 5},
    "lpgnet, kernel 1, two local layers": {"kernel_size": 1, "local_layers": 2},
    "lpgnet, kernel 1, two local layers, causal": {"kernel_size": 1, "local_layers": 2, "causal": True},
    "lpgnet, text": {"modalities": ["text"]},
    "lpgnet, audio": {"modalities": ["audio"]},
    "lpgnet, no gates": {"path_gate": False, "modality_gate": False},
    "lpgnet, projections per path": {"projections_per_path": True},
    "lpgnet, between modalities": {"intra_modal": False},
    "sdt": {},
    "sdt, no speakers": {"speaker_embedding": False},
    "sdt, audio": {"modalities": ["audio"]},
    "concat": {},
    "concat, text": {"modalities": ["text"]},
}
LOSSES: dict[str, dict[str, Any]] = {
    "plain": {},
    "class weights": {"class_weights": [0.5, 2.0, 0.0, 3.0]},
    "smoothing": {"label_smoothing": 0.2},
    "warm teacher": {"temperature": 2.0, "detach_teacher": False},
    "ccc": {"dimensions": ["valence", "arousal"], "ranges": RANGES},
    "mse": {"dimensions": ["arousal"], "ranges": RANGES, "dimension_loss": "mse"},
    "votes": {},
    "contrast": {"contrast_weight": 0.3},
    "all": {
        "class_weights": [0.5, 2.0, 1.0, 3.0],
        "label_smoothing": 0.1,
        "contrast_weight": 0.3,
        "dimensions": ["valence", "arousal"],
        "ranges": RANGES,
    },
}
LENGTHS = [5, 9, 1, 4, 5, 2]


def make_model(name: str, **fields: Any) -> EmotionModel:
    """A small model without dropout, whose draws would fall on other turns."""
    torch.manual_seed(0)
    kind = name.partition(",")[0]
    small = {"hidden_size": 8, "num_attention_heads": 2} if kind != "concat" else {}
    settings = {"input_sizes": SIZES, "num_labels": 4, "dropout": 0.0, **small, **MODELS[name], **fields}
    return build_model(kind, **settings)


def make_targets(batch: Any, loss: str) -> Any:
    """The batch with all that a loss learns from; some utterances lack some of it."""
    generator = torch.Generator().manual_seed(5)
    shape = batch.mask.shape
    if "dimensions" in LOSSES[loss]:
        ratings = {
            name: torch.rand(shape, generator=generator) * (high - low) + low for name, (low, high) in RANGES.items()
        }
        unrated = torch.rand(shape, generator=generator) < 0.3
        batch = replace(batch, ratings={name: x.masked_fill(unrated, torch.nan) for name, x in ratings.items()})
    if loss in ("votes", "all"):
        votes = torch.rand(*shape, 4, generator=generator).softmax(-1)
        batch = replace(batch, votes=votes * (torch.rand(*shape, 1, generator=generator) < 0.7))
    return batch


def run(model: EmotionModel, batch: Any, spare: float | None) -> tuple[EmotionOutput, dict[str, Tensor]]:
    """A training step's output and gradients, and the buffers after it."""
    model.train().zero_grad()
    model.spare = spare
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    torch.manual_seed(1)
    output = model(**batch.arguments(), return_gates=True)
    output.loss.backward()
    moved = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    for name, buffer in model.named_buffers():
        moved[name] = buffer.clone()
        buffer.copy_(before[name])
    return output, moved


def assert_equal(model: EmotionModel, batch: Any, *, spare: float | None = None) -> None:
    """A step in a row equals the padded one: loss, gradients, statistics and all that the model gives."""
    batch = replace(batch, inputs=doubled(batch.inputs))
    with double_precision():
        (padded, expected), (packed, found) = (run(model.double(), batch, room) for room in (1.0, spare))
    torch.testing.assert_close(packed.loss, padded.loss, **CLOSE)
    torch.testing.assert_close(packed.loss_terms.counts, padded.loss_terms.counts)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=lambda text, name=name: f"{name}: {text}", **CLOSE)
    torch.testing.assert_close(packed.logits[batch.mask], padded.logits[batch.mask], **CLOSE)
    for part in ("branch_logits", "modality_weights", "dimensions", "modality_gates", "path_gates"):
        for name, value in (getattr(padded, part) or {}).items():
            torch.testing.assert_close(getattr(packed, part)[name][batch.mask], value[batch.mask], **CLOSE)


@pytest.mark.parametrize("spare", [0.0, 0.25, None])
@pytest.mark.parametrize("name", MODELS)
def test_a_packed_step_equals_a_padded_one(name: str, spare: float | None, make_batch: Callable[..., Any]) -> None:
    assert_equal(make_model(name), make_batch(LENGTHS), spare=spare)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ["lpgnet", "lpgnet, every variant", "lpgnet, text", "lpgnet, audio", "sdt", "concat"])
def test_so_it_does_by_every_loss(name: str, loss: str, make_batch: Callable[..., Any]) -> None:
    assert_equal(make_model(name, **LOSSES[loss]), make_targets(make_batch(LENGTHS), loss), spare=0.0)


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    name=st.sampled_from(list(MODELS)),
    loss=st.sampled_from(list(LOSSES)),
    spare=st.sampled_from([0.0, 0.1, 0.5]),
    missing=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 1000),
)
def test_so_it_does_for_any_dialogues(
    lengths: list[int], name: str, loss: str, spare: float, missing: float, seed: int, make_batch: Callable[..., Any]
) -> None:
    batch = make_targets(make_batch(lengths, missing=missing, seed=seed), loss)
    assert_equal(make_model(name, **LOSSES[loss]), batch, spare=spare)


@pytest.mark.parametrize("name", MODELS)
def test_no_dialogue_reaches_another(name: str, make_batch: Callable[..., Any], randomized: Any) -> None:
    model = randomized(make_model(name)).eval()
    model.spare = 0.0
    batch = make_batch(LENGTHS, missing=0.1)
    for row in range(len(LENGTHS)):
        inputs = {m: x.clone().requires_grad_() for m, x in batch.inputs.items()}
        model(inputs, batch.masks, batch.mask, speakers=batch.speakers).logits[row].sum().backward()
        for m in model.config.modality_names:
            others = torch.arange(len(LENGTHS)) != row
            assert (inputs[m].grad[others] == 0).all() and (inputs[m].grad[row, LENGTHS[row] :] == 0).all()
            assert (inputs[m].grad[row].abs().sum() > 0) == batch.masks[m][row].any()


@pytest.mark.parametrize("name", ["lpgnet", "lpgnet, every variant", "lpgnet, causal", "sdt"])
def test_a_mask_may_begin_late_and_have_holes(name: str, make_batch: Callable[..., Any]) -> None:
    batch = make_batch(LENGTHS)
    batch.mask[:, :9] &= torch.rand(batch.mask.shape, generator=torch.Generator().manual_seed(2))[:, :9] > 0.3
    batch.mask[2] = False
    assert_equal(make_model(name), batch, spare=0.0)


def test_autocast_runs_in_a_row(make_batch: Callable[..., Any]) -> None:
    model, batch = make_model("lpgnet, every variant").eval(), make_batch(LENGTHS)
    plain = model(**batch.arguments())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(**batch.arguments())
    torch.testing.assert_close(rounded.loss, plain.loss, atol=0.05, rtol=0)


@pytest.mark.parametrize("name", ["lpgnet, every variant", "sdt"])
def test_a_compiled_model_gives_the_same(name: str, make_batch: Callable[..., Any]) -> None:
    """Traced as `torch.compile` does it, without the compiler that it hands the trace to."""
    model, compiled = make_model(name), make_model(name)
    compiled.compile(backend="eager")
    for lengths in (LENGTHS, [7, 3], [9, 8, 2, 2, 1]):
        batch = make_batch(lengths)
        (expected, gradients), (found, others) = run(model, batch, None), run(compiled, batch, None)
        torch.testing.assert_close(found.loss, expected.loss)
        torch.testing.assert_close(found.logits, expected.logits)
        for parameter, value in gradients.items():
            torch.testing.assert_close(others[parameter], value, atol=1e-6, rtol=1e-5, msg=parameter)


def of_others(batch: Any) -> dict[str, Any]:
    """By name, the arguments of a model with one tensor of longer dialogues than the mask's."""
    longer, right = batch.padded(2), batch.arguments()
    found = {name: right | {name: getattr(longer, name)} for name in ("labels", "speakers", "votes")}
    for part in ("inputs", "masks", "ratings"):
        for name in right[part]:
            found[f"{part} of {name}"] = right | {part: right[part] | {name: getattr(longer, part)[name]}}
    return found


@pytest.mark.parametrize("name", ["lpgnet", "lpgnet, every variant", "sdt", "concat"])
def test_what_is_not_of_the_same_turns_is_refused(name: str, make_batch: Callable[..., Any]) -> None:
    model = make_model(name, **LOSSES["all"]).eval()
    wrong = of_others(make_targets(make_batch(LENGTHS), "all"))
    for what, arguments in wrong.items():
        if name != "concat" or what != "speakers":  # which it does not look at
            with pytest.raises(ModelError, match=what.rpartition(" ")[2]):
                model(**arguments)


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
@pytest.mark.parametrize("name", ["lpgnet, every variant", "sdt", "concat"])
def test_an_empty_batch_is_refused(name: str, shape: tuple[int, int], make_batch: Callable[..., Any]) -> None:
    batch = make_batch(LENGTHS).map(lambda x: x[: shape[0], : shape[1]])
    with pytest.raises(ModelError, match="a dialogue of one utterance at least"):
        make_model(name)(**batch.arguments())


masks = st.lists(st.integers(0, 9), min_size=1, max_size=7).map(
    lambda lengths: torch.arange(9) < torch.tensor(lengths)[:, None]
)


@settings(max_examples=100, deadline=None)
@given(mask=masks, gap=st.integers(0, 4), spare=st.sampled_from([0.0, 0.2, 0.5, 1.0]))
def test_every_turn_has_its_place_and_dialogues_their_distance(mask: Tensor, gap: int, spare: float) -> None:
    layout = lay_out(mask, gap=gap, spare=spare)
    numbers = torch.arange(mask.numel()).view(mask.shape)
    row = layout.pack(numbers)[0]
    assert row[(layout.pack(mask) & layout.filled)[0]].sort().values.tolist() == numbers[mask].tolist()
    assert torch.equal(layout.unpack(row[None])[mask], numbers[mask])
    assert sum(dialogues * width for dialogues, width in layout.groups) == len(row)
    taken = layout.places[mask].sort().values.tolist()
    of = {int(place): dialogue for dialogue, places in enumerate(layout.places) for place in places.tolist()}
    assert all(other - one > gap for one, other in pairwise(taken) if of[one] != of[other])
    assert torch.equal(layout.positions[layout.places][mask], torch.arange(9).expand_as(mask)[mask])


@settings(max_examples=100, deadline=None)
@given(mask=masks, gap=st.integers(0, 4), spare=st.sampled_from([0.0, 0.2, 0.5]))
def test_groups_hold_whole_dialogues_and_little_else(mask: Tensor, gap: int, spare: float) -> None:
    layout = lay_out(mask, gap=gap, spare=spare)
    x = torch.rand(2, 1, layout.filled.shape[1], 3)
    parts = layout.split(x)
    assert [tuple(part.shape[1:3]) for part in parts] == list(layout.groups)
    assert torch.equal(layout.join(parts), x)
    for filled in layout.split(layout.filled[None]):
        lengths = filled[0].sum(1)
        assert lengths.min() >= (1 - spare) * lengths.max()


def test_a_dialogue_alone_and_dialogues_of_one_length_have_nothing_to_spare() -> None:
    assert lay_out(torch.ones(1, 7, dtype=torch.bool), gap=2, spare=0.0).groups == ((1, 7),)
    assert lay_out(torch.ones(3, 7, dtype=torch.bool), gap=2, spare=0.0).groups == ((3, 9),)


@pytest.mark.parametrize(("shape", "gap"), [((1, 7), 2), ((3, 7), 0)])
def test_what_fills_the_row_as_it_stands_is_not_copied(shape: tuple[int, int], gap: int) -> None:
    layout = lay_out(torch.ones(shape, dtype=torch.bool), gap=gap, spare=0.0)
    x = torch.rand(*shape, 2)
    row = layout.pack(x)
    assert row.shape == (1, x[..., 0].numel(), 2) and torch.equal(row[0], x.flatten(0, 1))
    assert torch.equal(layout.unpack(row), x)
    assert row.data_ptr() == layout.unpack(row).data_ptr() == x.data_ptr()


def test_padding_is_a_layout_of_one_group() -> None:
    mask = torch.arange(9) < torch.tensor(LENGTHS)[:, None]
    assert lay_out(mask, gap=1, spare=1.0).groups == ((6, 10),)
    assert lay_out(mask, gap=1, spare=0.0).groups == ((1, 10), (2, 6), (1, 5), (1, 3), (1, 2))
    assert lay_out(mask, gap=1, spare=0.5).groups == ((3, 10), (2, 5), (1, 2))


@pytest.mark.parametrize("some", [True, False], ids=["of some rows", "of all"])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_mix_of_layers_has_the_gradients_of_its_formula(kind: torch.dtype, some: bool) -> None:
    torch.manual_seed(0)
    mix = InputMix(3, 5)
    mix.mean.normal_()
    mix.std.uniform_(0.5, 2)
    mix.layer_weights.data.normal_()
    rows = torch.randperm(3 * ROWS_IN_CACHE)[: 2 * ROWS_IN_CACHE + 7]
    x = torch.randn(3 * ROWS_IN_CACHE, 3, 5).to(kind).requires_grad_()
    outward = torch.randn(len(rows), 5)
    if not some:
        x, rows = x.detach()[rows].requires_grad_(), None
    found = mix(x, rows)
    of_found = torch.autograd.grad(found, (x, mix.layer_weights), outward)
    weights = mix.layer_weights.softmax(0)[:, None]
    expected = (weights * ((x if rows is None else x[rows]).float() - mix.mean) / mix.std).sum(1)
    of_expected = torch.autograd.grad(expected, (x, mix.layer_weights), outward)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(of_found, of_expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_dropout_drops_its_share_and_keeps_the_mean(kind: torch.dtype) -> None:
    torch.manual_seed(0)
    layer, x = Dropout(0.25), torch.full((400, 500), 3.0, dtype=kind, requires_grad=True)
    found = layer.train()(x)
    kept = found != 0
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.005)
    assert kept.float().mean(0).std().item() == pytest.approx((0.25 * 0.75 / 400) ** 0.5, rel=0.2)
    assert found.dtype == kind and (found[kept] == torch.tensor(3 / 0.75).to(kind)).all()
    found.sum().backward()
    torch.testing.assert_close(x.grad, torch.where(kept, torch.tensor(1 / 0.75).to(kind), 0.0))
    assert not torch.equal(layer(x), found) and torch.equal(layer.eval()(x), x)
