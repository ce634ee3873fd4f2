"""Transcripts: every format read into the same turns, and what people's files have wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pysubs2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from praatio import textgrid

from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.recordings.transcripts import FORMATS, Transcript, Turn, Word, find_transcript, read_transcript
from lpgnet.pipeline.recordings.transcripts.base import parse_time

CONVERSATION = Path(__file__).parents[2] / "data" / "conversation"

TURNS = (Turn(1.0, 2.5, "Hello there.", "Ann"), Turn(2.25, 3.725, "Oh, hi!", "Bob"))

SRT = """1
00:00:01,000 --> 00:00:02,500
Ann: Hello
there.

2
00:00:02,250 --> 00:00:03,725
Bob: <i>Oh</i>, {\\an8}hi!
"""
VTT = """WEBVTT - a call

NOTE
Ann: nothing to be read --

STYLE
::cue { color: red }

first
00:01.000 --> 00:02.500 align:start position:0%
<v.loud Ann>Hello
there.</v>

NOTE said --> quickly

00:00:02.250 --> 00:00:03.725
<v Bob>Oh,<00:00:03.000> <c.yellow>hi!</c><00:00:03.500>
"""
STM = """;; a comment
call 1 Ann 1.0 2.5 <o,f0,female> Hello there.
call 1 inter_segment_gap 2.5 2.6
call 1 Bob 2.25 3.725 Oh, hi!
call 1 Bob 4 5 ignore_time_segment_in_scoring
"""
CTM = """;; a comment
call 1 1.0 0.5 Hello 0.9 lex Ann
call 1 1.75 0.75 there. 0.9 lex Ann
call 1 2.25 0.5 Oh, NA lex Bob
call 1 * * <ALT_BEGIN>
call 1 3.0 0.725 hi! NA lex Bob
call 1 * * <ALT>
call 1 3.0 0.725 high NA lex Bob
call 1 * * <ALT_END>
"""
RTTM = """SPKR-INFO call 1 <NA> <NA> <NA> unknown Ann <NA>
SPEAKER call 1 1.0 1.5 <NA> <NA> Ann <NA> <NA>
SPEAKER call 1 2.25 1.475 <NA> <NA> Bob <NA> <NA>
"""
WHISPER = {
    "text": "Hello there. Oh, hi!",
    "segments": [
        {"start": 1.0, "end": 2.5, "text": " Hello there.", "speaker": "Ann"},
        {"start": 2.25, "end": 3.725, "text": " Oh, hi!", "speaker": "Bob"},
    ],
}
CHUNKS = {
    "chunks": [
        {"timestamp": [1.0, 2.5], "text": " Hello there.", "speaker": "Ann"},
        {"timestamp": [2.25, 3.725], "text": "Oh, hi!", "speaker": "Bob"},
    ]
}
EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT><TIME_ORDER>
<TIME_SLOT TIME_SLOT_ID="t1" TIME_VALUE="1000"/><TIME_SLOT TIME_SLOT_ID="t2" TIME_VALUE="2500"/>
<TIME_SLOT TIME_SLOT_ID="t3" TIME_VALUE="2250"/><TIME_SLOT TIME_SLOT_ID="t4" TIME_VALUE="3725"/>
<TIME_SLOT TIME_SLOT_ID="t5"/></TIME_ORDER>
<TIER TIER_ID="B1" PARTICIPANT="Bob"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="t3"
 TIME_SLOT_REF2="t4"><ANNOTATION_VALUE>Oh, hi!</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>
<TIER TIER_ID="Ann"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="t1" TIME_SLOT_REF2="t2">
<ANNOTATION_VALUE>Hello
there.</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>
<TIER TIER_ID="translation" PARENT_REF="Ann"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a3"
 TIME_SLOT_REF1="t1" TIME_SLOT_REF2="t2"><ANNOTATION_VALUE>Bonjour</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION>
</ANNOTATION></TIER></ANNOTATION_DOCUMENT>
"""
ROWS = [{"start": turn.start, "end": turn.end, "text": turn.text, "speaker": turn.speaker} for turn in TURNS]
TEXTS = {
    "a.srt": SRT,
    "a.vtt": VTT,
    "a.stm": STM,
    "a.ctm": CTM,
    "a.json": json.dumps(WHISPER),
    "b.json": json.dumps(CHUNKS),
    "c.json": json.dumps(WHISPER["segments"]),
    "a.eaf": EAF,
    "a.csv": 'Start,End,Speaker,Text,note\n1,00:00:02.5,Ann,Hello there.,x\n2.25,3.725,Bob,"Oh, hi!",\n',
    "b.csv": "start;end;text;speaker\n1;2.5;Hello there.;Ann\n2.25;3.725;Oh, hi!;Bob\n",
    "a.tsv": "start\tend\ttext\tspeaker\n1.0\t2.5\tHello there.\tAnn\n2.25\t3.725\tOh, hi!\tBob\n",
    "b.tsv": "start\tend\ttext\tspeaker\n1000\t2500\tHello there.\tAnn\n2250\t3725\tOh, hi!\tBob\n",
    "a.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
}


