"""Speech recognition by any model of transformers: a CTC model that was trained, and a tiny Whisper."""

import csv
import shutil
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pytest

from lpgnet.pipeline.corpora.audio import describe, segment_of
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.recordings.recognition import LONGEST_SECONDS, _pieces, recognize
from lpgnet.pipeline.recordings.speech_models import load_speech_model
from lpgnet.pipeline.recordings.transcripts import Turn

DEMO = Path(__file__).parents[3] / "examples" / "demo"
RECORDING = DEMO / "recording" / "recording.flac"
CTC = DEMO / "encoders" / "audio"


@pytest.fixture(scope="module")
def turns() -> list[Turn]:
    with (DEMO / "recording" / "recording.truth.csv").open(newline="") as file:
        return [Turn(float(row["start"]), float(row["end"]), row["text"]) for row in csv.DictReader(file)][:10]


def segments(turns: list[Turn]) -> list:
    info = describe(str(RECORDING))
    return [segment_of(str(RECORDING), info, start=turn.start, end=turn.end, channel=None) for turn in turns]


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper of a few thousand random weights that writes the demo's word pieces."""
    import torch
    from transformers import AutoTokenizer, WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    folder = tmp_path_factory.mktemp("whisper")
    tokenizer = AutoTokenizer.from_pretrained(DEMO / "encoders" / "text")
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=80,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_target_positions=24,
        decoder_start_token_id=tokenizer.bos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    model = WhisperForConditionalGeneration(config)
    model.generation_config.max_length = 12
    model.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_trained_ctc_model_hears_most_of_it(turns: list[Turn]) -> None:
    said = recognize(load_speech_model(f"hf:{CTC}", device="cpu"), turns, segments(turns))
    likeness = [
        SequenceMatcher(None, (a.text or "").lower(), b.text or "").ratio() for a, b in zip(said, turns, strict=True)
    ]
    assert np.mean(likeness) > 0.6
    assert [(turn.start, turn.end) for turn in said] == [(turn.start, turn.end) for turn in turns]


def test_a_batch_of_whisper_is_each_turn_alone(whisper: Path, turns: list[Turn]) -> None:
    model = load_speech_model(f"hf:{whisper}", device="cpu")
    assert not model.writes_frames
    together = recognize(model, turns, segments(turns))
    alone = [recognize(model, [turn], segments([turn]))[0] for turn in turns[:3]]
    assert together[:3] == alone


def test_a_long_turn_is_heard_in_pieces(turns: list[Turn]) -> None:
    (segment,) = segments([Turn(1.0, 50.0, None)])
    pieces = list(_pieces(segment))
    assert [piece.start for piece in pieces[1:]] == [piece.end for piece in pieces[:-1]]
    assert (pieces[0].start, pieces[-1].end) == (segment.start, segment.end)
    assert max(piece.seconds for piece in pieces) <= LONGEST_SECONDS


def test_an_encoder_without_a_head_is_refused() -> None:
    with pytest.raises(PipelineError, match="writes no text"):
        load_speech_model(f"hf:{DEMO / 'encoders' / 'text'}", device="cpu")


def test_a_head_that_is_not_in_the_file_is_not_made_up(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(CTC, tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    weights = load_file(path)
    save_file({k: v for k, v in weights.items() if not k.startswith("lm_head")}, path, metadata={"format": "pt"})
    with pytest.raises(PipelineError, match="lacks 2 weights"):
        load_speech_model(f"hf:{tmp_path / 'model'}", device="cpu")


def test_a_name_without_a_family() -> None:
    with pytest.raises(PipelineError, match="hf:openai/whisper-small"):
        load_speech_model("whisper-small", device="cpu")
