"""A model whose inputs are standardized by dialogue: predict gives what evaluate gave, and reports tell of it."""

import json

import pytest

from lpgnet.pipeline.labelling.emotion_pipeline import EmotionPipeline
from lpgnet.pipeline.recordings.sources import DialogueSource, find_sources
from tests.e2e.workplace import RECORDING, Run, Workplace


def test_predict_gives_what_evaluate_gave(workplace: Workplace, run: Run) -> None:
    settings = ("--model.standardise", "dialogue", "--run", "by-dialogue")
    assert run(workplace.arguments("train", *settings))[0] == 0
    code, _, err = run(workplace.arguments("evaluate", *settings))
    assert code == 0, err
    folder = workplace.folder / "work" / "small" / "runs" / "by-dialogue"
    assert json.loads((folder / "best" / "config.json").read_text())["standardise"] == "dialogue"
    card = " ".join((folder / "best" / "README.md").read_text().split())
    assert "The model is transductive: embeddings are standardized by the statistics of all turns of a dialogue" in card
    tested = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    expected = {row["utterance_id"]: row["probabilities"]["fused"] for row in tested}
    pipeline = EmotionPipeline.from_pretrained(folder, device="cpu")
    found = {}
    for source in find_sources([str(workplace.folder / "work" / "small" / "manifest.jsonl")], None):
        assert isinstance(source, DialogueSource)
        if any(utterance.utterance_id in expected for utterance in source.utterances):
            timeline = pipeline.label(source)
            found |= {row.utterance: row.probabilities for row in timeline.rows}
            assert "inputs: standardized by the statistics of all turns of this recording" in timeline.choices
    assert found.keys() == expected.keys()
    for name, probabilities in expected.items():
        assert found[name] == pytest.approx(probabilities, abs=1e-4), name
    assert pipeline(RECORDING)


def test_a_table_names_its_transductive_rows(workplace: Workplace, run: Run) -> None:
    overlay = workplace.folder / "by-session.yaml"
    overlay.write_text("model: {standardise: session}\n")
    rows = ("--crossval.overlays", f"['{overlay}']", "--crossval.seeds", "1", "--crossval.folds", "one")
    code, out, err = run(workplace.arguments("crossval", *rows, "--crossval.workers", "1"))
    assert code == 0, err
    told = "transductive: embeddings are standardized by the statistics of all turns of a session, tested ones too,"
    table = workplace.folder / "work" / "small" / "crossval"
    for text in (out, (table / "table.md").read_text(), (table / "report.html").read_text()):
        assert f"{told} without labels (by-session)" in " ".join(text.split())
