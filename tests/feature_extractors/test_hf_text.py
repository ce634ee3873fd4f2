"""Text encoders give, in any batch, the plain model's numbers on the utterance alone, its own tokens pooled."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lpgnet.feature_extractors import ItemError, TextItem, load_encoder
from tests.feature_extractors.conftest import TEXT, Checkpoints, least_cosine, relative, word_tokenizer

TEXTS = ("a b c", "d", "e f g h i j k l m n o p q r", "s t", "u v w x y z a b")
# The tiny models' limit, minus the special tokens of one text and of two.
LIMIT, ROOM, PAIR_ROOM = 32, 30, 28


def plain_states(model: Any, ids: list[int]) -> np.ndarray:
    """The plain model's last hidden state `(tokens, d)` of one input, special tokens included."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()


@pytest.mark.parametrize("name", TEXT)
def test_any_batch_gives_the_plain_models_numbers(
    name: str, checkpoint: Checkpoints, plain: Callable[[Path], Any]
) -> None:
    model, encoder = plain(checkpoint(name)), load_encoder(f"hf:{checkpoint(name)}")
    expected = [plain_states(model, word_tokenizer()(text)["input_ids"])[1:-1] for text in TEXTS]
    for budget in (None, 0, 40, 10**6):
        for frames, embedding in zip(expected, encoder.encode(TEXTS, budget), strict=True):
            assert embedding.n_frames == len(frames)
            assert relative(embedding.values[0], frames.mean(0)) < 1e-5


@pytest.mark.parametrize("name", [name for name in TEXT if name != "albert"])
def test_every_layer_is_the_plain_models(name: str, checkpoint: Checkpoints, plain: Callable[[Path], Any]) -> None:
    model = plain(checkpoint(name))
    embeddings = load_encoder(f"hf:{checkpoint(name)}", layers="all", pooling="none").encode(TEXTS, 10**6)
    for text, embedding in zip(TEXTS, embeddings, strict=True):
        with torch.no_grad():
            output = model(input_ids=torch.tensor([word_tokenizer()(text)["input_ids"]]), output_hidden_states=True)
        # Where a model ends in a norm, transformers' last state is behind it and the last block's output is not.
        n_same = 3 if name in ("modernbert", "t5") else 4
        expected = torch.stack(output.hidden_states)[:n_same, 0, 1:-1].transpose(0, 1).numpy()
        assert relative(embedding.values[:, :n_same], expected) < 1e-5


def test_shared_blocks_have_no_layers_to_choose_from(checkpoint: Checkpoints) -> None:
    with pytest.raises(ValueError, match="layers: last"):
        load_encoder(f"hf:{checkpoint('albert')}", layers="all")


_encoders: dict[Path, Any] = {}


@pytest.mark.parametrize("name", TEXT)
@settings(max_examples=5, deadline=None)
@given(texts=st.lists(st.text("abcxyz ?", min_size=1, max_size=90).filter(str.strip), min_size=2, max_size=5))
def test_batching_changes_nothing(name: str, checkpoint: Checkpoints, texts: list[str]) -> None:
    folder = checkpoint(name)
    encoder = _encoders.setdefault(folder, load_encoder(f"hf:{folder}", pooling="mean_std"))
    items = [TextItem(text, tuple(texts[:position])) for position, text in enumerate(texts)]
    for item, embedding in zip(items, encoder.encode(items, 200), strict=True):
        assert relative(embedding.values, encoder.encode([item])[0].values) < 1e-5


@pytest.mark.parametrize("name", ["roberta", "modernbert", "t5"])
def test_context_is_seen_and_not_pooled(name: str, checkpoint: Checkpoints, plain: Callable[[Path], Any]) -> None:
    model, tokenizer = plain(checkpoint(name)), word_tokenizer()
    embedding = load_encoder(f"hf:{checkpoint(name)}").encode([TextItem("x y", ("a b", "c")), "x y"])
    ids = [0, *tokenizer.convert_tokens_to_ids(["a", "b", "</s>", "c", "</s>", "</s>", "x", "y"]), 2]
    assert relative(embedding[0].values[0], plain_states(model, ids)[7:9].mean(0)) < 1e-5
    assert embedding[0].n_frames == 2
    assert relative(embedding[0].values, embedding[1].values) > 1e-3


