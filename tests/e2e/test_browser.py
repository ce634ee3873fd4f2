"""The report in a browser: Debian's Chromium, steered by Playwright."""

import csv
import io
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lpgnet.pipeline.common.spreadsheets import harmless
from lpgnet.pipeline.corpora import ReadCorpus, read_corpus
from lpgnet.pipeline.reports.config import PageConfig
from lpgnet.pipeline.reports.rows import Timeline, TimelineRow
from lpgnet.pipeline.reports.timeline import write_timeline
from tests.e2e.workplace import Run, until

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


def downloaded(page: Any, folder: Path) -> ReadCorpus:
    """The corrected table, as the table reader reads it without an option."""
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename.endswith(".corrected.csv")
    folder.mkdir()
    download.value.save_as(folder / "table.csv")
    return read_corpus("table", str(folder))


def enter(page: Any, box: str, value: str) -> None:
    page.fill(box, value)
    page.locator(box).blur()


def lines_of(page: Any, part: str) -> list[str]:
    # What is far off the screen has no inner text.
    return [text.strip() for text in page.locator(f".turn {part}").all_text_contents()]


def test_an_untouched_table_holds_what_was_found(page: Any, timeline: Timeline, tmp_path: Path) -> None:
    assert page.locator("#undo").is_disabled()
    found = downloaded(page, tmp_path / "corpus").utterances
    assert [(u.start, u.end, u.speaker, u.text, u.label) for u in found] == [
        (row.start, row.end, row.speaker, row.text, row.label) for row in timeline.rows
    ]
    assert {(u.dialogue_id, u.audio, u.channel) for u in found} == {("report", "tone.wav", None)}
    assert found[1].utterance_id == "report_002"
    assert found[1].extra == {"turn": "t1", "model_label": "happy", "probability": "0.4250"}


def test_a_table_of_channels_and_without_words(browser: Any, timeline: Timeline, tmp_path: Path) -> None:
    """What nobody transcribed has no column of words, since an empty text is a mistake in a table."""
    silent = [replace(row, text=None, speaker=None, label="uncertain") for row in timeline.rows]
    rows = tuple(replace(row, channel=number % 2) for number, row in enumerate(silent))
    bare = replace(timeline, name="calls/a: b", rows=rows)
    (report,) = write_timeline(bare, tmp_path, ["html"], PageConfig(embed_megabytes=0.0))
    opened = browser.new_page()
    opened.goto(report.as_uri())
    found = downloaded(opened, tmp_path / "corpus").utterances
    assert [(u.channel, u.text, u.speaker) for u in found] == [(number % 2, None, None) for number in range(20)]
    assert {(u.dialogue_id, u.audio, u.label) for u in found} == {("calls/a: b", "calls/tone.wav", "uncertain")}
    assert [u.extra["model_label"] for u in found] == [CLASSES[number % 4] for number in range(20)]
    opened.close()


def test_a_name_changes_all_turns_of_its_speaker(page: Any, tmp_path: Path) -> None:
    box = "#people tr:nth-child(2) input"
    assert page.locator(box).input_value() == "Ann <b>&"
    assert page.locator(box).get_attribute("aria-label") == "name of speaker 2"
    enter(page, box, "=Cleo, née 'O'")
    assert lines_of(page, ".who")[:2] == ["Bob <b>&", "=Cleo, née 'O'"]
    assert "=Cleo, née 'O'" in page.locator("#lanes").inner_text()
    assert page.locator("#speaker option").all_inner_texts() == ["all", "Bob <b>&", "=Cleo, née 'O'"]
    speakers = Counter(u.speaker for u in downloaded(page, tmp_path / "corpus").utterances)
    assert speakers == {"Bob <b>&": 10, "=Cleo, née 'O'": 10}


def test_two_speakers_of_one_name_become_one(page: Any) -> None:
    enter(page, "#people tr:nth-child(2) input", "Bob <b>&")
    assert set(lines_of(page, ".who")) == {"Bob <b>&"}
    assert page.locator("#lanes .lane:visible").count() == page.locator("#people tr:visible").count() == 1
    assert "20" in page.locator("#people tr:visible").inner_text()
    page.click("#undo")
    assert page.locator("#lanes .lane:visible").count() == 2
    assert page.locator("#people tr:nth-child(2) input").input_value() == "Ann <b>&"


