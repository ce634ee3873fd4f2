"""Valence, arousal and dominance in every format: the same numbers everywhere, and nothing where a model gives none."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from praatio import textgrid
from pympi.Elan import Eaf

from lpgnet.pipeline.recordings.transcripts import read_transcript
from lpgnet.pipeline.reports.config import PageConfig
from lpgnet.pipeline.reports.page import to_html
from lpgnet.pipeline.reports.rows import Timeline, TimelineRow
from lpgnet.pipeline.reports.speakers import summaries
from lpgnet.pipeline.reports.timeline import check_formats, output_paths, write_timeline

RANGES = {"valence": (1.0, 5.0), "arousal": (0.0, 100.0)}
RATINGS = st.tuples(*(st.floats(low, high) for low, high in RANGES.values()))
# Formats that hold words and labels only.
WITHOUT = ("srt", "vtt", "rttm", "audacity")


def row(number: int, speaker: str | None, *ratings: float, seconds: float = 1.5) -> TimelineRow:
    start = 2.0 * number
    probabilities = {"happy": 0.75, "sad": 0.25}
    dimensions = dict(zip(RANGES, ratings, strict=False))
    name = f"turn {number + 1}"
    return TimelineRow(
        name, start, start + seconds, speaker, "words", "happy", probabilities, {"text": 0.4}, dimensions=dimensions
    )


def timeline(*rows: TimelineRow) -> Timeline:
    return Timeline("call", rows, None, 1000.0, ranges={name: RANGES[name] for name in rows[0].dimensions})


ROWS = (row(0, "Ann", 1.234, 20.0), row(1, "Bob", 5.0, 99.999, seconds=0.5), row(2, "Ann", 4.0, 60.0, seconds=0.5))


def write(written: Timeline, folder: Path, *formats: str) -> dict[str, Path]:
    write_timeline(written, folder, formats, PageConfig())
    return output_paths(folder, written.name, formats)


def columns_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def objects_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def in_grid(path: Path) -> dict[str, list[tuple[float, str]]]:
    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
    return {name: [(entry.start, entry.label) for entry in grid.getTier(name).entries] for name in grid.tierNames}


def in_eaf(path: Path) -> dict[str, list[tuple[float, str]]]:
    document = Eaf(str(path))
    found = {name: document.get_annotation_data_for_tier(name) for name in document.get_tier_names()}
    return {name: [(start / 1000, words) for start, _, words in own] for name, own in found.items()}


def in_studio(path: Path) -> list[tuple[str, float, float]]:
    ((task,),) = [json.loads(path.read_text(encoding="utf-8"))]
    parts = [part for part in task["predictions"][0]["result"] if part["type"] == "number"]
    return [(part["from_name"], part["value"]["start"], part["value"]["number"]) for part in parts]


@given(ratings=st.lists(st.tuples(st.sampled_from(["Ann", "Bob", None]), RATINGS), min_size=1, max_size=8))
@settings(max_examples=25, deadline=None)
def test_every_format_has_the_same_numbers(
    ratings: list[tuple[str | None, tuple[float, ...]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Columns, JSON Lines, tiers and regions agree, up to the decimals of each."""
    rows = [row(number, speaker, *values) for number, (speaker, values) in enumerate(ratings)]
    paths = write(timeline(*rows), tmp_path_factory.mktemp("out"), "csv", "jsonl", "textgrid", "eaf", "labelstudio")
    columns, objects = columns_of(paths["csv"]), objects_of(paths["jsonl"])
    grid, eaf = in_grid(paths["textgrid"]), in_eaf(paths["eaf"])
    studio = in_studio(paths["labelstudio"])
    for each, cells, values in zip(rows, columns, objects, strict=True):
        assert values["dimensions"] == each.dimensions
        assert values["ranges"] == {name: list(ends) for name, ends in RANGES.items()}
        for name, rating in each.dimensions.items():
            assert float(cells[name]) == pytest.approx(rating, abs=1e-6)
            tier = f"{each.speaker or 'speech'} {name}"
            assert (each.start, f"{rating:.2f}") in grid[tier]
            assert (each.start, f"{rating:.2f}") in eaf[tier]
            assert (name, each.start, round(rating, 2)) in studio
    assert sum(len(own) for name, own in grid.items() if name.split()[-1] in RANGES) == 2 * len(rows)
    assert len(studio) == 2 * len(rows)


def test_columns_are_named_as_a_corpus_names_them(tmp_path: Path) -> None:
    path = write(timeline(*ROWS), tmp_path, "csv")["csv"]
    assert path.read_text().splitlines()[:2] == [
        "utterance,start,end,speaker,text,label,p_happy,p_sad,w_text,valence,arousal",
        "turn 1,0.000,1.500,Ann,words,happy,0.750000,0.250000,0.400000,1.234000,20.000000",
    ]


