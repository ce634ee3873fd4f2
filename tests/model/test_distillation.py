"""The loss, worked out by hand, against torch's own, and added up over the batches of a step."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lpgnet.model import LossConfig, build_model, loss_counts, self_distillation

LOG3 = math.log(3.0)


def hand_worked_case() -> dict[str, Any]:
    """One dialogue of four turns and two classes: labelled, labelled without audio, unlabelled, padding."""
    logits = torch.tensor([[[0.0, 0.0], [LOG3, 0.0], [5.0, -5.0], [9.0, 9.0]]])
    text = torch.tensor([[[LOG3, 0.0], [0.0, 0.0], [7.0, 0.0], [1.0, 2.0]]])
    audio = torch.tensor([[[0.0, LOG3], [3.0, 0.0], [7.0, 0.0], [1.0, 2.0]]])
    mask = torch.tensor([[True, True, True, False]])
    return {
        "logits": logits,
        "branch_logits": {"text": text, "audio": audio},
        "labels": torch.tensor([[0, 1, -100, 1]]),
        "mask": mask,
        "masks": {"text": mask, "audio": torch.tensor([[True, False, True, False]])},
    }


def test_terms_worked_out_by_hand() -> None:
    terms = self_distillation(**hand_worked_case(), config=LossConfig())
    # Softmax of (ln 3, 0) is (3/4, 1/4).
    fused = math.log(2) + math.log(4)
    branch_text = math.log(4 / 3) + math.log(2)
    branch_audio = math.log(4)
    half_from_quarter = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    quarter_from_half = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    expected = [fused, branch_text, branch_audio, half_from_quarter + quarter_from_half, half_from_quarter]
    assert terms.names == ("fused", "branch.text", "branch.audio", "distillation.text", "distillation.audio")
    torch.testing.assert_close(terms.sums, torch.tensor(expected))
    assert terms.counts.tolist() == [2, 2, 1, 2, 1]
    loss = fused / 2 + branch_text / 2 + branch_audio + expected[3] / 2 + expected[4]
    torch.testing.assert_close(terms.normalize(), torch.tensor(loss))


def test_loss_weights_and_temperature_worked_out_by_hand() -> None:
    config = LossConfig(fused_weight=2.0, branch_weight=0.0, distillation_weight=3.0, temperature=2.0)
    case = hand_worked_case()
    case["masks"]["text"] = torch.zeros_like(case["mask"])
    terms = self_distillation(**case, config=config)
    root = math.sqrt(3.0) / (1 + math.sqrt(3.0))  # softmax of (0, ln 3) / 2
    divergence = 0.5 * math.log(0.5 / root) + 0.5 * math.log(0.5 / (1 - root))
    expected = 2 * (math.log(2) + math.log(4)) / 2 + 3 * 4 * divergence
    torch.testing.assert_close(terms.normalize(), torch.tensor(expected))
    unscaled = LossConfig(**(vars(config) | {"temperature_squared": False}))
    expected -= 3 * 3 * divergence
    torch.testing.assert_close(self_distillation(**case, config=unscaled).normalize(), torch.tensor(expected))


def test_class_weights_give_the_weighted_mean_of_torch(make_batch: Any) -> None:
    weights = [0.5, 2.0, 1.0, 3.0]
    batch = make_batch([5, 3])
    logits = torch.randn(2, 5, 4)
    config = LossConfig(class_weights=weights)
    terms = self_distillation(logits, {"text": logits * 2}, batch.labels, batch.mask, batch.masks, config)
    expected = F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), torch.tensor(weights))
    torch.testing.assert_close(terms.means()[0], expected)
    heard = batch.labels.masked_fill(~batch.masks["text"], -100).flatten()
    expected = F.cross_entropy(2 * logits.flatten(0, 1), heard, torch.tensor(weights))
    torch.testing.assert_close(terms.means()[1], expected)
    assert terms.counts[2] == (heard != -100).sum()


def test_counts_need_no_logits(make_batch: Any) -> None:
    batch = make_batch([5, 3, 6])
    config = LossConfig(class_weights=[0.5, 2.0, 1.0, 3.0])
    branches = {m: torch.randn(3, 6, 4) for m in ("text", "audio", "vision")}
    terms = self_distillation(torch.randn(3, 6, 4), branches, batch.labels, batch.mask, batch.masks, config)
    counts = loss_counts(batch.labels, batch.mask, batch.masks, list(branches), config)
    assert torch.equal(terms.counts, counts)
    assert counts[3] == counts[6] == 0.0  # the batch has no vision


@pytest.mark.parametrize("model_type", ["lpgnet", "sdt", "concat"])
@pytest.mark.parametrize("class_weights", [None, [0.5, 2.0, 1.0, 3.0]])
def test_parts_of_a_step_add_up_to_the_whole(model_type: str, class_weights: Any, make_batch: Any) -> None:
    torch.manual_seed(0)
    sizes = {"text": [1, 6], "audio": [3, 5]}
    further = {} if model_type == "concat" else {"hidden_size": 8, "num_attention_heads": 2}
    model = build_model(model_type, input_sizes=sizes, num_labels=4, class_weights=class_weights, **further).eval()
    batch = make_batch([5, 3, 6, 1])
    whole = gradients(model, [batch])
    parts = gradients(model, [batch.map(lambda x, n=n: x[n : n + 1]) for n in range(4)])
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def gradients(model: Any, batches: list[Any]) -> list[Tensor]:
    """The gradients of a step over several batches, each normalized by the counts of all."""
    counts = sum(model.loss_counts(batch.labels, batch.mask, batch.masks) for batch in batches)
    model.zero_grad()
    for batch in batches:
        model(**batch.arguments()).loss_terms.normalize(counts).backward()
    return [p.grad.clone() for p in model.parameters() if p.requires_grad]


def test_without_a_label_the_loss_is_zero_and_connected() -> None:
    case = hand_worked_case()
    case["labels"] = torch.full((1, 4), -100)
    case["logits"].requires_grad_()
    loss = self_distillation(**case, config=LossConfig(class_weights=[1.0, 2.0])).normalize()
    loss.backward()
    assert loss.item() == 0.0 and (case["logits"].grad == 0).all()


@pytest.mark.parametrize("detach", [True, False])
def test_the_teacher_learns_from_the_distillation_only_when_it_is_not_detached(detach: bool) -> None:
    case = hand_worked_case()
    case["logits"].requires_grad_()
    config = LossConfig(fused_weight=0.0, detach_teacher=detach)
    self_distillation(**case, config=config).normalize().backward()
    assert (case["logits"].grad.abs().max() == 0) == detach