def read(folder: Path, name: str, text: str, *, recording: str | None = None) -> Transcript:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return read_transcript(path, recording=recording)


def without_words(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    return tuple(Turn(turn.start, turn.end, turn.text, turn.speaker) for turn in turns)


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_formats_agree(tmp_path: Path, name: str, line_end: str) -> None:
    transcript = read(tmp_path, name, TEXTS[name].replace("\n", line_end))
    assert without_words(transcript.turns) == TURNS
    assert [w for w in transcript.warnings if "milliseconds" not in w] == []
    assert transcript.has_times and transcript.has_words
    assert transcript.format == FORMATS[Path(name).suffix].name


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings_agree(tmp_path: Path, name: str, encoding: str) -> None:
    (tmp_path / name).write_bytes(TEXTS[name].replace("hi!", "hé!").encode(encoding))
    transcript = read_transcript(tmp_path / name)
    assert [turn.text for turn in transcript.turns] == ["Hello there.", "Oh, hé!"]
    assert [w for w in transcript.warnings if "milliseconds" not in w] == []


def test_latin_1_is_read_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_bytes(SRT.replace("hi!", "déjà vu’").encode("cp1252"))
    transcript = read_transcript(tmp_path / "a.srt")
    assert transcript.turns[1].text == "Oh, déjà vu’"
    assert "is not UTF-8, so it was read as cp1252" in transcript.warnings[0]


@pytest.mark.parametrize("form", ["long_textgrid", "short_textgrid"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_textgrids_that_praatio_writes(tmp_path: Path, form: str, encoding: str) -> None:
    grid = textgrid.Textgrid()
    quoted = 'Oh, "hi" item [1]: intervals [2]\n"IntervalTier"'
    grid.addTier(textgrid.IntervalTier("Bob", [(2.25, 3.725, quoted)], 0, 5))
    grid.addTier(textgrid.PointTier("beeps", [(0.5, "beep")], 0, 5))
    grid.addTier(textgrid.IntervalTier("Ann", [(1.0, 2.5, "Hello there.")], 0, 5))
    grid.addTier(textgrid.IntervalTier("emotion", [(1.0, 2.5, "happy")], 0, 5))
    path = tmp_path / "a.TextGrid"
    grid.save(str(path), form, includeBlankSpaces=True)
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    transcript = read_transcript(path)
    assert transcript.turns == (TURNS[0], Turn(2.25, 3.725, " ".join(quoted.split()), "Bob"))
    assert transcript.warnings == ()


def textgrid_of(*tiers: tuple[str, list[tuple[float, float, str]]]) -> str:
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "0", "9", "<exists>", str(len(tiers))]
    for name, intervals in tiers:
        lines += ['"IntervalTier"', f'"{name}"', "0", "9", str(len(intervals))]
        lines += [
            str(value) if value != text else f'"{text}"' for *times, text in intervals for value in (*times, text)
        ]
    return "\n".join(lines)


def test_textgrids_of_forced_aligners_give_turns_of_words(tmp_path: Path) -> None:
    words = [(1.0, 1.5, "so"), (1.6, 2.0, "yes"), (2.0, 3.5, ""), (3.5, 4.0, "no")]
    phones = [(1.0, 1.2, "S"), (1.2, 1.5, "OW")]
    text = textgrid_of(("Ann - words", words), ("Ann - phones", phones), ("words", [(5.0, 6.0, "hm")]))
    assert read(tmp_path, "a.TextGrid", text).turns == (
        Turn(1.0, 2.0, "so yes", "Ann", (Word("so", 1.0, 1.5), Word("yes", 1.6, 2.0))),
        Turn(3.5, 4.0, "no", "Ann", (Word("no", 3.5, 4.0),)),
        Turn(5.0, 6.0, "hm", None, (Word("hm", 5.0, 6.0),)),
    )


def test_a_textgrid_keeps_the_sign_of_its_times(tmp_path: Path) -> None:
    text = textgrid_of(("Ann", [(-1.0, 1.0, "early"), (1e-3, 2.0, "fine")]))
    transcript = read(tmp_path, "a.TextGrid", text)
    assert transcript.turns == (Turn(0.001, 2.0, "fine", "Ann"),)
    assert "negative time: tier Ann, interval 1" in transcript.warnings[0]


@pytest.mark.parametrize("n_lines", [4, 8, 12, 13, 15, 17])
def test_a_textgrid_that_is_cut_off_is_refused(tmp_path: Path, n_lines: int) -> None:
    lines = textgrid_of(("Ann", [(1.0, 2.0, "a"), (2.0, 3.0, "b")])).split("\n")
    assert len(lines) == 18
    with pytest.raises(PipelineError, match="the file is cut off"):
        read(tmp_path, "a.TextGrid", "\n".join(lines[:n_lines]))


def test_subtitles_that_pysubs2_writes(tmp_path: Path) -> None:
    subtitles = pysubs2.SSAFile()
    subtitles.events = [
        pysubs2.SSAEvent(
            start=int(1000 * (turn.start or 0)), end=int(1000 * (turn.end or 0)), text=f"{turn.speaker}: {turn.text}"
        )
        for turn in TURNS
    ]
    for suffix in ("srt", "vtt"):
        subtitles.save(str(tmp_path / f"a.{suffix}"))
        assert read_transcript(tmp_path / f"a.{suffix}").turns == TURNS


def test_numbers_that_are_words_stay_and_numbers_of_cues_go(tmp_path: Path) -> None:
    text = (
        "1\n00:00:01,0 --> 00:00:02,0\nHow many?\n\n42\n\n"
        "00:00:02,0 --> 00:00:03,0\n43\n3\n00:00:03,0 --> 00:00:04,0\n1984\n"
    )
    assert [turn.text for turn in read(tmp_path, "a.srt", text).turns] == ["How many? 42", "43", "1984"]


def test_a_cue_with_two_voices_gives_two_turns(tmp_path: Path) -> None:
    text = "WEBVTT\n\n00:01.000 --> 00:02.000\n<v Ann>Ready?</v>\n<v Bob &amp; Co>Yes &lt;now&gt;</v>\n"
    assert read(tmp_path, "a.vtt", text).turns == (
        Turn(1.0, 2.0, "Ready?", "Ann"),
        Turn(1.0, 2.0, "Yes <now>", "Bob & Co"),
    )


TRAPS = """1
00:00:05,000 --> 00:00:06,000
late

2
-00:00:01,000 --> 00:00:02,000
before the beginning

3
00:00:03,000 --> 00:00:02,000
backwards

4
00:00:02,000 --> 00:00:02,000
no time at all

5
00:00:01,000 --> 00:00:02,000


6
00:00:01,500 --> 00:00:05,500
overlapping
"""


def test_wrong_cues_are_left_out_by_name_and_the_rest_is_sorted(tmp_path: Path) -> None:
    transcript = read(tmp_path, "a.srt", TRAPS)
    assert transcript.turns == (Turn(1.5, 5.5, "overlapping"), Turn(5.0, 6.0, "late"))
    where = f"{tmp_path / 'a.srt'}: "
    assert transcript.warnings == (
        f"{where}left out, negative time: cue 2 (line 6)",
        f"{where}left out, end is not after start: cue 3 (line 10), cue 4 (line 14)",
        f"{where}left out, no words: cue 5 (line 18)",
        f"{where}cues are not in the order of their times; sorted by start",
    )


def test_words_of_whisper_keep_their_times(tmp_path: Path) -> None:
    words = [{"word": " In", "start": 0.5, "end": 0.75, "probability": 1}, {"word": "1984."}]
    segment = {"start": 0.5, "end": 2, "text": " In 1984.", "words": words}
    turn = read(tmp_path, "a.json", json.dumps({"segments": [segment]})).turns[0]
    assert turn == Turn(0.5, 2.0, "In 1984.", None, (Word("In", 0.5, 0.75), Word("1984.")))


def test_words_of_a_ctm_are_joined_by_channel_up_to_a_pause(tmp_path: Path) -> None:
    text = "r B 0.2 0.3 hm\nr A 0.0 0.5 so\nr A 0.9 0.1 yes\nr A 1.6 0.4 no 0.5\n"
    assert read(tmp_path, "a.ctm", text).turns == (
        Turn(0.0, 1.0, "so yes", "A", (Word("so", 0.0, 0.5), Word("yes", 0.9, 1.0))),
        Turn(0.2, 0.5, "hm", "B", (Word("hm", 0.2, 0.5),)),
        Turn(1.6, 2.0, "no", "A", (Word("no", 1.6, 2.0),)),
    )
    assert read(tmp_path, "b.ctm", "r 1 0 1 hm\n").turns[0].speaker is None


def test_turns_without_words(tmp_path: Path) -> None:
    rttm = read(tmp_path, "a.rttm", RTTM)
    assert rttm.turns == (Turn(1.0, 2.5, None, "Ann"), Turn(2.25, 3.725, None, "Bob"))
    assert rttm.has_times and not rttm.has_words
    assert read(tmp_path, "a.uem", "call 1 0.5 9.75\n").turns == (Turn(0.5, 9.75, None),)
    silent = EAF.replace("Oh, hi!", "").replace("Hello\nthere.", "")
    assert read(tmp_path, "a.eaf", silent).turns == rttm.turns


def test_lines_without_times(tmp_path: Path) -> None:
    text = "Ann: Hello there.\n\n  Still me: or not?\nBob Smith:\tOh, hi!\n[SPEAKER_01]: It is 10:30.\n李\uff1a你好\n"
    transcript = read(tmp_path, "a.txt", text)
    assert not transcript.has_times
    assert [(turn.speaker, turn.text) for turn in transcript.turns] == [
        ("Ann", "Hello there."),
        ("Still me", "or not?"),
        ("Bob Smith", "Oh, hi!"),
        ("SPEAKER_01", "It is 10:30."),
        ("李", "你好"),
    ]
    untimed = read(tmp_path, "a.csv", "speaker,text\nAnn,Hello there.\n")
    assert untimed.turns == (Turn(None, None, "Hello there.", "Ann"),)


def test_names_before_colons_are_speakers_only_where_most_lines_have_them(tmp_path: Path) -> None:
    rare = read(tmp_path, "a.txt", "I said\nsomething:\nRemember: be kind\nand go\nhome now\n")
    assert [turn.speaker for turn in rare.turns] == [None] * 5
    assert rare.turns[2].text == "Remember: be kind"
    often = read(tmp_path, "b.txt", "Hm.\nAnn: So.\nAnd so.\nBob: No.\nAnn: Yes.\n")
    assert [turn.speaker for turn in often.turns] == [None, "Ann", "Ann", "Bob", "Ann"]


def test_a_recording_is_chosen_where_a_file_holds_several(tmp_path: Path) -> None:
    text = "one 1 Ann 0 1 hi\ntwo 1 Bob 0 1 ho\n"
    assert read(tmp_path, "a.stm", text, recording="two").turns[0].text == "ho"
    with pytest.raises(PipelineError, match=r"several recordings \(one, two\) and none is 'three'"):
        read(tmp_path, "a.stm", text, recording="three")
    with pytest.raises(PipelineError, match="and it is not known which is meant"):
        read(tmp_path, "a.stm", text)
    assert read(tmp_path, "b.stm", "one 1 Ann 0 1 hi\n", recording="three").turns[0].text == "hi"


ENTITIES = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><ANNOTATION_DOCUMENT/>'


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.doc", "", "is no known transcript format; known: .srt"),
        ("a.srt", "", "has no turns that can be used; check that it is the transcript"),
        ("a.srt", "hello\n", "has no turns that can be used"),
        (
            "a.srt",
            "1\n00:00:02,000 --> 00:00:01,000\nhi\n",
            "can be used; left out, end is not after start: cue 1 (line 2)",
        ),
        ("a.srt", "1\n00:00:01,000 --> 00:00:0x,000\nhi\n", "cue 1 (line 2): '00:00:0x,000' is not a time"),
        ("a.vtt", "\0\1\2", "is not a text file"),
        ("a.csv", "start,text\n1,hi\n", "has no column 'end'; its columns: start, text"),
        ("a.csv", "begin,end,txt\n1,2,hi\n", "has no column 'text'; did you mean 'txt'"),
        ("a.csv", "start,end,text\n1,,hi\n", "line 2: '' is not a time"),
        ("a.csv", "start,end,text\n1,inf,hi\n", "line 2: 'inf' is not a time"),
        ("a.csv", "start,end,text\n1,2\n", "line 2: has 2 cells"),
        ("a.jsonl", '{"start": null, "end": 1, "text": "a"}', "line 1: None is not a time in seconds"),
        ("a.json", "{", "line 1: is not JSON"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.json", '{"text": "hi"}', "has no list of segments"),
        ("a.json", '[{"start": 0, "end": 1}]', "segment 1: is not an object with a text"),
        ("a.json", '[{"start": true, "end": 1, "text": "a"}]', "segment 1: True is not a time"),
        ("a.json", '[{"start": 0, "end": 1, "text": "a", "words": ["a"]}]', "segment 1: word 'a' is not an object"),
        ("a.stm", "call 1 Ann 1.0\n", "line 1: has 4 fields and needs 5"),
        ("a.rttm", "SPEAKER call 1 x 1 <NA> <NA> Ann <NA> <NA>\n", "line 1: 'x' is not a time"),
        ("a.TextGrid", 'File type = "ooBinaryFile"\nObject class = "TextGrid"\n', "is not a TextGrid in text form"),
        ("a.TextGrid", textgrid_of(("Ann", [])).replace('"Ann"', "Ann"), "line 10: has 0 where a string should stand"),
        ("a.TextGrid", textgrid_of(("Ann", [])).replace("\n9\n", "\n1e999\n"), "line 5: has 1e999 where a number"),
        ("a.eaf", "<ANNOTATION_DOCUMENT>", "is not XML"),
        ("a.eaf", "<html/>", "is not an EAF file (its root is html)"),
        ("a.eaf", ENTITIES, "declares a document type or entities"),
        ("a.eaf", EAF.replace('REF1="t3"', 'REF1="t9"'), "annotation a2: refers to the time slot 't9'"),
    ],
)
def test_wrong_files_name_the_place(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(PipelineError) as caught:
        read(tmp_path, name, text)
    assert message in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_annotation_without_times_is_left_out(tmp_path: Path) -> None:
    transcript = read(tmp_path, "a.eaf", EAF.replace('REF2="t4"', 'REF2="t5"'))
    assert transcript.turns == TURNS[:1]
    assert "left out, no times: a2 of tier Bob" in transcript.warnings[0]


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"a\.srt: no such file"):
        read_transcript(tmp_path / "a.srt")
    (tmp_path / "b.srt").mkdir()
    with pytest.raises(PipelineError, match=r"b\.srt: cannot be read"):
        read_transcript(tmp_path / "b.srt")


def test_the_transcript_beside_a_recording(tmp_path: Path) -> None:
    recording = tmp_path / "call.1.wav"
    assert find_transcript(recording) is None
    for name in ("call.1.rttm", "call.srt", "._call.1.srt", "call.1.wav.CSV", "call.1.TextGrid"):
        (tmp_path / name).touch()
    assert find_transcript(recording) == tmp_path / "call.1.TextGrid"
    (tmp_path / "call.1.TextGrid").unlink()
    assert find_transcript(recording) == tmp_path / "call.1.wav.CSV"
    (tmp_path / "call.1.wav.CSV").unlink()
    assert find_transcript(recording) == tmp_path / "call.1.rttm"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("83.5", 83.5),
        ("01:23.5", 83.5),
        ("1:02:03,004", 3723.004),
        ("-00:00:01,500", -1.5),
        ("100:00:00", 360000.0),
        ("1:2:3:4", None),
        ("9" * 400 + ":00:00", None),
        ("nan", None),
        ("", None),
    ],
)
def test_times(text: str, seconds: float | None) -> None:
    assert parse_time(text) == seconds


