"""The DailyTalk reader on a small tree in the corpus's layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lpgnet.pipeline.corpora import known_about, read_corpus, refuse_links, sources
from lpgnet.pipeline.corpora.about import About
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.errors import PipelineError


def said(dialogue: int, turn: int, *, emotion: str = "no emotion") -> dict[str, Any]:
    index = {"dialog_idx": dialogue, "utterance_idx": turn, "index": f"{turn}_{turn % 2}_d{dialogue}"}
    return {**index, "speaker": turn % 2, "emotion": emotion, "act": "inform", "topic": "work"}


# Dialogues and turns are in the order of their numbers, not of the letters: 10 comes after 2.
METADATA = {
    "10": {"0": said(10, 0, emotion="happiness"), "1": said(10, 1)},
    "2": {str(turn): said(2, turn) for turn in (10, 2, 0, 1)},
}


def write_metadata(root: Path, metadata: object) -> None:
    (root / "metadata.json").write_text(json.dumps(metadata))


def add_turn(root: Path, name: str, text: str | None) -> None:
    folder = root / "data" / name.rpartition("d")[2]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.wav").touch()
    if text is not None:
        (folder / f"{name}.txt").write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_metadata(tmp_path, METADATA)
    for turns in METADATA.values():
        for turn in turns.values():
            add_turn(tmp_path, turn["index"], f"turn {turn['index']}\n")
    return tmp_path


def test_all_fields_of_an_utterance(root: Path) -> None:
    corpus = read_corpus("dailytalk", str(root))
    assert corpus.utterances[-2] == Utterance(
        dialogue_id="d10",
        utterance_id="0_0_d10",
        audio="data/10/0_0_d10.wav",
        text="turn 0_0_d10",
        speaker="0",
        label="happiness",
        extra={"act": "inform", "topic": "work"},
    )
    assert corpus.warnings == []


def test_dialogues_and_turns_are_in_the_order_of_their_numbers(root: Path) -> None:
    ids = [u.utterance_id for u in read_corpus("dailytalk", str(root)).utterances]
    assert ids == ["0_0_d2", "1_1_d2", "2_0_d2", "10_0_d2", "0_0_d10", "1_1_d10"]


def test_missing_files_are_told(root: Path) -> None:
    (root / "data/10/1_1_d10.wav").unlink()
    (root / "data/2/2_0_d2.txt").unlink()
    corpus = read_corpus("dailytalk", str(root))
    assert [u.utterance_id for u in corpus.utterances if u.audio is None] == ["1_1_d10"]
    assert [u.utterance_id for u in corpus.utterances if u.text is None] == ["2_0_d2"]
    assert corpus.warnings == [
        f"{root}/data: no wav file, so without audio: 1 of 6 utterances: 1_1_d10",
        f"{root}/data: no text file, so without text: 1 of 6 utterances: 2_0_d2",
    ]


def test_an_edited_text_is_a_changed_source(root: Path) -> None:
    found = sources("dailytalk", str(root))
    assert {path.name for path in found} == {
        "metadata.json",
        "2",
        "10",
        *(f"{turn['index']}.txt" for turns in METADATA.values() for turn in turns.values()),
    }


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ([], "metadata.json: is not a JSON object"),
        ({}, "metadata.json: has no dialogues"),
        ({"../1": {}}, "metadata.json: dialogue '../1' is not a number"),
        ({"1": []}, "metadata.json, dialogue 1: must be an object, not []"),
        ({"1": {"a": {}}}, "metadata.json, dialogue 1: turn 'a' is not a number"),
        ({"1": {"0": 3}}, "metadata.json, dialogue 1, turn 0: must be an object, not 3"),
        ({"1": {"0": {"emotion": "anger"}}}, "dialogue 1, turn 0: speaker must be 0 or 1, not None"),
        ({"1": {"0": {"speaker": "../0"}}}, "dialogue 1, turn 0: speaker must be 0 or 1, not '../0'"),
        ({"1": {"0": {"speaker": 0, "emotion": 3}}}, "dialogue 1, turn 0: emotion must be a text, not 3"),
    ],
)
def test_wrong_metadata_name_dialogue_and_turn(tmp_path: Path, metadata: object, message: str) -> None:
    write_metadata(tmp_path, metadata)
    with pytest.raises(PipelineError) as caught:
        read_corpus("dailytalk", str(tmp_path))
    assert message in str(caught.value)


def test_a_number_written_in_two_ways_is_refused(tmp_path: Path) -> None:
    write_metadata(tmp_path, {"1": {"0": said(1, 0), "00": said(1, 0)}})
    with pytest.raises(PipelineError, match="utterance_id '0_0_d1' is already used"):
        read_corpus("dailytalk", str(tmp_path))


def test_a_root_without_metadata(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"metadata\.json: no such file"):
        read_corpus("dailytalk", str(tmp_path))


def test_a_text_behind_a_link_that_leads_out_is_refused_where_links_are(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.txt"
    secret.write_text("secret")
    text = root / "data/10/0_0_d10.txt"
    text.unlink()
    text.symlink_to(secret)
    with pytest.raises(PipelineError, match=f"{text.name}: a link leads out of"):
        refuse_links(sources("dailytalk", str(root)), str(root))


def test_what_is_known_of_the_corpus() -> None:
    assert known_about("dailytalk", About()) == About("English", "acted", synthetic=False)
