"""SDT against its published size and a plain reference of its layer; the linear baseline against a linear layer."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lpgnet.model import EmotionModel, build_model
from lpgnet.model.sdt import sinusoidal_positions

SIZES = {"text": [1, 6], "audio": [3, 5]}


def make_sdt(**fields: Any) -> EmotionModel:
    small = {"input_sizes": SIZES, "num_labels": 4, "hidden_size": 8, "num_attention_heads": 2}
    return build_model("sdt", **(small | fields))


def test_parameter_counts() -> None:
    three = {"text": [1, 1024], "audio": [1, 1582], "vision": [1, 342]}
    two = {"text": [1, 768], "audio": [1, 768]}
    with torch.device("meta"):
        assert build_model("sdt", input_sizes=three, num_labels=6).num_parameters() == 79_687_704
        assert build_model("sdt", input_sizes=two, num_labels=4).num_parameters() == 36_234_252
        assert build_model("sdt", input_sizes=two, num_labels=4, hidden_size=256).num_parameters() == 2_570_508
        unaware = build_model("sdt", input_sizes=two, num_labels=4, speaker_embedding=False)
    assert unaware.num_parameters() == 36_234_252 - 3 * 1024


def test_positions_are_sines_and_cosines() -> None:
    table = sinusoidal_positions(5, 6, torch.device("cpu"))
    for turn in range(5):
        for i in range(3):
            angle = turn / 10000 ** (2 * i / 6)
            assert table[turn, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[turn, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def plain_sdt(model: Any, inputs: dict[str, Tensor], masks: dict[str, Tensor], speakers: Tensor) -> Tensor:
    """The fused logits of one dialogue in which somebody has every modality: path by path, head by head."""
    names, d, e = list(SIZES), model.config.hidden_size, model.encoders
    local = {}
    for m in names:
        mix, x = model.mixes[m], inputs[m]
        weights = torch.ones(1) if x.shape[1] == 1 else mix.layer_weights.softmax(0)
        mixed = sum(weights[i] * (x[:, i] - mix.mean[i]) / mix.std[i] for i in range(x.shape[1]))
        mixed = mixed @ model.local[m].weight.T + sinusoidal_positions(len(x), d, x.device)
        known = speakers < model.config.num_speakers
        local[m] = (mixed + model.speakers.table.weight[:-1][speakers * known] * known[:, None]) * masks[m][:, None]
    refined = {m: model.refine.bias[i].expand(len(speakers), d) for i, m in enumerate(names)}
    for number, (q, s) in enumerate(model.config.paths):
        x_q, x_s, real = local[names[q]], local[names[s]], masks[names[s]]
        queries, keys, values = (
            x @ layer.weight[number] + layer.bias[number] for x, layer in ((x_q, e.query), (x_s, e.key), (x_s, e.value))
        )
        heads = []
        for part in (slice(0, d // 2), slice(d // 2, d)):
            scores = queries[:, part] @ keys[real][:, part].T / math.sqrt(d // 2)
            heads.append(scores.softmax(-1) @ values[real][:, part])
        z = torch.cat(heads, -1) @ e.context.weight[number] + e.context.bias[number] + x_q
        normed = F.layer_norm(z, (d,), e.feed_norm.weight[number].flatten(), e.feed_norm.bias[number].flatten())
        inner = F.gelu(normed @ e.feed_in.weight[number] + e.feed_in.bias[number], approximate="tanh")
        h = z + inner @ e.feed_out.weight[number] + e.feed_out.bias[number]
        gated = torch.sigmoid(h @ model.path_gate.weight[number]) * h
        refined[names[q]] = refined[names[q]] + gated @ model.refine.weight[q][s * d : (s + 1) * d]
    scores = torch.stack([refined[m] @ model.modality_gate.weight.T for m in names])
    present = torch.stack([masks[m] for m in names])
    scores = scores.masked_fill(~present[..., None], -1e30).masked_fill(~present.any(0)[..., None], 0.0)
    fused = (scores.softmax(0) * torch.stack(list(refined.values()))).sum(0)
    return fused @ model.fused_head.weight.T + model.fused_head.bias


def test_sdt_equals_a_plain_loop_and_ignores_companions(make_batch: Any, randomized: Any) -> None:
    model = randomized(make_sdt(), scale=1.0).eval()
    model.speakers.table.weight.data[-1] = 0.0
    batch = make_batch([6, 4], missing=0.3)
    together = model(**batch.arguments()).logits
    for row, length in enumerate(batch.lengths):
        one = batch.alone(row)
        inputs, masks = ({m: x[0] for m, x in part.items()} for part in (one.inputs, one.masks))
        expected = plain_sdt(model, inputs, masks, one.speakers[0])
        torch.testing.assert_close(together[row, :length], expected, atol=2e-4, rtol=1e-4)


def test_speakers_matter_unless_they_are_beyond_the_table(make_batch: Any) -> None:
    model, batch = make_sdt().eval(), make_batch([6, 4])
    logits = [model(batch.inputs, batch.masks, batch.mask, speakers=torch.full((2, 6), n)).logits for n in range(4)]
    unknown = model(batch.inputs, batch.masks, batch.mask).logits
    assert not torch.allclose(logits[0], logits[1])
    assert torch.equal(logits[2], unknown) and torch.equal(logits[3], unknown)
    not_told = model(batch.inputs, batch.masks, batch.mask, speakers=torch.full((2, 6), -1)).logits
    assert torch.equal(not_told, unknown)


def test_without_speaker_embedding_speakers_do_not_matter(make_batch: Any) -> None:
    model, batch = make_sdt(speaker_embedding=False).eval(), make_batch([6, 4])
    known = model(**batch.arguments()).logits
    assert torch.equal(known, model(batch.inputs, batch.masks, batch.mask).logits)


def test_the_row_of_unknown_speakers_stays_zero(make_batch: Any) -> None:
    model = make_sdt().train()
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    before = model.speakers.table.weight.clone()
    model(**make_batch([6, 4]).arguments()).loss.backward()
    optimizer.step()
    assert (model.speakers.table.weight[-1] == 0).all()
    assert not torch.equal(model.speakers.table.weight, before)


def test_the_skipped_norm_counts_and_never_learns(make_batch: Any) -> None:
    model = make_sdt()
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen == ["encoders.skipped_norm.weight", "encoders.skipped_norm.bias"]


@pytest.mark.parametrize("model_type", ["sdt", "concat"])
@pytest.mark.parametrize("case", [{"unlabelled": 1.0}, {"missing": 1.0}, {"missing": 0.3}])
def test_every_trained_parameter_has_a_finite_gradient(
    model_type: str, case: dict[str, float], make_batch: Any
) -> None:
    small = {"hidden_size": 8, "num_attention_heads": 2} if model_type == "sdt" else {}
    model = build_model(model_type, input_sizes=SIZES, num_labels=4, **small)
    output = model(**make_batch([5, 1], **case).arguments())
    output.loss.backward()
    assert output.logits.isfinite().all()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_concat_is_a_linear_layer_of_one_utterance(make_batch: Any, randomized: Any) -> None:
    model = randomized(build_model("concat", input_sizes=SIZES, num_labels=4)).eval()
    batch = make_batch([5, 4], missing=0.3)
    output = model(**batch.arguments())
    mixed = []
    for m in SIZES:
        mix = model.mixes[m]
        weights = torch.ones(1) if m == "text" else mix.layer_weights.softmax(0)
        mixed.append((weights[:, None] * (batch.inputs[m] - mix.mean) / mix.std).sum(2) * batch.masks[m][..., None])
    expected = torch.cat(mixed, -1) @ model.fused_head.weight.T + model.fused_head.bias
    torch.testing.assert_close(output.logits[batch.mask], expected[batch.mask], atol=1e-5, rtol=1e-4)
    assert output.branch_logits == {} and output.modality_weights == {}
    assert output.loss_terms.names == ("fused",)
    assert model.num_parameters() == (6 + 5) * 4 + 4 + 3
