"""Why some of what pysubs2, praatio and pympi-ling write is prepared by hand: what they get wrong of the same input."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import pysubs2
import pytest
from praatio import textgrid
from praatio.utilities.errors import TierNameExistsError
from pympi.Elan import Eaf, to_string

from lpgnet.pipeline.reports.annotations import to_eaf, to_text_grid
from lpgnet.pipeline.reports.rows import Timeline, TimelineRow
from lpgnet.pipeline.reports.subtitles import to_srt, to_vtt


def row(text: str, speaker: str = "Ann", *, end: float = 1.0) -> TimelineRow:
    return TimelineRow("turn 1", 0.0, end, speaker, text, "happy", {"happy": 1.0}, {})


def timeline(*rows: TimelineRow, recording: Path | None = None) -> Timeline:
    return Timeline("call", rows, recording, 9.0)


def by_pysubs2(text: str, form: str) -> str:
    subtitles = pysubs2.SSAFile()
    subtitles.events = [pysubs2.SSAEvent(start=0, end=1000, text=text)]
    return str(subtitles.to_string(form))


def annotations(document: str) -> list[tuple[str, str]]:
    tiers = ElementTree.fromstring(document.encode()).iter("TIER")
    return [(tier.get("TIER_ID", ""), value.text or "") for tier in tiers for value in tier.iter("ANNOTATION_VALUE")]


def test_pysubs2_takes_words_for_markup() -> None:
    assert "back\nslash" in by_pysubs2("back\\Nslash", "srt")
    assert "back\\\u200bNslash" in to_srt(timeline(row("back\\Nslash")))
    assert "so {b} it" not in by_pysubs2("so {b} it", "srt")
    assert "so {b} it" in to_srt(timeline(row("so {b} it")))


def test_pysubs2_writes_words_as_tags_and_times() -> None:
    assert "yes <now> --> go" in by_pysubs2("yes <now> --> go", "vtt")
    assert "yes &lt;now&gt; -&gt; go" in to_vtt(timeline(row("yes <now> --> go")))


def test_praatio_and_pympi_take_a_tier_once() -> None:
    grid = textgrid.Textgrid(0.0, 9.0)
    grid.addTier(textgrid.IntervalTier("Ann emotion", [(0.0, 1.0, "one")], 0.0, 9.0))
    with pytest.raises(TierNameExistsError):
        grid.addTier(textgrid.IntervalTier("Ann emotion", [(0.0, 1.0, "two")], 0.0, 9.0))
    document = Eaf()
    for words in ("one", "two"):
        document.add_tier("Ann emotion")
        document.add_annotation("Ann emotion", 0, 1000, words)
    assert document.get_annotation_data_for_tier("Ann emotion") == [(0, 1000, "two")], "the first is lost"

    both = timeline(row("one", "Ann"), row("two", "Ann emotion"))
    expected = [("Ann", "one"), ("Ann emotion", "happy"), ("Ann emotion (2)", "two"), ("Ann emotion emotion", "happy")]
    assert annotations(to_eaf(both)) == expected
    assert all(f'name = "{name}"' in to_text_grid(both) for name, _ in expected)


def test_pympi_refuses_a_tier_without_a_name() -> None:
    with pytest.raises(ValueError, match="Tier id is empty"):
        Eaf().add_tier("")
    assert annotations(to_eaf(timeline(row("one", "\x07")))) == [("speech", "one"), ("speech emotion", "happy")]


def test_pympi_refuses_an_annotation_without_length() -> None:
    document = Eaf()
    with pytest.raises(ValueError, match="length is zero"):
        document.add_annotation("default", 0, round(0.0004 * 1000))
    assert annotations(to_eaf(timeline(row("one", end=0.0004))))[0] == ("Ann", "one")


def test_pympi_writes_control_characters_which_xml_cannot_hold() -> None:
    document = Eaf()
    document.add_annotation("default", 0, 1000, "a \x07 bell")
    with pytest.raises(ElementTree.ParseError):
        ElementTree.fromstring(to_string(document))
    assert annotations(to_eaf(timeline(row("a \x07 bell"))))[0] == ("Ann", "a bell")


def test_pympi_knows_few_kinds_of_media() -> None:
    with pytest.raises(KeyError):
        Eaf().add_linked_file("file:///call.m4a")
    root = ElementTree.fromstring(to_eaf(timeline(row("one"), recording=Path("/call.m4a"))).encode())
    assert [media.get("MIME_TYPE") for media in root.iter("MEDIA_DESCRIPTOR")] == ["audio/mp4"]


def test_an_eaf_that_goes_elsewhere_with_its_recording_names_no_folder() -> None:
    document = to_eaf(replace(timeline(row("one"), recording=Path("/srv/secret/call.wav")), beside=True))
    media = next(ElementTree.fromstring(document.encode()).iter("MEDIA_DESCRIPTOR"))
    assert (media.get("MEDIA_URL"), media.get("RELATIVE_MEDIA_URL")) == ("./call.wav", "./call.wav")
    assert "secret" not in document


@pytest.fixture
def kolkata(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time five hours and a half from UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "IST-5:30")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("kolkata")
def test_pympi_writes_seconds_for_the_minutes_of_a_zone() -> None:
    assert Eaf().adocument["DATE"].endswith("+05:1800")
    date = ElementTree.fromstring(to_eaf(timeline(row("one"))).encode()).get("DATE", "")
    assert datetime.fromisoformat(date).utcoffset() == timedelta(0)


def test_praatio_stretches_the_recording_to_the_end_of_a_turn() -> None:
    grid = textgrid.Textgrid(0.0, 9.0)
    grid.addTier(textgrid.IntervalTier("Ann", [(0.0, 9.02, "one")], 0.0, 9.0), reportingMode="silence")
    assert grid.maxTimestamp == 9.02
    assert "9.02" not in to_text_grid(timeline(replace(row("one"), end=9.02)))
