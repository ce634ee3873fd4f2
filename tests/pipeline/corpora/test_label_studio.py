"""The reader of Label Studio's exports: what `predict` wrote for it comes back as it was corrected."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lpgnet.pipeline.corpora import ReadCorpus, read_corpus, sources
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.errors import PipelineError, UsageError
from lpgnet.pipeline.reports.label_studio import to_label_studio
from lpgnet.pipeline.reports.rows import Timeline, TimelineRow
from tests.growth import grows_too_fast

Json = Any


def row(start: float, end: float, speaker: str | None, text: str | None, channel: int | None = None) -> TimelineRow:
    name = f"turn {start}"
    return TimelineRow(name, start, end, speaker, text, "happy", {"sad": 0.25, "happy": 0.75}, {}, channel)


ROWS = (row(0.5, 1.25, "Ann", "Oh, hi!"), row(1.0, 2.5, None, None))


def timeline(*rows: TimelineRow, name: str = "call") -> Timeline:
    return Timeline(name, rows or ROWS, Path("somewhere/call.wav"), 3.0)


def exported(task: Json, number: int = 1) -> Json:
    """A task as Label Studio exports it once its prediction was taken over and submitted."""
    annotation = {
        "id": 10 * number,
        "completed_by": 1,
        "result": [{**part, "origin": "prediction"} for part in task["predictions"][0]["result"]],
        "was_cancelled": False,
        "ground_truth": False,
        "lead_time": 3.5,
    }
    return {"id": number, "annotations": [annotation], "predictions": [], "data": task["data"], "meta": {}}


def export(*rows: TimelineRow, name: str = "call") -> Json:
    return [exported(task) for task in json.loads(to_label_studio(timeline(*rows, name=name)))]


def read(folder: Path, content: Json, *recordings: str, **options: Any) -> ReadCorpus:
    for recording in recordings or ("call.wav",):
        (folder / recording).parent.mkdir(parents=True, exist_ok=True)
        (folder / recording).write_bytes(b"")
    (folder / "project.json").write_text(json.dumps(content), encoding="utf-8")
    return read_corpus("label_studio", str(folder), **options)


def test_an_export_becomes_utterances(tmp_path: Path) -> None:
    corpus = read(tmp_path, export())
    common = {"dialogue_id": "call", "audio": "call.wav", "label": "happy"}
    assert corpus.utterances == [
        Utterance(utterance_id="call_001", start=0.5, end=1.25, text="Oh, hi!", speaker="Ann", **common),
        Utterance(utterance_id="call_002", start=1.0, end=2.5, **common),
    ]
    assert corpus.warnings == []
    assert sources("label_studio", str(tmp_path)) == [tmp_path, tmp_path / "project.json"]


WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(
    turns=st.lists(
        st.tuples(st.floats(0, 1e5), st.floats(0.001, 60), st.none() | WORDS, st.none() | WORDS, st.integers(0, 3)),
        min_size=1,
        max_size=5,
        unique_by=lambda turn: turn[0],
    ),
    data=st.data(),
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_round_trip_in_any_order(turns: list[Any], data: st.DataObject, tmp_path: Path) -> None:
    split = any(channel for *_, channel in turns)
    rows = [row(start, start + length, *said, channel if split else None) for start, length, *said, channel in turns]
    content = export(*rows)
    result = content[0]["annotations"][0]["result"]
    content[0]["annotations"][0]["result"] = data.draw(st.permutations(result))
    found = read(tmp_path, content).utterances
    expected = [(r.start, r.end, r.speaker, r.text, r.label, r.channel) for r in sorted(rows, key=lambda r: r.start)]
    assert [(u.start, u.end, u.speaker, u.text, u.label, u.channel) for u in found] == expected


def test_what_was_corrected(tmp_path: Path) -> None:
    """A region that was drawn by hand, one that was deleted, and answers about the whole recording."""
    content = export()
    result = content[0]["annotations"][0]["result"]
    drawn = {"from_name": "emotion", "to_name": "audio", "type": "labels", "id": "x7Zq", "original_length": 3.0}
    drawn["value"] = {"start": 0.1, "end": 0.4, "channel": 0, "labels": ["sad"]}
    said = {**drawn, "from_name": "text", "type": "textarea"}
    said["value"] = {"start": 0.1, "end": 0.4, "channel": 0, "text": ["Well", "then"]}
    whole = {"from_name": "quality", "type": "choices", "value": {"choices": ["good"]}, "id": "q"}
    relation = {"type": "relation", "from_id": "x7Zq", "to_id": "y", "direction": "right"}
    content[0]["annotations"][0]["result"] = [*result[:3], drawn, whole, relation, said]
    found = read(tmp_path, content).utterances
    assert [(u.start, u.label, u.text) for u in found] == [(0.1, "sad", "Well then"), (0.5, "happy", "Oh, hi!")]


def test_other_controls(tmp_path: Path) -> None:
    part = {"type": "choices", "id": "a", "from_name": "mood", "value": {"start": 0, "end": 1, "choices": ["calm"]}}
    who = {"type": "labels", "id": "a", "from_name": "who", "value": {"start": 0, "end": 1, "labels": ["Bob"]}}
    content = [{"data": {"url": "call.wav"}, "annotations": [{"result": [part, who]}]}]
    (found,) = read(tmp_path, content, audio="url", emotion="mood", speaker="who").utterances
    assert (found.label, found.speaker, found.text) == ("calm", "Bob", None)


def test_which_annotation_counts(tmp_path: Path) -> None:
    first, second, third = (export(row(0.0, end, "Ann", None))[0]["annotations"][0] for end in (1.0, 2.0, 3.0))
    content = export()
    content[0]["annotations"] = [first, second, {**third, "was_cancelled": True}]
    corpus = read(tmp_path, content)
    assert [u.end for u in corpus.utterances] == [2.0]
    assert "tasks with several, of which one is taken: 1" in corpus.warnings[0]
    first["ground_truth"] = True
    assert [u.end for u in read(tmp_path, content).utterances] == [1.0]
    content.append({**content[0], "annotations": []})
    assert "left out: 1" in read(tmp_path, content).warnings[0]


@pytest.mark.parametrize(
    ("address", "files", "expected"),
    [
        ("/data/upload/1/0a1b2c3d-call.wav", ["call.wav"], "call.wav"),
        ("/data/upload/1/0a1b2c3d-my_call_2.wav", ["a/my call (2).wav"], "a/my call (2).wav"),
        ("/data/upload/1/0a1b2c3d-a-0a1b2c3d-b.wav", ["a-b.wav", "a-0a1b2c3d-b.wav"], "a-0a1b2c3d-b.wav"),
        ("s3://bucket/a-0a1b2c3d-b.wav", ["a-b.wav", "x/a-0a1b2c3d-b.wav"], "x/a-0a1b2c3d-b.wav"),
        ("/data/upload/1/0a1b2c3d-call.wav", ["0a1b2c3d-call.wav", "call.wav"], "0a1b2c3d-call.wav"),
        ("/data/local-files/?d=x/b/call%20%C3%A4.wav", ["a/call ä.wav", "b/call ä.wav"], "b/call ä.wav"),
        ("s3://bucket/monday/call.wav", ["monday/call.wav", "tuesday/call.wav"], "monday/call.wav"),
        ("https://example.org/x/call.wav?token=1", ["call.wav"], "call.wav"),
        ("C:\\talks\\b\\call.wav", ["a/call.wav", "b/call.wav"], "b/call.wav"),
        ("../../etc/call.wav", ["call.wav"], "call.wav"),
    ],
)
def test_a_recording_is_found_by_its_address(tmp_path: Path, address: str, files: list[str], expected: str) -> None:
    content = export()
    content[0]["data"]["audio"] = address
    assert {u.audio for u in read(tmp_path, content, *files).utterances} == {expected}


def change(*place: str | int, to: Json) -> Callable[[Json], None]:
    def apply(content: Json) -> None:
        for part in place[:-1]:
            content = content[part]
        content[place[-1]] = to

    return apply


RESULT = (0, "annotations", 0, "result")


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (change(0, "data", "audio", to="/etc/passwd"), "'/etc/passwd' is not in .*; put it there as 'passwd'"),
        (change(0, "data", "audio", to="/data/upload/1/0a1b2c3d-b.wav"), "put it there as 'b.wav'"),
        (change(0, "data", "audio", to="x-0a1b2c3d-call.wav"), "put it there as 'x-0a1b2c3d-call.wav'"),
        (change(0, "data", "audio", to=None), "task 1: data.audio must be a text, not None"),
        (change(0, "data", to={"url": "x"}), "data has no 'audio' but url; name the recording's in"),
        (change(0, "annotations", to=None), "annotations must be a list, not None; export the project as JSON"),
        (change(0, "annotations", to=[]), "none of its tasks is annotated"),
        (change(*RESULT, to={}), "task 1: result must be a list"),
        (change(*RESULT, 0, to="x"), "a part of result must be an object, not 'x'"),
        (
            change(*RESULT, 0, "from_name", to="emotions"),
            "labelled by .* 'emotion'; did you mean 'emotions'",
        ),
        (change(*RESULT, 0, "value", "labels", to=["sad", "happy"]), "emotion is sad, happy; choose one of them"),
        (change(*RESULT, 0, "value", "labels", to=[1]), "turn 0.5: emotion must be a text, not 1"),
        (change(*RESULT, 0, "value", "labels", to=7), "emotion must be a list, not 7"),
        (change(*RESULT, 2, "value", "end", to=0.25), "ends at 0.25 s but starts at 0.5 s"),
        (change(*RESULT, 2, "value", "start", to="soon"), "field 'start' must be seconds.*, not 'soon'"),
        (change(*RESULT, 2, "value", "channel", to=-1), "field 'channel' must be"),
        (change(0, to=7), "task 1 must be an object"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, apply: Callable[[Json], None], message: str) -> None:
    content = export(ROWS[0])
    apply(content)
    with pytest.raises(PipelineError, match=message) as caught:
        read(tmp_path, content)
    assert "project.json" in str(caught.value)


def test_two_recordings_of_a_name(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"d=somewhere/call\.wav' may be a/call\.wav, b/call\.wav"):
        read(tmp_path, export(), "a/call.wav", "b/call.wav")


def annotated(person: object, label: str, *, start: float = 0.5, **more: Json) -> Json:
    """What somebody says of the first region of the export, or of another one."""
    annotation = export(row(start, 1.25, "Ann", None))[0]["annotations"][0]
    for part in annotation["result"]:
        if part["from_name"] == "emotion":
            part["value"]["labels"] = [label]
    return annotation | {"completed_by": person} | more


def test_what_several_people_say_of_one_region_are_its_votes(tmp_path: Path) -> None:
    """The last annotation of each person counts; where the times differ, or nobody knows who it was, there is none."""
    content = export()
    truth = annotated(7, "sad", ground_truth=True)
    others = [
        annotated(1, "happy"),
        annotated(1, "sad"),
        annotated({"id": 3}, "neutral"),
        annotated(4, "happy", start=0.4),
    ]
    content[0]["annotations"] = [truth, *others, annotated(None, "happy"), annotated(5, "happy", was_cancelled=True)]
    utterance = read(tmp_path, content).utterances[0]
    assert (utterance.label, utterance.votes) == ("sad", {"sad": 2, "neutral": 1})
    for alone in ([truth], [truth, annotated(4, "sad", start=0.4)], [truth | {"completed_by": None}, others[0]]):
        content[0]["annotations"] = alone
        assert [u.votes for u in read(tmp_path, content).utterances] == [None]


@pytest.mark.parametrize("result", [None, 3, [None], [{"from_name": "emotion", "value": 3}]])
@pytest.mark.parametrize(
    "value", [{"start": [1], "labels": ["sad"]}, {"start": 0.5, "labels": [["sad"]]}, {"start": 0.5}]
)
def test_annotations_that_are_not_taken_stop_nobody(tmp_path: Path, result: Json, value: Json) -> None:
    content = export()
    strange = [{"from_name": "emotion", "value": value}]
    content[0]["annotations"] = [
        annotated(2, "x", result=result),
        annotated(3, "x", result=strange),
        annotated(1, "sad"),
    ]
    assert [(u.label, u.votes) for u in read(tmp_path, content).utterances] == [("sad", None)]


def test_two_tasks_of_one_recording(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"task 2: is of call.wav, as is .*task 1; keep one"):
        read(tmp_path, export() * 2)


@pytest.mark.parametrize("option", ["export", "audio", "emotion", "speaker", "text"])
def test_an_option_that_is_no_text(tmp_path: Path, option: str) -> None:
    with pytest.raises(UsageError, match=rf"corpus.options.{option}: give"):
        read(tmp_path, export(), **{option: [1]})


def test_no_export_and_several(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"must hold one export \(\.json\) but holds none; .*corpus.options.export"):
        read_corpus("label_studio", str(tmp_path))
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(PipelineError, match=r"holds other\.json, project\.json"):
        read(tmp_path, export())
    assert len(read(tmp_path, export(), export="project.json").utterances) == 2


def test_time_grows_with_the_export_alone(tmp_path: Path) -> None:
    def read_regions(text: str) -> None:
        rows = [row(float(number), number + 1.0, "Ann", "x") for number in range(len(text))]
        read(tmp_path, export(*rows))

    assert not grows_too_fast(read_regions, "x".__mul__)


def test_a_region_without_an_id_is_refused(tmp_path: Path) -> None:
    content = export()
    for part in content[0]["annotations"][0]["result"]:
        part.pop("id", None)
    with pytest.raises(PipelineError, match="has a region without an id"):
        read(tmp_path, content)


def test_a_recording_that_moved_between_folders_is_noticed(tmp_path: Path) -> None:
    read(tmp_path, export(), "mon/call.wav")
    assert tmp_path / "mon" in sources("label_studio", str(tmp_path))
