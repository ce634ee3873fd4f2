"""Checkpoints that must not load, and those that must although they look unusual."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from lpgnet.feature_extractors import EncoderError, load_encoder, resolve_spec
from lpgnet.feature_extractors.checkpoint import needed_files
from tests.feature_extractors.conftest import AUDIO, Checkpoints, relative, voice


@pytest.fixture
def copy(checkpoint: Checkpoints, tmp_path: Path) -> Callable[[str], Path]:
    """A checkpoint's copy that a test may damage."""
    return lambda name: shutil.copytree(checkpoint(name), tmp_path / name)


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Edit a checkpoint's tensors."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_bin_weights_load_to_the_same_numbers(copy: Callable[[str], Path]) -> None:
    folder = copy("wav2vec2_group")
    before = load_encoder(f"hf:{folder}").encode([voice(9_000)])[0]
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    after = load_encoder(f"hf:{folder}").encode([voice(9_000)])[0]
    assert relative(after.values, before.values) < 1e-6


class Bomb:
    """Unpickling it would make a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("as_zip", [True, False])
def test_bin_weights_with_code_are_refused_unrun(as_zip: bool, copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder, trace = copy("wav2vec2_group"), tmp_path / "it ran"
    (folder / "model.safetensors").unlink()
    if as_zip:
        torch.save({"weight": Bomb(trace)}, folder / "pytorch_model.bin")
        assert zipfile.is_zipfile(folder / "pytorch_model.bin")
    else:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Bomb(trace)}))
    with pytest.raises(EncoderError, match="could run code: convert it to safetensors"):
        load_encoder(f"hf:{folder}")
    assert not trace.exists()


@pytest.mark.parametrize("name", ["wav2vec2_group", "roberta"])
def test_missing_weights_are_never_made_up(name: str, copy: Callable[[str], Path]) -> None:
    folder = copy(name)
    change_weights(
        folder, lambda weights: weights.pop(next(key for key in weights if "layers.1" in key or "layer.1" in key))
    )
    with pytest.raises(EncoderError, match="lacks weights of the encoder"):
        load_encoder(f"hf:{folder}")


def test_weights_of_another_shape_are_refused(copy: Callable[[str], Path]) -> None:
    folder = copy("roberta")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    with pytest.raises(EncoderError, match=r"another shape|cannot be loaded"):
        load_encoder(f"hf:{folder}")


def test_a_missing_pooler_and_masking_vector_do_not_matter(copy: Callable[[str], Path]) -> None:
    for name, unused in (("roberta", "pooler"), ("wav2vec2_group", "masked_spec_embed")):
        folder = copy(name)
        item = "a b" if name == "roberta" else voice(5_000)
        before = load_encoder(f"hf:{folder}").encode([item])[0]
        change_weights(folder, lambda weights, part=unused: [weights.pop(k) for k in list(weights) if part in k])
        assert relative(load_encoder(f"hf:{folder}").encode([item])[0].values, before.values) < 1e-6


def test_heads_of_pretraining_do_not_matter(checkpoint: Checkpoints, tmp_path: Path) -> None:
    config = transformers.Wav2Vec2Config(**AUDIO["wav2vec2_group"][1], num_codevectors_per_group=4, codevector_dim=8)
    whole = transformers.Wav2Vec2ForPreTraining(config).eval()
    whole.save_pretrained(tmp_path)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(tmp_path)
    with torch.no_grad():
        expected = whole.wav2vec2(torch.from_numpy(voice(9_000))[None]).last_hidden_state[0].mean(0).numpy()
    found = load_encoder(f"hf:{tmp_path}").encode([voice(9_000)])[0]
    assert relative(found.values[0], expected) < 1e-5


def test_half_precision_weights_are_computed_in_float32(copy: Callable[[str], Path]) -> None:
    folder = copy("roberta")
    change_weights(folder, lambda weights: weights.update({k: v.bfloat16() for k, v in weights.items()}))
    encoder = load_encoder(f"hf:{folder}")
    assert {parameter.dtype for parameter in encoder.model.parameters()} == {torch.float32}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "has no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "config.json cannot be read"),
        (lambda f: (f / "config.json").write_text("[]"), "holds no JSON object"),
        (lambda f: (f / "model.safetensors").unlink(), "has no weights"),
        (lambda f: (f / "preprocessor_config.json").unlink(), "neither a preprocessor_config.json"),
        (lambda f: (f / "model.safetensors").write_bytes(b"not weights"), "cannot be loaded"),
        (lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-999]), "cannot be"),
        (lambda f: (f / "config.json").write_text('{"model_type": "no_such_model"}'), "cannot be loaded"),
    ],
)
def test_damaged_checkpoints_get_one_clear_line(
    damage: Callable[[Path], Any], message: str, copy: Callable[[str], Path]
) -> None:
    folder = copy("wav2vec2_group")
    damage(folder)
    with pytest.raises(EncoderError, match=message) as caught:
        load_encoder(f"hf:{folder}")
    assert "\n" not in str(caught.value) and folder.name in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 10**6}, "num_hidden_layers is 1000000; no encoder has more than 1024"),
        ({"encoder": {"num_layers": 2000}}, "num_layers is 2000; no encoder has more than 1024"),
        ({"hidden_size": 10**9}, "hidden_size is 1000000000; no encoder has more than 100000000"),
        ({"conv_dim": [8, 10**9]}, "conv_dim is 1000000000"),
        ({"num_labels": 10**9}, "num_labels is 1000000000; no encoder has more than 1000000"),
        ({"max_position_embeddings": 10**400}, "max_position_embeddings is 1000"),
    ],
)
def test_absurd_numbers_are_refused_before_anything_is_built(
    changes: dict[str, Any], message: str, copy: Callable[[str], Path]
) -> None:
    file = copy("roberta") / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    for ask in (resolve_spec, load_encoder):
        with pytest.raises(EncoderError, match=message) as caught:
            ask(f"hf:{file.parent}")
        assert str(file) in str(caught.value) and len(str(caught.value)) < 3 * len(str(file)) + 200


def test_remote_code_stays_off(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("roberta")
    trace = tmp_path / "it ran"
    (folder / "custom.py").write_text(f"import os\nos.mkdir({str(trace)!r})\n")
    config = {"model_type": "my_own", "auto_map": {"AutoConfig": "custom.Config", "AutoModel": "custom.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(EncoderError, match="trust_remote_code"):
        load_encoder(f"hf:{folder}")
    assert not trace.exists()
    before = resolve_spec(f"hf:{folder}").fingerprint
    (folder / "custom.py").write_text("# changed\n")
    assert resolve_spec(f"hf:{folder}").fingerprint != before


def test_sharded_weights_load(copy: Callable[[str], Path]) -> None:
    folder = copy("roberta")
    before = load_encoder(f"hf:{folder}").encode(["a b"])[0]
    weights = sorted(load_file(folder / "model.safetensors").items())
    (folder / "model.safetensors").unlink()
    index = {}
    for number, half in enumerate((weights[::2], weights[1::2]), start=1):
        shard = f"model-0000{number}-of-00002.safetensors"
        save_file(dict(half), folder / shard, metadata={"format": "pt"})
        index |= {key: shard for key, _ in half}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    assert relative(load_encoder(f"hf:{folder}").encode(["a b"])[0].values, before.values) < 1e-6
    (folder / shard).unlink()
    with pytest.raises(EncoderError, match="names weights that are not there: model-00002"):
        resolve_spec(f"hf:{folder}")


def hub_cache(root: Path, repository: str, folder: Path) -> None:
    """The hub's cache as its client leaves it, with a folder's files as the one snapshot."""
    home = root / f"models--{repository.replace('/', '--')}"
    shutil.copytree(folder, home / "snapshots" / "0123abcd")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("0123abcd")


def resolve_offline(name: str, cache: Path) -> str:
    """What resolving prints in a process of its own, whose hub client is offline."""
    code = (
        "import sys, feature_extractors as f\n"
        f"try: print(f.resolve_spec({name!r}).fingerprint, 'torch' in sys.modules)\n"
        "except f.EncoderError as error: print(error)"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache)}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True).stdout.strip()


def test_a_cached_hub_name_and_a_folder_are_one_encoder(checkpoint: Checkpoints, tmp_path: Path) -> None:
    hub_cache(tmp_path, "someone/tiny", checkpoint("roberta"))
    expected = resolve_spec(f"hf:{checkpoint('roberta')}").fingerprint
    assert resolve_offline("hf:someone/tiny", tmp_path) == f"{expected} False"


def test_an_unreachable_hub_says_what_helps(tmp_path: Path) -> None:
    message = resolve_offline("hf:facebook/wav2vec2-base", tmp_path)
    assert message.startswith("hf:facebook/wav2vec2-base: is not cached")
    for help_with in ("HF_HUB_OFFLINE", "local folder", "hf:examples/demo/encoders/audio", "no network"):
        assert help_with in message


def test_only_what_is_needed_is_fetched() -> None:
    both = ["config.json", "pytorch_model.bin", "model.safetensors", "tf_model.h5", "vocab.txt", "onnx/model.onnx"]
    assert needed_files(both) == ["config.json", "vocab.txt", "model.safetensors"]
    assert needed_files(["config.json", "pytorch_model.bin", "flax_model.msgpack"]) == [
        "config.json",
        "pytorch_model.bin",
    ]
