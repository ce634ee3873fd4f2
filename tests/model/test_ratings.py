"""Votes, label smoothing, and heads for valence, arousal and dominance: by hand, by plain loops, and in parts."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lpgnet.model import EmotionModel, LossConfig, ModelError, build_model, load_model, loss_counts, self_distillation
from lpgnet.model.ratings import RatingTerms, normalize_ratings, rating_terms, restore_units

SIZES = {"text": [1, 6], "audio": [3, 5]}
RANGES = {"valence": [1.0, 5.0], "arousal": [0.0, 100.0]}
KINDS = ["lpgnet", "sdt", "concat"]


def make_model(kind: str, **fields: Any) -> EmotionModel:
    torch.manual_seed(0)
    further = {} if kind == "concat" else {"hidden_size": 8, "num_attention_heads": 2}
    dimensions = {"dimensions": list(RANGES), "ranges": RANGES}
    return build_model(kind, input_sizes=SIZES, num_labels=4, **(further | dimensions | fields))


def rated_batch(make_batch: Any, lengths: list[int]) -> Any:
    """A batch with votes and ratings for some utterances; padding holds random ones."""
    batch = make_batch(lengths)
    generator = torch.Generator().manual_seed(3)
    shape = batch.labels.shape
    votes = torch.rand(*shape, 4, generator=generator)
    voted = torch.rand(shape, generator=generator) < 0.5
    votes = torch.where(voted[..., None], votes / votes.sum(-1, keepdim=True), 0.0)
    hidden = torch.rand(shape, generator=generator) < 0.3
    ratings = {
        name: (low + (high - low) * torch.rand(shape, generator=generator)).masked_fill(hidden, torch.nan)
        for name, (low, high) in RANGES.items()
    }
    return replace(batch, votes=votes, ratings=ratings)


def plain_ccc(p: np.ndarray, y: np.ndarray) -> float:
    """Lin's coefficient as its paper writes it."""
    covariance = np.mean((p - p.mean()) * (y - y.mean()))
    return float(2 * covariance / (p.var() + y.var() + (p.mean() - y.mean()) ** 2))


def terms_of(rated: Tensor, targets: Tensor, loss_name: str = "ccc") -> RatingTerms:
    present = torch.ones(rated.shape[:3], dtype=torch.bool)
    return rating_terms(rated, targets, present, torch.ones(len(rated)), loss_name)


def test_concordance_worked_out_by_hand() -> None:
    # p = 0, 1 and y = 1, 1: covariance 0; variances 1/4 and 0; means 1/2 and 1. p = 0, 1 and y = 0, 1 agree.
    rated = torch.tensor([[[[0.0, 0.0], [1.0, 1.0], [9.0, 9.0]]]])
    targets = torch.tensor([[[1.0, 0.0], [1.0, 1.0], [torch.nan, torch.nan]]])
    assert terms_of(rated, targets).loss().item() == pytest.approx((1 + 0) / 2, abs=1e-6)
    # Reversed: covariance -1/4, variances 1/4: a coefficient of -1.
    assert terms_of(rated[..., :1], 1 - targets[..., 1:]).loss().item() == pytest.approx(2, abs=1e-6)
    assert terms_of(rated, targets, "mse").loss().item() == pytest.approx((1 / 2 + 0) / 2)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40))
