"""Which splits a tuned encoder is refused for: by what utterances are, not by what they are called."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpgnet.pipeline.config import Config
from lpgnet.pipeline.corpora.manifest import Corpus, Manifest, Utterance
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.training.dialogues import make_dialogue
from lpgnet.pipeline.training.splits import Split
from lpgnet.pipeline.training.tuned import (
    Base,
    Content,
    Seen,
    Tuned,
    TunedRecord,
    TuningScore,
    check_unseen,
    contents_of,
)

SCORE = TuningScore(0.9, 0.9, 1)


def make_record(training: list[Content], development: list[Content], modality: str = "audio") -> TunedRecord:
    seen, chosen_by = Seen(training, SCORE), Seen(development, replace(SCORE, weighted_f1=0.7))
    return TunedRecord(Base("hf:base", "0"), modality, "demo", "3", {}, 2, seen, chosen_by)


def make_split(**parts: list[str]) -> Split:
    """Dialogues of one utterance each, by the part that they are in."""
    made = {
        part: tuple(make_dialogue(name, [Utterance(name, name)], [0], {}) for name in parts.get(part, []))
        for part in ("train", "dev", "test")
    }
    return Split("s", **made)


def sound(*names: str) -> list[Content]:
    return [Content(audio=f"sound of {name}", text="yes") for name in names]


CONTENTS = {name: Content(audio=f"sound of {name}", text="yes") for name in "abcdefgh"}


def check(split: Split, record: TunedRecord, contents: dict[str, Content] | None = None) -> None:
    check_unseen(Tuned({record.modality: record}, CONTENTS if contents is None else contents), split)


def test_its_own_split_is_fine() -> None:
    check(make_split(train=["a", "b"], dev=["c"], test=["d"]), make_record(sound("a", "b"), sound("c")))


def test_training_on_anything_is_fine() -> None:
    check(make_split(train=["a", "c"], dev=["e"], test=["d"]), make_record(sound("a", "b"), sound("c")))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"test": ["d", "a"]}, r"was tuned on 1 utterance of the test split s \(a\)"),
        ({"test": ["c"]}, r"was chosen by 1 utterance of the test split s \(c\)"),
        ({"dev": ["a", "b"]}, r"was tuned on 2 utterances of the dev split s \(a, b\)"),
    ],
)
def test_each_kind_of_leak_is_named(parts: dict[str, list[str]], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        check(make_split(**parts), make_record(sound("a", "b"), sound("c")))


def test_equal_words_of_other_sound_are_no_leak() -> None:
    check(make_split(test=["h"]), make_record(sound("a"), sound("b")))


def test_words_tell_where_either_has_no_sound() -> None:
    silent = {name: Content(text=f"words of {name}") for name in "abc"}
    spoken = {name: replace(one, audio=f"sound of {name}") for name, one in silent.items()}
    for tested, seen in ((silent, spoken), (spoken, silent), (silent, silent)):
        with pytest.raises(PipelineError, match=r"of the test split s \(a\)"):
            check(make_split(test=["a"]), make_record([seen["a"]], [seen["b"]]), tested)
        check(make_split(test=["c"]), make_record([seen["a"]], [seen["b"]]), tested)


def spoken_by(speaker: str, words: str) -> Content:
    return Content(audio=f"{words} by {speaker}", text=words)


def test_words_tell_for_text_whatever_the_sound() -> None:
    """The same dialogues in other files are other sound, but what an encoder of text has read is the same."""
    again = {name: spoken_by("new file", f"words of {name}") for name in "abc"}
    a, b = (spoken_by("old file", f"words of {name}") for name in "ab")
    for split, message in (
        (make_split(test=["a"]), r"was tuned on 1 utterance of the test split s \(a\)"),
        (make_split(test=["b"]), r"was chosen by 1 utterance of the test split s \(b\)"),
        (make_split(dev=["a"]), r"was tuned on 1 utterance of the dev split s \(a\)"),
    ):
        with pytest.raises(PipelineError, match=message):
            check(split, make_record([a], [b], "text"), again)
        check(split, make_record([a], [b], "audio"), again)
    check(make_split(dev=["b"], test=["c"]), make_record([a], [b], "text"), again)


def test_words_that_a_split_trains_on_are_no_leak_of_the_encoder() -> None:
    """A sentence that everybody speaks alone is in all parts of each split, and a model reads it in training too."""
    turns = {
        "a": ("ann", "kids"),
        "b": ("bob", "kids"),
        "c": ("cleo", "dogs"),
        "d": ("dan", "dogs"),
        "e": ("eve", "kids"),
    }
    for contents in (
        {name: spoken_by(*one) for name, one in turns.items()},
        {name: Content(text=words) for name, (_, words) in turns.items()},
    ):
        record = make_record([contents["a"]], [contents["c"]], "text")
        check(make_split(train=["a"], dev=["b", "c"], test=["d", "e"]), record, contents)
        with pytest.raises(PipelineError, match=r"was tuned on 1 utterance of the test split s \(e\)"):
            check(make_split(train=["c"], test=["d", "e"]), record, contents)


def test_sound_that_was_heard_is_a_leak_though_its_words_are_trained_on() -> None:
    contents = {name: spoken_by(name, "kids") for name in "ab"}
    with pytest.raises(PipelineError, match=r"was tuned on 1 utterance of the test split s \(a\)"):
        check(make_split(train=["b"], test=["a"]), make_record([contents["a"]], [], "text"), contents)


def test_what_has_neither_words_nor_sound_is_no_leak() -> None:
    check(make_split(test=["a"]), make_record([Content()], [Content()]), {"a": Content()})


@given(
    test=st.sets(st.sampled_from("abcdefgh")),
    dev=st.sets(st.sampled_from("abcdefgh")),
    learned=st.sets(st.sampled_from("abcdefgh")),
    chosen=st.sets(st.sampled_from("abcdefgh")),
)
def test_refused_exactly_where_something_is_shared(
    test: set[str], dev: set[str], learned: set[str], chosen: set[str]
) -> None:
    split = make_split(dev=sorted(dev), test=sorted(test))
    record = make_record(sound(*sorted(learned)), sound(*sorted(chosen)))
    leaks = bool(test & (learned | chosen) or dev & learned)
    try:
        check(split, record)
        assert not leaks
    except PipelineError:
        assert leaks


def test_the_gap() -> None:
    assert make_record(sound("a"), sound("b")).scores.gap == pytest.approx(0.2)


def test_words_are_known_among_those_of_their_dialogue(tmp_path: Path) -> None:
    """Equal words of other dialogues are others; ids, spaces and sessions do not matter."""

    def contents(prefix: str, *dialogues: list[str]) -> dict[str, Content]:
        utterances = [
            Utterance(f"{prefix}{number}", f"{prefix}{number}.{turn}", text=text)
            for number, texts in enumerate(dialogues)
            for turn, text in enumerate(texts)
        ]
        manifest = Manifest(Corpus(name=prefix, root=str(tmp_path), reader="table", version=1), tuple(utterances))
        config = Config()
        config.features.store = str(tmp_path / "store")
        return contents_of(config, manifest)

    one = contents("a", ["Yes.", "Yes.", "No."], ["Yes.", "Maybe."])
    other = contents("b", ["Yes.", " Maybe. "], ["Yes.", "Yes.", "No."])
    assert len(set(one.values())) == 5
    assert set(one.values()) == set(other.values())
