"""Building by name, saving and loading: bit for bit, or an error that says what is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lpgnet.model import EmotionModel, LPGNetConfig, LPGNetModel, ModelError, build_model, load_model

SIZES = {"text": [1, 6], "audio": [3, 5]}
SMALL: dict[str, dict[str, Any]] = {
    "lpgnet": {"hidden_size": 8, "num_attention_heads": 2, "distance_bias": True},
    "sdt": {"hidden_size": 8, "num_attention_heads": 2},
    "concat": {},
}


def make_model(model_type: str, **fields: Any) -> EmotionModel:
    labels = {0: "angry", 1: "happy", 2: "neutral", 3: "sad"}
    return build_model(model_type, **({"input_sizes": SIZES, "id2label": labels} | SMALL[model_type] | fields))


def trained(model_type: str, make_batch: Any) -> EmotionModel:
    """A model whose buffers and parameters have left their initial values."""
    model = make_model(model_type)
    for m, size in SIZES.items():
        model.standardize_(m, torch.randn(size), 1 + torch.rand(size))
    optimizer = torch.optim.AdamW(model.parameters(), 0.05)
    for seed in range(2):
        model.train()(**make_batch([5, 4], seed=seed).arguments()).loss.backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("model_type", SMALL)
def test_round_trip_is_bit_for_bit(model_type: str, make_batch: Any, tmp_path: Path) -> None:
    model, batch = trained(model_type, make_batch), make_batch([6, 3], seed=5)
    model.config.encoders = {"text": {"name": "hf:./roberta", "fingerprint": "ab"}}
    model.config.calibration_temperature = 1.25
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert type(loaded) is type(model) and not loaded.training
    before, after = model.state_dict(), loaded.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(model(**batch.arguments()).logits, loaded(**batch.arguments()).logits)
    assert loaded.config.encoders == model.config.encoders
    assert loaded.config.calibration_temperature == 1.25
    assert loaded.config.id2label == {0: "angry", 1: "happy", 2: "neutral", 3: "sad"}
    assert loaded.config.modalities == ["text", "audio"]


@pytest.mark.parametrize("model_type", SMALL)
def test_loading_draws_no_random_number(model_type: str, make_batch: Any, tmp_path: Path) -> None:
    trained(model_type, make_batch).save_pretrained(tmp_path)
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        states.append(load_model(tmp_path).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_order_of_modalities_survives_sorted_json(make_batch: Any, tmp_path: Path) -> None:
    model = make_model("lpgnet")
    model.save_pretrained(tmp_path)
    assert list(json.loads((tmp_path / "config.json").read_text())["input_sizes"]) == ["audio", "text"]
    assert load_model(tmp_path).config.modalities == ["text", "audio"]


def test_defaults_are_written_too(tmp_path: Path) -> None:
    make_model("lpgnet").save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["kernel_size"] == 3 and written["dropout"] == 0.5 and written["causal"] is False


def test_two_classes_keep_their_names(tmp_path: Path) -> None:
    make_model("concat", id2label={0: "calm", 1: "upset"}).save_pretrained(tmp_path)
    assert load_model(tmp_path).config.id2label == {0: "calm", 1: "upset"}


def test_the_body_loads_from_a_whole_checkpoint(make_batch: Any, tmp_path: Path) -> None:
    model = trained("lpgnet", make_batch)
    model.save_pretrained(tmp_path)
    body = LPGNetModel.from_pretrained(tmp_path)
    assert all(torch.equal(x, body.state_dict()[name]) for name, x in model.lpgnet.state_dict().items())


def change_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path) | changes
    save_file({name: x for name, x in weights.items() if x is not None}, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("fused_head.weight", None, "missing_keys: fused_head.weight"),
        ("lpgnet.mixes.text.mean", None, "missing_keys: lpgnet.mixes.text.mean"),
        ("lpgnet.context_norm.running_var", None, "missing_keys"),
        ("fused_head.weight", torch.zeros(3, 8), "fused_head.weight|mismatch"),
        ("another.weight", torch.zeros(3), "unexpected_keys: another.weight"),
    ],
)
def test_weights_that_do_not_fit_are_an_error(name: str, value: Any, message: str, tmp_path: Path) -> None:
    make_model("lpgnet").save_pretrained(tmp_path)
    change_weights(tmp_path, **{name: value})
    with pytest.raises(ModelError, match=message) as caught:
        load_model(tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_broken_folders_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json there"):
        load_model(tmp_path)
    make_model("lpgnet").save_pretrained(tmp_path)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match="cannot load"):
        load_model(tmp_path)
    weights.unlink()
    with pytest.raises(ModelError, match="cannot load"):
        load_model(tmp_path)
    config.write_text("{")
    with pytest.raises(ModelError, match="not a readable configuration"):
        load_model(tmp_path)
    config.write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="no model type 'bert'"):
        load_model(tmp_path)


def test_no_pickle_is_loaded(tmp_path: Path) -> None:
    model = make_model("lpgnet")
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot load"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hiden_size": 8}, "did you mean 'hidden_size'"),
        ({"input_sizes": {}}, "input_sizes is empty"),
        ({"input_sizes": {"text": [768]}}, r"input_sizes\.text is \[768\]"),
        ({"input_sizes": {"text.raw": [1, 6]}}, "cannot name a part"),
        ({"input_sizes": {"keys": [1, 6]}}, "cannot name a part"),
        ({"modalities": ["video"]}, "'video' has no input_sizes"),
        ({"hidden_size": 10, "num_attention_heads": 4}, "must divide hidden_size, 10"),
        ({"kernel_size": 0}, "kernel_size is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"class_weights": [1.0]}, "1 numbers for 4 classes"),
        ({"intra_modal": False, "cross_modal": False}, "no path is left"),
        ({"intra_modal": False, "modalities": ["text"]}, "no path is left"),
    ],
)
def test_impossible_fields_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make_model("lpgnet", **fields)


def test_unknown_model_types_are_refused() -> None:
    with pytest.raises(ModelError, match="no model type 'lpgnt': did you mean 'lpgnet'"):
        build_model("lpgnt", input_sizes=SIZES)


def test_a_configuration_keeps_what_it_does_not_know() -> None:
    config = LPGNetConfig(input_sizes=SIZES, label_map={"hap": "happy"})
    again = LPGNetConfig.from_dict(json.loads(config.to_json_string()))
    assert again.label_map == {"hap": "happy"} and again.input_sizes == SIZES
