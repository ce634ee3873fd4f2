"""LPGNet against a plain reference, and what must hold for every batch."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lpgnet.model import LPGNetConfig, LPGNetForEmotionRecognition, ModelError, build_model
from lpgnet.model.base import SPARE
from lpgnet.model.layers import MaskedBatchNorm
from lpgnet.model.lpgnet import attend
from lpgnet.model.packing import lay_out

SIZES = {"text": [1, 6], "audio": [3, 5]}
EVERY_VARIANT: dict[str, Any] = {
    "context_norm": "layer",
    "voice_neighbours": True,
    "speaker_turn_bias": True,
    "local_layers": 2,
    "distance_bias": True,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "three modalities": {"input_sizes": {"text": [1, 6], "audio": [3, 5], "vision": [2, 4]}},
    "text alone": {"modalities": ["text"]},
    "other order": {"modalities": ["audio", "text"]},
    "within modalities": {"cross_modal": False},
    "between modalities": {"intra_modal": False},
    "no gate 1": {"path_gate": False},
    "no gate 2": {"modality_gate": False},
    "kernel 1": {"kernel_size": 1},
    "kernel 4": {"kernel_size": 4},
    "one head": {"num_attention_heads": 1},
    "projections per path": {"projections_per_path": True},
    "causal": {"causal": True},
    "distance bias": {"distance_bias": True},
    "causal distance bias": {"causal": True, "distance_bias": True},
    "layer norm": {"context_norm": "layer"},
    "three local layers": {"local_layers": 3},
    "voice neighbours": {"voice_neighbours": True},
    "speaker turn bias": {"speaker_turn_bias": True},
    "all variants": EVERY_VARIANT,
    "all variants, causal": {**EVERY_VARIANT, "causal": True, "kernel_size": 4},
    "all variants, three modalities": {
        **EVERY_VARIANT,
        "input_sizes": {"text": [1, 6], "audio": [3, 5], "vision": [2, 4]},
    },
    "all variants, text alone": {**EVERY_VARIANT, "modalities": ["text"]},
}


def make_model(**fields: Any) -> LPGNetForEmotionRecognition:
    defaults = {"input_sizes": SIZES, "hidden_size": 8, "num_attention_heads": 2}
    return LPGNetForEmotionRecognition(LPGNetConfig(**(defaults | fields)))


def some_untold(batch: Any, share: float = 0.25) -> Any:
    """The batch, with the speakers of some turns not told."""
    hidden = torch.rand(batch.speakers.shape, generator=torch.Generator().manual_seed(3)) < share
    return replace(batch, speakers=batch.speakers.masked_fill(hidden, -1))


class PlainLPGNet:
    """The same model, written for one dialogue without padding, one utterance, path and head at a time."""

    def __init__(self, model: LPGNetForEmotionRecognition) -> None:
        self.parts, self.config = model, model.config

    def __call__(self, inputs: dict[str, Tensor], masks: dict[str, Tensor], speakers: list[int]) -> dict[str, Tensor]:
        self.speakers = speakers
        names, paths = self.config.modality_names, self.config.paths
        local = {m: self.local(m, inputs[m], masks[m]) for m in names}
        enhanced: dict[str, list[Tensor]] = {m: [] for m in names}
        for number, (query, source) in enumerate(paths):
            context = self.context(number, local[names[query]], local[names[source]], masks[names[source]])
            enhanced[names[query]].append(self.enhance(number, local[names[query]], context))
        refined = {}
        for number, m in enumerate(names):
            joined = torch.cat(enhanced[m], dim=-1)
            refined[m] = joined @ self.parts.refine.weight[number] + self.parts.refine.bias[number]
        fused = self.fuse(refined, masks)
        result = {"fused": fused @ self.parts.fused_head.weight.T + self.parts.fused_head.bias}
        for number, m in enumerate(names):
            heads = self.parts.branch_heads
            result[m] = refined[m].relu() @ heads.weight[number] + heads.bias[number]
        return result

    def local(self, name: str, values: Tensor, real: Tensor) -> Tensor:
        mix, conv = self.parts.mixes[name], self.parts.local[name]
        layers, k = values.shape[1], self.config.kernel_size
        weights = torch.ones(1) if layers == 1 else mix.layer_weights.softmax(0)
        mixed = sum(weights[i] * (values[:, i] - mix.mean[i]) / mix.std[i] for i in range(layers))
        modality, d = self.config.modality_names.index(name), self.config.hidden_size
        out = self.convolution([conv.weight[:, :, j].T for j in range(k)], conv.bias, mixed, real)
        if self.config.voice_neighbours:
            project, join = self.parts.neighbors.project[name], self.parts.neighbors.join.weight[modality]
            parts = join.unflatten(0, (4, -1))
            for i in range(len(values)):
                for part, turn in zip(parts, self.neighbors(i), strict=True):
                    if real[i] and turn is not None and real[turn]:
                        out[i] = out[i] + project(mixed[turn]) @ part
        for layer in self.parts.further_local:
            parts = layer.weight[modality].unflatten(0, (d, 3)).unbind(1)  # a turn's numbers lie 3 apart
            further = self.convolution(parts, layer.bias[modality, 0], F.layer_norm(out, (d,)), real)
            out = out + F.gelu(further) * real[:, None]
        return out

    def convolution(self, parts: Any, bias: Tensor, x: Tensor, real: Tensor) -> Tensor:
        left = len(parts) - 1 if self.config.causal else (len(parts) - 1) // 2
        out = torch.zeros(len(x), len(bias))
        for i in range(len(x)):
            if real[i]:
                out[i] = bias
                for j, part in enumerate(parts):
                    turn = i + j - left
                    if 0 <= turn < len(x) and real[turn]:
                        out[i] = out[i] + x[turn] @ part
        return out

    def neighbors(self, i: int) -> list[int | None]:
        """The turns before and after of the same voice, then of another one; None where there is none."""
        found: list[int | None] = []
        for same in (True, False):
            for turns in (range(i - 1, -1, -1), range(i + 1, len(self.speakers))):
                hidden = self.config.causal and turns.step > 0
                found.append(next((j for j in turns if not hidden and self.relation(i, j) is same), None))
        return found

    def relation(self, i: int, j: int) -> bool | None:
        """Whether two turns have one voice; None where one of them is not told."""
        one, other = self.speakers[i], self.speakers[j]
        return None if one < 0 or other < 0 else one == other

    def projection(self, layer: nn.Module, number: int, modality: int, x: Tensor) -> Tensor:
        copy = number if self.config.projections_per_path else modality
        return x @ layer.weight[copy] + layer.bias[copy]

    def context(self, number: int, query: Tensor, source: Tensor, source_real: Tensor) -> Tensor:
        q_modality, s_modality = self.config.paths[number]
        d, h = self.config.hidden_size, self.config.num_attention_heads
        queries = self.projection(self.parts.query, number, q_modality, query)
        both = self.projection(self.parts.key_value, number, s_modality, source)
        keys, values = both[:, :d], both[:, d:]
        context = torch.zeros(len(query), d)
        for i in range(len(query)):
            turns = [j for j in range(len(query)) if source_real[j] and not (self.config.causal and j > i)]
            for head in range(h if turns else 0):
                part = slice(head * d // h, (head + 1) * d // h)
                scores = torch.stack([queries[i, part] @ keys[j, part] for j in turns]) / math.sqrt(d // h)
                if self.config.distance_bias:
                    slope = F.softplus(self.parts.raw_slopes[number, head])
                    scores = scores - slope * torch.tensor([abs(i - j) for j in turns])
                if self.config.speaker_turn_bias:
                    of_same, of_other = self.parts.voice_bias[number, head]
                    added = {True: of_same, False: of_other, None: torch.zeros(())}
                    scores = scores + torch.stack([added[self.relation(i, j)] for j in turns])
                weights = scores.softmax(0)
                context[i, part] = sum(weights[n] * values[j, part] for n, j in enumerate(turns))
        return context

    def enhance(self, number: int, query: Tensor, context: Tensor) -> Tensor:
        parts, norm = self.parts, self.parts.context_norm
        projected = context @ parts.context.weight[number] + parts.context.bias[number]
        if self.config.context_norm == "layer":
            mean, var = projected.mean(-1, keepdim=True), projected.var(-1, keepdim=True, correction=0)
        else:
            mean, var = norm.running_mean[number].flatten(), norm.running_var[number].flatten()
        normed = (projected - mean) / (var + 1e-5).sqrt() * norm.weight[number].flatten() + norm.bias[number].flatten()
        z = query + F.leaky_relu(normed)
        layer_norm = F.layer_norm(
            z, z.shape[-1:], parts.feed_norm.weight[number].flatten(), parts.feed_norm.bias[number].flatten()
        )
        inner = F.gelu(layer_norm @ parts.feed_in.weight[number] + parts.feed_in.bias[number])
        h = z + inner @ parts.feed_out.weight[number] + parts.feed_out.bias[number]
        return torch.sigmoid(h @ parts.path_gate.weight[number]) * h if self.config.path_gate else h

    def fuse(self, refined: dict[str, Tensor], masks: dict[str, Tensor]) -> Tensor:
        gate = self.parts.modality_gate
        fused = torch.zeros_like(next(iter(refined.values())))
        for i in range(len(fused)):
            present = [m for m in refined if masks[m][i]]
            rows = torch.stack([refined[m][i] for m in present or refined])
            gated = gate is not None and present
            alpha = (rows @ gate.weight.T).softmax(0) if gated else torch.full_like(rows, 1 / len(rows))
            fused[i] = (alpha * rows).sum(0)
        return fused


@pytest.mark.parametrize("variant", VARIANTS)
def test_forward_equals_plain_loops(variant: str, make_batch: Any, randomized: Any) -> None:
    model = randomized(make_model(**VARIANTS[variant]), scale=1.0).eval()
    batch = some_untold(make_batch([5, 1, 7, 2], sizes=model.config.input_sizes, missing=0.4))
    with torch.no_grad():
        output = model(**batch.arguments())
        for row in range(4):
            one = batch.alone(row)
            inputs, masks = ({m: x[0] for m, x in part.items()} for part in (one.inputs, one.masks))
            expected = PlainLPGNet(model)(inputs, masks, one.speakers[0].tolist())
            length = batch.lengths[row]
            torch.testing.assert_close(output.logits[row, :length], expected.pop("fused"), atol=2e-4, rtol=1e-4)
            for m, logits in expected.items():
                torch.testing.assert_close(output.branch_logits[m][row, :length], logits, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sloped", [False, True])
def test_four_attentions_in_one_call_equal_a_loop(causal: bool, sloped: bool) -> None:
    torch.manual_seed(0)
    queries, keys, values = torch.randn(3, 4, 2, 6, 8).unbind(0)
    key_mask = torch.rand(4, 2, 6) > 0.5
    key_mask[0, 0] = False
    slopes = torch.rand(4, 2) if sloped else None
    found = attend(queries, keys, values, key_mask, heads=2, causal=causal, slopes=slopes)
    for path, dialogue, head, i in torch.cartesian_prod(*(torch.arange(n) for n in (4, 2, 2, 6))).tolist():
        part = slice(head * 4, head * 4 + 4)
        turns = [j for j in range(6) if key_mask[path, dialogue, j] and not (causal and j > i)]
        expected = torch.zeros(4)
        if turns:
            q, k = queries[path, dialogue, i, part], keys[path, dialogue, turns, part]
            scores = k @ q / 2.0
            if slopes is not None:
                scores = scores - slopes[path, head] * torch.tensor([abs(i - j) for j in turns])
            expected = scores.softmax(0) @ values[path, dialogue, turns, part]
        torch.testing.assert_close(found[path, dialogue, i, part], expected, atol=1e-6, rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    missing=st.sampled_from([0.0, 0.3, 1.0]),
    variant=st.fixed_dictionaries(
        {
            "context_norm": st.sampled_from(["batch", "layer"]),
            "voice_neighbours": st.booleans(),
            "speaker_turn_bias": st.booleans(),
            "local_layers": st.integers(1, 3),
            "distance_bias": st.booleans(),
            "causal": st.booleans(),
            "kernel_size": st.integers(1, 4),
            "modalities": st.sampled_from([["text", "audio"], ["audio"], ["vision", "text", "audio"]]),
        }
    ),
    seed=st.integers(0, 1000),
)
def test_logits_do_not_depend_on_companions(
    lengths: list[int], missing: float, variant: dict[str, Any], seed: int, make_batch: Any, randomized: Any
) -> None:
    sizes = {"text": [1, 6], "audio": [3, 5], "vision": [2, 4]}
    model = randomized(make_model(input_sizes=sizes, **variant)).eval()
    batch = some_untold(make_batch(lengths, sizes=sizes, missing=missing, seed=seed))
    with torch.no_grad():
        together = model(**batch.padded(3).arguments())
        for row, length in enumerate(lengths):
            alone = model(**batch.alone(row).arguments())
            torch.testing.assert_close(together.logits[row, :length], alone.logits[0], atol=1e-5, rtol=1e-5)
            for m, weights in alone.modality_weights.items():
                found = together.modality_weights[m][row, :length]
                torch.testing.assert_close(found, weights[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", ["default", "all variants", "all variants, causal"])
def test_padding_moves_no_statistics_and_no_loss_in_training(variant: str, make_batch: Any, randomized: Any) -> None:
    plain_batch = make_batch([5, 2, 7])
    results = []
    for batch in (plain_batch, plain_batch.padded(6)):
        model = randomized(make_model(dropout=0.0, **VARIANTS[variant])).train()
        torch.manual_seed(0)
        output = model(**batch.arguments())
        output.loss.backward()
        results.append((model, output))
    (plain, first), (padded, second) = results
    torch.testing.assert_close(first.loss, second.loss)
    for (name, one), other in zip(plain.named_buffers(), padded.buffers(), strict=True):
        torch.testing.assert_close(one, other, msg=name)
    for (name, one), other in zip(plain.named_parameters(), padded.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-4, msg=name)


def test_a_paths_statistics_are_those_of_its_query(make_batch: Any, randomized: Any) -> None:
    model = randomized(make_model(dropout=0.0)).train()
    norm, batch = model.context_norm, make_batch([5, 2, 7], missing=0.4)
    before, seen = norm.running_mean.clone(), []
    norm.register_forward_hook(lambda module, arguments, result: seen.append(arguments[0]))
    model(**batch.arguments())
    layout = lay_out(batch.mask, gap=model.reach, spare=SPARE["cpu"])
    for number, (query, _) in enumerate(model.config.paths):
        rows = layout.unpack(seen[0][number])[batch.masks[model.config.modality_names[query]]]
        expected = 0.9 * before[number].flatten() + 0.1 * rows.mean(0)
        torch.testing.assert_close(norm.running_mean[number].flatten(), expected)


def test_masked_norm_equals_torch_on_the_real_rows() -> None:
    torch.manual_seed(0)
    x, real = torch.randn(2, 3, 5, 4) * 3 + 2, torch.rand(2, 3, 5) > 0.4
    ours, theirs = MaskedBatchNorm(2, 4), [nn.BatchNorm1d(4) for _ in range(2)]
    for _ in range(2):
        found = ours(x, real)
        for path, norm in enumerate(theirs):
            torch.testing.assert_close(found[path][real[path]], norm(x[path][real[path]]))
            torch.testing.assert_close(ours.running_mean[path].flatten(), norm.running_mean)
            torch.testing.assert_close(ours.running_var[path].flatten(), norm.running_var)


@pytest.mark.parametrize("rows", [0, 1])
def test_norm_over_fewer_than_two_rows_uses_the_running_statistics(rows: int) -> None:
    norm = MaskedBatchNorm(2, 4)
    norm.running_mean.fill_(3.0)
    x, real = torch.randn(2, 1, 3, 4), torch.ones(2, 1, 3, dtype=torch.bool)
    real[1, 0, rows:] = False
    found = norm.train()(x, real)
    torch.testing.assert_close(found[1], (x[1] - 3.0) / math.sqrt(1 + 1e-5))
    assert (norm.running_mean[1] == 3.0).all() and (norm.running_var[1] == 1.0).all()
    assert not torch.allclose(found[0], (x[0] - 3.0) / math.sqrt(1 + 1e-5))


@pytest.mark.parametrize("variant", [{}, EVERY_VARIANT])
def test_missing_modality_weighs_nothing_and_its_content_does_not_matter(
    variant: dict[str, Any], make_batch: Any, randomized: Any
) -> None:
    model = randomized(make_model(**variant)).eval()
    batch = make_batch([6, 4], missing=0.5)
    output = model(**batch.arguments(), return_gates=True)
    text, audio = batch.masks["text"], batch.masks["audio"]
    assert (output.modality_gates["text"][audio & ~text] == 0).all()
    assert (output.modality_gates["audio"][text & ~audio] == 0).all()
    assert (output.modality_gates["text"][batch.mask & ~text & ~audio] == 0.5).all()
    changed = {m: x.masked_fill(~batch.masks[m][..., None, None], 1e4) for m, x in batch.inputs.items()}
    again = model(changed, batch.masks, batch.mask, speakers=batch.speakers)
    torch.testing.assert_close(output.logits, again.logits)


@pytest.mark.parametrize("variant", [{}, EVERY_VARIANT])
def test_modality_absent_from_the_batch_is_missing_everywhere(
    variant: dict[str, Any], make_batch: Any, randomized: Any
) -> None:
    model = randomized(make_model(**variant)).eval()
    batch = make_batch([6, 4], missing=0.0)
    others, nowhere = (batch.mask, batch.labels, batch.speakers), torch.zeros_like(batch.mask)
    masked = model(batch.inputs, batch.masks | {"audio": nowhere}, *others)
    absent = model({"text": batch.inputs["text"]}, {"text": batch.masks["text"]}, *others)
    torch.testing.assert_close(masked.logits, absent.logits)
    torch.testing.assert_close(masked.loss, absent.loss)
    assert (absent.modality_weights["text"][batch.mask] == 1).all()


AWKWARD: dict[str, dict[str, Any]] = {
    "plain": {"lengths": [4, 2]},
    "no label": {"lengths": [4, 2], "unlabelled": 1.0},
    "nothing present": {"lengths": [4, 2], "missing": 1.0},
    "one turn": {"lengths": [1]},
    "one turn without label": {"lengths": [1], "unlabelled": 1.0},
    "text missing": {"lengths": [4, 2], "without": "text"},
    "audio missing": {"lengths": [3, 3], "without": "audio"},
}


@pytest.mark.parametrize("precision", [None, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("variant", ["default", "distance bias", "projections per path", "no gate 2", "all variants"])
@pytest.mark.parametrize("case", AWKWARD)
def test_every_parameter_has_a_finite_gradient(case: str, variant: str, precision: Any, make_batch: Any) -> None:
    model = make_model(**VARIANTS[variant]).train()
    settings = dict(AWKWARD[case])
    without = settings.pop("without", None)
    batch = make_batch(**settings)
    if without:
        batch.masks[without].zero_()
    with torch.autocast("cpu", dtype=precision, enabled=precision is not None):
        output = model(**batch.arguments())
    output.loss.backward()
    assert output.loss.dtype == torch.float32 and output.loss.isfinite()
    assert output.logits.isfinite().all()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_autocast_is_close_to_float32(make_batch: Any) -> None:
    model = make_model().eval()
    batch = make_batch([6, 4])
    plain = model(**batch.arguments())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(**batch.arguments())
    torch.testing.assert_close(plain.loss, rounded.loss, atol=0.05, rtol=0)


def future_gradient(model: LPGNetForEmotionRecognition, batch: Any) -> float:
    """How much turn 3's logits change with the inputs after it."""
    inputs = {m: x.requires_grad_() for m, x in batch.inputs.items()}
    model(inputs, batch.masks, batch.mask, speakers=batch.speakers).logits[:, 3].sum().backward()
    return max(x.grad[:, 4:].abs().max().item() for x in inputs.values())


