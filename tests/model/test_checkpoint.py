"""Building by name, saving and loading: bit for bit, or an error that says what is wrong."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, RepoUrl
from safetensors.torch import load_file, save_file
from torch.optim.swa_utils import AveragedModel

from lpgnet.model import (
    MODEL_TYPES,
    EmotionModel,
    LPGNetConfig,
    LPGNetForEmotionRecognition,
    ModelError,
    SDTForEmotionRecognition,
    build_model,
    load_model,
)

DATA = Path(__file__).parent / "data"
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
        before = torch.get_rng_state()
        states.append(load_model(tmp_path).state_dict())
        assert torch.equal(torch.get_rng_state(), before)
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


def test_a_checkpoint_is_its_configuration_and_its_weights(tmp_path: Path) -> None:
    make_model("lpgnet").save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    (tmp_path / "README.md").write_text("measured")
    make_model("lpgnet").save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "measured"


@pytest.mark.parametrize("model_type", SMALL)
def test_a_checkpoint_of_version_0_1_0_loads(model_type: str, make_batch: Any) -> None:
    """Written by that version: transformers' keys in config.json, weights under `lpgnet.`, and what it predicted."""
    folder = DATA / "v0.1.0" / model_type
    expected = load_file(folder / "expected.safetensors")
    model = load_model(folder)
    batch = make_batch([5, 3, 6], seed=7)
    output = model(**batch.arguments())
    torch.testing.assert_close(output.logits[batch.mask], expected["logits"][batch.mask])
    torch.testing.assert_close(output.loss, expected["loss"])
    for m, logits in output.branch_logits.items():
        torch.testing.assert_close(logits[batch.mask], expected[f"branch.{m}"][batch.mask])
    config = model.config
    assert config.id2label == {0: "angry", 1: "happy", 2: "neutral", 3: "sad"}
    assert config.label_map["exc"] == "happy" and config.label_map["xxx"] is None
    assert config.encoders["text"] == {"name": "hf:./encoders/text", "fingerprint": "ab"}
    assert config.text_context_turns == 2 and config.calibration_temperature == 1.25


def test_a_training_state_of_version_0_1_0_resumes() -> None:
    """It has the weights under `model.` and, of their moving average, under `module.`."""
    old = load_file(DATA / "v0.1.0" / "lpgnet" / "model.safetensors")
    model = make_model("lpgnet", hidden_size=4)
    AveragedModel(model).load_state_dict({"n_averaged": torch.tensor(1)} | {f"module.{k}": x for k, x in old.items()})
    model.load_state_dict(old)
    assert torch.equal(model.query.weight, old["lpgnet.query.weight"])


def test_loaded_weights_outlive_the_file(tmp_path: Path) -> None:
    make_model("concat").save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    before = loaded.fused_head.weight.clone()
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(len(path.read_bytes())))
    assert torch.equal(loaded.fused_head.weight, before)


def test_half_precision_weights_load_as_float32(tmp_path: Path) -> None:
    model = make_model("lpgnet").half()
    model.save_pretrained(tmp_path)
    assert torch.equal(load_model(tmp_path).query.weight, model.query.weight.float())


def test_frozen_weights_stay_frozen(tmp_path: Path) -> None:
    make_model("sdt").save_pretrained(tmp_path)
    assert not load_model(tmp_path).encoders.skipped_norm.weight.requires_grad


def test_the_type_of_model_is_checked(tmp_path: Path) -> None:
    make_model("lpgnet").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is a lpgnet model, not a sdt model"):
        SDTForEmotionRecognition.from_pretrained(tmp_path)


def test_a_model_comes_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model("lpgnet")
    model.save_pretrained(tmp_path)
    asked = []

    def download(name: str, file: str, **settings: Any) -> str:
        asked.append((name, file, settings))
        return str(tmp_path / file)

    monkeypatch.setattr("lpgnet.model.base.hf_hub_download", download)
    loaded = LPGNetForEmotionRecognition.from_pretrained("someone/lpgnet", revision="v1")
    assert torch.equal(loaded.query.weight, model.query.weight)
    files = ("config.json", "model.safetensors")
    assert asked == [("someone/lpgnet", file, {"revision": "v1"}) for file in files]


