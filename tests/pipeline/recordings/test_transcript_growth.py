"""No transcript takes more time than in proportion to its length, and what no recording has is refused."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.recordings import transcripts
from lpgnet.pipeline.recordings.transcripts import FORMATS, read_transcript
from lpgnet.pipeline.recordings.transcripts.base import Source, usable_turns
from tests.growth import grows_too_fast
from tests.pipeline.recordings.test_transcripts import RTTM, TEXTS

TEXTGRID = """File type = "ooTextFile"
Object class = "TextGrid"
0 4 <exists> 1
"IntervalTier" "Ann - words" 0 4 2
0 1 "a ""word" 1 4 ""
"""
SAMPLES = {
    **{Path(name).suffix: text for name, text in TEXTS.items()},
    ".textgrid": TEXTGRID,
    ".txt": "[Ann]: Hello there.\n- Bob: Oh, hi!\n",
    ".rttm": RTTM,
    ".uem": "call 1 0.5 2\n",
}
CUE = "1\n00:00:01,000 --> 00:00:02,000\n"
GRID = '"ooTextFile" "TextGrid" 0 1 <exists> '
# What comes before a piece that is repeated, the piece, and what comes after.
HOSTILE = [
    *((".srt", CUE, piece, "") for piece in ("<v a", "<v.a", "{\\", "<", "</a", "&", "&#", "&#x")),
    *((".srt", CUE, piece, "") for piece in ("A: ", "a\n", "-->")),
    *(
        (".srt", CUE + start, piece, end)
        for start, piece, end in (("<v", "\t", ""), ("&#", "1", ";"), ("&#", "0", ";"))
    ),
    *((".srt", "", piece, "") for piece in ("0:1 --> 0:2\n", "1\n", "1 --> 2\na\n", " ", "-")),
    *((".srt", start, "1", " --> 2\na\n") for start in ("", "0.", "0:0.")),
    *((".textgrid", GRID, piece, "") for piece in ('9999 "IntervalTier" "a" 0 1 1 0 1 "a" ', "1", '"', '""', "<a")),
    *((".eaf", "<ANNOTATION_DOCUMENT>", piece, "") for piece in ("<TIER>", "<TIER/>", "&lt;", "<![CDATA[")),
    *((".json", start, piece, "") for start in ("", '[{"start": ') for piece in ("[", '{"a":', "1", "[],", '"\\u0041')),
    *((".csv", "start,end,text\n", piece, "") for piece in ("'", '"', '""', "0,1,a\n", ",", "\n", "'\n=")),
    *((".jsonl", "", piece, "") for piece in ("{}\n", '{"text": "a"}\n', "[", "\n")),
    *((".txt", "", piece, "") for piece in ("\t", "-", "- ", "a", "a ", "[a", "[a] :\n", ".", "：")),
    *((".ctm", "", piece, "") for piece in ("a 1 0 1 w\n", "a 1 * * <ALT>\n", "a 1 9 0 w 1 lex a\n")),
]


def parse(suffix: str, text: str) -> None:
    source = Source(path=Path(f"a{suffix}"), text=text, recording="call")
    with suppress(PipelineError):
        usable_turns(FORMATS[suffix].read(source), source)


def repeated(start: str, piece: str, end: str) -> Callable[[int], str]:
    return lambda size: start + piece * (size // len(piece)) + end


@pytest.mark.parametrize(("suffix", "start", "piece", "end"), HOSTILE)
def test_hostile_transcripts(suffix: str, start: str, piece: str, end: str) -> None:
    assert not grows_too_fast(lambda text: parse(suffix, text), repeated(start, piece, end))


def test_tiers_in_tiers() -> None:
    def nested(size: int) -> str:
        n = size // 13
        return "<ANNOTATION_DOCUMENT>" + "<TIER>" * n + "</TIER>" * n + "</ANNOTATION_DOCUMENT>"

    assert not grows_too_fast(lambda text: parse(".eaf", text), lambda size: nested(4 * size))


@pytest.mark.parametrize("suffix", FORMATS)
@given(data=st.data())
@settings(max_examples=60)
def test_any_piece_of_a_transcript_over_and_over(suffix: str, data: st.DataObject) -> None:
    sample = SAMPLES[suffix]
    start = data.draw(st.integers(0, len(sample) - 1))
    stop = data.draw(st.integers(start + 1, min(len(sample), start + 40)))
    end = data.draw(st.sampled_from([sample[stop:], "", '"', ">", "\n!"]))
    make = repeated(sample[:start], sample[start:stop], end)
    assert not grows_too_fast(lambda text: parse(suffix, text), make), (sample[:start], sample[start:stop], end)


def test_references_to_characters_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    path.write_text(f"{CUE}&#{'1' * 5000}; &#{'0' * 5000}65; &#00000066; &#67;")
    assert [turn.text for turn in read_transcript(path).turns] == ["\ufffd A B C"]


@pytest.mark.parametrize("time", ["1e305", "1" + "0" * 300])
def test_times_beyond_any_recording_are_left_out(tmp_path: Path, time: str) -> None:
    path = tmp_path / "a.rttm"
    times = ("0 1", f"{time} {time}", f"0 {time}")
    path.write_text("".join(f"SPEAKER a 1 {time} <NA> <NA> b\n" for time in times))
    transcript = read_transcript(path)
    assert len(transcript.turns) == 1
    assert "left out, a time beyond any recording: line 2, line 3" in transcript.warnings[0]


def test_counts_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("word\n" * (transcripts.MOST_TURNS + 1))
    with pytest.raises(PipelineError, match=r"a\.txt: has 100001 turns for one recording; at most 100000 are read"):
        read_transcript(tmp_path / "a.txt")
    words = [{"word": "a"}] * (transcripts.MOST_WORDS + 1)
    (tmp_path / "a.json").write_text(json.dumps([{"start": 0, "end": 1, "text": "a", "words": words}]))
    with pytest.raises(PipelineError, match=r"a\.json: has 1000001 words with times for one recording"):
        read_transcript(tmp_path / "a.json")
    with (tmp_path / "a.srt").open("wb") as file:
        file.truncate(20 * 10**9)
    with pytest.raises(PipelineError, match=r"a\.srt: .*20,000,000,000 bytes, and at most 200,000,000 are read"):
        read_transcript(tmp_path / "a.srt")


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes here")
    os.mkfifo(tmp_path / "a.srt")
    with pytest.raises(PipelineError, match=r"a\.srt: .*only regular files are read"):
        read_transcript(tmp_path / "a.srt")


@pytest.mark.parametrize("text", ["[" * 100_000, '[{"start": ' + "1" * 5000 + "}]"])
def test_json_is_bounded(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(PipelineError, match=r"a\.json: (is nested too deeply|has a number of 5000 digits)"):
        read_transcript(tmp_path / "a.json")
