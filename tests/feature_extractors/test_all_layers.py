"""Embeddings of all layers hold those of some: the same numbers as a fresh extraction, for every architecture."""

from typing import Any

import pytest
import transformers

from lpgnet.feature_extractors import EncoderSpec, Item, TextItem, load_encoder, resolve_all_layers, resolve_spec
from lpgnet.feature_extractors.checkpoint import UNNORMED_TYPES
from tests.feature_extractors.conftest import AUDIO, TEXT, Checkpoints, relative, voice

# ALBERT's blocks share one set of weights and cannot be told apart.
LAYERED = [name for name in AUDIO | TEXT if name != "albert"]
# A norm or an adapter lies behind their last block.
NORMED = {
    *("wav2vec2_layer", "hubert_layer", "hubert_batch_norm", "wavlm_layer", "whisper", "conformer", "adapter"),
    *("modernbert", "t5"),
}


def items_for(name: str) -> list[Item]:
    if name in TEXT:
        return ["a b c", "d", TextItem("e f g", ("h i", "j")), " ".join("abcdefgh" * 6)]
    return [voice(samples, seed) for seed, samples in enumerate((16_000, 5_000, 90_000))]


def check_served(name: str, spec: EncoderSpec, items: list[Item]) -> None:
    """What is read of all layers is what the spec's own encoder gives."""
    found = resolve_all_layers(spec)
    assert found is not None
    whole, layers = found
    rows = load_encoder(whole).encode(items)
    for row, fresh in zip(rows, load_encoder(spec).encode(items), strict=True):
        assert relative(row.values[..., list(layers), :], fresh.values) < 1e-5, name
        assert (row.n_frames, row.flags) == (fresh.n_frames, fresh.flags)


@pytest.mark.parametrize("name", LAYERED)
@pytest.mark.parametrize("layers", [0, 1, 3, [2, 0, 3], "last"])
def test_chosen_layers_are_among_all(name: str, layers: Any, checkpoint: Checkpoints) -> None:
    spec = resolve_spec(f"hf:{checkpoint(name)}", layers=layers)
    if layers == "last" and name in NORMED:
        assert resolve_all_layers(spec) is None
    else:
        check_served(name, spec, items_for(name))


@pytest.mark.parametrize("pooling", ["mean_std", "max", "first", "none"])
@pytest.mark.parametrize(("name", "layers"), [("wav2vec2_group", "last"), ("whisper", 2), ("roberta", [3, 1])])
def test_in_every_pooling(name: str, layers: Any, pooling: str, checkpoint: Checkpoints) -> None:
    spec = resolve_spec(f"hf:{checkpoint(name)}", layers=layers, pooling=pooling, max_seconds=3)
    check_served(name, spec, items_for(name))


def test_in_tight_windows(checkpoint: Checkpoints) -> None:
    spec = resolve_spec(f"hf:{checkpoint('whisper')}", layers=[1], window="tight")
    check_served("whisper", spec, items_for("whisper"))


@pytest.mark.parametrize("name", sorted(NORMED))
def test_a_norm_or_adapter_behind_the_blocks_makes_another_last(name: str, checkpoint: Checkpoints) -> None:
    """Why `last` is extracted for these: it is no layer of all."""
    items = items_for(name)
    last = load_encoder(f"hf:{checkpoint(name)}").encode(items)[0].values[-1]
    top = load_encoder(f"hf:{checkpoint(name)}", layers="all").encode(items)[0].values[-1]
    assert last.shape != top.shape or relative(top, last) > 1e-3


def test_precision_pooling_and_windows_stay_as_they_are(checkpoint: Checkpoints) -> None:
    settings = {"pooling": "max", "precision": "bf16", "max_seconds": 7.0, "window": "tight"}
    found = resolve_all_layers(resolve_spec(f"hf:{checkpoint('whisper')}", layers=2, **settings))
    assert found == (resolve_spec(f"hf:{checkpoint('whisper')}", layers="all", **settings), (2,))


def test_what_is_all_layers_itself_or_has_none_is_served_by_nothing(checkpoint: Checkpoints) -> None:
    assert resolve_all_layers(resolve_spec(f"hf:{checkpoint('roberta')}", layers="all")) is None
    assert resolve_all_layers(resolve_spec("librosa:prosody")) is None


def test_an_entry_that_a_config_leaves_out_says_that_nothing_is_behind_the_blocks() -> None:
    for name in UNNORMED_TYPES:
        config = transformers.AutoConfig.for_model(name)
        assert not getattr(config, "do_stable_layer_norm", False) and not getattr(config, "add_adapter", False)


def test_a_convolution_behind_the_only_block(checkpoint: Checkpoints) -> None:
    """DeBERTa-v2 has one behind its first block, which may be its last."""
    kind, fields = TEXT["deberta_v2"]
    from tests.feature_extractors.conftest import build, word_tokenizer

    folder = checkpoint("roberta").parent / "shallow"
    build(kind, fields | {"num_hidden_layers": 1}).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    assert resolve_all_layers(resolve_spec(f"hf:{folder}")) is None
