"""bfloat16: the weights cast once where tests hold an architecture to the contract, autocast elsewhere."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from lpgnet.feature_extractors import Item, load_encoder
from tests.feature_extractors.conftest import (
    AUDIO,
    TEXT,
    WORDS,
    Checkpoints,
    build,
    least_cosine,
    voice,
    word_tokenizer,
)

# Not in the tables of batched architectures.
AUTOCAST = ("conformer", "adapter", "t5")


def run(encoder: Any, name: str) -> list[bool]:
    """Encode something; whether autocast was on in each block that ran."""
    seen: list[bool] = []
    for block in encoder.hooks.blocks or [encoder.model]:
        block.register_forward_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    items: list[Item] = ["a b c", "d"] if name in TEXT else [voice(9_000), voice(16_000, 1)]
    encoder.encode(items, 10**9)
    return seen


@pytest.mark.parametrize("name", sorted((AUDIO | TEXT).keys() - AUTOCAST))
def test_weights_are_cast_once_and_all_states_are_bfloat16(name: str, checkpoint: Checkpoints) -> None:
    encoder: Any = load_encoder(f"hf:{checkpoint(name)}", precision="bf16")
    states: list[torch.dtype] = []
    for block in encoder.hooks.blocks or []:
        block.register_forward_hook(lambda _, __, out: states.append((out if torch.is_tensor(out) else out[0]).dtype))
    assert set(run(encoder, name)) == {False}
    assert set(states) <= {torch.bfloat16}
    kept = {key for key, value in encoder.model.named_parameters() if value.dtype != torch.bfloat16}
    assert all(key.startswith(("feature_extractor.conv_layers.0.", "feature_projection.", "conv1.")) for key in kept)
    assert bool(kept) == (name in AUDIO)


@pytest.mark.parametrize("name", AUTOCAST)
def test_an_architecture_that_no_batch_is_tried_of_runs_under_autocast(name: str, checkpoint: Checkpoints) -> None:
    assert set(run(load_encoder(f"hf:{checkpoint(name)}", precision="bf16"), name)) == {True}


@pytest.mark.parametrize("name", ["modernbert", "wav2vec2_bert"])
def test_positions_stay_exact_in_a_long_input(name: str, tmp_path: Path) -> None:
    """Their angles are multiples of frequencies, whose rounding would grow with the position."""
    kind, fields = (AUDIO | TEXT)[name]
    longer = {"max_position_embeddings": 2048} if name == "modernbert" else {"position_embeddings_type": "rotary"}
    build(kind, fields | longer).save_pretrained(tmp_path)
    extractor = transformers.SeamlessM4TFeatureExtractor(padding_value=1)
    (word_tokenizer() if name == "modernbert" else extractor).save_pretrained(tmp_path)
    items: list[Item] = [" ".join(WORDS * 60)] if name == "modernbert" else [voice(16_000 * 25)]
    half, exact = (
        load_encoder(f"hf:{tmp_path}", precision=precision, pooling="max").encode(items)
        for precision in ("bf16", "fp32")
    )
    assert least_cosine(half, exact) > 0.999