def test_tiers_beside_those_of_emotions(tmp_path: Path) -> None:
    paths = write(timeline(*ROWS), tmp_path, "textgrid", "eaf")
    names = [f"{speaker}{end}" for speaker in ("Ann", "Bob") for end in ("", " emotion", " valence", " arousal")]
    assert list(in_grid(paths["textgrid"])) == names
    assert set(in_eaf(paths["eaf"])) == set(names)
    assert in_grid(paths["textgrid"])["Ann valence"] == [(0.0, "1.23"), (4.0, "4.00")]
    properties = ElementTree.parse(paths["eaf"]).getroot().findall(".//PROPERTY")
    assert ("valence range", "1 to 5") in [(each.get("NAME"), each.text) for each in properties]


@pytest.mark.parametrize("form", ["textgrid", "eaf"])
def test_tiers_of_numbers_are_no_turns_where_the_file_is_read(form: str, tmp_path: Path) -> None:
    path = write(timeline(*ROWS), tmp_path, form)[form]
    turns = read_transcript(path).turns
    assert [(turn.start, turn.end, turn.speaker, turn.text) for turn in turns] == [
        (each.start, each.end, each.speaker, each.text) for each in ROWS
    ]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_columns_of_numbers_are_no_words_where_the_table_is_read(form: str, tmp_path: Path) -> None:
    with_them = read_transcript(write(timeline(*ROWS), tmp_path, form)[form]).turns
    assert with_them == read_transcript(write(bare(), tmp_path / "bare", form)[form]).turns


def bare() -> Timeline:
    return timeline(*(replace(each, dimensions={}) for each in ROWS))


@pytest.mark.parametrize("form", WITHOUT)
def test_formats_of_words_and_labels_stay_as_they_are(form: str, tmp_path: Path) -> None:
    paths = [write(each, tmp_path / str(number), form)[form] for number, each in enumerate((timeline(*ROWS), bare()))]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_model_without_dimensions_tells_nothing_of_them(tmp_path: Path) -> None:
    """Its tables are as they were before there were dimensions, to the byte."""
    paths = write(bare(), tmp_path, *check_formats("all"))
    assert paths["csv"].read_text().splitlines()[:2] == [
        "utterance,start,end,speaker,text,label,p_happy,p_sad,w_text",
        "turn 1,0.000,1.500,Ann,words,happy,0.750000,0.250000,0.400000",
    ]
    assert paths["jsonl"].read_text().splitlines()[0] == (
        '{"utterance": "turn 1", "start": 0.0, "end": 1.5, "speaker": "Ann", "text": "words", "label": "happy", '
        '"probabilities": {"happy": 0.75, "sad": 0.25}, "modality_weights": {"text": 0.4}, "channel": null}'
    )
    assert list(in_grid(paths["textgrid"])) == ["Ann", "Ann emotion", "Bob", "Bob emotion"]
    assert " range" not in paths["eaf"].read_text()
    assert in_studio(paths["labelstudio"]) == []


def test_what_a_speaker_says_longer_counts_more() -> None:
    ann, bob = summaries(timeline(*ROWS))
    assert ann.dimensions == pytest.approx({"valence": 1.9255, "arousal": 30.0})
    assert bob.dimensions == {"valence": 5.0, "arousal": 99.999}
    assert [each.dimensions for each in summaries(bare())] == [{}, {}]


def test_turns_without_length_count_alike() -> None:
    rows = [row(0, "Ann", 1.0, 10.0, seconds=0.0), row(1, "Ann", 4.0, 40.0, seconds=0.0)]
    (ann,) = summaries(timeline(*rows))
    assert ann.dimensions == {"valence": 2.5, "arousal": 25.0}


@given(st.lists(st.tuples(RATINGS, st.floats(0, 1.9)), min_size=1, max_size=6))
def test_means_are_within_the_range(turns: list[tuple[tuple[float, ...], float]]) -> None:
    rows = [row(number, "Ann", *ratings, seconds=seconds) for number, (ratings, seconds) in enumerate(turns)]
    (ann,) = summaries(timeline(*rows))
    for name, (low, high) in RANGES.items():
        assert low - 1e-9 <= ann.dimensions[name] <= high + 1e-9


def test_the_page_shows_them_with_their_ranges(tmp_path: Path) -> None:
    page = to_html(timeline(*ROWS), tmp_path, PageConfig())
    body = page.partition("<body>")[2].partition("<script>")[0]
    assert "valence (1 to 5)" in body and "arousal (0 to 100)" in body
    assert "valence 1.23" in body and "arousal 20.00" in body
    assert '<td class="number rating" data-name="valence">1.93</td>' in body
    without = to_html(bare(), tmp_path, PageConfig()).partition("<body>")[2].partition("<script>")[0]
    assert "valence" not in without and "rating" not in without