def test_segments_are_the_tokenizers(checkpoint: Checkpoints, plain: Callable[[Path], Any], tmp_path: Path) -> None:
    """BERT's second text has segment 1, which the model was trained to see."""
    tokenizer, model = word_tokenizer(), plain(checkpoint("bert"))
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with torch.no_grad():
        pair = model(**tokenizer("a b", "x y", return_tensors="pt")).last_hidden_state[0].numpy()
    embedding = load_encoder(f"hf:{tmp_path}").encode([TextItem("x y", ("a b",))])[0]
    assert relative(embedding.values[0], pair[5:7].mean(0)) < 1e-5


def test_the_oldest_context_is_dropped_first(checkpoint: Checkpoints, plain: Callable[[Path], Any]) -> None:
    encoder = load_encoder(f"hf:{checkpoint('roberta')}")
    long = TextItem("x y z", ("a " * 40, "b " * 20))
    kept = [*["a"] * (PAIR_ROOM - 3 - 21), "</s>", *["b"] * 20]
    ids = [0, *word_tokenizer().convert_tokens_to_ids([*kept, "</s>", "</s>", "x", "y", "z"]), 2]
    assert len(ids) == LIMIT
    expected = plain_states(plain(checkpoint("roberta")), ids)[-4:-1].mean(0)
    assert relative(encoder.encode([long])[0].values[0], expected) < 1e-5


@pytest.mark.parametrize("name", ["roberta", "bert", "modernbert"])
def test_the_longest_text_that_fits_is_not_cut(
    name: str, checkpoint: Checkpoints, plain: Callable[[Path], Any]
) -> None:
    encoder = load_encoder(f"hf:{checkpoint(name)}")
    assert encoder.limit == (34 if name == "bert" else LIMIT)
    fits, too_long = "a " * (encoder.limit - 2), "a " * (encoder.limit - 1)
    whole, cut = encoder.encode([fits, too_long])
    assert (whole.flags, cut.flags) == (frozenset(), {"windowed"})
    expected = plain_states(plain(checkpoint(name)), word_tokenizer()(fits)["input_ids"])[1:-1].mean(0)
    assert relative(whole.values[0], expected) < 1e-5


def test_windows_count_every_token_once(checkpoint: Checkpoints) -> None:
    name, text = f"hf:{checkpoint('roberta')}", " ".join("abcdefghij" * 13)
    kept = load_encoder(name, pooling="none").encode([text])[0]
    pooled = load_encoder(name).encode([text])[0]
    assert kept.n_frames == pooled.n_frames == 130
    assert kept.flags == {"windowed"}
    assert relative(pooled.values[0], kept.values[:, 0].mean(0)) < 1e-5


def test_first_is_the_token_in_front(checkpoint: Checkpoints, plain: Callable[[Path], Any]) -> None:
    embedding = load_encoder(f"hf:{checkpoint('roberta')}", pooling="first").encode(["a b c"])[0]
    expected = plain_states(plain(checkpoint("roberta")), word_tokenizer()("a b c")["input_ids"])[0]
    assert relative(embedding.values[0], expected) < 1e-5


def test_every_bad_item_is_named(checkpoint: Checkpoints) -> None:
    encoder = load_encoder(f"hf:{checkpoint('roberta')}")
    with pytest.raises(ItemError) as caught:
        encoder.encode(["a", "", TextItem("  \n"), np.zeros(400, np.float32), "b"])
    assert set(caught.value.problems) == {1, 2, 3}


def test_lengths_are_tokens_with_context(checkpoint: Checkpoints) -> None:
    assert load_encoder(f"hf:{checkpoint('roberta')}").lengths(["a b", TextItem("a", ("b", "c d"))]) == [4, 9]


@pytest.mark.parametrize("layers", ["last", "all"])
@pytest.mark.parametrize("name", sorted(TEXT))
def test_bfloat16_is_close(name: str, layers: str, checkpoint: Checkpoints) -> None:
    half, exact = (
        load_encoder(
            f"hf:{checkpoint(name)}", layers="last" if name == "albert" else layers, precision=precision
        ).encode(TEXTS)
        for precision in ("bf16", "fp32")
    )
    assert least_cosine(half, exact) > 0.999
