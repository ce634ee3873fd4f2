"""The report in a browser: Debian's Chromium, steered by Playwright."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from lpgnet.pipeline.reports.config import PageConfig
from lpgnet.pipeline.reports.rows import Timeline, TimelineRow
from lpgnet.pipeline.reports.timeline import write_timeline
from tests.e2e.workplace import until

CLASSES = ("angry", "happy", "neutral", "sad")
HOSTILE = "</script><img src=x onerror=alert(1)><script>alert(2)</script> \"'& שלום"


@pytest.fixture(scope="module")
def timeline(tmp_path_factory: pytest.TempPathFactory) -> Timeline:
    """A minute of tone and twenty turns, one of them hostile."""
    path = tmp_path_factory.mktemp("recording") / "tone.wav"
    soundfile.write(path, 0.1 * np.sin(np.arange(60 * 8000) / 3), 8000)
    rows = []
    for number in range(20):
        share = 0.4 + 0.025 * number
        others = (1 - share) / 3
        label = CLASSES[number % 4]
        probabilities = {name: share if name == label else others for name in CLASSES}
        text = HOSTILE if number == 3 else f"turn number {number + 1}"
        weights = {"text": 0.25, "audio": 0.75}
        speaker = f"{'Ann' if number % 2 else 'Bob'} <b>&"
        rows.append(
            TimelineRow(f"t{number}", 3.0 * number, 3.0 * number + 2.5, speaker, text, label, probabilities, weights)
        )
    return Timeline("hostile <i>name", tuple(rows), path, 60.0, ("by hand",), "model")


@pytest.fixture
def page(browser: Any, timeline: Timeline, tmp_path: Path) -> Iterator[Any]:
    """The report opened from disk; fails when it asks any address for anything, or when a script goes wrong."""
    (report,) = write_timeline(replace(timeline, name="report"), tmp_path, ["html"], PageConfig())
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    requests: list[str] = []
    errors: list[str] = []
    opened.on("request", lambda request: requests.append(request.url))
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("dialog", lambda dialog: errors.append(f"dialog {dialog.message}"))
    opened.goto(report.as_uri())
    yield opened
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert len([url for url in requests if url.startswith("file:")]) == 1, "the page itself and nothing beside it"
    assert errors == []
    context.close()


def playing(page: Any) -> dict[str, Any]:
    return page.evaluate(
        "(() => { const a = document.querySelector('audio'); return {time: a.currentTime, paused: a.paused}; })()"
    )


def current(page: Any) -> int:
    return int(page.locator(".turn.current").get_attribute("data-turn"))


def test_a_click_on_a_turn_plays_it(page: Any) -> None:
    page.click(".turn[data-turn='4']")
    until(page, "document.querySelector('audio').currentTime > 12.05")
    state = playing(page)
    assert not state["paused"]
    assert 12 < state["time"] < 15
    assert current(page) == 4


def test_the_list_follows_what_is_played(page: Any) -> None:
    page.evaluate("document.querySelector('audio').currentTime = 30.2")
    page.wait_for_selector(".turn.current[data-turn='10']")
    assert page.locator(".bar.current").count() == 1
    assert "turn number 11" in page.locator("#now").inner_text()


def test_keys(page: Any) -> None:
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert current(page) == 1
    page.keyboard.press("ArrowUp")
    assert current(page) == 0
    until(page, "!document.querySelector('audio').paused")
    page.keyboard.press(" ")
    assert playing(page)["paused"]
    before = playing(page)["time"]
    page.keyboard.press("ArrowRight")
    assert playing(page)["time"] == pytest.approx(before + 5, abs=0.5)
    page.keyboard.press("ArrowLeft")
    assert playing(page)["time"] == pytest.approx(before, abs=0.5)
    width = page.evaluate("document.getElementById('canvas').clientWidth")
    page.keyboard.press("+")
    assert page.evaluate("document.getElementById('canvas').clientWidth") > width


def test_filters(page: Any) -> None:
    def shown() -> list[int]:
        return page.evaluate(
            "[...document.querySelectorAll('.turn')].filter(t => !t.parentElement.hidden).map(t => +t.dataset.turn)"
        )

    assert len(shown()) == 20
    page.click(".filter[data-class='0']")
    page.click(".filter[data-class='1']")
    assert {number % 4 for number in shown()} == {2, 3}
    page.fill("#confidence", "70")
    assert shown() == [number for number in range(20) if number % 4 >= 2 and 0.4 + 0.025 * number >= 0.7]
    page.select_option("#speaker", "0")
    assert {number % 2 for number in shown()} == {0}
    assert f"{len(shown())} of 20 turns" in page.locator("#count").inner_text()
    page.keyboard.press("Tab")
    first = shown()[0]
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("ArrowDown")
    assert current(page) == first, "keys pass over what is filtered out"


def test_hostile_text_is_text(page: Any) -> None:
    assert HOSTILE in page.locator(".turn[data-turn='3'] .said").inner_text()
    assert "Ann <b>&" in page.locator(".turn[data-turn='3'] .who").inner_text()
    page.click(".turn[data-turn='3']")
    assert HOSTILE in page.locator("#now").inner_text()
    assert page.locator("img").count() == 0


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_is_readable(browser: Any, page: Any, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    colors = page.evaluate(
        "(() => { const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]; })()"
    )
    ink, paper = (np.mean([int(part) for part in color[4:-1].split(",")]) for color in colors)
    assert abs(ink - paper) > 150
    assert (ink < paper) == (scheme == "light")


def test_a_linked_recording_plays(browser: Any, timeline: Timeline, tmp_path: Path) -> None:
    shutil.copy(timeline.recording or "", tmp_path / "tone.wav")
    linked = replace(timeline, name="linked", recording=tmp_path / "tone.wav")
    (report,) = write_timeline(linked, tmp_path / "reports", ["html"], PageConfig(embed_megabytes=0.0))
    opened = browser.new_page()
    opened.goto(report.as_uri())
    opened.click(".turn[data-turn='2']")
    until(opened, "document.querySelector('audio').currentTime > 6.05")
    opened.close()