def test_corrections_are_what_prepare_reads(page: Any, tmp_path: Path) -> None:
    """Times, speaker, label and words; a turn that is split, joined, deleted, added; all by keyboard or button."""
    page.keyboard.press("ArrowDown")
    page.keyboard.press("e")
    assert page.evaluate("document.activeElement.id") == "start"
    page.keyboard.type("+-")
    page.fill("#start", "0.25")
    page.keyboard.press("Tab")
    enter(page, "#end", "2.125")
    page.select_option("#label", label="sad")
    assert (lines_of(page, ".sure")[:2], lines_of(page, ".chip")[0]) == (["corrected", "43%"], "sad")
    page.select_option("#by", "new")
    assert lines_of(page, ".who")[0] == "speaker 3"
    enter(page, "#words", '=1+1, "so"\nshe said')
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.dataset.turn") == "0"
    page.locator(".edit").nth(2).click()
    page.click("#split")
    assert lines_of(page, ".said")[2:4] == ["turn number", "3"] or lines_of(page, ".said")[2:4] == ["turn", "number 3"]
    page.locator(".edit").nth(4).click()
    page.click("#join")
    assert "turn number 6" in lines_of(page, ".said")[4]
    page.locator(".edit").nth(7).click()
    page.click("#delete")
    page.click("#add")
    assert page.locator("#editor").is_visible() and page.locator(".filter[data-class='4']").is_visible()
    assert page.locator("#count").inner_text() == "20 turns"
    found = downloaded(page, tmp_path / "corpus").utterances
    first = found[0]
    assert (first.start, first.end, first.speaker, first.label) == (0.25, 2.125, "speaker 3", "sad")
    assert first.text == '=1+1, "so"\nshe said'
    assert first.extra == {"turn": "t0", "model_label": "angry", "probability": "0.4000"}
    split = [u for u in found if u.extra["turn"] == "t2"]
    assert [(u.start, u.end) for u in split] == [(6.0, 7.25), (7.25, 8.5)]
    assert {u.extra["turn"] for u in found} == {f"t{n}" for n in range(20)} - {"t5", "t7"} | {None}
    (added,) = [u for u in found if u.extra["turn"] is None]
    assert (added.label, added.text, added.extra["probability"]) == ("uncertain", "", None)
    assert [u.start for u in found] == sorted(u.start for u in found)


def test_prepare_counts_what_was_corrected(page: Any, run: Run, tmp_path: Path) -> None:
    enter(page, "#people tr:nth-child(1) input", "Zoe")
    for number in (0, 4):
        page.locator(".edit").nth(number).click()
        page.select_option("#label", label="sad")
    page.click("#delete")
    assert len(downloaded(page, tmp_path / "corpus").utterances) == 19
    options = {"name": "mine", "work": tmp_path / "work", "corpus.reader": "table", "corpus.root": tmp_path / "corpus"}
    code, out, err = run(["prepare", *(f"--{key}={value}" for key, value in options.items())])
    assert code == 0, err
    assert "19 utterances in 1 dialogues" in out
    assert "sad 6" in out and "angry 3" in out and "Zoe 9" in out


def test_undo_takes_every_correction_back(page: Any, tmp_path: Path) -> None:
    before = page.locator("#turns li").all_text_contents()
    page.locator(".edit").nth(3).click()
    enter(page, "#start", "30.5")
    enter(page, "#end", "31")
    page.click("#split")
    page.click("#delete")
    page.click("#add")
    while page.locator("#undo").is_enabled():
        page.click("#undo")
    page.keyboard.press("Escape")
    assert page.locator("#turns li").all_text_contents() == before


@pytest.mark.parametrize(
    ("box", "value", "message"),
    [
        ("#end", "1", "A turn ends after it starts"),
        ("#end", "61", "The recording ends at 60.0 s"),
        ("#start", "", "give both in seconds"),
        ("#start", "-1", "A turn ends after it starts"),
    ],
)
def test_a_time_that_cannot_be_is_told_and_not_taken(page: Any, box: str, value: str, message: str) -> None:
    page.locator(".edit").nth(1).click()
    enter(page, box, value)
    if box == "#start" and value == "-1":
        enter(page, "#end", "5")
    assert message in page.locator("#problem").inner_text()
    assert page.locator("#undo").is_disabled()
    assert page.locator(box).input_value() == value


def test_overlap_is_seen(page: Any) -> None:
    assert page.locator("#overlap").is_hidden()
    page.locator(".edit").nth(1).click()
    enter(page, "#start", "2")
    assert page.locator("#overlap").inner_text().strip() == "voices overlap: 0.5 s"
    assert lines_of(page, ".lap")[:3] == ["overlaps 0.5 s", "overlaps 0.5 s", ""]
    assert page.locator("#overlaps path").get_attribute("d") == "M2,0V1H2.5V0Z"
    page.select_option("#by", label="Bob <b>&")
    rows = page.locator(".bar").evaluate_all("bars => bars.map((bar) => bar.style.getPropertyValue('--row'))")
    assert sorted(rows) == ["0"] * 19 + ["1"], "two turns of one speaker at once lie in two rows"


@given(text=st.text("'=+-@\t\r\n1.e,;\"a＝＋－＠", max_size=8) | st.text())
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_cells_are_written_as_our_own_are(page: Any, text: str) -> None:
    """The script's rule for what a spreadsheet would run is that of `common/spreadsheets`."""
    written = page.evaluate("cell", text)
    (row,) = csv.reader(io.StringIO(written if written else '""', newline=""), strict=True)
    assert row == [harmless(text)]
