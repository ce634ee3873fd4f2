"""Splits never leak: every refusal names the ids, and every dialogue is where it belongs."""

from collections.abc import Sequence
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lpgnet.pipeline.config import SplitsConfig
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.training.dialogues import Dialogue, make_dialogue
from lpgnet.pipeline.training.splits import Split, check_leaks, make_folds, make_split, overlapping_speakers


def dialogue(
    name: str, *, session: str | None = "1", speakers: Sequence[str] = "AB", split: str | None = None
) -> Dialogue:
    utterances = [
        Utterance(name, f"{name}.{n}", speaker=speaker, session=session, split=split)
        for n, speaker in enumerate(speakers)
    ]
    return make_dialogue(name, utterances, [0] * len(utterances), {})


def corpus(sessions: int = 3, dialogues: int = 8) -> list[Dialogue]:
    return [
        dialogue(f"s{s}d{d}", session=str(s), speakers=[f"{s}F", f"{s}M"])
        for s in range(1, sessions + 1)
        for d in range(dialogues)
    ]


def ids(dialogues: tuple[Dialogue, ...]) -> set[str]:
    return {d.dialogue_id for d in dialogues}


@given(sessions=st.integers(2, 5), dialogues=st.integers(2, 9), share=st.floats(0, 0.5), seed=st.integers(0, 9))
def test_folds_hold_every_session_out_once_and_lose_nothing(
    sessions: int, dialogues: int, share: float, seed: int
) -> None:
    everything = corpus(sessions, dialogues)
    folds = make_folds(everything, SplitsConfig(scheme="session", dev_share=share, seed=seed))
    assert [fold.name for fold in folds] == [str(s) for s in range(1, sessions + 1)]
    for fold in folds:
        assert {u.session for d in fold.test for u in d.utterances} == {fold.name}
        parts = [ids(part) for part in fold.parts().values()]
        assert sum(map(len, parts)) == len(everything)
        assert set().union(*parts) == ids(tuple(everything))
        assert fold.dev
        assert not overlapping_speakers(fold)


def test_the_last_session_is_held_out_unless_another_is_named() -> None:
    assert make_split(corpus(), SplitsConfig()).name == "3"
    assert make_split(corpus(), SplitsConfig(test=["1"])).name == "1"


def test_an_unknown_session_is_named() -> None:
    with pytest.raises(PipelineError, match="no session '9'; the corpus has 1, 2, 3"):
        make_split(corpus(), SplitsConfig(test=["9"]))


def test_a_dialogue_in_two_splits_is_refused() -> None:
    both = dialogue("both")
    with pytest.raises(PipelineError, match="dialogues in both train and test: both"):
        check_leaks(Split("x", (both,), (dialogue("d"),), (both,)), allow_speaker_overlap=True)


def test_a_dialogue_whose_utterances_are_in_two_splits_is_refused() -> None:
    utterances = [Utterance("d", "d.0", split="train"), Utterance("d", "d.1", split="test")]
    mixed = make_dialogue("d", utterances, [0, 0], {})
    with pytest.raises(PipelineError, match=r"dialogue d is in several splits \(test, train\)"):
        make_split([mixed], SplitsConfig(scheme="manifest"))


def test_a_speaker_in_test_and_training_is_refused_unless_allowed() -> None:
    dialogues = [dialogue("d", split="train"), dialogue("e", split="dev"), dialogue("f", split="test", speakers="BC")]
    config = SplitsConfig(scheme="manifest")
    with pytest.raises(PipelineError, match="speakers in the test split and in another: B;"):
        make_split(dialogues, config)
    allowed = make_split(dialogues, SplitsConfig(scheme="manifest", allow_speaker_overlap=True))
    assert overlapping_speakers(allowed) == ["B"]


def test_speakers_are_held_out_with_all_their_dialogues() -> None:
    dialogues = [dialogue("ab", speakers="AB"), dialogue("bc", speakers="BC"), dialogue("cc", speakers="C")]
    dialogues += [dialogue(f"a{n}", speakers="A") for n in range(4)]
    split = make_split(dialogues, SplitsConfig(scheme="speaker", test=["C"]))
    assert ids(split.test) == {"bc", "cc"}
    assert ids(split.test).isdisjoint(ids(split.train) | ids(split.dev))
    between = next(d for d in split.test if d.dialogue_id == "bc")
    assert between.labels.tolist() == [-100, 0], "the other speaker's turn is context, and is not scored"