@pytest.mark.parametrize("variant", [{}, EVERY_VARIANT])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 5])
def test_no_future_turn_reaches_a_causal_logit(
    kernel_size: int, variant: dict[str, Any], make_batch: Any, randomized: Any
) -> None:
    batch = make_batch([7, 6], missing=0.2)
    causal = randomized(make_model(causal=True, kernel_size=kernel_size, **variant)).eval()
    assert future_gradient(causal, batch) == 0.0
    assert future_gradient(randomized(make_model(kernel_size=kernel_size, **variant)).eval(), batch) > 0.0


@pytest.mark.parametrize("variant", [{"distance_bias": True}, EVERY_VARIANT])
def test_causal_logits_equal_those_of_the_dialogue_so_far(
    variant: dict[str, Any], make_batch: Any, randomized: Any
) -> None:
    model = randomized(make_model(causal=True, **variant)).eval()
    batch = some_untold(make_batch([7]))
    whole = model(**batch.arguments()).logits
    for turns in range(1, 7):
        so_far = model(**batch.map(lambda x, n=turns: x[:, :n]).arguments()).logits
        torch.testing.assert_close(so_far, whole[:, :turns], atol=1e-5, rtol=1e-5)


def parameters(**fields: Any) -> int:
    wide = {"input_sizes": {"text": [1, 768], "audio": [1, 768]}, "num_labels": 4}
    return build_model("lpgnet", **(wide | fields)).num_parameters()


