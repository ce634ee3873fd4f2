"""Adapters are merged as peft merges them, before anything else; what is no plain LoRA of the encoder is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from lpgnet.feature_extractors import EncoderError, TextItem, digest_file, load_encoder, resolve_spec
from lpgnet.feature_extractors.adapters import ADAPTER_CONFIG, ADAPTER_WEIGHTS, RECORD_FILE
from lpgnet.feature_extractors.checkpoint import find_checkpoint
from lpgnet.feature_extractors.spec import digest_json
from lpgnet.pipeline.config import TuneConfig
from lpgnet.pipeline.tuning.lora import add_adapters

DEMO = Path(__file__).parents[2] / "examples" / "demo" / "encoders"
TARGETS = {"audio": ["q_proj", "output_dense"], "text": ["query", "value"]}
RNG = np.random.default_rng(0)
ITEMS = {
    "audio": [RNG.normal(0, 0.1, count).astype(np.float32) for count in (16_000, 7_000, 24_001)],
    "text": ["so i am livid about the boat", TextItem("fine", context=("how was it",)), "well"],
}


def make_adapter(folder: Path, modality: str, *, zero: bool = False) -> Any:
    """An adapter by peft itself, with a record of its encoder."""
    torch.manual_seed(0)
    settings = LoraConfig(r=4, lora_alpha=6, target_modules=TARGETS[modality], init_lora_weights=zero)
    model = get_peft_model(AutoModel.from_pretrained(DEMO / modality), settings)
    model.save_pretrained(str(folder))
    content = find_checkpoint(str(DEMO / modality), "hf:x").content(digest_file)
    record = {"base": {"name": f"hf:{DEMO / modality}", "content": digest_json(content)}}
    (folder / RECORD_FILE).write_text(json.dumps(record))
    return model


@pytest.mark.parametrize("modality", ["audio", "text"])
def test_merged_is_what_peft_computes(tmp_path: Path, modality: str) -> None:
    make_adapter(tmp_path, modality)
    encoder = load_encoder(f"hf:{tmp_path}", layers="all", pooling="none")
    model = PeftModel.from_pretrained(AutoModel.from_pretrained(DEMO / modality), str(tmp_path)).eval()
    item = ITEMS[modality][0]
    if modality == "audio":
        wave = torch.tensor(item)
        inputs = {"input_values": ((wave - wave.mean()) / wave.std(correction=0))[None]}
    else:
        inputs = dict(encoder.tokenizer(item, return_tensors="pt"))
    with torch.no_grad():
        states = model(**inputs, output_hidden_states=True).hidden_states
    expected = torch.stack(states, dim=2)[0].numpy()  # (T, layers, d)
    found = encoder.encode([item])[0].values
    expected = expected if modality == "audio" else expected[1:-1]
    assert np.abs(found - expected).max() < 1e-4


@pytest.mark.parametrize("modality", ["audio", "text"])
def test_an_adapter_that_adds_nothing_is_the_encoder_itself(tmp_path: Path, modality: str) -> None:
    make_adapter(tmp_path, modality, zero=True)
    tuned, base = (load_encoder(name, layers="all") for name in (f"hf:{tmp_path}", f"hf:{DEMO / modality}"))
    for one, other in zip(tuned.encode(ITEMS[modality]), base.encode(ITEMS[modality]), strict=True):
        assert np.array_equal(one.values, other.values)
    assert tuned.spec.fingerprint != base.spec.fingerprint


@pytest.mark.parametrize("modality", ["audio", "text"])
def test_a_batch_gives_what_each_gives_alone(tmp_path: Path, modality: str) -> None:
    make_adapter(tmp_path, modality)
    encoder = load_encoder(f"hf:{tmp_path}", layers="all")
    budget = 10**9 if modality == "audio" else None
    together = encoder.encode(ITEMS[modality], batch_budget=budget)
    for item, one in zip(ITEMS[modality], together, strict=True):
        alone = encoder.encode([item], batch_budget=0)[0].values
        assert np.linalg.norm(one.values - alone) <= 1e-5 * np.linalg.norm(alone)


@pytest.mark.parametrize("pooling", ["mean", "mean_std", "max", "first"])
@pytest.mark.parametrize("modality", ["audio", "text"])
def test_what_learns_is_what_is_extracted(modality: str, pooling: str) -> None:
    """Cut to windows too: half a second of sound, and what is beyond 128 tokens."""
    encoder: Any = load_encoder(f"hf:{DEMO / modality}", layers="all", pooling=pooling, max_seconds=0.5)
    items = [*ITEMS[modality], *([] if modality == "audio" else ["so i am gloomy about the train " * 30])]
    embedded = encoder.embed(items)
    expected = torch.tensor(np.stack([one.values for one in encoder.encode(items)]))
    assert any("windowed" in one.flags for one in encoder.encode(items))
    assert torch.allclose(embedded, expected, atol=1e-5)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["deberta", "deberta_v2", "roberta", "modernbert", "t5"])
def test_adapters_learn_in_half_precision(checkpoint: Callable[[str], Path], name: str, kind: torch.dtype) -> None:
    """DeBERTa hides what lies beyond a text by a number that only float32 holds."""
    encoder: Any = load_encoder(f"hf:{checkpoint(name)}", layers="all")
    add_adapters(encoder, TuneConfig(), "a b c")
    with torch.autocast("cpu", kind):
        encoder.embed(["a b c d", "e"]).square().mean().backward()
    gradients = [parameter.grad for parameter in encoder.parameters() if parameter.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)


def test_the_fingerprint_is_of_the_adapter_and_its_encoder(tmp_path: Path) -> None:
    make_adapter(tmp_path / "one", "text")
    make_adapter(tmp_path / "two", "text")
    prints = [resolve_spec(f"hf:{tmp_path / name}").fingerprint for name in ("one", "two")]
    assert prints[0] == prints[1]
    path = tmp_path / "two" / ADAPTER_WEIGHTS
    weights = load_file(path)
    next(iter(weights.values()))[0, 0] += 1
    save_file(weights, path)
    changed = resolve_spec(f"hf:{tmp_path / 'two'}").fingerprint
    config = json.loads((tmp_path / "one" / ADAPTER_CONFIG).read_text())
    (tmp_path / "one" / ADAPTER_CONFIG).write_text(json.dumps(config | {"lora_alpha": 7}))
    assert len({prints[0], changed, resolve_spec(f"hf:{tmp_path / 'one'}").fingerprint}) == 3


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_another_encoder_of_that_name_is_refused(tmp_path: Path) -> None:
    make_adapter(tmp_path, "text")
    edit(tmp_path / RECORD_FILE, base={"name": f"hf:{DEMO / 'audio'}", "content": "0" * 32})
    with pytest.raises(EncoderError, match="holds other weights"):
        resolve_spec(f"hf:{tmp_path}")


def test_tuning_what_is_tuned_is_refused(tmp_path: Path) -> None:
    make_adapter(tmp_path, "text")
    edit(tmp_path / RECORD_FILE, base={"name": f"hf:{tmp_path}", "content": "0" * 32})
    with pytest.raises(EncoderError, match="is tuned itself"):
        resolve_spec(f"hf:{tmp_path}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_rslora": True}, "sets use_rslora"),
        ({"use_dora": True}, "sets use_dora"),
        ({"alpha_pattern": {"query": 3}}, "sets alpha_pattern"),
        ({"peft_type": "IA3"}, "is no LoRA"),
        ({"r": 0}, "no whole r"),
        ({"r": "4"}, "no whole r"),
        ({"lora_alpha": None}, "no whole r"),
    ],
)
def test_what_is_no_plain_lora_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    make_adapter(tmp_path, "text")
    edit(tmp_path / ADAPTER_CONFIG, **change)
    with pytest.raises(EncoderError, match=message):
        resolve_spec(f"hf:{tmp_path}")


def test_an_adapter_without_a_record_or_in_another_format_is_refused(tmp_path: Path) -> None:
    make_adapter(tmp_path, "text")
    (tmp_path / ADAPTER_WEIGHTS).rename(tmp_path / "adapter_model.bin")
    with pytest.raises(EncoderError, match="other formats are not read"):
        resolve_spec(f"hf:{tmp_path}")
    (tmp_path / RECORD_FILE).unlink()
    with pytest.raises(EncoderError, match="nothing says which utterances it has seen"):
        resolve_spec(f"hf:{tmp_path}")


@pytest.mark.parametrize("damage", ["shape", "name", "lost", "nan", "bytes", "extra"])
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, damage: str) -> None:
    make_adapter(tmp_path, "text")
    path = tmp_path / ADAPTER_WEIGHTS
    weights = load_file(path)
    first = sorted(weights)[0]
    if damage == "shape":
        weights[first] = weights[first][:, :-1].clone()
    elif damage == "name":
        weights[first.replace("query", "nothing")] = weights.pop(first)
    elif damage == "lost":
        del weights[first]
    elif damage == "nan":
        weights[first][0, 0] = torch.nan
    elif damage == "extra":
        weights["base_model.model.pooler.bias"] = torch.zeros(3)
    save_file(weights, path)
    if damage == "bytes":
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(EncoderError, match=r"adapter_model\.safetensors"):
        load_encoder(f"hf:{tmp_path}")