def test_speakers_who_only_talk_to_each_other_are_held_out_one_by_one() -> None:
    everything = corpus(sessions=3, dialogues=4)
    folds = make_folds(everything, SplitsConfig(scheme="speaker"))
    assert [fold.name for fold in folds] == ["1F", "1M", "2F", "2M", "3F", "3M"]
    scored = [
        (fold.name, u.utterance_id)
        for fold in folds
        for d in fold.test
        for u, label in zip(d.utterances, d.labels.tolist(), strict=True)
        if label >= 0 and u.speaker == fold.name
    ]
    assert sorted(name for _, name in scored) == sorted(u.utterance_id for d in everything for u in d.utterances)


def test_a_missing_session_is_told_with_the_dialogue() -> None:
    with pytest.raises(PipelineError, match="dialogue d has an utterance without a session"):
        make_split([dialogue("d", session=None)], SplitsConfig())


def test_a_split_without_labels_is_refused() -> None:
    unlabelled = dialogue("t", session="9")
    object.__setattr__(unlabelled, "labels", torch.full((2,), -100))
    with pytest.raises(PipelineError, match="the test split has no labelled utterance"):
        make_split([*corpus(2), unlabelled], SplitsConfig(allow_speaker_overlap=True))


def test_dialogue_folds_cover_everything_once() -> None:
    everything = corpus(1, 11)
    folds = make_folds(everything, SplitsConfig(scheme="dialogue", folds=4, allow_speaker_overlap=True))
    assert len(folds) == 4
    assert sorted(name for fold in folds for name in ids(fold.test)) == sorted(ids(tuple(everything)))


def test_a_held_out_speaker_is_scored_alone_in_everything_that_is_known() -> None:
    turns = [Utterance("d", f"d.{n}", speaker=speaker) for n, speaker in enumerate("ABA")]
    ratings = {"valence": torch.tensor([1.0, 2.0, 3.0])}
    shared = make_dialogue("d", turns, [0, 1, 0], {}, votes=torch.ones(3, 2), ratings=ratings)
    others = [dialogue(f"e{n}", speakers="CD") for n in range(3)]
    (test,) = make_split([shared, *others], SplitsConfig(scheme="speaker", test=["A"])).test
    assert test.judged.tolist() == [True, False, True]
    assert test.votes.sum(-1).tolist() == [2, 0, 2] and test.ratings["valence"].isnan().tolist() == [False, True, False]


def test_speakers_overlap_who_are_only_voted_for_or_rated() -> None:
    known, turns = dialogue("d", speakers="A"), [Utterance("e", "e.0", speaker="A")]
    for said in ({"votes": torch.ones(1, 2)}, {"ratings": {"valence": torch.tensor([2.0])}}):
        test = make_dialogue("e", turns, [-100], {}, **said)  # type: ignore[arg-type]
        assert overlapping_speakers(Split("x", (known,), (), (test,))) == ["A"]


GroupKind = Literal["session", "speaker"]


@given(
    sessions=st.integers(3, 6),
    dialogues=st.integers(2, 6),
    share=st.floats(0, 0.9),
    seed=st.integers(0, 9),
    kind=st.sampled_from(["session", "speaker"]),
)
def test_training_never_meets_the_sessions_or_speakers_of_development(
    sessions: int, dialogues: int, share: float, seed: int, kind: GroupKind
) -> None:
    everything = corpus(sessions, dialogues)
    split = make_split(everything, SplitsConfig(dev=kind, dev_share=share, seed=seed))
    judged = {getattr(u, kind) for u in judged_in(split.dev)}
    assert judged and judged.isdisjoint({getattr(u, kind) for d in split.train for u in d.utterances})
    parts = [ids(part) for part in split.parts().values()]
    assert sum(map(len, parts)) == len(set().union(*parts)) == len(everything), "two speakers who meet share all"
    again = make_split(everything, SplitsConfig(dev=kind, dev_share=share, seed=seed))
    assert ids(again.dev) == ids(split.dev)


