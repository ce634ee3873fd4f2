"""A model that learned valence and arousal, from the ratings of a corpus to every output of `predict`."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lpgnet.pipeline import cli
from lpgnet.pipeline.config import PredictionConfig, ServeConfig
from lpgnet.pipeline.corpora.manifest import Manifest, Utterance, read_manifest, write_manifest
from lpgnet.pipeline.labelling.emotion_pipeline import EmotionPipeline
from lpgnet.pipeline.labelling.page_labeller import Labeller
from lpgnet.pipeline.labelling.page_process import Job
from lpgnet.pipeline.recordings.transcripts import read_transcript
from lpgnet.pipeline.reports.timeline import check_formats, output_paths
from tests.e2e.workplace import DEMO, Run, Workplace, write_config

RANGES = {"valence": (1.0, 5.0), "arousal": (-1.0, 1.0)}
RECORDING = DEMO / "recording" / "recording.flac"
VALENCE = {"ang": 1.5, "hap": 4.5, "neu": 3.0, "sad": 2.0}


def rated(utterance: Utterance, rng: np.random.Generator) -> Utterance:
    valence = VALENCE.get(utterance.label or "", 3.0) + rng.uniform(-0.4, 0.4)
    return replace(utterance, valence=round(valence, 2), arousal=round(rng.uniform(-1, 1), 2), dominance=None)


@pytest.fixture(scope="module")
def model(extracted: Workplace, tiny_encoders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few epochs on the reduced demo corpus with made-up ratings."""
    folder = tmp_path_factory.mktemp("rated")
    shutil.copytree(extracted.folder, folder, dirs_exist_ok=True)
    place = Workplace(folder, folder / "corpus", folder / "x.yaml")
    write_config(place.config, place.corpus, tiny_encoders, folder / "work")
    assert cli.main(place.arguments("prepare")) == 0
    manifest = read_manifest(folder / "work" / "small")
    rng = np.random.default_rng(0)
    utterances = tuple(rated(utterance, rng) for utterance in manifest.utterances)
    write_manifest(folder / "work" / "small", Manifest(replace(manifest.corpus, ranges=RANGES), utterances))
    dimensions = f"--model.dimensions=[{', '.join(RANGES)}]"
    assert cli.main(place.arguments("train", "--run", "rated", dimensions)) == 0
    return folder / "work" / "small" / "runs" / "rated"


Predict = Callable[..., tuple[int, str, str]]


@pytest.fixture
def predict(run: Run, model: Path, tmp_path: Path) -> Predict:
    def run_stage(*arguments: str) -> tuple[int, str, str]:
        return run(["predict", str(RECORDING), "--model", str(model), "--out", str(tmp_path / "out"), *arguments])

    return run_stage


def objects_of(path: Path) -> list[dict[str, dict[str, float]]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_output_of_the_command(predict: Predict, tmp_path: Path) -> None:
    code, out, err = predict("--formats", "all")
    assert code == 0, err
    assert "dimensions: valence (1 to 5), arousal (-1 to 1), in the units of the corpus" in err
    paths = output_paths(tmp_path / "out", "recording", check_formats("all"))
    objects = objects_of(paths["jsonl"])
    with paths["csv"].open(newline="", encoding="utf-8") as file:
        columns = list(csv.DictReader(file))
    for values, cells in zip(objects, columns, strict=True):
        assert values["ranges"] == {name: list(ends) for name, ends in RANGES.items()}
        assert list(values["dimensions"]) == list(RANGES)
        for name, (low, high) in RANGES.items():
            assert low <= values["dimensions"][name] <= high
            assert float(cells[name]) == pytest.approx(values["dimensions"][name], abs=1e-6)
    assert len({values["dimensions"]["valence"] for values in objects}) > 1
    assert "Ann valence" in paths["textgrid"].read_text() and "Ann arousal" in paths["eaf"].read_text()
    assert 'class="lines"' in paths["html"].read_text()
    assert "valence (1 to 5)" in out and f"{objects[0]['dimensions']['arousal']:.2f}" in out
    turns = [read_transcript(paths[form]).turns for form in ("textgrid", "eaf")]
    assert all(len(own) == len(objects) for own in turns)
    assert "up to date: 1 of 1" in predict("--formats", "all")[2]


def test_in_python(predict: Predict, model: Path, tmp_path: Path) -> None:
    """The same numbers as the command's; one modality alone gives some too."""
    assert predict("--formats", "jsonl")[0] == 0
    pipeline = EmotionPipeline.from_pretrained(model, device="cpu")
    expected = [values["dimensions"] for values in objects_of(tmp_path / "out" / "recording.jsonl")]
    assert [row.dimensions for row in pipeline(RECORDING)] == [pytest.approx(values) for values in expected]
    (of_voice,) = {
        tuple(row.dimensions) for row in EmotionPipeline.from_pretrained(model, modalities="audio")(RECORDING)
    }
    assert of_voice == tuple(RANGES)


def test_in_windows(predict: Predict, tmp_path: Path) -> None:
    """A conversation longer than a window has them too, within their ranges."""
    assert predict("--formats", "jsonl", "--window", "6", "--window_overlap", "2")[0] == 0
    objects = objects_of(tmp_path / "out" / "recording.jsonl")
    assert len(objects) > 6
    assert all(low <= values["dimensions"][name] <= high for values in objects for name, (low, high) in RANGES.items())


def test_on_the_served_page(model: Path, tmp_path: Path) -> None:
    config = ServeConfig(model=str(model), prediction=PredictionConfig(device="cpu"))
    job = Job(RECORDING, None, tmp_path)
    report, *files = Labeller.from_config(config).label(job, lambda share, step: None)
    assert 'class="lines"' in report.read_text()
    assert any(",valence,arousal\n" in path.read_text() for path in files if path.suffix == ".csv")
