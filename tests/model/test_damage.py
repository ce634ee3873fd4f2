"""Nothing wrong is loaded or saved: damaged weights, numbers that are not finite, sizes that nobody means."""

import json
import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lpgnet.model import EmotionModel, ModelError, build_model, load_model
from lpgnet.model.weights import are_finite, read_weights, write_weights

SIZES = {"text": [1, 6], "audio": [3, 5]}
LABELS = {0: "angry", 1: "happy", 2: "sad"}


def small_model(**fields: Any) -> EmotionModel:
    return build_model(
        "lpgnet", **({"input_sizes": SIZES, "id2label": LABELS, "hidden_size": 8, "num_attention_heads": 2} | fields)
    )


def model_or_problem(folder: Path) -> EmotionModel | str:
    try:
        return load_model(folder)
    except ModelError as error:
        return str(error)


def flip_bytes(path: Path, seed: int) -> None:
    """Change four bytes, wherever they are."""
    content = bytearray(path.read_bytes())
    rng = random.Random(seed)
    for place in rng.sample(range(len(content)), 4):
        content[place] ^= rng.randrange(1, 256)
    path.write_bytes(content)


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bytes_of_weights_are_refused_or_change_no_number(seed: int, tmp_path: Path) -> None:
    model = small_model()
    model.save_pretrained(tmp_path)
    flip_bytes(path := tmp_path / "model.safetensors", seed)
    loaded = model_or_problem(tmp_path)
    if isinstance(loaded, str):
        assert str(path) in loaded and "\n" not in loaded
    else:
        assert all(torch.equal(loaded.state_dict()[name], values) for name, values in model.state_dict().items())


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9, 0.999])
def test_cut_weights_are_refused(share: float, tmp_path: Path) -> None:
    small_model().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelError, match="cannot load"):
        load_model(tmp_path)


def test_one_number_that_changed_is_found(tmp_path: Path) -> None:
    write_weights(path := tmp_path / "x.safetensors", {"a": torch.zeros(1000)}, {"note": "n"})
    assert read_weights(path).has_digest and read_weights(path).notes == {"note": "n"}
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match="is damaged"):
        read_weights(path)


def test_a_folder_that_takes_nothing_is_named(tmp_path: Path) -> None:
    """One that went away stands for a full disk and for permissions, which root does not lack."""
    with pytest.raises(ModelError, match="cannot be written: No such file or directory; free some space"):
        write_weights(tmp_path / "gone" / "x", {"a": torch.zeros(1)})
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="files there have no modes")
def test_whoever_may_read_the_folder_may_read_the_model(tmp_path: Path) -> None:
    small_model().save_pretrained(tmp_path)
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1


def test_a_model_is_saved_the_same_every_time(tmp_path: Path) -> None:
    model = small_model()
    for number in range(8):
        model.save_pretrained(tmp_path / str(number))
    assert len({path.read_bytes() for path in tmp_path.glob("*/model.safetensors")}) == 1


@pytest.mark.parametrize(
    "values",
    [
        torch.tensor(1.5),
        torch.zeros(0, 3),
        torch.tensor([True, False]),
        torch.arange(5),
        torch.ones(3, dtype=torch.bfloat16),
        torch.ones(3, dtype=torch.float64),
        torch.arange(6.0).view(2, 3).t(),
    ],
)
def test_tensors_of_every_kind_come_back(values: torch.Tensor, tmp_path: Path) -> None:
    tensors = {"a": values, "same memory": values}
    write_weights(tmp_path / "x.safetensors", tensors)
    read = read_weights(tmp_path / "x.safetensors").tensors
    assert all(torch.equal(read[name], values) and read[name].dtype == values.dtype for name in tensors)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(value: float, tmp_path: Path) -> None:
    model = small_model()
    model.save_pretrained(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    with torch.no_grad():
        model.query.weight.view(-1)[3] = value
    with pytest.raises(ModelError, match=r"model\.safetensors: query\.weight has numbers that are not finite"):
        model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"model\.safetensors: query\.weight has numbers that are not finite"):
        load_model(tmp_path)


@pytest.mark.parametrize("value", [0, 0.0, -1.0, math.nan, math.inf, 1e-300, 1e300, 10**400, True, "1", None])
def test_a_calibration_temperature_that_spoils_probabilities_is_refused(value: Any, tmp_path: Path) -> None:
    model = small_model()
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"calibration_temperature": value}))
    with pytest.raises(
        ModelError, match=r"config\.json: calibration_temperature is .* give a number from 0\.01 to 100"
    ):
        load_model(tmp_path)
    model.config.calibration_temperature = value
    with pytest.raises(ModelError, match="calibration_temperature is"):
        model.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new" / "config.json").exists()


