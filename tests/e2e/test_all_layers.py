"""A store with all layers serves each of them: nothing is extracted again, and the numbers are the same."""

import json

import pytest
import torch
from safetensors.numpy import load_file

from lpgnet.pipeline.config import Config, parse_config
from lpgnet.pipeline.training.runs import load_corpus
from tests.e2e.test_features import stores
from tests.e2e.workplace import Run, Workplace, fails

LAST = ("--encoders.audio.layers", "last", "--encoders.text.layers", "1")


def inputs(workplace: Workplace, *options: str) -> list[dict[str, torch.Tensor]]:
    """What a model is trained on, by dialogue and modality."""
    corpus = load_corpus(parse_config("train", workplace.arguments("train", *options)[1:], Config))
    return [dialogue.inputs for dialogue in corpus.dialogues]


@pytest.mark.parametrize("layers", [LAST, ("--encoders.audio.layers", "[2, 0]", "--encoders.text.layers", "0")])
def test_nothing_is_extracted_and_the_numbers_are_the_same(
    workplace: Workplace, run: Run, layers: tuple[str, ...]
) -> None:
    before = set(stores(workplace.folder / "work" / "store"))
    code, out, _ = run(workplace.arguments("features", *layers))
    assert code == 0 and "computed" not in out and out.count("90 already cached") == 2
    assert out.count("90 are read from those of all layers, ") == 2
    assert set(stores(workplace.folder / "work" / "store")) == before
    fresh = ["--features.store", str(workplace.folder / "fresh")]
    code, out, _ = run(workplace.arguments("features", *layers, *fresh))
    assert code == 0 and out.count("computed 90 ") == 2
    for one, other in zip(inputs(workplace, *layers), inputs(workplace, *layers, *fresh), strict=True):
        for modality in ("text", "audio"):
            assert one[modality].shape == other[modality].shape
            difference = torch.linalg.vector_norm(one[modality] - other[modality], dim=(1, 2))
            assert (difference <= 1e-5 * torch.linalg.vector_norm(other[modality], dim=(1, 2))).all()


@pytest.mark.parametrize(
    "other",
    [
        ("--encoders.audio.pooling", "max"),
        ("--encoders.audio.precision", "bf16"),
        ("--encoders.audio.max_seconds", "5"),
    ],
)
def test_other_settings_are_extracted(workplace: Workplace, run: Run, other: tuple[str, ...]) -> None:
    code, out, _ = run(workplace.arguments("features", *LAST, *other))
    assert code == 0 and out.count("computed 90 ") == 1 and out.count("read from those of all layers") == 1


def test_what_only_some_utterances_lack_is_extracted(workplace: Workplace, run: Run) -> None:
    table = workplace.corpus / "utterances.csv"
    table.write_text(table.read_text().replace("i am", "i really am", 1))
    assert run(workplace.arguments("prepare"))[0] == 0
    code, out, _ = run(workplace.arguments("features", *LAST))
    assert code == 0 and out.count("computed 1 ") == 1 and "89 already cached" in out
    code, _, err = run(workplace.arguments("train", *LAST))
    assert code == 0 and err.count("89 are read from those of all layers") == 1


def test_a_checkpoint_names_its_own_encoder(workplace: Workplace, run: Run) -> None:
    assert run(workplace.arguments("train", *LAST))[0] == 0
    config = json.loads((workplace.folder / "work/small/runs/default/best/config.json").read_text())
    assert config["encoders"]["audio"]["layers"] == "last" and config["encoders"]["text"]["layers"] == [1]
    known = set(stores(workplace.folder / "work" / "store"))
    assert not known & {spec["fingerprint"] for spec in config["encoders"].values()}


def test_the_cache_commands_know_what_is_read(workplace: Workplace, run: Run) -> None:
    store = ["--store", str(workplace.folder / "work" / "store")]
    manifest = str(workplace.folder / "work" / "small")
    assert run(workplace.arguments("features", *LAST))[0] == 0
    code, out, _ = run(["cache", "gc", *store, "--keep-manifest", manifest, "--delete"])
    assert code == 0 and out.count("0 rows dropped") == 2
    assert run(["cache", "verify", *store])[0] == 0
    file = workplace.folder / "audio.safetensors"
    code, out, _ = run(["cache", "export", str(file), *store, "--manifest", manifest, "--modality", "audio"])
    assert code == 0 and "90 audio embeddings" in out
    assert {values.shape for values in load_file(file).values()} == {(1, 16)}
    folder = workplace.folder / "exported"
    options = ["--manifest", manifest, "--modality", "text", "--format", "datasets"]
    assert run(["cache", "export", str(folder), *store, *options])[0] == 0
    assert json.loads((folder / "encoder.json").read_text())["layers"] == [1]
    assert run(workplace.arguments("train", *LAST))[0] == 0


def test_without_the_store_of_all_layers_it_is_as_before(workplace: Workplace, run: Run) -> None:
    empty = ["--features.store", str(workplace.folder / "empty")]
    fails(run, workplace.arguments("train", *LAST, *empty), "run the features stage")


def test_a_layer_that_is_not_there(workplace: Workplace, run: Run) -> None:
    fails(run, workplace.arguments("features", "--encoders.audio.layers", "3"), "layers go from 0 to 2, not 3")
