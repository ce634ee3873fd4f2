"""The table reader: names, order, numbers and every way in which a table can be wrong."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lpgnet.pipeline.common.spreadsheets import harmless
from lpgnet.pipeline.corpora import ReadCorpus, read_corpus, sources
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.errors import PipelineError, UsageError


def read(folder: Path, text: str, *, name: str = "table.csv", **options: Any) -> ReadCorpus:
    (folder / name).write_text(text, encoding="utf-8", newline="")
    return read_corpus("table", str(folder), **options)


FULL = """utterance_id,dialogue_id,audio,start,end,channel,text,speaker,session,condition,label,split,mood
u1,d1,a/d1.wav,0.5,1.25,1,"Well, ""hello"" there",Ann,s1,improvised,hap,train,7
"""


def test_every_field_of_the_manifest_and_the_rest_in_extra(tmp_path: Path) -> None:
    assert read(tmp_path, FULL).utterances == [
        Utterance(
            dialogue_id="d1",
            utterance_id="u1",
            audio="a/d1.wav",
            start=0.5,
            end=1.25,
            channel=1,
            text='Well, "hello" there',
            speaker="Ann",
            session="s1",
            condition="improvised",
            label="hap",
            split="train",
            extra={"mood": "7"},
        )
    ]


def test_formats_agree(tmp_path: Path) -> None:
    row = {"dialogue_id": "d1", "start": 0.5, "end": 2.0, "channel": 0, "text": "hi", "label": None}
    header = list(row)
    cells = ["" if value is None else str(value) for value in row.values()]
    texts = {
        "t.csv": f"{','.join(header)}\r\n{','.join(cells)}\r\n",
        "t.tsv": "\t".join(header) + "\n" + "\t".join(cells),
        "t2.csv": f"{';'.join(header)}\n{';'.join(cells)}\n",
        "t.jsonl": "\ufeff" + json.dumps(row) + "\n\n",
    }
    found = [read(tmp_path, text, name=name, table=name).utterances for name, text in texts.items()]
    assert found[0] == found[1] == found[2] == found[3]
    assert found[0][0] == Utterance("d1", "d1_001", start=0.5, end=2.0, channel=0, text="hi")


def test_columns_are_renamed_and_one_column_may_serve_two_fields(tmp_path: Path) -> None:
    text = "id,talk,who,line\n7,a,Ann,hi\n"
    columns = {"utterance_id": "id", "dialogue_id": "talk", "speaker": "who", "session": "who", "text": "line"}
    expected = Utterance("a", "7", text="hi", speaker="Ann", session="Ann")
    assert read(tmp_path, text, columns=columns).utterances == [expected]


def test_rows_of_a_dialogue_are_put_together_in_file_order(tmp_path: Path) -> None:
    text = "dialogue_id,utterance_id\nb,b1\na,a1\nb,b2\na,a2\n"
    assert [u.utterance_id for u in read(tmp_path, text).utterances] == ["b1", "b2", "a1", "a2"]


def test_ids_are_made_from_the_row_within_the_dialogue(tmp_path: Path) -> None:
    text = "dialogue_id\nb\na\nb\n"
    assert [u.utterance_id for u in read(tmp_path, text).utterances] == ["b_001", "b_002", "a_001"]


def test_empty_cells_are_null_but_for_the_text(tmp_path: Path) -> None:
    utterance = read(tmp_path, "dialogue_id,audio,start,speaker,text,mood\nd,,,,,\n").utterances[0]
    assert (utterance.audio, utterance.start, utterance.speaker) == (None, None, None)
    assert utterance.text == ""
    assert utterance.extra == {"mood": None}
    assert read(tmp_path, "dialogue_id\nd\n").utterances[0].text is None


def test_json_values_keep_their_types_in_extra_and_become_strings_in_names(tmp_path: Path) -> None:
    row = {"dialogue_id": 3, "label": 2, "text": None, "extra": {"valence": 2.5}, "moods": [1, 2]}
    utterance = read(tmp_path, json.dumps(row), name="t.jsonl").utterances[0]
    assert (utterance.dialogue_id, utterance.label, utterance.text) == ("3", "2", None)
    assert utterance.extra == {"valence": 2.5, "moods": [1, 2]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("utterance_id\nu\n", "table.csv: has no column 'dialogue_id'"),
        ("dialog_id\nu\n", "did you mean 'dialog_id'"),
        ("dialogue_id,text\nd,a\nd\n", "table.csv, line 3: has 1 cells where the header has 2"),
        ("dialogue_id,text\nd,a,b\n", "table.csv, line 2: has 3 cells"),
        ('dialogue_id,text\nd,"a\nb"\nd\n', "line 4: has 1 cells"),
        ('dialogue_id,text\nd,"a\n', "line 2: is not a row of a table"),
        ("dialogue_id,start\nd,soon\n", "table.csv, line 2, column 'start': 'soon' is not seconds"),
        ("dialogue_id,start\nd,nan\n", "table.csv, line 2: field 'start'"),
        ("dialogue_id,channel\nd,1.5\n", "line 2, column 'channel': '1.5' is not a channel number"),
        ("dialogue_id,start,end\nd,2,1\n", "table.csv, line 2: utterance 'd_001' ends at 1.0 s"),
        ("dialogue_id,split\nd,valid\n", "line 2: field 'split' must be one of train, dev, test"),
        (
            "dialogue_id,utterance_id\na,x\nb,y\na,x\n",
            "table.csv, line 4: utterance_id 'x' is already used in line 2",
        ),
        ("dialogue_id,utterance_id\na,\n", "line 2: field 'utterance_id' must be a non-empty string"),
        ("dialogue_id,text\n,a\n", "line 2: field 'dialogue_id' must be a non-empty string"),
        (",dialogue_id\n0,a\n", "column 1 has no name"),
        ("dialogue_id,text,text\na,b,c\n", "columns named twice: text"),
        ("dialogue_id,text\n", "has no rows"),
        ("", "the table is empty"),
        ("dialogue_id,audio\na,/etc/x.wav\n", "line 2: audio '/etc/x.wav' is absolute"),
        ("dialogue_id,audio\na,C:\\x.wav\n", "is absolute"),
        ("dialogue_id,audio\na,b/../../x.wav\n", "line 2: audio 'b/../../x.wav' leaves the corpus root"),
        ("dialogue_id,audio\na,..\\x.wav\n", "leaves the corpus root"),
    ],
)
def test_wrong_tables_name_the_file_the_line_and_the_cell(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PipelineError) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("[1]", "line 1: is not a JSON object"),
        ("{", "line 1: is not JSON"),
        ('{"dialogue_id": "d", "text": ["a"]}', "column 'text': ['a'] is not a value for text"),
        ('{"dialogue_id": "d", "channel": 1.5}', "1.5 is not a channel number"),
        ('{"dialogue_id": "d", "channel": Infinity}', "'inf' is not a channel number"),
        ('{"dialogue_id": "d", "channel": true}', "True is not a value for channel"),
    ],
)
def test_wrong_json_lines(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(PipelineError) as caught:
        read(tmp_path, row, name="t.jsonl")
    assert message in str(caught.value)


def test_a_path_that_stays_inside_may_have_dots(tmp_path: Path) -> None:
    assert read(tmp_path, "dialogue_id,audio\na,b/../c..d.wav\n").utterances[0].audio == "b/../c..d.wav"


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_another_encoding_is_said_with_the_file(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "t.csv").write_bytes("dialogue_id,text\nd,déjà vu\n".encode(encoding))
    with pytest.raises(PipelineError, match=r"t\.csv: is not UTF-8 \(byte \d+\); save it as UTF-8"):
        read_corpus("table", str(tmp_path))


def test_wrong_options(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no option 'colums'; did you mean 'columns'"):
        read(tmp_path, FULL, colums={})
    with pytest.raises(UsageError, match="has no field 'utterance'; did you mean 'utterance_id'"):
        read(tmp_path, FULL, columns={"utterance": "id"})
    with pytest.raises(UsageError, match=r"give \{field: column\}"):
        read(tmp_path, FULL, columns="id")
    with pytest.raises(PipelineError, match=r"has no column 'speakr' for speaker; did you mean 'speaker'.*mood"):
        read(tmp_path, FULL, columns={"speaker": "speakr"})


def test_the_table_is_found_when_it_is_the_only_one(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"must hold one table .* but holds none"):
        read_corpus("table", str(tmp_path))
    (tmp_path / "._a.csv").write_bytes(b"\x00\x05")
    (tmp_path / "a.csv").write_text("dialogue_id\nd\n")
    assert sources("table", str(tmp_path)) == [tmp_path / "a.csv"]
    (tmp_path / "b.tsv").touch()
    with pytest.raises(PipelineError, match=r"holds a\.csv, b\.tsv; name it in corpus\.options\.table"):
        sources("table", str(tmp_path))
    assert sources("table", str(tmp_path), table="b.tsv", columns={}) == [tmp_path / "b.tsv"]
    with pytest.raises(PipelineError, match=r"c\.csv: no such file"):
        read_corpus("table", str(tmp_path), table="c.csv")


def test_roots_that_are_no_folder(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="nowhere: no such folder"):
        read_corpus("table", str(tmp_path / "nowhere"))
    with pytest.raises(PipelineError, match="nosuch://bucket: nothing reads addresses of nosuch://"):
        read_corpus("table", "nosuch://bucket")


# Line breaks, quotes, separators and controls included; NUL is no text, and surrogates cannot be written.
CELLS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12) | st.text("'=-1a\t")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(CELLS, min_size=1, max_size=5),
    start=st.floats(0, 1e5),
    length=st.floats(0.01, 100),
    suffix=st.sampled_from([".csv", ".tsv", ".jsonl"]),
)
def test_what_is_written_is_read(tmp_path: Path, texts: list[str], start: float, length: float, suffix: str) -> None:
    rows = [{"dialogue_id": "d", "start": start, "end": start + length, "text": text, "note": text} for text in texts]
    path = tmp_path / f"table{suffix}"
    with path.open("w", encoding="utf-8", newline="") as file:
        if suffix == ".jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(
                file, list(rows[0]), delimiter="\t" if suffix == ".tsv" else ",", quoting=csv.QUOTE_ALL
            )
            writer.writeheader()
            writer.writerows({**row, "text": harmless(row["text"]), "note": harmless(row["note"])} for row in rows)
    utterances = read_corpus("table", str(tmp_path), table=path.name).utterances
    assert [(u.start, u.end, u.text, u.extra["note"] or "") for u in utterances] == [
        (start, start + length, text, text) for text in texts
    ]


@pytest.mark.parametrize(
    ("cell", "text"),
    [("'=1+1", "=1+1"), ("''=1+1", "'=1+1"), ("=1+1", "=1+1"), ("'tis", "'tis"), ("'-1.5", "'-1.5"), ("-1.5", "-1.5")],
)
def test_words_are_what_they_were_before_a_spreadsheet_was_spared_them(tmp_path: Path, cell: str, text: str) -> None:
    assert [u.text for u in read(tmp_path, f"dialogue_id,text\nd,{cell}\n").utterances] == [text]
    found = read(tmp_path, json.dumps({"dialogue_id": "d", "text": cell}), name="a.jsonl", table="a.jsonl").utterances
    assert [u.text for u in found] == [cell]


def votes(folder: Path, text: str, **options: Any) -> list[dict[str, float] | None]:
    name = options.pop("name", "table.csv")
    return [u.votes for u in read(folder, text, name=name, table=name, **options).utterances]


@pytest.mark.parametrize(
    "text",
    [
        "dialogue_id,votes.ang,votes.neu,votes.sad\nd,2,1,0\nd,0.5,0.5,\nd,,0,\n",
        "dialogue_id;votes\n"
        'd;"{""ang"": 2, ""neu"": 1, ""sad"": 0}"\nd;"{""ang"": 0.5, ""neu"": 0.5}"\nd;"{""ang"": 0}"\n',
    ],
)
def test_votes_in_a_column_for_each_code_or_as_an_object(tmp_path: Path, text: str) -> None:
    assert votes(tmp_path, text) == [{"ang": 2, "neu": 1}, {"ang": 0.5, "neu": 0.5}, None]


@pytest.mark.parametrize(
    "cell", ["ang;ang;neu", "ang, ang, neu", " ang|neu | ang;", "ang  ang\tneu", '["ang", "ang", "neu"]']
)
def test_votes_as_codes_with_separators_are_counted(tmp_path: Path, cell: str) -> None:
    quoted = cell.replace('"', '""')
    assert votes(tmp_path, f'dialogue_id,votes\nd,"{quoted}"\nd,\nd, ; \n') == [{"ang": 2, "neu": 1}, None, None]


def test_codes_may_hold_blanks_where_a_separator_stands(tmp_path: Path) -> None:
    assert votes(tmp_path, "dialogue_id,votes\nd,Neutral state; Anger\n") == [{"Neutral state": 1, "Anger": 1}]


def test_codes_may_hold_colons_and_digits(tmp_path: Path) -> None:
    text = "dialogue_id,votes\nd,Other: mad;F41.1;emotion:sad;a=b\n"
    assert votes(tmp_path, text) == [{"Other: mad": 1, "F41.1": 1, "emotion:sad": 1, "a=b": 1}]


def test_json_lines_hold_votes_as_an_object_a_list_or_a_code(tmp_path: Path) -> None:
    """Whoever writes rows from columns gives null for the codes that a row lacks."""
    cells = [{"ang": 2, "neu": None}, ["ang", "ang", "neu"], [1, 2, 1], "ang", 3, [], None]
    text = "\n".join(json.dumps({"dialogue_id": "d", "votes": cell}) for cell in cells)
    expected = [{"ang": 2}, {"ang": 2, "neu": 1}, {"1": 2, "2": 1}, {"ang": 1}, {"3": 1}, None, None]
    assert votes(tmp_path, text, name="t.jsonl") == expected


def test_columns_of_votes_and_ratings_are_renamed(tmp_path: Path) -> None:
    text = "dialogue_id,n_angry,votes.neu,raters,Val,mood\nd,2,1,3,2.5,x\nd,0,0,3,3,y\n"
    columns = {"votes.ang": "n_angry", "valence": "Val"}
    corpus = read(tmp_path, text, columns=columns, ranges={"valence": [1, 5]})
    assert corpus.utterances[0] == Utterance(
        "d", "d_001", label="ang", votes={"ang": 2, "neu": 1}, valence=2.5, extra={"raters": "3", "mood": "x"}
    )
    assert corpus.ranges == {"valence": (1.0, 5.0)}
    assert corpus.warnings == []
    assert votes(tmp_path, "dialogue_id,raters\nd,ang neu\n", columns={"votes": "raters"}) == [{"ang": 1, "neu": 1}]
    assert votes(tmp_path, "dialogue_id,votes.1\nd,4\n", columns={"votes.ang": "votes.1"}) == [{"ang": 4}]


def test_a_range_that_is_not_given_is_that_of_the_ratings_and_told(tmp_path: Path) -> None:
    corpus = read(tmp_path, "dialogue_id,arousal,valence\nd,1,-0.5\nd,,\nd,4.5,0.25\n", ranges={"arousal": [1, 5]})
    assert [(u.arousal, u.valence, u.dominance, u.extra) for u in corpus.utterances] == [
        (1.0, -0.5, None, {}),
        (None, None, None, {}),
        (4.5, 0.25, None, {}),
    ]
    assert corpus.ranges == {"arousal": (1.0, 5.0), "valence": (-0.5, 0.25)}
    (warning,) = corpus.warnings
    assert (
        "table.csv: the range of valence is taken from its ratings, -0.5 to 0.25; set corpus.options.ranges" in warning
    )


@pytest.mark.parametrize("cells", [("positive", "negative"), ("", ""), ("3", "3")])
def test_a_column_that_is_only_called_like_a_dimension_goes_on_being_extra(
    tmp_path: Path, cells: tuple[str, str]
) -> None:
    corpus = read(tmp_path, "dialogue_id,valence\n" + "".join(f"d,{cell}\n" for cell in cells))
    assert [u.extra for u in corpus.utterances] == [{"valence": cell} if cell else {} for cell in cells]
    assert [u.valence for u in corpus.utterances] == [None, None]
    assert corpus.ranges == {}
    assert [("all ratings" in warning and "are equal" in warning) for warning in corpus.warnings] == [True] * (
        cells == ("3", "3")
    )


def test_a_column_that_says_how_many_voted_goes_on_being_extra(tmp_path: Path) -> None:
    text = "dialogue_id,votes\nd,3\nd,\nd,2\n"
    assert [(u.votes, u.extra) for u in read(tmp_path, text).utterances] == [
        (None, {"votes": "3"}),
        (None, {"votes": None}),
        (None, {"votes": "2"}),
    ]
    assert votes(tmp_path, text, columns={"votes": "votes"}) == [{"3": 1}, None, {"2": 1}]


WAYS = 'counts votes; give a column for each code, such as votes.ang, or {"ang": 2}, or each vote: ang;ang'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dialogue_id,votes.ang\nd,-1\n", "line 2, column 'votes.ang': '-1' is not a number of votes"),
        ("dialogue_id,votes.ang\nd,1e9\n", "line 2, column 'votes.ang': '1e9' is not a number of votes, which is 0 or"),
        ("dialogue_id,votes.ang\nd,two\n", "line 2, column 'votes.ang': 'two' is not a number of votes"),
        ("dialogue_id,votes.ang\nd,nan\n", "line 2, column 'votes.ang': 'nan' is not a number of votes"),
        ('dialogue_id,votes\nd,"{""ang"": -2}"\n', "line 2, column 'votes', code 'ang': -2 is not a number of votes"),
        ('dialogue_id,votes\nd,"{""ang"": true}"\n', "line 2, column 'votes', code 'ang': True is not a number"),
        ("dialogue_id,votes\nd,{ang: 2}\n", "line 2, column 'votes': is not JSON"),
        ("dialogue_id,votes\nd,[[1]]\n", "line 2, column 'votes': [1] is not a code"),
        ("dialogue_id,votes\nd,[true]\n", "line 2, column 'votes': True is not a code"),
        ("dialogue_id,votes\nd,ang:2;hap:1\n", f"line 2, column 'votes': 'ang:2;hap:1' {WAYS}"),
        ("dialogue_id,votes\nd,ang\nd,ang = 1.5\n", f"line 3, column 'votes': 'ang = 1.5' {WAYS}"),
        ("dialogue_id,votes\nd,ang=2 neu\n", f"line 2, column 'votes': 'ang=2 neu' {WAYS}"),
        ('dialogue_id,votes\nd,"[""neu"", ""ang:2""]"\n', f"line 2, column 'votes': 'ang:2' {WAYS}"),
        ("dialogue_id,votes,votes.ang\nd,ang,1\n", "has votes in column 'votes' and in a column for each code"),
        ("dialogue_id,valence\nd,2\nd,high\n", "line 3, column 'valence': 'high' is not a rating"),
        ("dialogue_id,valence\nd,2\nd,inf\n", "line 3, column 'valence': 'inf' is not a rating"),
        ("dialogue_id,valence\nd,2\nd,-1e9\n", "line 3, column 'valence': '-1e9' is not a rating"),
        ("dialogue_id,arousal\nd,2\nd,7\n", "line 3, column 'arousal': arousal 7 is not between 1 and 5"),
        ("dialogue_id,arousal\nd,0.5\n", "line 2, column 'arousal': arousal 0.5 is not between 1 and 5"),
        ("dialogue_id,arousal\nd,2\nd,calm\n", "line 3, column 'arousal': 'calm' is not a rating"),
    ],
)
def test_wrong_votes_and_ratings_name_file_line_and_column(tmp_path: Path, text: str, message: str) -> None:
    ranges = {"arousal": [1, 5]} if "arousal" in text else None
    with pytest.raises(PipelineError) as caught:
        read(tmp_path, text, ranges=ranges)
    assert f"table.csv, {message}" in str(caught.value) or f"table.csv: {message}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_names_and_ranges(tmp_path: Path) -> None:
    text = "dialogue_id,votes.ang\nd,1\n"
    with pytest.raises(PipelineError, match=r"has no column 'n_sad' for votes\.sad"):
        read(tmp_path, text, columns={"votes.sad": "n_sad"})
    with pytest.raises(PipelineError, match="has no column 'valence' for valence"):
        read(tmp_path, text, ranges={"valence": [1, 5]})
    for ranges, message in [
        ({"valance": [1, 5]}, r"corpus\.options\.ranges: 'valance' is not one of valence, arousal, dominance"),
        ({"valence": [5, 1]}, r"corpus\.options\.ranges: the range of valence must be \[lowest, highest\], within 1e9"),
        (
            {"valence": [0, 1e9]},
            r"corpus\.options\.ranges: the range of valence must be \[lowest, highest\], within 1e9",
        ),
        ([1, 5], r"corpus\.options\.ranges: give \{dimension: \[lowest, highest\]\}"),
    ]:
        with pytest.raises(UsageError, match=message):
            read(tmp_path, text, ranges=ranges)
    with pytest.raises(UsageError, match=r"no field 'votes\.'"):
        read(tmp_path, text, columns={"votes.": "x"})


def test_a_manifest_is_a_table(tmp_path: Path) -> None:
    utterance = Utterance("d", "u", votes={"ang": 1.5}, valence=2.0, extra={"mood": 1})
    corpus = read(tmp_path, json.dumps(asdict(utterance)), name="t.jsonl", ranges={"valence": [1, 5]})
    assert corpus.utterances == [utterance]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.dictionaries(st.sampled_from(["ang", "neu", "sad"]), st.integers(0, 4), min_size=1), min_size=1),
    separator=st.sampled_from([";", ", ", "|", " "]),
)
def test_the_ways_to_write_votes_agree(tmp_path: Path, rows: list[dict[str, int]], separator: str) -> None:
    codes = ("ang", "neu", "sad")
    columns = [{f"votes.{code}": row.get(code, 0) for code in codes} for row in rows]
    whole = [{"votes": row} for row in rows]
    listed = [{"votes": [code for code, count in row.items() for _ in range(count)]} for row in rows]
    written = [{"votes": separator.join(row["votes"])} for row in listed]
    found = []
    for way in (columns, whole, listed, written):
        text = "\n".join(json.dumps({"dialogue_id": "d", **row}) for row in way)
        found.append(votes(tmp_path, text, name="t.jsonl"))
    assert found[0] == found[1] == found[2] == found[3]
    assert found[0] == [{code: count for code, count in row.items() if count} or None for row in rows]


def test_without_a_column_for_it_the_label_is_what_most_raters_voted_for(tmp_path: Path) -> None:
    rows = "dialogue_id,votes\nd,ang;ang;neu\nd,ang;neu\nd,\n"
    assert [utterance.label for utterance in read(tmp_path, rows).utterances] == ["ang", None, None]
    given = rows.replace("votes", "votes,label").replace("neu\n", "neu,\n").replace("d,\n", "d,,\n")
    assert [utterance.label for utterance in read(tmp_path, given).utterances] == [None, None, None]
