"""Encoders on a CUDA GPU: the same contract, and the numbers of a CPU; skipped where there is none."""

import pytest
import torch

from lpgnet.feature_extractors import Item, check_encoder, load_encoder
from lpgnet.feature_extractors.devices import Arriving, send
from tests.feature_extractors.conftest import AUDIO, TEXT, Checkpoints, least_cosine, relative, voice

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

BOTH = sorted(AUDIO | TEXT)


def items_for(name: str) -> list[Item]:
    if name in TEXT:
        return ["a b c", "d", "e f g h i j k l m n o p"]
    return [voice(samples, seed) for seed, samples in enumerate((16_000, 5_000, 30_000))]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", BOTH)
def test_the_contract_holds_on_a_gpu(name: str, precision: str, checkpoint: Checkpoints) -> None:
    results = check_encoder(f"hf:{checkpoint(name)}", device="cuda", precision=precision)
    assert not [str(result) for result in results if not result.passed]


@pytest.mark.parametrize("name", BOTH)
def test_a_gpu_gives_a_cpus_numbers(name: str, checkpoint: Checkpoints) -> None:
    there, here = (
        load_encoder(f"hf:{checkpoint(name)}", device=device, precision="fp32", layers="last").encode(items_for(name))
        for device in ("cuda", "cpu")
    )
    for one, other in zip(there, here, strict=True):
        assert one.n_frames == other.n_frames
        assert relative(one.values, other.values) < 1e-4


@pytest.mark.parametrize("name", BOTH)
def test_bfloat16_is_close_on_a_gpu(name: str, checkpoint: Checkpoints) -> None:
    half, exact = (
        load_encoder(f"hf:{checkpoint(name)}", device="cuda", precision=precision, layers="last").encode(
            items_for(name), 10**9
        )
        for precision in ("bf16", "fp32")
    )
    assert least_cosine(half, exact) > 0.999


def test_a_batch_above_the_memory_is_halved(checkpoint: Checkpoints) -> None:
    encoder = load_encoder(f"hf:{checkpoint('wav2vec2_group')}", device="cuda", precision="fp32", layers="last")
    waveforms = [voice(48_000, seed) for seed in range(16)]
    whole = encoder.encode(waveforms, 10**9)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.003)  # the batch of 16 needs more, one waveform less
    try:
        halved = encoder.encode(waveforms, 10**9)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert max(relative(a.values, b.values) for a, b in zip(halved, whole, strict=True)) < 1e-5


def test_copies_wait_for_nothing() -> None:
    device, values = torch.device("cuda"), torch.arange(1_000_000.0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        arriving = Arriving.start(send(values, device) * 2)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert arriving.host.is_pinned()
    assert (arriving.wait() == 2 * values.numpy()).all()
