"""Scores by condition and speaker, what is known of the test utterances, and what is left without a modality."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lpgnet.model import load_model
from lpgnet.pipeline.common.processes import make_accelerator
from lpgnet.pipeline.config import EvaluationConfig
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.errors import PipelineError, UsageError
from lpgnet.pipeline.evaluation.analysis import score, score_conditions, score_speakers, speaker_gap, text_gap
from lpgnet.pipeline.evaluation.inference import Prediction, predict_dialogues
from lpgnet.pipeline.evaluation.missing import MissingPoint, add_missing, kept_modalities, missing_curves
from lpgnet.pipeline.evaluation.predictions import describe_test, read_predictions, words_seen, write_predictions
from lpgnet.pipeline.evaluation.run_results import evaluate_run
from lpgnet.pipeline.training.dialogues import hide_modality, make_dialogue
from lpgnet.pipeline.training.splits import Split
from tests.pipeline.predicted import CLASSES, outcome
from tests.pipeline.tensors import make_config, make_corpus, make_split, train, train_and_test

SETTINGS = EvaluationConfig(bootstrap=50)


def test_mean_and_deviation_over_runs() -> None:
    right, half = [outcome("d.0", 0, 0), outcome("d.1", 1, 1)], [outcome("d.0", 0, 0), outcome("d.1", 1, 0)]
    values = score([right, half], CLASSES, SETTINGS)
    assert values.wa == 0.75
    assert values.n == 2
    assert values.deviations["wa"] == pytest.approx(np.std([1, 0.5], ddof=1))
    assert values.f1["yes"] == 0.5
    assert values.confusion == [[2, 0], [1, 1]]
    assert score([right], CLASSES, SETTINGS).deviations == {}


def test_conditions_apart() -> None:
    run = [
        outcome("s.0", 0, 0, condition="scripted", text_seen=True),
        outcome("s.1", 1, 1, condition="scripted", text_seen=False),
        outcome("i.0", 1, 0, condition="improvised", text_seen=False),
        outcome("i.1", -100, 1, condition="improvised", text_seen=True),
        outcome("n.0", 0, 0, text_seen=None),
    ]
    found = score_conditions([run], CLASSES, SETTINGS)
    assert {name: (values.n, values.wa, values.words_seen) for name, values in found.items()} == {
        "scripted": (2, 1.0, 0.5),
        "improvised": (1, 0.0, 0.0),
    }
    assert words_seen(run) == pytest.approx(1 / 3)
    assert words_seen(run[-1:]) is None
    assert score_conditions([run[-1:]], CLASSES, SETTINGS) == {}


def test_speakers_and_the_gap_between_the_known_and_the_new() -> None:
    run = [
        outcome("d.0", 0, 0, speaker="A", speaker_seen=True),
        outcome("d.1", 1, 1, speaker="A", speaker_seen=True),
        outcome("d.2", 0, 1, speaker="B"),
        outcome("d.3", 1, 1, speaker="B"),
        outcome("d.4", -100, 1, speaker="C", speaker_seen=True),
    ]
    speakers = score_speakers([run], CLASSES, SETTINGS)
    assert {name: (values.ua, values.seen) for name, values in speakers.items()} == {
        "A": (1.0, True),
        "B": (0.5, False),
    }
    gap = speaker_gap([run], CLASSES, SETTINGS)
    assert gap is not None
    assert gap.seen.ua == 1
    assert gap.unseen.ua == 0.5
    assert gap.differences["ua"].value == 0.5
    assert speaker_gap([run[:2]], CLASSES, SETTINGS) is None


def test_verbatim_turns_and_the_others() -> None:
    """An utterance without text stands nowhere in training."""
    run = [
        outcome("d.0", 0, 0, text_seen=True),
        outcome("d.1", 1, 1, text_seen=True),
        outcome("e.0", 0, 1, text_seen=False),
        outcome("e.1", 1, 1, text_seen=None),
        outcome("e.2", -100, 1, text_seen=False),
    ]
    gap = text_gap([run], CLASSES, SETTINGS)
    assert gap is not None
    assert (gap.seen.n, gap.unseen.n) == (2, 2)
    assert (gap.seen.ua, gap.unseen.ua) == (1, 0.5)
    assert gap.seen.intervals.keys() == gap.unseen.intervals.keys() == gap.differences.keys()
    assert gap.differences["weighted_f1"].value == pytest.approx(1 - gap.unseen.weighted_f1)
    assert text_gap([run[:2]], CLASSES, SETTINGS) is None, "nothing to compare with"
    assert text_gap([run[2:]], CLASSES, SETTINGS) is None


def test_what_training_has_seen(tmp_path: Path) -> None:
    def dialogue(name: str, *turns: tuple[str, str | None]) -> Any:
        rows = [Utterance(name, f"{name}.{n}", speaker=s, text=t) for n, (s, t) in enumerate(turns)]
        return make_dialogue(name, rows, [0] * len(rows), {})

    train_part = dialogue("a", ("A", "I am  fine"), ("B", None))
    test_part = dialogue("t", ("A", "i am fine "), ("C", "fine"), ("C", None))
    split = Split("x", (train_part,), (dialogue("b", ("B", "no")),), (test_part,))
    predictions = [Prediction(f"t.{n}", "t", 0, {"fused": [1.0, 0.0]}, {}) for n in range(3)]
    found = describe_test(split, predictions)
    assert [(one.speaker_seen, one.text_seen) for one in found] == [(True, True), (False, False), (False, None)]
    write_predictions(tmp_path / "p.jsonl", found, CLASSES)
    assert read_predictions(tmp_path / "p.jsonl") == (found, CLASSES)


def test_votes_and_ratings_are_kept(tmp_path: Path) -> None:
    run = [
        outcome(
            "d.0", 0, 0, shares=(0.25, 0.75), ratings={"valence": 2.0}, dimensions={"valence": 2.5, "arousal": 3.0}
        ),
        outcome("d.1", 1, 0),
    ]
    write_predictions(tmp_path / "p.jsonl", run, CLASSES)
    assert read_predictions(tmp_path / "p.jsonl") == (run, CLASSES)


def test_predictions_of_earlier_versions_have_neither_votes_nor_ratings(tmp_path: Path) -> None:
    path, run = tmp_path / "p.jsonl", [outcome("d.0", 0, 0, shares=(1.0, 0.0), ratings={"valence": 2.0})]
    write_predictions(path, run, CLASSES)
    row = json.loads(path.read_text())
    path.write_text(json.dumps({name: row[name] for name in row if name not in ("shares", "dimensions", "ratings")}))
    assert read_predictions(path) == ([outcome("d.0", 0, 0)], CLASSES)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("shares", {"no": 0.5}, "lacks 'yes'"),
        ("shares", {"no": 0.5, "yes": 0.2}, "shares add up to 0.7, not to 1"),
        ("shares", {"no": 1.5, "yes": -0.5}, "probability no is 1.5"),
        ("shares", [1, 0], r"shares is \[1, 0\]"),
        ("ratings", {"calm": 1}, "ratings has 'calm', which is no dimension"),
        ("ratings", {"valence": True}, "valence in ratings is True"),
        ("dimensions", {"valence": math.nan}, "valence in dimensions is nan"),
        ("dimensions", None, "dimensions is None"),
    ],
)
def test_broken_votes_and_ratings_are_named(tmp_path: Path, field: str, value: object, message: str) -> None:
    path = tmp_path / "p.jsonl"
    write_predictions(path, [outcome("d.0", 0, 0)], CLASSES)
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(PipelineError, match=rf"p\.jsonl, line 1: is not a prediction: .*{message}; evaluate the run"):
        read_predictions(path)


def test_more_shares_hide_more_of_the_same() -> None:
    dialogues = make_corpus("text", dialogues=8).dialogues
    hidden = [
        torch.cat([~d.present["text"] for d in hide_modality(dialogues, "text", share)]) for share in (0, 0.3, 0.7, 1)
    ]
    assert not hidden[0].any()
    assert hidden[3].all()
    assert 0.1 < hidden[1].float().mean() < 0.5 < hidden[2].float().mean() < 0.9
    assert not (hidden[1] & ~hidden[2]).any()
    assert all(d.present["audio"].all() for d in hide_modality(dialogues, "text", 1.0))
    assert all(d.present["text"].all() for d in dialogues), "the dialogues themselves are left alone"


def test_a_model_of_both_modalities_does_with_one(tmp_path: Path) -> None:
    corpus, config = make_corpus("text"), make_config(epochs=8, modality_dropout=0.3)
    whole = train_and_test(corpus, config, tmp_path)
    curves = missing_curves(whole.missing, whole.fused.confusion)
    without_text, without_audio = dict(curves["text"]), dict(curves["audio"])
    assert without_text[0.0] == without_audio[0.0] == whole.fused.wa > 0.95
    assert without_text[1.0] < 0.65 < without_text[0.5] < 0.95, "the words alone tell the class of this corpus"
    assert without_audio[1.0] > 0.95
    config.evaluation.modalities = ["audio"]
    alone, folder = evaluate_run(config, corpus, make_split(corpus), tmp_path, make_accelerator("cpu"))
    assert alone.modalities == ["audio"]
    assert alone.missing == {}
    assert alone.fused.wa == without_text[1.0]
    assert folder != tmp_path
    assert (folder / "predictions.jsonl").exists()
    weights = [one.prediction.weights for one in read_predictions(folder / "predictions.jsonl")[0]]
    assert all(weight == {"text": 0.0, "audio": 1.0} for weight in weights)


def test_a_model_of_one_modality_needs_it(tmp_path: Path) -> None:
    train(make_corpus("text", dialogues=24), make_config("text", epochs=1), tmp_path)
    model = load_model(tmp_path / "best")
    assert kept_modalities(model, EvaluationConfig()) == ["text"]
    with pytest.raises(UsageError, match="it was trained on text, so name one of them"):
        kept_modalities(model, EvaluationConfig(modalities=["audio"]))


def test_curves_of_several_runs_add_up() -> None:
    runs = [{"text": [MissingPoint(0.5, [[n, 0], [1, n]])]} for n in (1, 2)]
    assert add_missing(runs) == {"text": [MissingPoint(0.5, [[3, 0], [2, 3]])]}


def test_predictions_do_not_depend_on_the_batches(tmp_path: Path) -> None:
    corpus = make_corpus("text", dialogues=24)
    train(corpus, make_config(epochs=1), tmp_path)
    model = load_model(tmp_path / "best")
    dialogues = [*corpus.dialogues[:3], _shorter(corpus.dialogues[3], 2), corpus.dialogues[4]]
    together, alone = (predict_dialogues(model, dialogues, batch_size=size) for size in (16, 1))
    assert [p.utterance_id for p in together] == [u.utterance_id for d in dialogues for u in d.utterances]
    for one, other in zip(together, alone, strict=True):
        assert one.utterance_id == other.utterance_id
        assert one.probabilities["fused"] == pytest.approx(other.probabilities["fused"], abs=1e-5)


def _shorter(dialogue: Any, length: int) -> Any:
    return replace(
        dialogue,
        utterances=dialogue.utterances[:length],
        inputs={name: values[:length] for name, values in dialogue.inputs.items()},
        present={name: values[:length] for name, values in dialogue.present.items()},
        labels=dialogue.labels[:length],
        speakers=dialogue.speakers[:length],
    )