def test_weights_of_others_need_no_digest(tmp_path: Path) -> None:
    (model := small_model()).save_pretrained(tmp_path)
    save_file(load_file(tmp_path / "model.safetensors"), tmp_path / "model.safetensors")
    assert not read_weights(tmp_path / "model.safetensors").has_digest
    assert torch.equal(load_model(tmp_path).query.weight, model.query.weight)


# Any of these would take gigabytes or hours if something were built of it.
@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"hidden_size": 10**9}, "hidden_size is 1000000000"),
        ({"hidden_size": 10**400}, "hidden_size is 1000"),
        ({"hidden_size": 10**9, "num_attention_heads": 10**9}, "hidden_size is"),
        ({"kernel_size": 10**9}, "kernel_size is 1000000000"),
        ({"num_attention_heads": 10**9}, "num_attention_heads is 1000000000"),
        ({"input_sizes": {"text": [10**6, 6], "audio": [3, 5]}}, r"input_sizes\.text.* is 1000000"),
        ({"input_sizes": {"text": [1, 10**9], "audio": [3, 5]}}, "input_sizes.text.1. is 1000000000"),
        ({"input_sizes": {f"m{n}": [1, 1] for n in range(5000)}}, "input_sizes has 5000 modalities"),
        ({"id2label": {n: str(n) for n in range(100_000)}}, "id2label has 100000 classes: give 1024 at most"),
        ({"text_context_turns": 10**9}, "text_context_turns is 1000000000"),
    ],
)
def test_absurd_sizes_are_refused_before_anything_is_built(fields: dict[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=named):
        small_model(**fields)
    small_model().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"modalities": None} | fields))
    with pytest.raises(ModelError, match=named) as caught:
        load_model(tmp_path)
    assert str(path) in str(caught.value) and len(str(caught.value)) < len(str(path)) + 300


def test_speakers_are_bounded_too() -> None:
    with pytest.raises(ModelError, match="num_speakers is 1000000000"):
        build_model("sdt", input_sizes=SIZES, num_labels=3, num_speakers=10**9)


LIMITED = """
import resource, sys
from lpgnet.model import ModelError, load_model
import torch, safetensors.torch
resource.setrlimit(resource.RLIMIT_AS, (used := int(open("/proc/self/statm").read().split()[0]) * 4096 + 2**29, used))
try:
    load_model(sys.argv[1])
except ModelError as error:
    print(error)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the memory of a process is bounded on Linux only")
def test_sizes_that_are_possible_take_no_more_memory_than_the_weights(tmp_path: Path) -> None:
    """A model of this configuration has 6 GB; the weights beside it have some kilobytes."""
    small_model().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_size": 8192}))
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True)
    assert "the weights do not fit config.json" in done.stdout, done.stderr


def test_a_model_too_large_to_be_meant_is_not_built() -> None:
    with pytest.raises(ModelError, match=r"a model of \d+ numbers is too large: lower hidden_size"):
        small_model(hidden_size=8192, kernel_size=1000, input_sizes={"text": [1, 2**17]})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "not a readable configuration"),
        ('{"a": ' * 100_000, "not a readable configuration"),
        ("[]", "it holds no JSON object"),
        ('{"hidden_size": ' + "1" * 5000 + "}", "not a readable configuration"),
        (" " * (2**24 + 1), "more than 16777216 bytes"),
        ('{"model_type": "' + "l" * 10**6 + '"}', "no model type"),
        ('{"model_type": "lpgnet", "' + "l" * 10**6 + '": 1}', "no field"),
    ],
)
def test_hostile_configurations_are_refused_in_one_line(content: str, message: str, tmp_path: Path) -> None:
    small_model().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(tmp_path)
    assert len(str(caught.value)) < len(str(tmp_path)) + 400


BROKEN: list[Any] = [None, True, 5, -1, 0, 1e308, math.nan, "x", [], {}, [None], {"x": None}, [[1]], {"text": {"a": 1}}]


@pytest.mark.parametrize("value", BROKEN, ids=repr)
def test_every_field_with_a_broken_value_is_named_or_taken(value: Any, tmp_path: Path) -> None:
    small_model().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    whole = json.loads(path.read_text())
    for field in whole:
        path.write_text(json.dumps(whole | {field: value}))
        if isinstance(problem := model_or_problem(tmp_path), str):
            name = "model type" if field == "model_type" else field
            assert str(tmp_path) in problem and "\n" not in problem
            assert name in problem or "the weights do not fit config.json" in problem, (field, problem)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize("value", [1.0, float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", [0, 7, 99])
def test_one_number_that_is_not_finite_is_found_anywhere(kind: torch.dtype, value: float, place: int) -> None:
    values = torch.arange(100).to(kind)
    values[place] = value
    others = {"none": torch.zeros(0), "whole": torch.arange(3)}
    assert bool(are_finite({"weight": values.view(4, 25), **others})) == (value == 1.0 or kind.is_complex)
    assert bool(values.isfinite().all()) == (value == 1.0)
