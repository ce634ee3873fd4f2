"""Names, specs and fingerprints: found without torch, equal for equal content, different for different settings."""

import json
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from lpgnet.feature_extractors import (
    Embedding,
    EncoderError,
    EncoderSpec,
    Settings,
    check_encoder,
    digest_file,
    list_encoders,
    load_encoder,
    make_spec,
    registry,
    resolve_precision,
    resolve_spec,
)
from lpgnet.feature_extractors import spec as spec_module
from lpgnet.feature_extractors.checkpoint import FIXED_TYPES
from lpgnet.feature_extractors.hf_audio import FEATURE_TYPES, WAVEFORM_TYPES
from lpgnet.feature_extractors.hf_text import BATCHED_TYPES
from tests.feature_extractors.conftest import AUDIO, TEXT, Checkpoints, relative, voice


def test_a_spec_needs_neither_torch_nor_transformers(checkpoint: Checkpoints) -> None:
    names = [f"hf:{checkpoint('wav2vec2_group')}", f"hf:{checkpoint('roberta')}", "librosa:prosody"]
    code = (
        "import sys, feature_extractors as f\n"
        f"for name in {names!r}: f.resolve_spec(name)\n"
        "f.list_encoders()\n"
        "print([m for m in ('torch', 'transformers', 'librosa') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# Modality, settings, and the fingerprint that they had in version 0.1.0, or when the setting was new.
FINGERPRINTS: list[tuple[str, dict[str, Any], str]] = [
    ("audio", {}, "b1d779e770bc92f8c2cadc1db925fef4"),
    ("audio", {"window": "full"}, "b1d779e770bc92f8c2cadc1db925fef4"),
    ("audio", {"layers": "all", "pooling": "mean_std"}, "80cd37d93e2bbd099a1339bcd00393bb"),
    ("audio", {"layers": (1,), "precision": "bf16", "max_seconds": 20.0}, "7df07a52782920a2f32efd68198f980d"),
    ("audio", {"window": "tight"}, "d8f07a4891c24dea140cfed225e1c9c4"),
    ("text", {}, "72e51910c488453eb7a7c3428c904e22"),
    ("text", {"layers": "all", "window": "tight"}, "122a37d0553744b7079a8796d00e58d4"),
]


@pytest.mark.parametrize(("modality", "changes", "expected"), FINGERPRINTS)
def test_fingerprints_stay_what_they_were(
    modality: str, changes: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows in people's stores are found by them: a new setting must not change those of specs that lack it."""
    monkeypatch.setattr(spec_module, "resampling", lambda: {"resampler": "soxr", "quality": "HQ", "version": "1.0.0"})
    rate, tight = (16_000, True) if modality == "audio" else (None, False)
    settings = Settings(modality=modality, **changes)
    spec = make_spec("hf:a", modality, settings, rate, {"weights": ["ab"]}, can_be_tight=tight)
    assert spec.fingerprint == expected


def test_a_tight_window_is_an_encoder_of_its_own(checkpoint: Checkpoints) -> None:
    name = f"hf:{checkpoint('whisper')}"
    full, tight = resolve_spec(name), resolve_spec(name, window="tight")
    assert full.fingerprint != tight.fingerprint and "window" not in full.to_dict()
    assert EncoderSpec.from_dict(json.loads(json.dumps(tight.to_dict()))) == tight
    assert load_encoder(tight).spec == tight


@pytest.mark.parametrize("name", ["wav2vec2_group", "wav2vec2_bert", "conformer", "roberta"])
def test_a_tight_window_is_what_most_encoders_have_anyway(name: str, checkpoint: Checkpoints) -> None:
    name = f"hf:{checkpoint(name)}"
    assert resolve_spec(name, window="tight") == resolve_spec(name)


def test_a_model_that_takes_whole_windows_only_says_so(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    transformers.ASTModel(transformers.ASTConfig(**sizes, max_length=64)).save_pretrained(tmp_path)
    transformers.ASTFeatureExtractor(max_length=64).save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match="window: tight is for whisper; audio-spectrogram-transformer takes whole"):
        resolve_spec(f"hf:{tmp_path}", window="tight")
    halves = [load_encoder(f"hf:{tmp_path}", precision=p).encode([voice(9_000)])[0].values for p in ("bf16", "fp32")]
    assert relative(*halves) < 0.05


def test_a_copy_elsewhere_is_the_same_encoder(checkpoint: Checkpoints, tmp_path: Path) -> None:
    for name in ("wav2vec2_group", "roberta"):
        copy = shutil.copytree(checkpoint(name), tmp_path / name)
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(
            json.dumps(config | {"_name_or_path": "elsewhere", "transformers_version": "4"})
        )
        (copy / "README.md").write_text("a copy")
        one, other = resolve_spec(f"hf:{checkpoint(name)}"), resolve_spec(f"hf:{copy}")
        assert one.fingerprint == other.fingerprint
        assert one.name != other.name


@pytest.mark.parametrize(
    "change",
    [{"layers": "all"}, {"layers": [1]}, {"pooling": "max"}, {"precision": "bf16"}, {"max_seconds": 20.0}],
)
def test_settings_that_change_the_numbers_change_the_fingerprint(
    change: dict[str, Any], checkpoint: Checkpoints
) -> None:
    name = f"hf:{checkpoint('wav2vec2_group')}"
    assert resolve_spec(name, **change).fingerprint != resolve_spec(name).fingerprint


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_files_that_change_the_numbers_change_the_fingerprint(
    file: str, checkpoint: Checkpoints, tmp_path: Path
) -> None:
    copy = shutil.copytree(checkpoint("wav2vec2_group"), tmp_path / "copy")
    before = resolve_spec(f"hf:{copy}")
    if file.endswith("json"):
        (copy / file).write_text(json.dumps(json.loads((copy / file).read_text()) | {"new": 1}))
    else:
        weights = bytearray((copy / file).read_bytes())
        weights[-1] ^= 1
        (copy / file).write_bytes(weights)
    assert resolve_spec(f"hf:{copy}").fingerprint != before.fingerprint
    with pytest.raises(EncoderError, match="has changed"):
        load_encoder(before)


def test_a_tokenizer_changes_the_fingerprint(checkpoint: Checkpoints, tmp_path: Path) -> None:
    copy = shutil.copytree(checkpoint("roberta"), tmp_path / "copy")
    before = resolve_spec(f"hf:{copy}").fingerprint
    (copy / "tokenizer.json").write_text((copy / "tokenizer.json").read_text().replace('"z"', '"zz"'))
    assert resolve_spec(f"hf:{copy}").fingerprint != before


def test_digests_may_be_remembered(checkpoint: Checkpoints) -> None:
    name, asked = f"hf:{checkpoint('wav2vec2_group')}", []

    def remembered(path: Path) -> str:
        asked.append(path.name)
        return digest_file(path)

    assert resolve_spec(name, digest_file=remembered) == resolve_spec(name)
    assert asked == ["model.safetensors"]


def test_a_spec_survives_json_and_loads(checkpoint: Checkpoints) -> None:
    spec = resolve_spec(f"hf:{checkpoint('wav2vec2_group')}", layers=[0, 2], pooling="mean_std")
    again = EncoderSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    encoder = load_encoder(again)
    assert (encoder.spec, encoder.n_layers, encoder.width) == (spec, 2, 32)
    assert encoder.encode([voice(8_000)])[0].values.shape == (2, 32)
    with pytest.raises(EncoderError, match="has its settings already"):
        load_encoder(spec, pooling="max")


def test_every_architecture_in_the_tables_is_tried_by_the_tests(checkpoint: Checkpoints) -> None:
    """In batches, and in bfloat16: `test_bfloat16_is_close` goes through the same checkpoints."""
    tried = {json.loads((checkpoint(name) / "config.json").read_text())["model_type"] for name in AUDIO | TEXT}
    assert tried >= WAVEFORM_TYPES | FEATURE_TYPES | FIXED_TYPES | BATCHED_TYPES


def test_precision_is_resolved_once(checkpoint: Checkpoints) -> None:
    spec = resolve_spec(f"hf:{checkpoint('roberta')}", precision="auto")
    assert spec.precision == resolve_precision("auto", "cpu") in ("fp32", "bf16")
    assert resolve_precision("bf16") == "bf16"


def test_listing_by_pattern() -> None:
    assert list_encoders("torchaudio:WAVLM_*") == [f"torchaudio:WAVLM_{s}" for s in ("BASE", "BASE_PLUS", "LARGE")]
    assert "librosa:prosody" in list_encoders("prosody")
    assert set(list_encoders("roberta")) < set(list_encoders())
    assert list_encoders("no such thing") == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("librosa:prosodie", "did you mean 'librosa:prosody'"),
        ("librsa:prosody", "did you mean 'librosa:prosody'"),
        ("facebook/wav2vec2-base", "did you mean 'hf:facebook/wav2vec2-base'"),
        ("hf:./no/such/folder", "there is no folder ./no/such/folder"),
        ("zzz:zzz", "the families are hf, torchaudio"),
    ],
)
def test_a_wrong_name_is_answered(name: str, message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        resolve_spec(name)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": [-1]}, "layers: "),
        ({"layers": []}, "layers: "),
        ({"layers": [1, 1]}, "layers: "),
        ({"layers": "first"}, "layers: "),
        ({"layers": [4]}, "layers go from 0 to 3, not 4"),
        ({"pooling": "median"}, "pooling: 'median' is none of mean"),
        ({"precision": "fp16"}, "precision: 'fp16'"),
        ({"window": "narrow"}, "window: 'narrow' is none of full, tight"),
        ({"max_seconds": 0.1}, "max_seconds: 0.1"),
        ({"modality": "video"}, "modality: 'video'"),
        ({"modality": "text"}, "an encoder for audio, it was given for text"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str, checkpoint: Checkpoints) -> None:
    with pytest.raises(EncoderError, match=message):
        resolve_spec(f"hf:{checkpoint('wav2vec2_group')}", **settings)


def test_a_text_model_given_for_audio(checkpoint: Checkpoints) -> None:
    with pytest.raises(EncoderError, match="an encoder for text, it was given for audio"):
        resolve_spec(f"hf:{checkpoint('roberta')}", modality="audio")


@pytest.mark.parametrize("name", ["wav2vec2_group", "whisper", "roberta"])
def test_check_passes_our_own(name: str, checkpoint: Checkpoints) -> None:
    results = check_encoder(f"hf:{checkpoint(name)}", layers="all", pooling="none", max_seconds=20)
    assert [str(v) for v in results if not v.passed] == []
    assert len({v.check for v in results}) == len(results) == 8


@pytest.mark.parametrize(("name", "sizes"), [("whisper", "batches of 2 and 4"), ("conformer", "takes one at a time")])
def test_check_says_which_batches_it_tried(name: str, sizes: str, checkpoint: Checkpoints) -> None:
    """Also on a processor, where audio is taken one at a time unless a budget says otherwise."""
    (batch,) = (r for r in check_encoder(f"hf:{checkpoint(name)}") if r.check == "a batch equals each alone")
    assert batch.passed and batch.detail.startswith(sizes), batch


def test_check_tries_the_budget_that_is_given(checkpoint: Checkpoints) -> None:
    name = f"hf:{checkpoint('wav2vec2_group')}"
    found = {
        budget: next(r for r in check_encoder(name, batch_budget=budget) if r.check == "a batch equals each alone")
        for budget in (0, 60_000, 28_800)
    }
    assert not found[0].passed and "holds no two of the samples" in found[0].detail and "28800" in found[0].detail
    assert found[60_000].detail.startswith("batches of 2")
    assert found[28_800].passed and found[28_800].detail.startswith("batches of 1 and 2")


class Loudness:
    """A third party's family, with an encoder that forgets that batches are not utterances."""

    def models(self) -> list[str]:
        return ["peak"]

    def resolve(self, model: str, name: str, settings: Any, digest: Any) -> EncoderSpec:
        return make_spec(name, "audio", settings, 8_000, {"peak": 1})

    def load(self, model: str, spec: EncoderSpec, device: str) -> Any:
        return LoudnessEncoder(spec)


class LoudnessEncoder:
    """The peak of all waveforms of a call: wrong in every batch."""

    sampling_rate, n_layers, width = 8_000, 1, 1

    def __init__(self, spec: EncoderSpec) -> None:
        self.spec = spec

    def encode(self, items: list[np.ndarray], batch_budget: int | None = None) -> list[Embedding]:
        peak = max(np.abs(item).max() for item in items)
        return [Embedding(np.full((1, 1), peak, np.float32), 1) for _ in items]


def test_a_third_partys_family_is_found_and_its_faults_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "loudness", sys.modules[__name__])
    point = EntryPoint("loud", "loudness:Loudness", registry.ENTRY_POINTS)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == "lpgnet.encoders" else [])
    assert "loud:peak" in list_encoders()
    failed = {result.check for result in check_encoder("loud:peak") if not result.passed}
    assert failed == {"a batch equals each alone", "order does not matter", "bad input is refused"}
