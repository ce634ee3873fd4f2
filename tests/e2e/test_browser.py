"""The report and the served page in a browser: Debian's Chromium, steered by Playwright."""

import json
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from lpgnet.pipeline.config import PredictionConfig, ServeConfig
from lpgnet.pipeline.reports.config import PageConfig
from lpgnet.pipeline.reports.rows import Timeline, TimelineRow
from lpgnet.pipeline.reports.timeline import write_timeline
from tests.e2e.workplace import DEMO, Workplace

CHROMIUM = Path("/usr/bin/chromium")
RECORDING = DEMO / "recording" / "recording.flac"
CLASSES = ("angry", "happy", "neutral", "sad")
HOSTILE = "</script><img src=x onerror=alert(1)><script>alert(2)</script> \"'& שלום"


def missing(what: str) -> None:
    """Skip where something is not installed, but not in continuous integration."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing; the browser tests must run here")
    pytest.skip(f"{what} is missing")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("the Python package playwright")
    if not CHROMIUM.exists():
        missing(str(CHROMIUM))
    with sync_playwright() as playwright:
        options = ["--autoplay-policy=no-user-gesture-required", "--no-sandbox"]
        # In the C locale Chromium opens no file whose path has an umlaut.
        settings = {**os.environ, "LC_ALL": "C.UTF-8"}
        instance = playwright.chromium.launch(executable_path=str(CHROMIUM), args=options, env=settings)
        yield instance
        instance.close()


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


def until(page: Any, expression: str) -> None:
    """Wait until an expression is true; Playwright's own wait evaluates strings, which the report's policy forbids."""
    deadline = time.monotonic() + 30
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"never true: {expression}"
        page.wait_for_timeout(20)


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


@pytest.fixture(scope="module")
def served(extracted: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a page that is served with small limits."""
    pytest.importorskip("gradio", reason="the extra 'serve' is not installed")
    from lpgnet.pipeline import cli
    from lpgnet.pipeline.labelling import web_page
    from lpgnet.pipeline.labelling.emotion_pipeline import EmotionPipeline

    assert cli.main(extracted.arguments("train", "--run", "served")) == 0
    model = str(extracted.folder / "work" / "small" / "runs" / "served")
    config = ServeConfig(model=model, prediction=PredictionConfig(model=model), port=0, max_megabytes=1, max_minutes=2)
    with web_page.temporary_files() as folder:
        page = web_page.make_page(web_page.Labeller(EmotionPipeline.from_config(config.prediction), config, folder))
        yield web_page.launch(page, config)
        page.close()
    assert not Path(folder).exists(), "nothing is left behind"


def test_a_recording_goes_in_and_the_outputs_come_out(browser: Any, served: str, tmp_path: Path) -> None:
    page = browser.new_page()
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(request.url.split("/")[2] if "//" in request.url else ""))
    page.goto(served)
    page.set_input_files("#recording input[type=file]", str(RECORDING))
    page.set_input_files("#transcript input[type=file]", str(RECORDING.with_suffix(".srt")))
    until(page, "document.querySelectorAll('#recording .file, #transcript .file').length >= 2")
    page.click("#label")
    page.wait_for_selector("#report iframe", timeout=60_000)
    frame = page.frame_locator("#report iframe")
    frame.locator(".turn[data-turn='2']").wait_for()
    assert frame.locator(".turn").count() == RECORDING.with_suffix(".srt").read_text().count("-->")
    links = page.locator("#files a")
    until(page, "document.querySelectorAll('#files a').length >= 3")
    names = {str(link.get_attribute("href")).rsplit("/", 1)[-1]: link.get_attribute("href") for link in links.all()}
    assert {"recording.jsonl", "recording.csv", "recording.html"} <= set(names)
    with urllib.request.urlopen(str(names["recording.jsonl"])) as answer:
        rows = [json.loads(line) for line in answer.read().decode().splitlines()]
    assert len(rows) == frame.locator(".turn").count()
    assert hosts - {""} == {served.split("/")[2]}, "the page asks no other address"
    page.close()


def ask(served: str, path: str) -> str:
    """What the server answers when it is told to label a file by its path."""
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    body = json.dumps({"data": [file, None], "fn_index": 0, "session_hash": "abc123"}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{served}gradio_api/queue/join", body, headers)
    urllib.request.urlopen(request).read()
    with urllib.request.urlopen(f"{served}gradio_api/queue/data?session_hash=abc123", timeout=30) as answer:
        return answer.read().decode()


def test_no_file_of_the_server_is_readable(served: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("start,end,text\n0.1,2.0,a secret\n")
    for path in (f"gradio_api/file={secret}", "gradio_api/file=pyproject.toml", f"gradio_api/file=../..{secret}"):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(served + path)
        assert error.value.code in (403, 404)
    answer = ask(served, str(RECORDING))
    assert '"success":false' in answer.replace(" ", "")
    assert "neutral" not in answer


def test_limits(served: str, extracted: Workplace, tmp_path: Path) -> None:
    from lpgnet.pipeline.errors import PipelineError
    from lpgnet.pipeline.labelling import web_page

    config = ServeConfig(max_megabytes=1, max_minutes=0.5)
    labeller = web_page.Labeller(None, config, str(tmp_path))  # type: ignore[arg-type]
    with pytest.raises(PipelineError, match=r"lasts 1 min, the limit is 0\.5 min"):
        labeller.label(RECORDING, None, lambda share, step: None)
    soundfile.write(tmp_path / "large.wav", np.zeros(600_000), 8000)
    with pytest.raises(PipelineError, match=r"has 1 MB, the limit is 1 MB"):
        labeller.label(tmp_path / "large.wav", None, lambda share, step: None)


def test_old_files_are_swept_away(tmp_path: Path) -> None:
    from lpgnet.pipeline.labelling.web_page import KEPT_SECONDS, sweep

    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    past = time.time() - KEPT_SECONDS - 10
    os.utime(tmp_path / "old", (past, past))
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_only_this_machine_unless_told_otherwise() -> None:
    assert ServeConfig().host == "127.0.0.1"