@given(st.integers(0, 400_000_000))
def test_clock_times_and_seconds_are_read_alike(milliseconds: int) -> None:
    seconds, rest = divmod(milliseconds, 1000)
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    assert parse_time(f"{clock},{rest:03d}") == parse_time(f"{clock}.{rest:03d}") == milliseconds / 1000
    assert parse_time(str(milliseconds / 1000)) == milliseconds / 1000


WORDS = st.text(st.characters(categories=["L", "P", "Nd"]), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(st.integers(0, 10**7), st.integers(1, 10**5), WORDS), min_size=1, max_size=6))
def test_short_textgrids_of_any_words_are_read(tmp_path: Path, rows: list[tuple[int, int, str]]) -> None:
    turns = sorted(
        (Turn(s / 1000, (s + d) / 1000, text, "Ann") for s, d, text in rows), key=lambda turn: turn.start or 0
    )
    intervals = [(turn.start or 0.0, turn.end or 0.0, (turn.text or "").replace('"', '""')) for turn in turns]
    assert read(tmp_path, "a.TextGrid", textgrid_of(("Ann", intervals))).turns == tuple(turns)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from([*TEXTS, "a.rttm", "a.TextGrid", "a.txt"]),
    place=st.floats(0, 1),
    length=st.integers(0, 40),
    insert=st.binary(max_size=6)
    | st.sampled_from([b"-->", b'"', b"[[", b"1e999", b"-", b"\r", b"<", b"null", b"\xc2\x85"]),
)
def test_damaged_files_are_read_or_refused_in_one_line(
    tmp_path: Path, name: str, place: float, length: int, insert: bytes
) -> None:
    more = {"a.rttm": RTTM, "a.TextGrid": textgrid_of(("Ann", [(1.0, 2.0, "a")])), "a.txt": "Ann: a\nBob: b\n"}
    data = (TEXTS | more)[name].encode()
    cut = int(place * len(data))
    (tmp_path / name).write_bytes(data[:cut] + insert + data[cut + length :])
    try:
        turns = read_transcript(tmp_path / name).turns
    except PipelineError as error:
        assert "\n" not in str(error)  # noqa: PT017 (either of two outcomes is right)
    else:
        assert turns
        assert all(0 <= turn.start < turn.end for turn in turns if turn.start is not None and turn.end is not None)


def test_the_real_conversation() -> None:
    turns = read_transcript(CONVERSATION / "sample.rttm", recording="sample")
    words = read_transcript(CONVERSATION / "sample.stm", recording="sample")
    assert (len(turns.turns), len(words.turns)) == (10, 13)
    assert turns.warnings == words.warnings == ()
    assert turns.turns[0] == Turn(6.69, 7.12, None, "speaker90")
    assert words.turns[3] == Turn(8.916, 9.798, "I didn't know you were there.", "Diane")
    assert find_transcript(CONVERSATION / "sample.wav") == CONVERSATION / "sample.stm"
