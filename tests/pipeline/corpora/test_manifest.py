"""The manifest survives a round trip, and what is wrong in it is told by file, line and field."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpgnet.pipeline.corpora.manifest import (
    Corpus,
    Manifest,
    Utterance,
    check_utterances,
    count_by,
    read_manifest,
    utterance_from,
    write_manifest,
)
from lpgnet.pipeline.errors import PipelineError

CORPUS = Corpus("test", "data", "table", 1)
TEXTS = st.none() | st.text(max_size=20)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@st.composite
def utterances(draw: st.DrawFn) -> Utterance:
    start = draw(st.none() | st.floats(0, 1e5))
    length = draw(st.floats(0.01, 50))
    return Utterance(
        dialogue_id=draw(NAMES),
        utterance_id=draw(NAMES),
        audio=draw(TEXTS),
        start=start,
        end=None if start is None else start + length,
        channel=draw(st.none() | st.integers(0, 7)),
        text=draw(TEXTS),
        speaker=draw(TEXTS),
        label=draw(TEXTS),
        split=draw(st.sampled_from([None, "train", "dev", "test"])),
        extra=draw(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3)),
    )


@given(utterance=utterances())
def test_round_trip(utterance: Utterance, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("manifest")
    manifest = Manifest(CORPUS, (utterance,))
    write_manifest(folder, manifest)
    assert read_manifest(folder) == manifest


def write(folder: Path, *rows: object) -> None:
    lines = "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
    (folder / "manifest.jsonl").write_text(lines, encoding="utf-8")
    (folder / "corpus.json").write_text(json.dumps(asdict(CORPUS)))


ROW = {"dialogue_id": "d", "utterance_id": "d1"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", r"line 2: is not JSON"),
        ("[]", r"line 2: is not a JSON object"),
        ({**ROW, "utterance_id": ""}, r"line 2: field 'utterance_id' must be a non-empty string"),
        ({**ROW, "spaeker": "Ann"}, r"line 2: unknown field 'spaeker'; did you mean 'speaker'\?"),
        ({**ROW, "text": 3}, r"line 2: field 'text' must be a string or null, not 3"),
        ({**ROW, "start": -1.0}, r"line 2: field 'start' must be seconds, 0 or more, or null"),
        ({**ROW, "end": True}, r"line 2: field 'end' must be seconds"),
        ({**ROW, "start": 2.0, "end": 1.5}, r"'d1' ends at 1.5 s but starts at 2.0 s"),
        ({**ROW, "split": "valid"}, r"line 2: field 'split' must be one of train, dev, test"),
        ({**ROW, "channel": -1}, r"line 2: field 'channel'"),
        ({**ROW, "extra": "x"}, r"line 2: field 'extra' must be an object"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: object, message: str) -> None:
    write(tmp_path, {"dialogue_id": "d", "utterance_id": "d0"}, row)
    with pytest.raises(PipelineError, match=message) as caught:
        read_manifest(tmp_path)
    assert "manifest.jsonl" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_second_use_of_an_id_is_named(tmp_path: Path) -> None:
    write(tmp_path, ROW, {**ROW, "text": "again"})
    with pytest.raises(PipelineError, match=r"row 2: utterance_id 'd1' is already used in row 1"):
        read_manifest(tmp_path)


def test_a_dialogue_in_two_places_is_named() -> None:
    rows = [Utterance(dialogue, f"u{number}") for number, dialogue in enumerate("aba")]
    with pytest.raises(PipelineError, match="row 3: dialogue 'a' continues after another began"):
        check_utterances(rows, source="here")


def test_a_wrong_encoding_is_named(tmp_path: Path) -> None:
    write(tmp_path, ROW)
    (tmp_path / "manifest.jsonl").write_bytes('{"dialogue_id": "caf\xe9", "utterance_id": "1"}\n'.encode("latin-1"))
    with pytest.raises(PipelineError, match="is not UTF-8"):
        read_manifest(tmp_path)


def test_missing_and_empty(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="no such file; run the stage that writes it first"):
        read_manifest(tmp_path)
    write(tmp_path)
    with pytest.raises(PipelineError, match="has no utterances"):
        read_manifest(tmp_path)


def test_fields_left_out_are_null() -> None:
    assert utterance_from(ROW, where="x") == Utterance("d", "d1")


def test_counts() -> None:
    rows = [Utterance("d", str(n), label=label) for n, label in enumerate(["b", "a", None, "b"])]
    assert count_by(rows, "label") == {"b": 2, "a": 1, "-": 1}


RATED = Utterance("d", "u", votes={"ang": 2, "neu": 0.5}, valence=2.5, arousal=None, dominance=4)


def test_votes_and_ratings_are_read_back_with_the_range_of_each_dimension(tmp_path):
    corpus = replace(CORPUS, ranges={"valence": (1, 5), "dominance": (1.0, 5.0)})
    manifest = Manifest(corpus, (RATED,))
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"votes": {"ang": -1}}, r"line 1: votes for 'ang' must be a number of at least 0 and below 1e9, not -1"),
        (
            {"votes": {"ang": 1e9}},
            r"line 1: votes for 'ang' must be a number of at least 0 and below 1e9, not 1000000000",
        ),
        ({"votes": {"ang": "2"}}, r"line 1: votes for 'ang' must be a number of at least 0 and below 1e9, not '2'"),
        (
            {"votes": {"ang": 0, "neu": 0}},
            r"line 1: the votes .* must have a sum above 0; give null where nobody voted",
        ),
        ({"votes": {}}, r"line 1: field 'votes' must be an object of votes by code, or null, not {}"),
        ({"votes": ["ang"]}, r"line 1: field 'votes' must be an object"),
        ({"valence": "high"}, r"line 1: field 'valence' must be a number within 1e9, or null, not 'high'"),
        ({"valence": -1e9}, r"line 1: field 'valence' must be a number within 1e9, or null, not -1000000000"),
        ({"valence": float("nan")}, r"line 1: field 'valence' must be a number within 1e9, or null, not nan"),
        ({"valence": 5.5}, r"row 1, utterance u: valence 5.5 is not between 1 and 5"),
        ({"arousal": 3}, r"row 1, utterance u: its arousal has no range in the corpus"),
    ],
)
def test_votes_and_ratings_that_cannot_be_are_refused_with_their_line(changed, message, tmp_path):
    corpus = replace(CORPUS, ranges={"valence": (1, 5), "dominance": (1, 5)})
    write_manifest(tmp_path, Manifest(corpus, (replace(RATED, **changed),)))
    with pytest.raises(PipelineError, match=message):
        read_manifest(tmp_path)


@pytest.mark.parametrize("ranges", [{"valence": (5, 1)}, {"valence": (1, 1)}, {"mood": (1, 5)}])
def test_a_range_that_is_none_is_refused(ranges, tmp_path):
    write_manifest(tmp_path, Manifest(replace(CORPUS, ranges=ranges), (Utterance("d", "u"),)))
    with pytest.raises(PipelineError, match=next(iter(ranges))):
        read_manifest(tmp_path)


def test_what_nobody_said_is_not_written_so_that_old_manifests_and_their_runs_stay_the_same(tmp_path):
    write_manifest(tmp_path, Manifest(CORPUS, (Utterance("d", "u", label="x"),)))
    values = json.loads((tmp_path / "manifest.jsonl").read_text())
    assert not values.keys() & {"votes", "valence", "arousal", "dominance"}
    assert list(values) == [name for name in asdict(Utterance("d", "u")) if name in values] and values["split"] is None
