"""Valence, arousal and dominance in the report, in a browser: a line for each speaker, its key and its words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from lpgnet.pipeline.reports.config import PageConfig
from lpgnet.pipeline.reports.rows import Timeline, TimelineRow
from lpgnet.pipeline.reports.timeline import write_timeline
from tests.e2e.test_browser import downloaded, enter, lines_of
from tests.e2e.workplace import until

HOSTILE = "</title><img src=x onerror=alert(1)>\"'&"
RANGES = {"valence": (1.0, 5.0), "arousal": (0.0, 10.0)}

Open = Callable[..., Any]


def row(number: int, speaker: str | None, valence: float, arousal: float, *, seconds: float = 1.0) -> TimelineRow:
    start, probabilities = 2.0 * number, {"happy": 0.75, "sad": 0.25}
    ratings = {"valence": valence, "arousal": arousal}
    return TimelineRow(
        f"t{number}", start, start + seconds, speaker, "words", "happy", probabilities, {}, dimensions=ratings
    )


ROWS = (
    row(0, "Ann", 1.0, 10.0),
    row(1, "Bob", 5.0, 5.0),
    row(2, "Ann", 3.0, 0.0, seconds=3.0),
    row(4, "Bob", 4.0, 5.0),
)


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Opens the report of rows; fails in the end if a script went wrong or an address was asked for."""
    errors: list[str] = []
    requests: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900})

    def open_report(*rows: TimelineRow, ranges: dict[str, tuple[float, float]] = RANGES) -> Any:
        path = tmp_path / "tone.wav"
        soundfile.write(path, 0.1 * np.sin(np.arange(10 * 8000) / 3), 8000)
        timeline = Timeline("report", rows, path, max(10.0, rows[-1].end), ranges=ranges)
        (report,) = write_timeline(timeline, tmp_path, ["html"], PageConfig(embed_megabytes=0.0))
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: errors.append(f"dialog {dialog.message}"))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(report.as_uri())
        return page

    yield open_report
    context.close()
    assert errors == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []


def drawn(page: Any, chart: int) -> list[tuple[str, str, str]]:
    """The color, the way between turns and the levels at turns, of each line of a chart."""
    found = (
        page.locator("svg.lines")
        .nth(chart)
        .locator("g")
        .evaluate_all(
            "lines => lines.map(line => [line.getAttribute('class'), ...[...line.querySelectorAll('path')].map(path =>"
            " path.getAttribute('d'))])"
        )
    )
    return [tuple(line) for line in found]


def told(page: Any) -> list[str]:
    return page.locator("svg.lines").evaluate_all("charts => charts.map(c => c.getAttribute('aria-label'))")


def averages(page: Any) -> list[list[str]]:
    rows = page.locator("#people tr:visible")
    return [rows.nth(n).locator(".rating").all_inner_texts() for n in range(rows.count())]


def test_a_line_for_each_speaker(opened: Open) -> None:
    """Level at a turn, high where the number is high, in the color of the speaker."""
    page = opened(*ROWS)
    assert drawn(page, 0) == [
        ("speaker-0", "M0,1.0000H1L4,0.5000H7", "M0,1.0000H1M4,0.5000H7"),
        ("speaker-1", "M2,0.0000H3L8,0.2500H9", "M2,0.0000H3M8,0.2500H9"),
    ]
    assert [levels for _, _, levels in drawn(page, 1)] == ["M0,0.0000H1M4,1.0000H7", "M2,0.5000H3M8,0.5000H9"]
    assert page.locator("#voices bdi").all_inner_texts() == ["Ann", "Bob"]
    boxes = [page.locator(chart).first.bounding_box() for chart in ("svg.area", "svg.lines")]
    assert [boxes[0][side] for side in ("x", "width")] == [boxes[1][side] for side in ("x", "width")], "one time axis"


def test_what_is_drawn_is_told_in_words(opened: Open) -> None:
    page = opened(*ROWS)
    assert told(page) == [
        "valence over time, 1 to 5, a line for each speaker; on average: Ann 2.50, Bob 4.50",
        "arousal over time, 0 to 10, a line for each speaker; on average: Ann 2.50, Bob 5.00",
    ]
    assert averages(page) == [["2.50", "2.50"], ["4.50", "5.00"]]
    assert lines_of(page, ".ratings")[0] == "valence 1.00arousal 10.00"


def test_corrections_move_the_lines(opened: Open) -> None:
    page = opened(*ROWS)
    enter(page, "#people tr:nth-child(2) input", "Ann")
    assert [way for _, way, _ in drawn(page, 0)] == ["M0,1.0000H1L2,0.0000H3L4,0.5000H7L8,0.2500H9"]
    assert told(page)[0].endswith("on average: Ann 3.17") and averages(page) == [["3.17", "3.33"]]
    page.click("#undo")
    page.locator(".edit").nth(2).click()
    enter(page, "#end", "5")
    assert averages(page)[0] == ["2.00", "5.00"]
    page.select_option("#by", "new")
    assert page.locator("#voices bdi").all_inner_texts() == ["Ann", "Bob", "speaker 3"]
    page.click("#add")
    page.select_option("#by", "new")
    assert averages(page)[3] == ["", ""], "people add no numbers"
    assert len(drawn(page, 0)) == 3


def test_the_corrected_table_keeps_them_as_the_models(opened: Open, tmp_path: Path) -> None:
    """They are no ratings of people, which training would learn from."""
    page = opened(*ROWS)
    page.locator(".edit").nth(1).click()
    page.click("#add")
    found = downloaded(page, tmp_path / "corpus").utterances
    assert [u.extra["model_valence"] for u in found] == ["1.0000", "5.0000", None, "3.0000", "4.0000"]
    assert [u.extra["model_arousal"] for u in found] == ["10.0000", "5.0000", None, "0.0000", "5.0000"]
    assert {(u.valence, u.arousal, u.dominance) for u in found} == {(None, None, None)}


def test_names_are_text(opened: Open) -> None:
    page = opened(row(0, HOSTILE, 1.0, 1.0), row(1, None, 2.0, 2.0))
    assert page.locator("#voices bdi").all_inner_texts() == [HOSTILE, "speech"]
    assert page.locator("svg.lines g title").first.text_content() == HOSTILE
    assert page.locator("img").count() == 0


def test_one_turn(opened: Open) -> None:
    page = opened(row(0, "Ann", 5.0, 0.0))
    assert drawn(page, 0) == [("speaker-0", "M0,0.0000H1", "M0,0.0000H1")]


def test_a_long_timeline_has_no_more_elements(opened: Open) -> None:
    """Two paths and a name for each speaker, however many turns there are."""
    page = opened(*(row(number, "AB"[number % 2], 1 + number % 5, number % 11) for number in range(2000)))
    assert page.locator("svg.lines *").count() == 2 * (1 + 2 * 4)


def test_a_click_on_a_chart_goes_there(opened: Open) -> None:
    page = opened(*ROWS)
    until(page, "document.querySelector('audio').readyState > 0")
    box = page.locator("svg.lines").first.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert page.evaluate("document.querySelector('audio').currentTime") == pytest.approx(5.0, abs=0.1)


def test_without_dimensions_there_is_no_chart(opened: Open) -> None:
    plain = [TimelineRow("t", 0.0, 1.0, "Ann", "words", "happy", {"happy": 1.0}, {})]
    page = opened(*plain, ranges={})
    assert page.locator(".dimension, .rating, #voices, .ratings").count() == 0
    assert page.locator("#area path").count() == 1
