"""Standardization by session, speaker or dialogue: what it takes away, what it leaves, and that all readers have it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lpgnet.model import EmotionModel, LPGNetConfig, ModelError, build_model, load_model
from lpgnet.model.configuration import GROUPS
from lpgnet.pipeline.config import Config, parse_config
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.embeddings.plan import Embeddings
from lpgnet.pipeline.errors import UsageError
from lpgnet.pipeline.evaluation.inference import FUSED, predict_dialogues, predict_in_windows
from lpgnet.pipeline.evaluation.predictions import PREDICTIONS_FILE, read_predictions
from lpgnet.pipeline.training.dialogues import Dialogue, collate, hide_modality, make_dialogue, standardization
from lpgnet.pipeline.training.distances import measure_distances
from lpgnet.pipeline.training.freshness import run_inputs
from lpgnet.pipeline.training.runs import LoadedCorpus, best_folder, make_model
from lpgnet.pipeline.training.splits import Split
from lpgnet.pipeline.training.standardization import PRIOR_TURNS, standardize_groups
from tests.pipeline.tensors import make_config, make_corpus, train_and_test

BY = ("session", "speaker", "dialogue")
SIZES = {"text": [1, 3], "audio": [2, 4]}


def network(by: str) -> EmotionModel:
    """A model whose training utterances had a mean of 2 and a deviation of 3 in every dimension."""
    torch.manual_seed(0)
    model = build_model("lpgnet", input_sizes=SIZES, num_labels=2, hidden_size=8, standardise=by)
    for name, (layers, width) in SIZES.items():
        model.standardize_(name, torch.full((layers, width), 2.0), torch.full((layers, width), 3.0))
    return model.eval()


def talk(name: str, speakers: str, *, session: str | None = "s", seed: int = 0, shift: float = 0.0) -> Dialogue:
    """A dialogue of a turn for each letter, with embeddings around 2 + shift; `-` is a speaker who is not told."""
    rng = np.random.default_rng([seed, *name.encode()])
    turns = [
        Utterance(name, f"{name}.{n}", speaker=None if letter == "-" else letter, session=session)
        for n, letter in enumerate(speakers)
    ]
    rows = {turn.utterance_id: n for n, turn in enumerate(turns)}
    sources = {
        modality: Embeddings((2 + shift + 3 * rng.standard_normal((len(turns), *size))).astype(np.float32), rows)
        for modality, size in SIZES.items()
    }
    return make_dialogue(name, turns, [0] * len(turns), sources)


def all_values(dialogues: tuple[Dialogue, ...], modality: str = "audio") -> Tensor:
    return torch.cat([dialogue.values(modality) for dialogue in dialogues])


@pytest.mark.parametrize("by", BY)
def test_a_large_group_gets_the_mean_and_deviation_of_training(by: str) -> None:
    dialogue = talk("d", "A" * 4000, shift=50.0)
    values = all_values(standardize_groups([dialogue], network(by), among=[dialogue]))
    assert torch.allclose(values.mean(0), torch.tensor(2.0), atol=0.2)
    assert torch.allclose(values.std(0), torch.tensor(3.0), atol=0.1)


def test_corpus_leaves_dialogues_as_they_are() -> None:
    dialogue = talk("d", "AB")
    assert standardize_groups([dialogue], network("corpus"), among=[dialogue]) == (dialogue,)
    assert dialogue.values("text") is dialogue.inputs["text"]


def test_a_group_worked_by_hand() -> None:
    dialogue = talk("d", "AAAA")
    (read,) = standardize_groups([dialogue], network("dialogue"), among=[dialogue])
    values, prior = dialogue.inputs["audio"].double(), PRIOR_TURNS
    center = (values.sum(0) + prior * 2.0) / (4 + prior)
    variance = (4 * values.var(0, correction=0) + prior * 9.0) / (4 + prior)
    expected = 2.0 + 3.0 * (values - center) / variance.sqrt()
    assert torch.allclose(read.values("audio").double(), expected, atol=1e-5)


def test_groups_are_those_of_the_whole_corpus() -> None:
    corpus = [talk("d", "AB", session="1"), talk("e", "AC", session="1"), talk("f", "AD", session="2")]
    grouped = {by: standardize_groups(corpus, network(by), among=corpus) for by in BY}

    def groups(by: str) -> list[list[int]]:
        return [dialogue.standards["text"].groups.tolist() for dialogue in grouped[by]]

    assert groups("session") == [[1, 1], [1, 1], [2, 2]]
    assert groups("speaker") == [[1, 0], [1, 0], [1, 0]], "speakers of one turn are in no group"
    assert groups("dialogue") == [[1, 1], [2, 2], [3, 3]]
    alone = standardize_groups(corpus[:1], network("session"), among=corpus)[0]
    assert torch.equal(alone.values("text"), grouped["session"][0].values("text"))
    fewer = standardize_groups(corpus[:1], network("session"), among=corpus[:1])[0]
    assert not torch.allclose(alone.values("text"), fewer.values("text"))


def test_where_nobody_tells_the_dialogue_is_the_group() -> None:
    corpus = [talk("d", "--A-", session=None), talk("e", "--AA", session=None)]
    by_dialogue, by_session, by_speaker = (
        standardize_groups(corpus, network(by), among=corpus) for by in ("dialogue", "session", "speaker")
    )
    assert torch.equal(all_values(by_session), all_values(by_dialogue))
    assert [dialogue.standards["text"].groups.tolist() for dialogue in by_speaker] == [[1, 1, 2, 1], [3, 3, 2, 2]]


@pytest.mark.parametrize("by", BY)
def test_a_turn_alone_stays_as_it_is(by: str) -> None:
    dialogue = talk("d", "A", session=None, shift=7.0)
    (read,) = standardize_groups([dialogue], network(by), among=[dialogue])
    for name in SIZES:
        assert torch.allclose(read.values(name), dialogue.inputs[name], atol=1e-5)
        assert read.values(name).abs().min() > 0


def test_a_turn_that_is_the_only_one_with_a_modality_stays_as_it_is() -> None:
    dialogue = talk("d", "AAAAA", shift=7.0)
    dialogue.present["audio"][1:] = False
    dialogue.inputs["audio"][1:] = 0
    (read,) = standardize_groups([dialogue], network("dialogue"), among=[dialogue])
    assert torch.allclose(read.values("audio")[0], dialogue.inputs["audio"][0], atol=1e-5)
    assert not torch.allclose(read.values("text")[0], dialogue.inputs["text"][0], atol=0.1)


@pytest.mark.parametrize("by", BY)
def test_what_is_hidden_from_the_model_is_no_part_of_the_statistics(by: str) -> None:
    """Another sound of the turns whose sound is hidden changes nothing, whatever the corpus still has of them."""
    corpus = [talk("d", "ABAB"), talk("e", "BBA")]
    (hidden, _), (plain, _) = hide_modality(corpus, "audio", 0.6), hide_modality(corpus, "audio", 0.0)
    lost = ~hidden.present["audio"]
    assert 0 < lost.sum() < len(lost)
    other = [replace(one, inputs={name: x.clone() for name, x in one.inputs.items()}) for one in corpus]
    other[0].inputs["audio"][lost] += 40
    (one,), (moved,) = (
        standardize_groups([replace(hidden, inputs=whole[0].inputs)], network(by), among=whole)
        for whole in (corpus, other)
    )
    assert torch.equal(one.values("audio"), moved.values("audio"))
    (known,) = standardize_groups([plain], network(by), among=corpus)
    assert not torch.equal(known.values("audio")[~lost], one.values("audio")[~lost])
    assert torch.equal(known.values("text"), one.values("text"))


def test_no_dialogues_need_no_statistics() -> None:
    assert standardize_groups([], network("session"), among=[talk("d", "AB")]) == ()


def test_a_dimension_that_never_varies_stays_finite_and_the_same_for_all_turns() -> None:
    dialogue = talk("d", "A" * 50)
    dialogue.inputs["audio"][:, 0, 0] = 1e6
    (read,) = standardize_groups([dialogue], network("dialogue"), among=[dialogue])
    constant = read.values("audio")[:, 0, 0]
    assert constant.isfinite().all()
    assert (constant - constant[0]).abs().max() == 0


@given(st.integers(2, 30), st.floats(-50, 50), st.floats(0.2, 5))
def test_the_more_turns_the_less_is_left_of_a_shift(turns: int, shift: float, factor: float) -> None:
    dialogue = talk("d", "A" * turns)
    moved = replace(dialogue, inputs={name: factor * x + shift for name, x in dialogue.inputs.items()})
    left = []
    for one in (dialogue, moved):
        (read,) = standardize_groups([one], network("dialogue"), among=[one])
        left.append(read.values("audio"))
        assert read.values("audio").isfinite().all()
    mean = moved.inputs["audio"].mean(0) - 2.0
    remaining = (left[1].mean(0) - 2.0).abs()
    most = PRIOR_TURNS / (turns + PRIOR_TURNS) * mean.abs() * (1 + turns / PRIOR_TURNS) ** 0.5
    assert (remaining <= most + 1e-3).all()


def test_what_an_utterance_lacks_stays_zero_and_out_of_the_statistics() -> None:
    whole, lacking = talk("d", "AAAAAA"), talk("d", "AAAAAA")
    lacking.present["audio"][2] = False
    lacking.inputs["audio"][2] = 0
    (read,) = standardize_groups([lacking], network("dialogue"), among=[lacking])
    assert (read.values("audio")[2] == 0).all() and (read.values("text")[2] != 0).all()
    kept = [0, 1, 3, 4, 5]
    shorter = replace(
        whole,
        utterances=tuple(whole.utterances[n] for n in kept),
        inputs={name: x[kept] for name, x in whole.inputs.items()},
        present={name: x[kept] for name, x in whole.present.items()},
    )
    (expected,) = standardize_groups([shorter], network("dialogue"), among=[shorter])
    assert torch.allclose(read.values("audio")[kept], expected.values("audio"), atol=1e-5)
    nothing = replace(whole, present={**whole.present, "audio": torch.zeros(6, dtype=torch.bool)})
    (read,) = standardize_groups([nothing], network("dialogue"), among=[nothing])
    assert (read.values("audio") == 0).all()


@pytest.mark.parametrize("by", BY)
def test_the_order_of_turns_and_dialogues_changes_nothing(by: str) -> None:
    corpus = [talk("d", "ABAB"), talk("e", "BBA", session="t")]
    turned = [
        replace(
            dialogue,
            utterances=dialogue.utterances[::-1],
            inputs={name: x.flip(0) for name, x in dialogue.inputs.items()},
        )
        for dialogue in reversed(corpus)
    ]
    model = network(by)
    one = standardize_groups(corpus, model, among=corpus)
    other = standardize_groups(turned, model, among=turned)[::-1]
    for straight, back in zip(one, other, strict=True):
        assert torch.allclose(straight.values("text"), back.values("text").flip(0), atol=1e-5)


@pytest.mark.parametrize("by", BY)
def test_batches_of_dialogues_give_what_each_gives_alone(by: str) -> None:
    corpus = [talk("d", "ABAB", shift=1.0), talk("e", "BBA", session="t", shift=-4.0), talk("f", "A", session="u")]
    model = network(by)
    read = standardize_groups(corpus, model, among=corpus)
    batch = collate(read)
    for row, dialogue in enumerate(read):
        for name in SIZES:
            assert torch.equal(batch.inputs[name][row, : len(dialogue)], dialogue.values(name))
            assert (batch.inputs[name][row, len(dialogue) :] == 0).all()
    together = predict_dialogues(model, read)
    alone = [one for dialogue in read for one in predict_dialogues(model, [dialogue])]
    for first, second in zip(together, alone, strict=True):
        assert first.probabilities[FUSED] == pytest.approx(second.probabilities[FUSED], abs=1e-6)


def test_windows_of_a_long_recording_have_the_statistics_of_all_of_it() -> None:
    long = talk("d", "AB" * 30)
    drifting = replace(
        long, inputs={name: x + torch.linspace(-9, 9, 60)[:, None, None] for name, x in long.inputs.items()}
    )
    model = network("dialogue")
    (read,) = standardize_groups([drifting], model, among=[drifting])
    found = predict_in_windows(model, read, window=20, overlap=0)
    by_hand = replace(drifting, inputs={name: read.values(name) for name in SIZES})
    expected = predict_in_windows(model, by_hand, window=20, overlap=0)
    for one, other in zip(found, expected, strict=True):
        assert one.probabilities[FUSED] == pytest.approx(other.probabilities[FUSED], abs=1e-6)


def test_inputs_are_shared_and_statistics_are_held_once() -> None:
    corpus = [talk(f"d{n}", "ABAB") for n in range(3)]
    read = standardize_groups(corpus, network("session"), among=corpus)
    assert all(one.inputs[name] is raw.inputs[name] for one, raw in zip(read, corpus, strict=True) for name in SIZES)
    assert len({one.standards["audio"].center.data_ptr() for one in read}) == 1
    (hidden, *_) = hide_modality(read, "audio", 1.0)
    assert hidden.standards is read[0].standards and (hidden.values("audio") == 0).all()


@pytest.mark.parametrize("by", ["sesion", "", "none"])
def test_other_groups_are_refused(by: str) -> None:
    with pytest.raises(ModelError, match=f"standardise is {by!r}: give one of corpus, session, speaker, dialogue"):
        LPGNetConfig(standardise=by)
    with pytest.raises(UsageError, match=r"section 'model': standardise is .*: give one of corpus, session"):
        parse_config("train", ["--labels", "{a: b, c: d}", "--model.standardise", by or "''"], Config)


@pytest.mark.parametrize("by", GROUPS)
def test_a_causal_model_cannot_know_later_turns(by: str) -> None:
    if by == "corpus":
        assert LPGNetConfig(causal=True, standardise=by).causal
        return
    with pytest.raises(ModelError, match=f"standardise is {by}, which needs later turns too"):
        LPGNetConfig(causal=True, standardise=by)


def in_sessions(corpus: LoadedCorpus, sessions: int = 6) -> LoadedCorpus:
    """The dialogues of a corpus in sessions, with levels of their own where the cues are; the last has the highest."""
    levels = torch.zeros(sessions, 4)
    levels[:, 0] = torch.linspace(-4, 4, sessions)
    moved = []
    for number, dialogue in enumerate(corpus.dialogues):
        session = number * sessions // len(corpus.dialogues)
        turns = tuple(
            replace(turn, session=f"s{session}", speaker=f"{turn.speaker}{session}") for turn in dialogue.utterances
        )
        inputs = {name: x + levels[session] for name, x in dialogue.inputs.items()}
        moved.append(replace(dialogue, utterances=turns, inputs=inputs))
    return replace(corpus, dialogues=tuple(moved), digest=f"{corpus.digest} in sessions")


def split_of(corpus: LoadedCorpus) -> Split:
    """The last session tests, the first dialogues of each other session choose the epoch."""
    by_session: dict[str | None, list[Dialogue]] = {}
    for dialogue in corpus.dialogues:
        by_session.setdefault(dialogue.utterances[0].session, []).append(dialogue)
    *others, test = by_session.values()
    train = tuple(dialogue for one in others for dialogue in one[2:])
    return Split("last", train, tuple(dialogue for one in others for dialogue in one[:2]), tuple(test))


@pytest.fixture(scope="module")
def corpus() -> LoadedCorpus:
    return in_sessions(make_corpus("text"))


@pytest.mark.parametrize("by", ["corpus", "session", "speaker"])
def test_a_model_hears_through_the_level_of_a_session(by: str, corpus: LoadedCorpus, tmp_path: Path) -> None:
    config = make_config("concat", model={} if by == "corpus" else {"standardise": by})
    results = train_and_test(corpus, config, tmp_path, split=split_of(corpus))
    assert results.fused.wa < 0.8 if by == "corpus" else results.fused.wa > 0.95
    assert json.loads((best_folder(tmp_path) / "config.json").read_text())["standardise"] == by
    if by != "corpus":
        outcomes, _ = read_predictions(tmp_path / PREDICTIONS_FILE)
        model = load_model(best_folder(tmp_path))
        read = standardize_groups(split_of(corpus).test, model, among=corpus.dialogues)
        again = predict_dialogues(model, read, temperature=model.config.calibration_temperature)
        for one, other in zip(outcomes, again, strict=True):
            assert one.prediction.probabilities[FUSED] == pytest.approx(other.probabilities[FUSED], abs=1e-5)
        raw = predict_dialogues(model, split_of(corpus).test)
        assert np.mean([one.guess() == one.label for one in raw]) < 0.8, "what was trained needs its standards"


def test_the_network_keeps_the_statistics_of_training_and_distances_are_of_what_it_reads(corpus: LoadedCorpus) -> None:
    split, config = split_of(corpus), make_config("concat", model={"standardise": "session"})
    model = make_model(config, corpus, split)
    mean, std = standardization(split.train, "text")
    within = torch.cat(
        [
            torch.cat([one.inputs["text"] for one in split.train if one.utterances[0].session == f"s{n}"])
            for n in range(5)
        ]
    ).reshape(5, -1, *mean.shape)
    assert torch.equal(model.statistics("text")[0], mean)
    assert torch.allclose(model.statistics("text")[1], within.std(1, correction=0).square().mean(0).sqrt(), atol=1e-5)
    assert model.statistics("text")[1][0, 0] < std[0, 0] / 2
    read = split.standardized(model, among=corpus.dialogues)
    assert measure_distances(model, read.dev)["text"].mean == pytest.approx(1.0, abs=0.2)
    assert [len(part) for part in read.parts().values()] == [len(part) for part in split.parts().values()]
    again = standardize_groups(split.test, model, among=corpus.dialogues)
    assert torch.equal(all_values(read.test), all_values(again))


def test_it_is_part_of_what_a_run_is_made_from_where_it_is_set(corpus: LoadedCorpus) -> None:
    split = split_of(corpus)
    plain, session = (
        run_inputs(make_config("concat", model=model), corpus, split.name)["model"]
        for model in ({}, {"standardise": "session"})
    )
    assert isinstance(plain, dict) and isinstance(session, dict)
    assert "standardise" not in plain and session["standardise"] == "session"
