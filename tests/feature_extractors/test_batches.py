"""What batches cost, and batches that a device's memory does not hold."""

from typing import Any

import numpy as np
import pytest
import torch

from lpgnet.feature_extractors import EncoderError, TextItem, load_encoder
from lpgnet.feature_extractors.devices import Arriving
from tests.feature_extractors.conftest import WHISPER_SECONDS, Checkpoints, voice

LENGTHS = (16_000, 8_000, 24_000)


def test_padding_by_hand(checkpoint: Checkpoints) -> None:
    waveforms = [voice(samples) for samples in LENGTHS]
    encoder = load_encoder(f"hf:{checkpoint('wav2vec2_group')}")
    together = encoder.encode(waveforms, 10**9)
    assert [(e.size, e.padding) for e in together] == [(16_000, 8_000), (8_000, 16_000), (24_000, 0)]
    assert [(e.size, e.padding) for e in encoder.encode(waveforms, 0)] == [(samples, 0) for samples in LENGTHS]
    texts = load_encoder(f"hf:{checkpoint('roberta')}").encode(["a b c", TextItem("a", ("b",))], 10**9)
    assert [(e.size, e.padding) for e in texts] == [(5, 1), (6, 0)]


def test_a_fixed_length_is_padding_too(checkpoint: Checkpoints) -> None:
    embedding = load_encoder(f"hf:{checkpoint('whisper')}").encode([voice(16_000)])[0]
    assert (embedding.size, embedding.padding) == (16_000, (WHISPER_SECONDS - 1) * 16_000)


def test_a_batch_that_memory_does_not_hold_is_halved(checkpoint: Checkpoints) -> None:
    encoder: Any = load_encoder(f"hf:{checkpoint('wav2vec2_group')}")
    waveforms = [voice(samples, seed) for seed, samples in enumerate(LENGTHS * 2)]
    expected = encoder.encode(waveforms, 0)
    room = 40_000

    def refuse(_: Any, args: tuple[()], kwargs: dict[str, torch.Tensor]) -> None:
        if kwargs["input_values"].numel() > room:
            raise torch.OutOfMemoryError

    encoder.model.register_forward_pre_hook(refuse, with_kwargs=True)
    for one, other in zip(encoder.encode(waveforms, 10**9), expected, strict=True):
        np.testing.assert_allclose(one.values, other.values, rtol=1e-4, atol=1e-5)
    room = 20_000
    with pytest.raises(EncoderError, match="no memory for one input of 24000 samples"):
        encoder.encode(waveforms, 10**9)


def test_a_batch_is_fetched_when_the_next_one_is_queued(
    checkpoint: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a GPU, which computes what is queued while the processor goes on, is never without work."""
    encoder, events = load_encoder(f"hf:{checkpoint('wav2vec2_group')}"), list[str]()
    start, wait = Arriving.start, Arriving.wait
    monkeypatch.setattr(Arriving, "start", lambda values: (events.append("queued"), start(values))[1])
    monkeypatch.setattr(Arriving, "wait", lambda values: (events.append("fetched"), wait(values))[1])
    encoder.encode([voice(samples) for samples in LENGTHS], 0)
    assert events == ["queued", "queued", "fetched", "queued", "fetched", "fetched"]


@pytest.mark.parametrize("layers", ["last", "all"])
@pytest.mark.parametrize("pooling", ["mean", "none"])
def test_an_embedding_keeps_nothing_of_its_batch(pooling: str, layers: str, checkpoint: Checkpoints) -> None:
    encoder = load_encoder(f"hf:{checkpoint('wav2vec2_group')}", pooling=pooling, layers=layers)
    for embedding in encoder.encode([voice(samples) for samples in LENGTHS], 10**9):
        assert embedding.values.base is None and embedding.values.flags.c_contiguous


def test_float32_is_full_while_an_encoder_runs_and_then_what_it_was(checkpoint: Checkpoints) -> None:
    encoder, seen = load_encoder(f"hf:{checkpoint('wav2vec2_group')}"), []
    kinds = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    encoder.model.register_forward_hook(lambda *_: seen.append([kind.fp32_precision for kind in kinds]))
    before = [kind.fp32_precision for kind in kinds]
    encoder.encode([voice(4_000)])
    assert seen == [["ieee", "ieee"]]
    assert [kind.fp32_precision for kind in kinds] == before
