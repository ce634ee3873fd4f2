"""Audio encoders give, in any batch, the plain model's numbers on the utterance alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lpgnet.feature_extractors import EncoderError, ItemError, load_encoder
from tests.feature_extractors.conftest import (
    AUDIO,
    WHISPER_SECONDS,
    Checkpoints,
    feature_extractor,
    least_cosine,
    relative,
    voice,
)

LENGTHS = (16_000, 3_000, 40_123, 8_000, 24_001)
BATCHED = [name for name in AUDIO if name not in ("conformer", "adapter")]


def plain_states(model: Any, name: str, waveform: np.ndarray) -> torch.Tensor:
    """All hidden states of the plain model on one utterance `(layers + 1, frames, d)`, true frames only."""
    inputs = feature_extractor(name)(waveform, sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        output = model(**inputs, output_hidden_states=True)
    return torch.stack(output.hidden_states)[:, 0, : len(plain_last(model, name, waveform))]


def plain_last(model: Any, name: str, waveform: np.ndarray) -> torch.Tensor:
    """The plain model's last hidden state `(frames, d)`, true frames only."""
    inputs = feature_extractor(name)(waveform, sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        states = model(**inputs).last_hidden_state[0]
    if name == "whisper":
        return states[: -(-len(waveform) // 320)]
    return states[: int(inputs["attention_mask"].sum())] if name == "wav2vec2_bert" else states


@pytest.mark.parametrize("name", AUDIO)
def test_any_batch_gives_the_plain_models_numbers(
    name: str, checkpoint: Checkpoints, plain: Callable[[Path], Any]
) -> None:
    waveforms = [voice(samples, seed) for seed, samples in enumerate(LENGTHS)]
    model, encoder = plain(checkpoint(name)), load_encoder(f"hf:{checkpoint(name)}")
    frames = [plain_last(model, name, waveform) for waveform in waveforms]
    for budget in (None, 0, 80_000, 10**9):
        for expected, embedding in zip(frames, encoder.encode(waveforms, budget), strict=True):
            assert embedding.n_frames == len(expected)
            assert relative(embedding.values[0], expected.mean(0).numpy()) < 1e-5


@pytest.mark.parametrize("name", BATCHED)
def test_every_layer_is_the_plain_models(name: str, checkpoint: Checkpoints, plain: Callable[[Path], Any]) -> None:
    waveforms = [voice(samples, seed) for seed, samples in enumerate(LENGTHS)]
    model = plain(checkpoint(name))
    embeddings = load_encoder(f"hf:{checkpoint(name)}", layers="all", pooling="none").encode(waveforms, 10**9)
    # Transformers' own tuple ends in the state after the final norm where there is one, design's in the block's output.
    n_same = 3 if name == "whisper" else 4
    for waveform, embedding in zip(waveforms, embeddings, strict=True):
        expected = plain_states(model, name, waveform)[:n_same].transpose(0, 1).numpy()
        assert embedding.values.shape == (embedding.n_frames, 4, 16)
        assert relative(embedding.values[:, :n_same], expected) < 1e-5


@pytest.mark.parametrize("name", BATCHED)
@settings(max_examples=5, deadline=None)
@given(lengths=st.lists(st.integers(400, 320_000), min_size=2, max_size=4), budget=st.integers(0, 10**6))
def test_batching_changes_nothing(name: str, checkpoint: Checkpoints, lengths: list[int], budget: int) -> None:
    encoder = _loaded(checkpoint(name))
    waveforms = [voice(samples, seed) for seed, samples in enumerate(lengths)]
    for waveform, embedding in zip(waveforms, encoder.encode(waveforms, budget), strict=True):
        alone = encoder.encode([waveform], 0)[0]
        assert relative(embedding.values, alone.values) < 1e-5
        assert embedding.n_frames == alone.n_frames


_encoders: dict[Path, Any] = {}


def _loaded(folder: Path) -> Any:
    return _encoders.setdefault(folder, load_encoder(f"hf:{folder}", layers="all"))


def test_padding_would_change_a_group_norm_without_the_cure(
    checkpoint: Checkpoints, plain: Callable[[Path], Any]
) -> None:
    """What the other tests would show if nothing made the model padding-invariant."""
    waveform = voice(16_000)
    model, inputs = plain(checkpoint("wav2vec2_group")), torch.from_numpy(waveform)[None]
    long = torch.nn.functional.pad(inputs, (0, 48_000))
    with torch.no_grad():
        alone = model(inputs).last_hidden_state[0].mean(0)
        batched = model(long, attention_mask=(torch.arange(64_000) < 16_000)[None].long()).last_hidden_state[0, :49]
    assert relative(batched.mean(0).numpy(), alone.numpy()) > 1e-3


@pytest.mark.parametrize("layers", [[1], [0], [3, 1], 2])
def test_chosen_layers_are_those_of_all(layers: Any, checkpoint: Checkpoints) -> None:
    name = f"hf:{checkpoint('wav2vec2_layer')}"
    waveforms = [voice(9_000), voice(20_000, 1)]
    everything = load_encoder(name, layers="all").encode(waveforms)
    chosen = load_encoder(name, layers=layers)
    indices = [layers] if isinstance(layers, int) else layers
    for one, other in zip(chosen.encode(waveforms), everything, strict=True):
        np.testing.assert_allclose(one.values, other.values[indices], rtol=1e-5, atol=1e-6)
    assert chosen.n_layers == len(indices)


def test_blocks_above_the_highest_layer_are_not_run(checkpoint: Checkpoints) -> None:
    encoder = load_encoder(f"hf:{checkpoint('wav2vec2_group')}", layers=[1])
    runs: list[int] = []
    for position, block in enumerate(encoder.model.encoder.layers):
        block.register_forward_hook(lambda *_, at=position: runs.append(at))
    encoder.encode([voice(5_000)])
    assert runs == [0]


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("mean", lambda f: f.mean(0)),
        ("mean_std", lambda f: np.concatenate([f.mean(0), f.std(0)])),
        ("max", lambda f: f.max(0)),
        ("first", lambda f: f[0]),
    ],
)
def test_pooling_in_a_batch(
    pooling: str, expected: Callable[[np.ndarray], np.ndarray], checkpoint: Checkpoints
) -> None:
    name = f"hf:{checkpoint('wav2vec2_layer')}"
    waveforms = [voice(9_000), voice(30_000, 1)]
    encoder = load_encoder(name, pooling=pooling)
    kept = load_encoder(name, pooling="none").encode(waveforms, 0)
    for embedding, frames in zip(encoder.encode(waveforms, 10**9), kept, strict=True):
        assert embedding.values.shape == (1, encoder.width)
        np.testing.assert_allclose(embedding.values[0], expected(frames.values[:, 0]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "mean_std", "max", "first"])
def test_windows_pool_to_what_their_frames_pool_to(pooling: str, checkpoint: Checkpoints) -> None:
    name, long = f"hf:{checkpoint('wav2vec2_layer')}", voice(16_000 * 7 + 77)
    kept = load_encoder(name, pooling="none", max_seconds=2).encode([long])[0]
    pooled = load_encoder(name, pooling=pooling, max_seconds=2).encode([long])[0]
    frames = kept.values[:, 0].astype(np.float64)
    expected = {
        "mean": frames.mean(0),
        "mean_std": np.concatenate([frames.mean(0), frames.std(0)]),
        "max": frames.max(0),
        "first": frames[0],
    }[pooling]
    np.testing.assert_allclose(pooled.values[0], expected, rtol=1e-4, atol=1e-5)
    assert pooled.n_frames == kept.n_frames == (len(long) - 400) // 320 + 1
    assert pooled.flags == {"windowed"}


@pytest.mark.parametrize("name", ["wav2vec2_layer", "data2vec"])
def test_windows_give_the_frames_of_the_whole(name: str, checkpoint: Checkpoints) -> None:
    """Layer 0 sees a few neighbors only, fewer than two windows share, so cutting must not show in it."""
    long = voice(16_000 * 11 + 200)
    chosen = {"layers": [0], "pooling": "none"}
    whole = load_encoder(f"hf:{checkpoint(name)}", max_seconds=60, **chosen).encode([long])[0]
    pieces = load_encoder(f"hf:{checkpoint(name)}", max_seconds=3, **chosen).encode([long], 10**6)[0]
    assert whole.flags == frozenset() and pieces.flags == {"windowed"}
    np.testing.assert_allclose(pieces.values, whole.values, rtol=1e-3, atol=1e-4)


def test_whispers_last_index_leaves_the_last_block(checkpoint: Checkpoints) -> None:
    name = f"hf:{checkpoint('whisper')}"
    block = load_encoder(name, layers=[3], pooling="none").encode([voice(20_000)])[0].values
    last = load_encoder(name, pooling="none")
    normed = last.model.layer_norm(torch.from_numpy(block)).numpy()
    np.testing.assert_allclose(normed, last.encode([voice(20_000)])[0].values, rtol=1e-4, atol=1e-5)


def test_a_tight_window_is_the_full_one_without_the_silence_behind(checkpoint: Checkpoints) -> None:
    """Layer 0 sees no padding in either; an utterance as long as the window is the same throughout."""
    name = f"hf:{checkpoint('whisper')}"
    whole, short = voice(16_000 * WHISPER_SECONDS), voice(20_001)
    full, tight = (load_encoder(name, layers="all", pooling="none", window=window) for window in ("full", "tight"))
    for one, other in zip(tight.encode([whole, short]), full.encode([whole, short]), strict=True):
        assert one.n_frames == other.n_frames and one.flags == other.flags
        assert relative(one.values[:, 0], other.values[:, 0]) < 1e-5
    assert relative(tight.encode([whole])[0].values, full.encode([whole])[0].values) < 1e-5
    assert relative(tight.encode([short])[0].values[:, 1:], full.encode([short])[0].values[:, 1:]) > 1e-3


def test_a_tight_window_computes_an_utterances_own_frames_alone(checkpoint: Checkpoints) -> None:
    encoder, sizes = load_encoder(f"hf:{checkpoint('whisper')}", window="tight"), list[int]()
    encoder.model.layers[0].register_forward_pre_hook(lambda _, args: sizes.append(args[0].shape[1]))
    embeddings = encoder.encode([voice(16_000), voice(320), voice(1)])
    assert sizes == [50, 1, 1] == [embedding.n_frames for embedding in embeddings]
    assert [embedding.padding for embedding in embeddings] == [0, 0, 0]


@settings(max_examples=10, deadline=None)
@given(lengths=st.lists(st.integers(1, 200_000), min_size=2, max_size=4), budget=st.integers(0, 10**6))
def test_batching_changes_nothing_in_tight_windows(checkpoint: Checkpoints, lengths: list[int], budget: int) -> None:
    waveforms = [voice(samples, seed) for seed, samples in enumerate(lengths)]
    for layers in ("all", "last"):
        encoder = load_encoder(f"hf:{checkpoint('whisper')}", layers=layers, window="tight")
        for waveform, embedding in zip(waveforms, encoder.encode(waveforms, budget), strict=True):
            alone = encoder.encode([waveform], 0)[0]
            assert relative(embedding.values, alone.values) < 1e-5
            assert embedding.n_frames == alone.n_frames


def test_tight_windows_in_bfloat16(checkpoint: Checkpoints) -> None:
    waveforms = [voice(16_000), voice(30_000, 1)]
    name = f"hf:{checkpoint('whisper')}"
    half, exact = (
        load_encoder(name, precision=precision, window="tight").encode(waveforms, 10**9)
        for precision in ("bf16", "fp32")
    )
    assert least_cosine(half, exact) > 0.999
    assert all(relative(one.values, other.values) > 1e-6 for one, other in zip(half, exact, strict=True))


def test_an_hour_runs_in_bounded_memory(checkpoint: Checkpoints) -> None:
    """No layer ever sees more than a window, and the pieces cover every frame once."""
    encoder = load_encoder(f"hf:{checkpoint('wav2vec2_group')}", layers=[0])
    longest = []
    encoder.model.feature_extractor.register_forward_pre_hook(lambda _, args: longest.append(args[0].numel()))
    hour = np.tile(voice(16_000), 3600)
    embedding = encoder.encode([hour])[0]
    assert max(longest) <= 30 * 16_000
    assert embedding.n_frames == (len(hour) - 400) // 320 + 1


def test_short_audio_is_padded_after_normalizing(checkpoint: Checkpoints, plain: Callable[[Path], Any]) -> None:
    short = voice(150)
    embedding = load_encoder(f"hf:{checkpoint('wav2vec2_layer')}").encode([short, voice(9_000)], 10**9)[0]
    normal = (short - short.mean()) / np.sqrt(short.var() + 1e-7)
    with torch.no_grad():
        inputs = torch.from_numpy(np.pad(normal, (0, 250)))[None]
        expected = plain(checkpoint("wav2vec2_layer"))(inputs).last_hidden_state[0, 0]
    assert relative(embedding.values[0], expected.numpy()) < 1e-5
    assert embedding.flags == {"padded"}
    assert embedding.n_frames == 1


@pytest.mark.parametrize("name", AUDIO)
def test_one_sample_and_silence_are_flagged_and_finite(name: str, checkpoint: Checkpoints) -> None:
    encoder = load_encoder(f"hf:{checkpoint(name)}")
    click, silence = encoder.encode([np.full(1, 0.1, np.float32), np.zeros(9_000, np.float32)])
    assert click.flags == (frozenset() if name == "whisper" else {"padded"})
    assert silence.flags == {"silent"}
    assert np.isfinite(click.values).all() and np.isfinite(silence.values).all()


def test_clipping_is_flagged(checkpoint: Checkpoints) -> None:
    encoder = load_encoder(f"hf:{checkpoint('wav2vec2_layer')}")
    loud = np.clip(8 * voice(9_000), -1, 1)
    touching = np.sin(np.arange(9_000) * 0.2).astype(np.float32)
    assert [e.flags for e in encoder.encode([loud, touching])] == [{"clipped"}, frozenset()]


def test_every_bad_item_is_named_and_the_rest_can_go_on(checkpoint: Checkpoints) -> None:
    encoder = load_encoder(f"hf:{checkpoint('wav2vec2_layer')}")
    broken = voice(5_000)
    broken[7] = np.nan
    items = [voice(5_000), broken, np.zeros((2, 500), np.float32), np.zeros(0, np.float32), "text", np.ones(500, int)]
    with pytest.raises(ItemError) as caught:
        encoder.encode(items)
    assert isinstance(caught.value, EncoderError)
    assert caught.value.index == 1
    assert set(caught.value.problems) == {1, 2, 3, 4, 5}
    assert "NaN" in caught.value.problems[1] and "one channel" in caught.value.problems[2]


def test_lengths_are_samples(checkpoint: Checkpoints) -> None:
    assert load_encoder(f"hf:{checkpoint('whisper')}").lengths([voice(7), voice(900)]) == [7, 900]


def test_whisper_is_cut_at_its_own_limit(checkpoint: Checkpoints) -> None:
    embedding = load_encoder(f"hf:{checkpoint('whisper')}").encode([voice(16_000 * 3 * WHISPER_SECONDS)])[0]
    assert embedding.flags == {"windowed"}
    assert embedding.n_frames == 50 * 3 * WHISPER_SECONDS


@pytest.mark.parametrize("layers", ["last", "all"])
@pytest.mark.parametrize("name", sorted(AUDIO))
def test_bfloat16_is_close(name: str, layers: str, checkpoint: Checkpoints) -> None:
    waveforms = [voice(samples, seed) for seed, samples in enumerate((16_000, 30_000, 5_000, 50_000))]
    half, exact = (
        load_encoder(f"hf:{checkpoint(name)}", layers=layers, precision=precision).encode(waveforms, 10**9)
        for precision in ("bf16", "fp32")
    )
    assert half[0].values.dtype == np.float32
    assert least_cosine(half, exact) > 0.999
    assert all(relative(one.values, other.values) > 1e-6 for one, other in zip(half, exact, strict=True))


def test_a_frozen_encoder_ignores_its_parents_training_mode(checkpoint: Checkpoints) -> None:
    encoder = load_encoder(f"hf:{checkpoint('wav2vec2_group')}")
    parent = torch.nn.ModuleDict({"encoder": encoder}).train()
    assert parent.training and not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in parent.parameters())
