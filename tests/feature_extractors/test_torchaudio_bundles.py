"""Bundles of torchaudio, run on a tiny one with random weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torchaudio import pipelines

from lpgnet.feature_extractors import EncoderError, load_encoder, resolve_spec
from lpgnet.feature_extractors.torchaudio_bundles import BUNDLES
from tests.feature_extractors.conftest import least_cosine, relative, shaken, voice

SHAPE: dict[str, Any] = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [(8, 10, 5), (8, 3, 2), (8, 3, 2), (8, 3, 2), (8, 3, 2), (8, 2, 2), (8, 2, 2)],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 16,
    "encoder_projection_dropout": 0.1,
    "encoder_pos_conv_kernel": 16,
    "encoder_pos_conv_groups": 2,
    "encoder_num_layers": 2,
    "encoder_num_heads": 2,
    "encoder_attention_dropout": 0.1,
    "encoder_ff_interm_features": 24,
    "encoder_ff_interm_dropout": 0.0,
    "encoder_dropout": 0.1,
    "encoder_layer_norm_first": False,
    "encoder_layer_drop": 0.05,
    "aux_num_out": None,
}
WAVLM = SHAPE | {"encoder_num_buckets": 8, "encoder_max_distance": 16}


@pytest.fixture(params=["group", "layer", "WavLM"])
def bundle(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A tiny bundle in torchaudio's list and in torch's cache."""
    kind = "WavLM" if request.param == "WavLM" else "Wav2Vec2"
    shape = WAVLM if kind == "WavLM" else SHAPE | {"extractor_mode": f"{request.param}_norm"}
    tiny = pipelines.Wav2Vec2Bundle("tiny.pth", shape, 16_000, request.param == "layer", kind)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setitem(BUNDLES, "TINY", "tiny.pth")
    monkeypatch.setattr(pipelines, "TINY", tiny, raising=False)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    model = shaken(pipelines._wav2vec2.utils._get_model(kind, shape))
    torch.save(model.state_dict(), folder / "tiny.pth")
    return tiny


def test_any_batch_gives_the_bundles_numbers(bundle: Any) -> None:
    model = bundle.get_model()
    waveforms = [voice(samples, seed) for seed, samples in enumerate((16_000, 3_000, 30_001))]
    encoder = load_encoder("torchaudio:TINY", layers=[1, 2])
    for budget in (0, 10**9):
        for waveform, embedding in zip(waveforms, encoder.encode(waveforms, budget), strict=True):
            with torch.inference_mode():
                layers = model.extract_features(torch.from_numpy(waveform)[None])[0]
            expected = torch.stack(layers)[:, 0].mean(1).numpy()
            assert relative(embedding.values, expected) < 1e-5


def test_last_is_the_models_output(bundle: Any) -> None:
    with torch.inference_mode():
        expected = bundle.get_model()(torch.from_numpy(voice(9_000))[None])[0][0].mean(0).numpy()
    assert relative(load_encoder("torchaudio:TINY").encode([voice(9_000)])[0].values[0], expected) < 1e-5


def test_bfloat16_is_close(bundle: Any) -> None:
    waveforms = [voice(16_000), voice(30_000, 1)]
    half, exact = (load_encoder("torchaudio:TINY", precision=p).encode(waveforms, 10**9) for p in ("bf16", "fp32"))
    assert least_cosine(half, exact) > 0.999
    assert all(relative(one.values, other.values) > 1e-6 for one, other in zip(half, exact, strict=True))


@pytest.mark.parametrize("bundle", ["group"], indirect=True)
def test_weights_that_do_not_fit_are_refused(bundle: Any, tmp_path: Path) -> None:
    file = tmp_path / "hub" / "checkpoints" / "tiny.pth"
    before = resolve_spec("torchaudio:TINY").fingerprint
    weights = torch.load(file, weights_only=True)
    torch.save(dict(list(weights.items())[1:]), file)
    assert resolve_spec("torchaudio:TINY").fingerprint != before
    with pytest.raises(EncoderError, match=r"tiny\.pth cannot be loaded"):
        load_encoder("torchaudio:TINY")


def test_the_table_is_torchaudios() -> None:
    for name, file in BUNDLES.items():
        listed = getattr(pipelines, name)
        assert (listed._path, listed.sample_rate) == (file, 16_000)


def test_a_wrong_name_gets_a_suggestion() -> None:
    with pytest.raises(EncoderError, match="did you mean 'torchaudio:WAV2VEC2_BASE'"):
        resolve_spec("torchaudio:WAV2VEC_BASE")
