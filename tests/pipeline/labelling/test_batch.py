"""Labelling many recordings: what is looked at to see whether one has changed."""

import os
from pathlib import Path

import pytest

from lpgnet.pipeline.config import PredictionConfig
from lpgnet.pipeline.labelling.batch import _digests, _stamp_inputs
from lpgnet.pipeline.recordings import diarizers
from lpgnet.pipeline.recordings.sources import RecordingSource


def test_a_recording_that_is_too_large_is_not_read_for_its_digest(tmp_path: Path) -> None:
    large, small = tmp_path / "large.wav", tmp_path / "small.wav"
    for path, size in ((large, 20 * 10**9), (small, 1000)):
        path.touch()
        os.truncate(path, size)
    digests = _digests([large, small], PredictionConfig(out=str(tmp_path / "out")))
    assert digests[str(large)] is None
    assert digests[str(small)] is not None


def test_a_diarizer_installed_since_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).touch()
    source = RecordingSource("call", tmp_path / "call.wav", None)
    config = PredictionConfig(model=str(tmp_path))
    digests = {
        str(path): None for path in (tmp_path / "call.wav", tmp_path / "config.json", tmp_path / "model.safetensors")
    }
    with_senko = _stamp_inputs(source, config, digests)
    monkeypatch.setattr(diarizers, "find_spec", lambda name: None)
    assert _stamp_inputs(source, config, digests) != with_senko