def test_parameter_counts() -> None:
    d = 256
    assert parameters() == 2_961_932
    assert parameters(kernel_size=1) == 2_175_500
    assert parameters(input_sizes={"text": [1, 768], "audio": [13, 768]}) == 2_961_932 + 13
    assert parameters(path_gate=False) == 2_961_932 - 4 * d * d
    assert parameters(modality_gate=False) == 2_961_932 - d * d
    assert parameters(num_attention_heads=1) == 2_961_932
    assert parameters(distance_bias=True) == 2_961_932 + 4 * 4
    # Two paths less: their 1x1 convolution, two norms, FFN, gate, and half the refinement's input.
    half = 2 * (d * d + d + 2 * d + 2 * d + 2 * (d * d + d) + d * d) + 2 * d * d
    assert parameters(cross_modal=False) == parameters(intra_modal=False) == 2_961_932 - half
    assert parameters(projections_per_path=True) == 2_961_932 + 2 * 3 * (d * d + d)
    assert parameters(context_norm="layer") == 2_961_932
    assert parameters(voice_neighbours=True) == 2_961_932 + 2 * (768 * d // 4 + d // 4 + d * d)
    assert parameters(speaker_turn_bias=True) == 2_961_932 + 4 * 4 * 2
    assert parameters(local_layers=3) == 2_961_932 + 2 * 2 * (3 * d * d + d)


def test_distance_slopes_begin_geometric() -> None:
    model = make_model(distance_bias=True, num_attention_heads=4)
    slopes = F.softplus(model.raw_slopes)
    torch.testing.assert_close(slopes, torch.tensor([1 / 4, 1 / 16, 1 / 64, 1 / 256]).expand(4, 4))


def test_gates_are_returned_on_request(make_batch: Any) -> None:
    model, batch = make_model().eval(), make_batch([4, 3])
    assert model(**batch.arguments()).modality_gates is None
    output = model(**batch.arguments(), return_gates=True)
    assert list(output.path_gates) == ["text<-text", "text<-audio", "audio<-text", "audio<-audio"]
    assert output.path_gates["text<-audio"].shape == (2, 4, 8)
    torch.testing.assert_close(sum(output.modality_gates.values()), torch.ones(2, 4, 8))
    torch.testing.assert_close(output.modality_weights["text"], output.modality_gates["text"].mean(-1))


def test_without_gate_1_the_gates_are_one(make_batch: Any) -> None:
    output = make_model(path_gate=False)(**make_batch([4]).arguments(), return_gates=True)
    assert all((gate == 1).all() for gate in output.path_gates.values())


def test_distillation_switches_change_the_gradient_and_not_the_logits(make_batch: Any) -> None:
    batch = make_batch([5, 4])
    gradients, logits = [], []
    for weights in ({}, {"branch_weight": 0.0}, {"distillation_weight": 0.0}):
        torch.manual_seed(0)
        model = make_model(dropout=0.0, **weights).eval()
        output = model(**batch.arguments())
        output.loss.backward()
        gradients.append(model.branch_heads.weight.grad.clone())
        logits.append(output.logits)
    assert torch.equal(logits[0], logits[1]) and torch.equal(logits[0], logits[2])
    assert not torch.allclose(gradients[0], gradients[1]) and not torch.allclose(gradients[0], gradients[2])
    torch.testing.assert_close(gradients[0], gradients[1] + gradients[2])


def test_speakers_are_ignored(make_batch: Any) -> None:
    model, batch = make_model().eval(), make_batch([5, 4])
    known = model(**batch.arguments()).logits
    assert torch.equal(known, model(batch.inputs, batch.masks, batch.mask).logits)


def test_standardizing_by_the_buffers_equals_standardized_inputs(make_batch: Any, randomized: Any) -> None:
    model, batch = randomized(make_model()).eval(), make_batch([5, 4])
    for m in SIZES:
        model.standardize_(m, torch.zeros(SIZES[m]), torch.ones(SIZES[m]))
    mean = {m: 200 + 50 * torch.rand(size) for m, size in SIZES.items()}
    std = {m: 1 + 50 * torch.rand(size) for m, size in SIZES.items()}
    expected = model(**batch.arguments()).logits
    raw = {m: x * std[m] + mean[m] for m, x in batch.inputs.items()}
    for m in SIZES:
        model.standardize_(m, mean[m], std[m])
    torch.testing.assert_close(model(raw, batch.masks, batch.mask).logits, expected, atol=1e-3, rtol=1e-3)


def test_a_constant_dimension_is_centred_and_not_scaled() -> None:
    model = make_model()
    model.standardize_("text", torch.full((1, 6), 5.0), torch.tensor([[0.0, 1e-7, 2.0, 2.0, 2.0, 2.0]]))
    assert model.mixes["text"].std.tolist() == [[1.0, 1.0, 2.0, 2.0, 2.0, 2.0]]


@pytest.mark.parametrize(
    ("modality", "mean", "message"),
    [
        ("vision", torch.zeros(1, 6), "no modality 'vision'"),
        ("text", torch.zeros(1, 5), r"shapes \(1, 5\)"),
        ("text", torch.full((1, 6), torch.nan), "not finite"),
    ],
)
def test_wrong_statistics_are_refused(modality: str, mean: Tensor, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make_model().standardize_(modality, mean, torch.ones_like(mean))


def test_inputs_of_another_size_are_refused(make_batch: Any) -> None:
    batch = make_batch([4], sizes={"text": [1, 6], "audio": [2, 5]})
    with pytest.raises(ModelError, match=r"audio: inputs of shape \(1, 4, 2, 5\)"):
        make_model()(**batch.arguments())