def test_concordance_equals_the_plain_one(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.uniform(-1, 1, count)
    p = rng.uniform(-1, 1) * y + rng.normal(0, 0.3, count)
    rated, targets = (torch.tensor(x, dtype=torch.float32)[None, :, None] for x in (p, y))
    assert terms_of(rated[None], targets).loss().item() == pytest.approx(1 - plain_ccc(p, y), abs=1e-4)
    squared = terms_of(rated[None], targets, "mse").loss().item()
    assert squared == pytest.approx(float(np.mean((p - y) ** 2)), abs=1e-4)


def test_ratings_that_lie_close_together_lose_no_digits() -> None:
    rng = np.random.default_rng(0)
    y = 0.9 + rng.uniform(-0.01, 0.01, 64)
    p = y + rng.normal(0, 0.001, 64)
    rated, targets = (torch.tensor(x, dtype=torch.float32)[None, :, None] for x in (p, y))
    exact = 1 - plain_ccc(rated.double().numpy().ravel(), targets.double().numpy().ravel())
    assert terms_of(rated[None], targets).loss().item() == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize("loss_name", ["ccc", "mse"])
@pytest.mark.parametrize("count", [0, 1])
def test_too_few_ratings_give_finite_losses_and_gradients(loss_name: str, count: int) -> None:
    rated = torch.randn(1, 1, 3, 1, requires_grad=True)
    targets = torch.full((1, 3, 1), torch.nan)
    targets[0, :count] = 0.5
    loss = terms_of(rated, targets, loss_name).loss()
    loss.backward()
    assert loss.isfinite() and rated.grad is not None and rated.grad.isfinite().all()
    assert (loss == 0) == (count == 0)


@pytest.mark.parametrize("dimension_loss", ["ccc", "mse"])
@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_step_add_up_to_the_whole(kind: str, dimension_loss: str, make_batch: Any) -> None:
    fields = {"class_weights": [0.5, 2.0, 1.0, 3.0], "label_smoothing": 0.1, "dimension_loss": dimension_loss}
    model = make_model(kind, **fields).eval()
    batch = rated_batch(make_batch, [5, 3, 6, 1])
    whole = gradients(model, [batch])
    parts = gradients(model, [batch.map(lambda x, n=n: x[n : n + 1]) for n in range(4)])
    assert whole[0] == pytest.approx(parts[0], abs=1e-5)
    for one, other in zip(whole[1], parts[1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def gradients(model: Any, batches: list[Any]) -> tuple[float, list[Tensor]]:
    """The loss and the gradients of a step over several batches, each normalized by what all of them sum up to."""
    counts = sum(model.loss_counts(b.labels, b.mask, b.masks, b.votes) for b in batches)
    moments = sum(model(**b.arguments()).loss_terms.ratings.moments.detach() for b in batches)
    model.zero_grad()
    losses = [model(**b.arguments()).loss_terms.normalize(counts, moments) for b in batches]
    sum(losses).backward()
    return sum(losses).item(), [p.grad.clone() for p in model.parameters() if p.requires_grad]


@pytest.mark.parametrize("kind", KINDS)
def test_every_head_learns_its_dimensions(kind: str, make_batch: Any) -> None:
    model, batch = make_model(kind, fused_weight=0.5), rated_batch(make_batch, [5, 3])
    output = model.eval()(**batch.arguments())
    assert output.dimensions.keys() == RANGES.keys()
    for name, (low, high) in RANGES.items():
        assert ((output.dimensions[name] >= low) & (output.dimensions[name] <= high)).all()
    heads = 1 + len(model.branch_names)
    assert output.loss_terms.ratings.moments.shape == (heads, 2, 6)
    assert output.loss_terms.ratings.weights.tolist() == [0.25] + [0.5] * (heads - 1)
    known = batch.ratings["valence"].isfinite()
    heard = [known & batch.mask, *(known & batch.mask & batch.masks[m] for m in model.branch_names)]
    assert output.loss_terms.ratings.moments[:, 0, 0].tolist() == [mask.sum().item() for mask in heard]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("targets", ["labels", "votes", "ratings"])
def test_any_subset_of_targets_teaches(kind: str, targets: str, make_batch: Any) -> None:
    batch = rated_batch(make_batch, [5, 3])
    alone = {name: value for name, value in batch.arguments().items() if name not in ("labels", "votes", "ratings")}
    model = make_model(kind)
    loss = model(**alone, **{targets: getattr(batch, targets)}).loss
    loss.backward()
    assert loss > 0 and all(
        p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad
    )
    assert model(**alone).loss is None


def test_padding_and_missing_ratings_may_hold_anything(make_batch: Any) -> None:
    model, batch = make_model("lpgnet").train(), rated_batch(make_batch, [5, 3, 6])
    torch.manual_seed(1)
    loss = model(**batch.arguments()).loss
    ratings = {name: torch.where(batch.mask, values, 1e6) for name, values in batch.ratings.items()}
    votes = torch.where(batch.mask[..., None], batch.votes, 0.25)
    torch.manual_seed(1)
    assert torch.equal(model(**(batch.arguments() | {"ratings": ratings, "votes": votes})).loss, loss)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("class_weights", [None, [0.5, 2.0, 1.0, 3.0]])
def test_one_hot_votes_equal_labels_exactly(class_weights: Any, smoothing: float, make_batch: Any) -> None:
    batch = make_batch([5, 3, 6])
    config = LossConfig(class_weights=class_weights, label_smoothing=smoothing)
    logits, branches = torch.randn(3, 6, 4), {m: torch.randn(3, 6, 4) for m in SIZES}
    votes = F.one_hot(batch.labels.clamp_min(0), 4) * (batch.labels >= 0)[..., None]
    unlabelled = torch.full_like(batch.labels, -100)
    by_label = self_distillation(logits, branches, batch.labels, batch.mask, batch.masks, config)
    by_votes = self_distillation(logits, branches, unlabelled, batch.mask, batch.masks, config, votes=votes.float())
    assert torch.equal(by_label.sums, by_votes.sums) and torch.equal(by_label.counts, by_votes.counts)
    counts = loss_counts(unlabelled, batch.mask, batch.masks, list(branches), config, votes=votes.float())
    assert torch.equal(counts, by_votes.counts)


@pytest.mark.parametrize("class_weights", [None, [0.5, 2.0, 1.0, 3.0]])
def test_votes_and_smoothing_equal_torch(class_weights: Any, make_batch: Any) -> None:
    batch, logits = rated_batch(make_batch, [6, 6]), torch.randn(2, 6, 4)
    mask = batch.votes.sum(-1) > 0
    weights = None if class_weights is None else torch.tensor(class_weights)
    config = LossConfig(class_weights=class_weights)
    terms = self_distillation(logits, {}, batch.labels, mask, {}, config, votes=batch.votes)
    expected = F.cross_entropy(logits[mask], batch.votes[mask], weights, reduction="sum")
    torch.testing.assert_close(terms.sums[0], expected)
    smooth = self_distillation(logits, {}, batch.labels, batch.mask, {}, replace(config, label_smoothing=0.2))
    expected = F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), weights, label_smoothing=0.2)
    torch.testing.assert_close(smooth.means()[0], expected)


def test_units_go_to_one_and_back() -> None:
    ratings = {"valence": torch.tensor([[1.0, 3.0, 5.0]]), "arousal": torch.tensor([[0.0, 25.0, torch.nan]])}
    ranges = {name: (low, high) for name, (low, high) in RANGES.items()}
    scaled = normalize_ratings(ratings, ranges, torch.zeros(1, 3))
    assert scaled[0, :, 0].tolist() == [-1, 0, 1] and scaled[0, :2, 1].tolist() == [-1, -0.5]
    restored = restore_units(scaled[:, :2], ranges)
    assert restored["arousal"].tolist() == [[0, 25]] and restored["valence"].tolist() == [[1, 3]]
    assert restore_units(torch.tensor([[[7.0, -7.0]]]), ranges)["valence"].item() == 5
    assert normalize_ratings({}, ranges, torch.zeros(1, 3)).isnan().all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_keeps_the_heads_and_the_ranges(kind: str, make_batch: Any, tmp_path: Any) -> None:
    model, batch = make_model(kind).eval(), rated_batch(make_batch, [5, 3])
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.config == model.config and loaded.config.rated == {"valence": (1, 5), "arousal": (0, 100)}
    ours, theirs = (one(**batch.arguments()).dimensions["arousal"] for one in (model, loaded))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_heads_for_dimensions_change_no_other_weight(kind: str) -> None:
    plain = make_model(kind, dimensions=[], ranges={}).state_dict()
    rated = make_model(kind).state_dict()
    assert all(torch.equal(rated[name], values) for name, values in plain.items())
    assert {name.partition(".")[0] for name in rated.keys() - plain.keys()} == {"rating_heads"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dimensions": ["mood"]}, "dimension 'mood' has no range"),
        ({"dimensions": ["\ud800"], "ranges": {"\ud800": [1, 5]}}, "cannot name a column"),
        ({"dimensions": ["a\nb"], "ranges": {"a\nb": [1, 5]}}, "cannot name a column"),
        ({"dimensions": ["valence", "valence"]}, "give each once"),
        ({"ranges": {"valence": [5.0, 1.0], "arousal": [0, 1]}}, "ranges.valence is"),
        ({"ranges": {"valence": [1.0], "arousal": [0, 1]}}, "ranges.valence is"),
        ({"dimension_loss": "mae"}, "dimension_loss is 'mae': give one of ccc, mse"),
        ({"dimension_weight": -1.0}, "dimension_weight is -1.0"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
    ],
)
def test_impossible_dimensions_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make_model("lpgnet", **fields)
