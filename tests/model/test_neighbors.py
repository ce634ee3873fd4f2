"""Neighbors by voice: worked out by hand, and what no model may know of speakers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lpgnet.model import EmotionModel, LPGNetForEmotionRecognition, ModelError, build_model, load_model
from lpgnet.model.lpgnet import HIDDEN_SPEAKERS, attend
from lpgnet.model.neighbors import at_neighbors, neighbors

SIZES = {"text": [1, 6], "audio": [3, 5]}
VOICED: dict[str, Any] = {"voice_neighbours": True, "speaker_turn_bias": True, "local_layers": 2}
BY_VOICE = ["voice_neighbours", "speaker_turn_bias"]


def make_model(**fields: Any) -> EmotionModel:
    torch.manual_seed(0)
    sizes = {"input_sizes": SIZES, "num_labels": 4, "hidden_size": 8, "num_attention_heads": 2}
    return build_model("lpgnet", **(sizes | fields))


def places(speakers: str, *, causal: bool = False) -> list[list[int]]:
    """Of one dialogue, a letter a turn: `?` is a turn whose speaker is not told, `.` is padding."""
    numbers = torch.tensor([[{"?": -1}.get(letter, ord(letter)) for letter in speakers]])
    mask = torch.tensor([[letter != "." for letter in speakers]])
    return neighbors(numbers, mask, causal=causal)[0].tolist()


def test_neighbors_worked_out_by_hand() -> None:
    # 0  1  2  3  4  5, then padding
    # A  B  B  A  C  B
    assert places("ABBACB..") == [
        [-1, 3, -1, 1],
        [-1, 2, 0, 3],
        [1, 5, 0, 3],
        [0, -1, 2, 4],
        [-1, -1, 3, 5],
        [2, -1, 4, -1],
        [-1, -1, -1, -1],
        [-1, -1, -1, -1],
    ]


def test_turns_that_are_not_told_have_no_neighbors_and_are_nobodys() -> None:
    assert places("A?BA?") == [[-1, 3, -1, 2], [-1] * 4, [-1, -1, 0, 3], [0, -1, 2, -1], [-1] * 4]
    assert places("???") == [[-1] * 4] * 3


def test_neighbors_of_a_causal_model_come_before() -> None:
    for turns in ("ABBACB..", "A?BA?", "AAAA"):
        expected = [[same, -1, other, -1] for same, _, other, _ in places(turns)]
        assert places(turns, causal=True) == expected


def test_one_name_for_everybody_leaves_one_voice() -> None:
    assert places("AAA") == [[-1, 1, -1, -1], [0, 2, -1, -1], [1, -1, -1, -1]]
    assert places("A") == [[-1] * 4]


@settings(max_examples=60, deadline=None)
@given(
    speakers=st.lists(st.lists(st.integers(-1, 3), min_size=6, max_size=6), min_size=1, max_size=3),
    lengths=st.lists(st.integers(1, 6), min_size=3, max_size=3),
    causal=st.booleans(),
)
def test_neighbors_equal_a_search_from_each_turn(speakers: list[list[int]], lengths: list[int], causal: bool) -> None:
    numbers = torch.tensor(speakers)
    mask = torch.arange(6) < torch.tensor(lengths[: len(speakers)])[:, None]
    found = neighbors(numbers, mask, causal=causal)
    for row, turn in torch.cartesian_prod(torch.arange(len(speakers)), torch.arange(6)).tolist():
        own, others = speakers[row][turn], speakers[row][: lengths[row]]
        expected = []
        for same in (True, False):
            alike = [j for j, s in enumerate(others) if s >= 0 and own >= 0 and (s == own) is same]
            alike = alike if turn < lengths[row] else []
            expected += [max((j for j in alike if j < turn), default=-1)]
            expected += [-1 if causal else min((j for j in alike if j > turn), default=-1)]
        assert found[row, turn].tolist() == expected


def test_what_stands_at_neighbors_comes_from_the_same_row_and_modality() -> None:
    x = torch.arange(2 * 2 * 3 * 1.0).view(2, 2, 3, 1) + 1
    there = torch.tensor([[[1, -1, 2, 0]] * 3, [[0, 0, -1, 2]] * 3])
    found = at_neighbors(x, there)
    assert found.shape == (2, 2, 3, 4, 1)
    assert found[:, :, 0, :, 0].tolist() == [[[2, 0, 3, 1], [4, 4, 0, 6]], [[8, 0, 9, 7], [10, 10, 0, 12]]]


@settings(max_examples=30, deadline=None)
@given(
    names=st.permutations([0, 1, 2, 7, 41]),
    fields=st.sampled_from([*({name: True} for name in BY_VOICE), VOICED, VOICED | {"causal": True}]),
    seed=st.integers(0, 100),
)
def test_other_names_for_the_speakers_change_nothing(
    names: list[int], fields: dict[str, Any], seed: int, make_batch: Callable[..., Any], randomized: Any
) -> None:
    model = randomized(make_model(**fields)).eval()
    batch = make_batch([6, 4, 1], seed=seed)
    renamed = replace(batch, speakers=torch.tensor(names)[batch.speakers])
    first, second = (model(**each.arguments()) for each in (batch, renamed))
    assert torch.equal(first.logits, second.logits) and torch.equal(first.loss, second.loss)


@pytest.mark.parametrize("field", BY_VOICE)
def test_which_turns_have_one_voice_does_matter(field: str, make_batch: Callable[..., Any], randomized: Any) -> None:
    model, batch = randomized(make_model(**{field: True})).eval(), make_batch([6, 4], missing=0.0)
    swapped = replace(batch, speakers=batch.speakers.flip(1))
    assert not torch.allclose(model(**batch.arguments()).logits, model(**swapped.arguments()).logits)


@pytest.mark.parametrize("field", BY_VOICE)
def test_speakers_that_are_not_told_are_as_if_the_model_had_no_such_part(
    field: str, make_batch: Callable[..., Any], randomized: Any
) -> None:
    # A width that the four neighbors do not divide.
    width = {"hidden_size": 6}
    voiced, batch = randomized(make_model(**{field: True}, **width)).eval(), make_batch([6, 4])
    plain = make_model(**width).eval()
    plain.load_state_dict(voiced.state_dict(), strict=False)
    expected = plain(**batch.arguments()).logits
    untold = replace(batch, speakers=torch.full_like(batch.speakers, -1))
    torch.testing.assert_close(voiced(**untold.arguments()).logits, expected)
    torch.testing.assert_close(voiced(batch.inputs, batch.masks, batch.mask).logits, expected)


def test_training_hides_the_speakers_of_some_whole_dialogues(make_batch: Callable[..., Any]) -> None:
    model = make_model(voice_neighbours=True)
    assert isinstance(model, LPGNetForEmotionRecognition)
    mask = torch.arange(9) < torch.randint(2, 10, (2000, 1))
    speakers = torch.randint(-1, 3, mask.shape)
    told = speakers.masked_fill(~mask, -1)
    assert torch.equal(model.eval().told(speakers, mask), told)
    found = model.train().told(speakers, mask)
    hidden = (found == -1).all(1)
    assert torch.equal(found[~hidden], told[~hidden])
    assert hidden.float().mean() == pytest.approx(HIDDEN_SPEAKERS, abs=0.03)


def test_a_seed_gives_the_weights_and_draws_that_it_gave(make_batch: Callable[..., Any]) -> None:
    """The parts of the variants are drawn after the others."""
    plain, voiced = make_model().state_dict(), make_model(**VOICED).state_dict()
    added = voiced.keys() - plain.keys()
    of_neighbors = {f"project.{m}.{part}" for m in SIZES for part in ("weight", "bias")} | {"join.weight"}
    assert added == {
        *("further_local.0.weight", "further_local.0.bias", "voice_bias"),
        *(f"neighbors.{name}" for name in of_neighbors),
    }
    assert all(torch.equal(voiced[name], values) for name, values in plain.items())


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_variants_survive_saving(norm: str, make_batch: Callable[..., Any], randomized: Any, tmp_path: Path) -> None:
    model, batch = randomized(make_model(**VOICED, context_norm=norm)).eval(), make_batch([6, 4])
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.config == model.config
    assert torch.equal(loaded(**batch.arguments()).logits, model(**batch.arguments()).logits)


@pytest.mark.parametrize("field", [{"context_norm": "layer"}, *({name: value} for name, value in VOICED.items())])
def test_weights_of_another_variant_are_refused(field: dict[str, Any], tmp_path: Path) -> None:
    make_model(**field).save_pretrained(tmp_path)
    config = make_model().config
    (tmp_path / "other").mkdir()
    make_model().save_pretrained(tmp_path / "other")
    (tmp_path / "model.safetensors").replace(tmp_path / "other" / "model.safetensors")
    with pytest.raises(ModelError, match="the weights do not fit"):
        load_model(tmp_path / "other")
    assert config == make_model().config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"context_norm": "group"}, "context_norm is 'group': give one of batch, layer"),
        ({"context_norm": None}, "context_norm is None: give text"),
        ({"local_layers": 0}, "local_layers is 0: give a whole number of at least 1"),
        ({"local_layers": 10**9}, "local_layers is 1000000000"),
        ({"voice_neighbours": 1}, "voice_neighbours is 1: give true or false"),
        ({"voice_neighbors": True}, "no field 'voice_neighbors': did you mean 'voice_neighbours'"),
        ({"speaker_turn_bias": "yes"}, "speaker_turn_bias is 'yes': give true or false"),
    ],
)
def test_impossible_variants_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make_model(**fields)


def test_a_bias_for_another_voice_draws_attention_there() -> None:
    queries = keys = torch.zeros(1, 1, 3, 2)
    values = torch.eye(3)[None, None, :, :2]
    speakers = torch.tensor([[0, 1, -1]])
    bias = torch.tensor([[[0.0, 2.0]]])
    everybody = torch.ones(1, 1, 3, dtype=torch.bool)
    found = attend(queries, keys, values, everybody, heads=1, voice_bias=bias, speakers=speakers)
    drawn: Tensor = torch.tensor([0.0, 2.0, 0.0]).softmax(0)
    torch.testing.assert_close(found[0, 0, 0], drawn[:2])
    torch.testing.assert_close(found[0, 0, 2], torch.full((2,), 1 / 3))
