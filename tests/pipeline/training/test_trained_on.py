"""What a model was trained on: counted by hand, kept by its checkpoint, and said in one sentence."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lpgnet.model import LPGNetConfig, load_model
from lpgnet.model.configuration import read_config
from lpgnet.pipeline.common.files import to_json
from lpgnet.pipeline.common.processes import make_accelerator
from lpgnet.pipeline.config import TrainingConfig
from lpgnet.pipeline.corpora.about import About
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.evaluation.run_results import evaluate_run
from lpgnet.pipeline.training.dialogues import Dialogue
from lpgnet.pipeline.training.labels import NO_LABEL
from lpgnet.pipeline.training.runs import LoadedCorpus
from lpgnet.pipeline.training.splits import Split
from lpgnet.pipeline.training.trained_on import (
    SYNTHETIC,
    UNKNOWN,
    HeldOutScore,
    TrainedOn,
    about_model,
    describe_training,
    read_trained_on,
    score_held_out,
)
from tests.hostile.broken import HALF_A_CHARACTER, WHATEVER, places, replaced
from tests.pipeline.tensors import make_config, make_corpus, make_split, train

ACTED = About("English", "acted", synthetic=False)
SCORE = HeldOutScore("test", 0.625, 0.5, 1200, new_speakers=True)
MELD = TrainedOn("meld", ACTED, 9.6, 1038, 9989, 260, SCORE)


def said(trained_on: TrainedOn | None) -> tuple[str, ...]:
    values: Any = to_json(trained_on) if trained_on else {}
    return about_model(LPGNetConfig(trained_on=values), Path("x"))


def test_the_sentence() -> None:
    (line,) = said(MELD)
    assert line == (
        "The model was trained on meld (English, acted speech): 9,989 utterances by 260 speakers in 1,038 dialogues, "
        "9.6 hours; weighted F1 0.62 and UA 0.50 on 1,200 test utterances by other speakers."
    )


def test_what_is_not_known_is_said_to_be() -> None:
    unknown = TrainedOn("mine", About(), None, 1, 1, 0)
    assert said(unknown) == (
        "The model was trained on mine (language unknown, acted or natural speech: unknown): "
        "1 utterance in 1 dialogue; not scored on others.",
    )
    assert said(None) == (UNKNOWN,)


def test_a_score_says_whose_it_is() -> None:
    (known,) = said(replace(MELD, score=replace(SCORE, new_speakers=False)))
    assert known.endswith("test utterances by speakers of whom it knows some.")
    (development,) = said(replace(MELD, score=HeldOutScore("development", 1.0, 1.0, 40, new_speakers=None)))
    assert development.endswith("on 40 development utterances (which the epoch was chosen on).")


def test_a_model_of_synthetic_voices_warns() -> None:
    sentence, warning = said(replace(MELD, hours=0.16, about=replace(ACTED, synthetic=True)))
    assert "(English, acted speech, synthetic voices)" in sentence and "10 minutes" in sentence
    assert warning == SYNTHETIC and warning.startswith("warning: trained on synthetic voices")


@pytest.mark.parametrize("name", ["a\nb\x1b[2J", "x" * 10_000, "</style><script>", "-->", "\ud800"])
def test_names_stay_on_a_line_of_bounded_length(name: str) -> None:
    (line,) = said(replace(MELD, corpus=name, about=replace(ACTED, language=name)))
    assert line.isprintable() and len(line) < 1000


BROKEN: list[tuple[str, Any]] = [
    ("corpus", 5),
    ("corpus", None),
    ("about", None),
    ("about", []),
    ("about", {"speech": "sung"}),
    ("about", {"synthetic": "yes"}),
    ("about", {"more": 1}),
    ("hours", -1),
    ("hours", math.inf),
    ("hours", math.nan),
    ("hours", "1"),
    ("utterances", -1),
    ("utterances", 10**400),
    ("utterances", 1.5),
    ("speakers", True),
    ("score", []),
    ("score", {}),
    ("score", {**vars(SCORE), "weighted_f1": math.nan}),
    ("score", {**vars(SCORE), "ua": 1.5}),
    ("score", {**vars(SCORE), "split": "train"}),
    ("score", {**vars(SCORE), "n": 0}),
    ("more", 1),
]


@pytest.mark.parametrize(("key", "value"), BROKEN)
def test_a_value_that_is_none_is_named_in_one_line(key: str, value: Any) -> None:
    values: Any = to_json(MELD)
    with pytest.raises(PipelineError, match=r"x/config\.json: key 'trained_on': ") as caught:
        about_model(LPGNetConfig(trained_on=values | {key: value}), Path("x"))
    assert key in str(caught.value) and "\n" not in str(caught.value)


def test_any_other_value_is_taken_or_refused_in_one_line() -> None:
    values: Any = to_json(MELD)
    for place, value in itertools.product(list(places(values))[1:], [*WHATEVER, HALF_A_CHARACTER]):
        (line, *_) = taken_or_refused(LPGNetConfig(trained_on=replaced(values, place, value)))
        assert "\n" not in line and (line.startswith("The model was trained on ") or str(place[-1]) in line)


def taken_or_refused(model: LPGNetConfig) -> tuple[str, ...]:
    try:
        return about_model(model, Path("x"))
    except PipelineError as error:
        return (str(error),)


def test_a_description_round_trips() -> None:
    values: Any = json.loads(json.dumps(to_json(MELD)))
    assert read_trained_on(LPGNetConfig(trained_on=values), Path()) == MELD


def relabelled(dialogue: Dialogue, **changes: Any) -> Dialogue:
    return replace(dialogue, utterances=tuple(replace(one, **changes) for one in dialogue.utterances))


def test_the_training_split_is_counted_by_hand() -> None:
    corpus = make_corpus("text", dialogues=4)
    first, second, third, fourth = corpus.dialogues
    first.labels[0] = NO_LABEL
    split = Split("x", (first, second), (third,), (fourth,))
    found = describe_training(corpus, split, TrainingConfig(), [])
    assert found == TrainedOn("unknown", About(), None, 2, 15, 2)
    lengths = {one.utterance_id: 3600.0 for one in first.utterances}
    known = LoadedCorpus(corpus.dialogues, corpus.specs, "", "mine", ACTED, lengths)
    timed = Split("x", (first, relabelled(second, start=10.0, end=12.25, speaker=None)), (third,), (fourth,))
    found = describe_training(known, timed, TrainingConfig(), [])
    assert (found.corpus, found.about, found.hours, found.speakers) == ("mine", ACTED, 7.005, 2)


def test_speakers_are_new_if_training_has_none_of_them() -> None:
    first, second = make_corpus("text", dialogues=2).dialogues
    scores = {"weighted_f1": 0.12345, "ua": 0.5, "wa": 0.5}
    assert score_held_out("test", scores, [first], [second]) == HeldOutScore("test", 0.1235, 0.5, 8, False)
    assert score_held_out("test", scores, [relabelled(first, speaker="C")], [second]).new_speakers is True
    assert score_held_out("test", scores, [relabelled(first, speaker=None)], [second]).new_speakers is None


def test_a_checkpoint_has_its_development_score_and_evaluate_puts_the_test_score_in_its_place(tmp_path: Path) -> None:
    corpus, config, folder = make_corpus("text", dialogues=24), make_config(epochs=2), tmp_path / "run"
    split = make_split(corpus)
    train(corpus, config, folder)
    before = (folder / "best" / "model.safetensors").read_bytes()
    trained = read_trained_on(read_config(folder / "best" / "config.json"), folder)
    log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert trained is not None and trained.score is not None
    assert (trained.score.split, trained.score.n) == ("development", 16)
    # Of two epochs the last quarter is the second.
    assert trained.score.weighted_f1 == pytest.approx(log[1]["dev"]["weighted_f1"], abs=1e-4)
    results, _ = evaluate_run(config, corpus, split, folder, make_accelerator("cpu"))
    tested = read_trained_on(load_model(folder / "best").config, folder)
    score = HeldOutScore("test", round(results.fused.weighted_f1, 4), round(results.fused.ua, 4), 64, False)
    assert tested == replace(trained, score=score)
    assert (folder / "best" / "model.safetensors").read_bytes() == before


def test_a_run_that_says_its_test_score_is_still_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus, config, folder = make_corpus("text", dialogues=24), make_config(epochs=2), tmp_path / "run"
    train(corpus, config, folder)
    written = set()
    for _ in range(2):
        evaluate_run(config, corpus, make_split(corpus), folder, make_accelerator("cpu"))
        written.add((folder / "best" / "config.json").stat().st_mtime_ns)
    assert len(written) == 1, "a score that is the same is not written again"
    capsys.readouterr()
    train(corpus, config, folder)
    assert "up to date" in capsys.readouterr().err


def test_a_run_that_is_not_done_keeps_what_training_wrote(tmp_path: Path) -> None:
    corpus, config, folder = make_corpus("text", dialogues=24), make_config(epochs=2), tmp_path / "run"
    train(corpus, config, folder)
    (folder / "done.json").unlink()
    before = (folder / "best" / "config.json").read_text()
    evaluate_run(config, corpus, make_split(corpus), folder, make_accelerator("cpu"))
    assert (folder / "best" / "config.json").read_text() == before and not (folder / "done.json").exists()


@pytest.mark.parametrize("name", ["trained_on", "distances"])
def test_a_run_of_a_version_without_the_field_resumes(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, folder = make_corpus("text", dialogues=24), tmp_path / "run"
    config = make_config(epochs=2, keep_checkpoints=True)
    train(corpus, config, folder)
    (folder / "done.json").unlink()
    path = folder / "best" / "config.json"
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != name}))
    capsys.readouterr()
    train(corpus, config, folder)
    assert "resuming after epoch 2" in capsys.readouterr().err