def test_a_name_that_is_neither_a_folder_nor_on_the_hub_is_an_error() -> None:
    with pytest.raises(ModelError, match="no/such/folder: no folder, and no model of the hub"):
        LPGNetForEmotionRecognition.from_pretrained("no/such/folder")


def test_a_model_goes_to_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    pushed = []

    def upload(self: HfApi, *, repo_id: str, folder_path: Path, **settings: Any) -> str:
        pushed.extend([repo_id, *sorted(path.name for path in folder_path.iterdir())])
        return "commit"

    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo_id, **settings: RepoUrl(f"models/{repo_id}"))
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    assert make_model("lpgnet").push_to_hub("someone/lpgnet") == "commit"
    assert pushed == ["someone/lpgnet", "config.json", "model.safetensors"]


def change_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path) | changes
    save_file({name: x for name, x in weights.items() if x is not None}, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("fused_head.weight", None, "missing_keys: fused_head.weight"),
        ("mixes.text.mean", None, "missing_keys: mixes.text.mean"),
        ("context_norm.running_var", None, "missing_keys"),
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
        ({"modalities": ["text", "text"]}, "each once"),
        ({"modalities": []}, "at least one"),
        ({"hidden_size": 10, "num_attention_heads": 4}, "must divide hidden_size, 10"),
        ({"kernel_size": 0}, "kernel_size is 0"),
        ({"branch_weight": -1.0}, "branch_weight is -1.0"),
        ({"class_weights": [1.0, 1.0, float("nan"), 1.0]}, r"class_weights\[2\] is nan"),
        ({"calibration_temperature": float("inf")}, "calibration_temperature is inf"),
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


def test_an_unknown_key_of_a_configuration_is_refused(tmp_path: Path) -> None:
    make_model("lpgnet").save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"calibration_temprature": 2.0}))
    with pytest.raises(ModelError, match="no field 'calibration_temprature': did you mean 'calibration_temperature'"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_size", "8"),
        ("hidden_size", True),
        ("dropout", None),
        ("temperature", [1.0]),
        ("causal", "yes"),
        ("class_weights", [1.0, "a", 1.0, 1.0]),
        ("class_weights", 5),
        ("input_sizes", {"text": 6}),
        ("input_sizes", {"text": ["1", 6]}),
        ("input_sizes", []),
        ("modalities", 3),
        ("id2label", {"a": "angry"}),
        ("id2label", {"1": "angry"}),
        ("id2label", {}),
        ("id2label", {"0": 1, "1": 2}),
        ("encoders", ["text"]),
        ("label_map", "happy"),
    ],
)
def test_values_of_the_wrong_type_are_refused(name: str, value: Any, tmp_path: Path) -> None:
    make_model("lpgnet").save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(ModelError) as caught:
        load_model(tmp_path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_configuration_round_trips() -> None:
    config = LPGNetConfig(label_map={"hap": "happy", "xxx": None}, id2label=dict(enumerate("abcdefghijkl")))
    written = json.loads(json.dumps(config.to_dict(), sort_keys=True))
    assert written.pop("model_type") == "lpgnet"
    assert LPGNetConfig.from_dict(written) == config and list(config.id2label) == list(range(12))


def test_a_configuration_needs_no_torch() -> None:
    code = "import sys; from lpgnet.model import LPGNetConfig, ModelError; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("kind", MODEL_TYPES.values())
def test_a_model_needs_no_configuration(kind: type[EmotionModel]) -> None:
    with torch.device("meta"):
        model = kind()
    assert model.config.input_sizes == {"text": [1, 768], "audio": [1, 768]} and model.config.num_classes == 4