def judged_in(dialogues: Sequence[Dialogue]) -> list[Utterance]:
    return [u for d in dialogues for u, judged in zip(d.utterances, d.judged.tolist(), strict=True) if judged]


@pytest.mark.parametrize(("share", "count"), [(0.0, 1), (0.2, 1), (0.45, 2), (0.99, 3)])
def test_as_many_sessions_as_come_nearest_to_the_share(share: float, count: int) -> None:
    split = make_split(corpus(sessions=5), SplitsConfig(dev="session", dev_share=share))
    assert len({u.session for d in split.dev for u in d.utterances}) == count


def test_the_share_is_one_of_dialogues() -> None:
    large = [dialogue(f"l{n}", session="large", speakers=["x"]) for n in range(60)]
    small = [dialogue(f"s{n}", session=f"s{n}", speakers=[f"s{n}"]) for n in range(40)]
    test = [dialogue("t", session="z", speakers="Z")]
    for seed in range(6):
        config = SplitsConfig(dev="session", dev_share=0.2, seed=seed)
        assert len(make_split([*small, *test], config).dev) == 8
        dev = make_split([*large, *small, *test], config).dev
        # The large one is taken where fewer of the draw before it would be farther from 20 of 100.
        assert len(dev) == 20 or len(dev) < 20 or {d.utterances[0].session for d in dev} == {"large"}


def test_only_the_speakers_of_development_are_scored_there() -> None:
    """Those whom they talk to are context, and are in no other part of the dialogue's split."""
    everything = [dialogue("ab", speakers="AB"), *(dialogue(f"{x}{n}", speakers=x) for x in "ABC" for n in range(3))]
    everything.append(dialogue("z", session="2", speakers="Z"))
    for seed in range(6):
        split = make_split(everything, SplitsConfig(dev="speaker", seed=seed, dev_share=0.1))
        (speaker,) = {u.speaker for u in judged_in(split.dev)}
        assert speaker not in {u.speaker for d in split.train for u in d.utterances}
        assert ("ab" in ids(split.dev)) == (speaker in "AB")


def test_a_dialogue_of_several_sessions_is_on_neither_side() -> None:
    turns = [Utterance("both", f"both.{n}", speaker=str(n), session=str(n)) for n in (1, 2)]
    everything = [*corpus(3), make_dialogue("both", turns, [0, 0], {})]
    split = make_split(everything, SplitsConfig(dev="session"))
    assert "both" not in ids(split.train) | ids(split.dev)


@pytest.mark.parametrize(
    ("dialogues", "config", "message"),
    [
        (
            corpus(2),
            {"dev": "session"},
            r"splits\.dev session: .*nothing is left .*\(there are 1\); set splits\.dev to",
        ),
        (corpus(2), {"dev": "speaker"}, r"splits\.dev speaker: .*nothing is left .*\(there are 1F, 1M\)"),
        (
            [dialogue("d", session=None), dialogue("e", split="test", speakers="CD")],
            {"dev": "session", "scheme": "speaker", "test": ["C", "D"]},
            r"dialogue d has an utterance without a session, which splits\.dev needs",
        ),
        (
            [dialogue("d", split="train"), dialogue("e", split="dev"), dialogue("f", split="test", speakers="C")],
            {"dev": "speaker", "scheme": "manifest"},
            r"splits\.dev speaker: the corpus names its own development data; leave splits\.dev out",
        ),
    ],
    ids=["one session", "two who only meet each other", "no session", "the corpus's own"],
)
def test_too_few_groups_to_develop_on_are_told(dialogues: list[Dialogue], config: Any, message: str) -> None:
    with pytest.raises(PipelineError, match=message) as caught:
        make_split(dialogues, SplitsConfig(**config))
    assert "\n" not in str(caught.value)


def test_a_leak_into_development_is_refused() -> None:
    split = Split("x", (dialogue("a"),), (dialogue("b"),), (dialogue("t", session="2", speakers="Z"),))
    check_leaks(split, allow_speaker_overlap=False)
    with pytest.raises(PipelineError, match="sessions in both train and dev: 1;"):
        check_leaks(split, allow_speaker_overlap=False, dev="session")
    with pytest.raises(PipelineError, match="speakers in both train and dev: A, B;"):
        check_leaks(split, allow_speaker_overlap=False, dev="speaker")
