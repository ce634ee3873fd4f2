"""Why subtitles, TextGrids and EAF are read by hand: what pysubs2, praatio and pympi-ling get wrong of the same input.

A test that fails because the library is right now says which lines of our own can go.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pysubs2
import pytest
from praatio.utilities import errors, textgrid_io
from pympi.Elan import Eaf

from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.recordings.transcripts import Turn, read_transcript


def ours(folder: Path, name: str, text: str) -> list[tuple[float | None, float | None, str | None, str | None]]:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return [(turn.start, turn.end, turn.text, turn.speaker) for turn in read_transcript(path).turns]


def by_pysubs2(text: str, form: str) -> list[tuple[int, int, str]]:
    subtitles = pysubs2.SSAFile.from_string(text, format_=form, keep_html_tags=True)
    return [(event.start, event.end, event.text) for event in subtitles.events]


@pytest.mark.parametrize(
    ("text", "library", "turns"),
    [
        pytest.param(
            "1\n100:00:00,000 --> 100:00:01,000\nhi\n",
            [(0, 1000, "hi")],
            [(360000.0, 360001.0, "hi", None)],
            id="the hundred of hours is lost",
        ),
        pytest.param(
            "1\n00:00:01,000 --> 00:00:02,000\nHow many?\n\n42\n",
            [(1000, 2000, "How many?")],
            [(1.0, 2.0, "How many? 42", None)],
            id="a number at the end is lost",
        ),
        pytest.param(
            "1\n00:00:01 --> 00:00:02\nhi\n", [], [(1.0, 2.0, "hi", None)], id="times without fractions are no cue"
        ),
        pytest.param(
            "1\n00:01,000 --> 00:02,000\nhi\n", [], [(1.0, 2.0, "hi", None)], id="times without hours are no cue"
        ),
        pytest.param(
            "1\n00:00:01,000 --> 00:00:02,000\nfrom 00:00:01,500 to 00:00:01,750\n",
            [(1000, 2000, ""), (1500, 1750, "")],
            [(1.0, 2.0, "from 00:00:01,500 to 00:00:01,750", None)],
            id="two times in the words are a cue",
        ),
        pytest.param(
            "1\r00:00:01,000 --> 00:00:02,000\rhi\r",
            [(1000, 2000, "")],
            [(1.0, 2.0, "hi", None)],
            id="with the line ends of old Macs there are no words",
        ),
        pytest.param(
            "1\n00:00:01,000 --> 00:00:02,000\n<b>Oh</b> &amp; ah\n",
            [(1000, 2000, "<b>Oh</b> &amp; ah")],
            [(1.0, 2.0, "Oh & ah", None)],
            id="tags and entities stay",
        ),
    ],
)
def test_pysubs2_reads_subrip_wrongly(
    tmp_path: Path, text: str, library: list[tuple[int, int, str]], turns: list[tuple[float, float, str, str | None]]
) -> None:
    assert by_pysubs2(text, "srt") == library
    assert ours(tmp_path, "a.srt", text) == turns


def test_pysubs2_drops_the_sign_of_a_time(tmp_path: Path) -> None:
    text = "1\n-00:00:01,000 --> 00:00:02,000\nearly\n\n2\n00:00:03,000 --> 00:00:04,000\nfine\n"
    assert by_pysubs2(text, "srt")[0] == (1000, 2000, "early")
    assert ours(tmp_path, "a.srt", text) == [(3.0, 4.0, "fine", None)]


def test_pysubs2_takes_a_damaged_time_for_words(tmp_path: Path) -> None:
    text = "1\n00:00:01,000 --> 00:00:02,000\nhi\n\n2\n00:00:03,000 --> 00:00:0x,000\nho\n"
    assert len(by_pysubs2(text, "srt")) == 1
    with pytest.raises(PipelineError, match=r"cue 2 \(line 6\): '00:00:0x,000' is not a time"):
        ours(tmp_path, "a.srt", text)


@pytest.mark.parametrize(
    ("text", "library", "turns"),
    [
        pytest.param(
            "WEBVTT\n\n00:01.000 --> 00:02.000\nHi\n\nNOTE secret\n\nsecond\n00:03.000 --> 00:04.000\nho\n",
            [(1000, 2000, r"Hi\N\NNOTE secret\N\Nsecond"), (3000, 4000, "ho")],
            [(1.0, 2.0, "Hi", None), (3.0, 4.0, "ho", None)],
            id="comments and names of cues are words",
        ),
        pytest.param(
            "WEBVTT\n\n00:01.000 --> 00:02.000\n<00:01.250>Hi <00:01.500>you\n",
            [(1000, 2000, ""), (1250, 1500, "")],
            [(1.0, 2.0, "Hi you", None)],
            id="the times of two words are a cue",
        ),
        pytest.param(
            "WEBVTT\n\n00:01.000 --> 00:02.000\n<v Ann>Ready?</v>\n<v Bob &amp; Co>&lt;Yes&gt;\n",
            [(1000, 2000, r"<v Ann>Ready?</v>\N<v Bob &amp; Co>&lt;Yes&gt;")],
            [(1.0, 2.0, "Ready?", "Ann"), (1.0, 2.0, "<Yes>", "Bob & Co")],
            id="voices are no speakers",
        ),
    ],
)
def test_pysubs2_reads_webvtt_wrongly(
    tmp_path: Path, text: str, library: list[tuple[int, int, str]], turns: list[tuple[float, float, str, str | None]]
) -> None:
    assert by_pysubs2(text, "vtt") == library
    assert ours(tmp_path, "a.vtt", text) == turns


def by_praatio(text: str) -> list[tuple[float, float, str]]:
    (tier,) = textgrid_io.parseTextgridStr(text)["tiers"]
    return [(float(start), float(end), label) for start, end, label in tier["entries"]]


HEAD = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n'


def long_form(*intervals: tuple[object, object, str]) -> str:
    lines = ["xmin = 0", "xmax = 9", "tiers? <exists>", "size = 1", "item []:", "item [1]:", 'class = "IntervalTier"']
    lines += ['name = "Ann"', "xmin = 0", "xmax = 9", f"intervals: size = {len(intervals)}"]
    for number, (start, end, text) in enumerate(intervals, start=1):
        lines += [f"intervals [{number}]:", f"xmin = {start}", f"xmax = {end}", f'text = "{text}"']
    return HEAD + "\n".join(lines) + "\n"


def short_form(*intervals: tuple[object, object, str]) -> str:
    lines = ["0", "9", "<exists>", "1", '"IntervalTier"', '"Ann"', "0", "9", str(len(intervals))]
    lines += [str(value) for start, end, text in intervals for value in (start, end, f'"{text}"')]
    return HEAD + "\n".join(lines) + "\n"


def test_praatio_drops_the_sign_of_a_time(tmp_path: Path) -> None:
    text = long_form((-1, 1, "early"), (1, 2, "fine"))
    assert by_praatio(text)[0] == (1.0, 1.0, "early")
    assert ours(tmp_path, "a.TextGrid", text) == [(1.0, 2.0, "fine", "Ann")]


@pytest.mark.parametrize("write", [long_form, short_form])
def test_praatio_takes_a_file_that_is_cut_off_for_a_whole_one(tmp_path: Path, write: Callable[..., str]) -> None:
    text = write((1, 2, "a"), (2, 3, "b"))
    cut = text[: text.index('"a"') + len('"a"\n')]
    assert by_praatio(cut) == [(1.0, 2.0, "a")]
    with pytest.raises(PipelineError, match="the file is cut off"):
        ours(tmp_path, "a.TextGrid", cut)


def test_praatio_drops_the_last_interval_of_a_file_without_a_last_line_end(tmp_path: Path) -> None:
    text = short_form((1, 2, "a"), (2, 3, "b")).rstrip("\n")
    assert by_praatio(text) == [(1.0, 2.0, "a")]
    assert ours(tmp_path, "a.TextGrid", text) == [(1.0, 2.0, "a", "Ann"), (2.0, 3.0, "b", "Ann")]


@pytest.mark.parametrize(
    ("text", "turn"),
    [
        pytest.param(long_form(("1e-05", 2, "a")), (1e-05, 2.0, "a", "Ann"), id="exponents"),
        pytest.param(long_form((1, 2, "item [1]:")), (1.0, 2.0, "item [1]:", "Ann"), id="words like a heading"),
        pytest.param(
            short_form((1, 2, '""IntervalTier""')), (1.0, 2.0, '"IntervalTier"', "Ann"), id="words like a class"
        ),
        pytest.param(long_form((1, 2, "a")).replace("\n", "\r"), (1.0, 2.0, "a", "Ann"), id="line ends of old Macs"),
        pytest.param(short_form((1, 2, "a")).replace("\n", " "), (1.0, 2.0, "a", "Ann"), id="all on one line"),
    ],
)
def test_praatio_cannot_read_what_praat_reads(
    tmp_path: Path, text: str, turn: tuple[float, float, str, str | None]
) -> None:
    with pytest.raises((errors.ParsingError, ValueError, IndexError)):
        by_praatio(text)
    assert ours(tmp_path, "a.TextGrid", text) == [turn]


NAMESPACE = (
    ' VERSION="3.0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:noNamespaceSchemaLocation="EAFv3.0.xsd"'
)
EAF = f"""<ANNOTATION_DOCUMENT{NAMESPACE}><TIME_ORDER><TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1000"/>
<TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="2500"/></TIME_ORDER><TIER TIER_ID="Ann"><ANNOTATION>
<ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
<ANNOTATION_VALUE>Hi</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER></ANNOTATION_DOCUMENT>"""
TURN = (1.0, 2.5, "Hi", "Ann")


def by_pympi(folder: Path, text: str, encoding: str = "utf-8") -> list[tuple[int, int, str]]:
    path = folder / "library.eaf"
    path.write_bytes(text.encode(encoding))
    return list(Eaf(str(path)).get_annotation_data_for_tier("Ann"))


def test_a_plain_eaf_is_read_alike(tmp_path: Path) -> None:
    assert by_pympi(tmp_path, EAF) == [(1000, 2500, "Hi")]
    assert ours(tmp_path, "a.eaf", EAF) == [TURN]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param(EAF.replace(NAMESPACE, ""), KeyError, id="no schema or version"),
        pytest.param(EAF.replace("ts1", "begin"), ValueError, id="time slots without a number"),
        pytest.param(EAF.replace('"a1"', '"first"'), ValueError, id="annotations without a number"),
        pytest.param(EAF.replace('"1000"', '"1000.0"'), ValueError, id="a fraction of a millisecond"),
    ],
)
def test_pympi_breaks_off_with_an_error_that_names_no_file(tmp_path: Path, text: str, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        by_pympi(tmp_path, text)
    assert "library.eaf" not in str(caught.value)
    assert ours(tmp_path, "a.eaf", text) == [TURN]


@pytest.mark.parametrize("encoding", ["utf-32", "cp1252"])
def test_pympi_reads_no_other_encoding(tmp_path: Path, encoding: str) -> None:
    text = EAF.replace("Hi", "Hé")
    with pytest.raises(Exception, match="Unable to parse eaf"):
        by_pympi(tmp_path, text, encoding)
    (tmp_path / "a.eaf").write_bytes(text.encode(encoding))
    assert read_transcript(tmp_path / "a.eaf").turns == (Turn(1.0, 2.5, "Hé", "Ann"),)


def test_pympi_loses_the_first_of_two_tiers_of_one_name(tmp_path: Path) -> None:
    tier = EAF[EAF.index("<TIER ") : EAF.index("</ANNOTATION_DOCUMENT>")]
    text = EAF.replace("</ANNOTATION_DOCUMENT>", tier.replace("Hi", "Ho") + "</ANNOTATION_DOCUMENT>")
    assert by_pympi(tmp_path, text) == [(1000, 2500, "Ho")]
    assert ours(tmp_path, "a.eaf", text) == [TURN, (1.0, 2.5, "Ho", "Ann")]


def test_pympi_lets_entities_grow(tmp_path: Path) -> None:
    """Ten times as much with every entity: pympi-ling gives the words whole, expat alone stops it at some point."""
    entities = '<!ENTITY x0 "lollollol.">' + "".join(
        f'<!ENTITY x{level} "{f"&x{level - 1};" * 10}">' for level in range(1, 6)
    )
    text = f"<!DOCTYPE a [{entities}]>{EAF.replace('Hi', '&x5;')}"
    assert len(by_pympi(tmp_path, text)[0][2]) == 1_000_000 > 500 * len(text)
    with pytest.raises(PipelineError, match="declares a document type or entities"):
        ours(tmp_path, "a.eaf", text)
