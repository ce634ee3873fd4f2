"""The served page: real servers, asked by Chromium, by strangers, and ended by signals."""

import json
import re
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile

from lpgnet.pipeline.corpora import read_corpus
from lpgnet.pipeline.labelling.web_page import GONE, MOST_WAITING
from lpgnet.pipeline.reports.timeline import check_formats
from tests.e2e.server import Server, serving, wait_for
from tests.e2e.workplace import RECORDING, until

pytest.importorskip("gradio", reason="the extra 'serve' is not installed")
TRANSCRIPT = RECORDING.with_suffix(".srt")
# Some of what Gradio has and the page does not ask for.
UNNEEDED = [
    "/config",
    "/login",
    "/monitoring",
    "//",
    "/gradio_api/info",
    "/gradio_api/vibe-edit",
    "/gradio_api/call/label",
]
UNNEEDED += ["/gradio_api/file=http://127.0.0.1/", "/gradio_api/proxy=http://a", "/gradio_api/process_recording"]


@pytest.fixture(scope="module")
def served(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with small limits, which embeds no recording in a report."""
    options = ["--max_megabytes", "2", "--max_minutes", "1.5", "--prediction.page.embed_megabytes", "0"]
    with serving(trained, tmp_path_factory.mktemp("server"), *options) as server:
        yield server
        assert server.end(signal.SIGTERM) == 143
        assert not list(server.temporary.glob("lpgnet-serve-*")), "nothing is left behind"


@pytest.fixture(scope="module")
def labelled(served: Server) -> dict[str, str]:
    """The addresses of the results of a labelling by their names."""
    return results(served.label(served.upload(RECORDING), served.upload(TRANSCRIPT)))


@pytest.fixture
def page(browser: Any, served: Server) -> Iterator[Any]:
    """The page in a browser; fails when it asks another address for anything, or the policy forbids what it does."""
    opened = browser.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("console", lambda message: complaints.append(message.text) if "Policy" in message.text else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(served.address)
    opened.wait_for_selector("#label")
    yield opened
    opened.close()
    assert {url.split("/")[2] for url in asked if not url.startswith(("data:", "blob:"))} == {served.authority}
    assert complaints == []


def results(output: dict[str, Any]) -> dict[str, str]:
    addresses = re.findall(r'<a href="([^"]+)"', output["data"][1])
    return {address.rsplit("/", 1)[-1]: f"/{address}" for address in addresses}


def drop(page: Any, recording: Path, transcript: Path) -> None:
    page.set_input_files("#recording input[type=file]", str(recording))
    page.set_input_files("#transcript input[type=file]", str(transcript))
    until(page, "document.querySelectorAll('#recording .file, #transcript .file').length >= 2")


def report_of(page: Any) -> Any:
    """The frame of the report, once its script has run: a click before would do nothing."""
    page.wait_for_selector("#report iframe", timeout=60_000)
    frame = page.query_selector("#report iframe").content_frame()
    # The empty document that a frame begins with is complete, too.
    until(frame, "location.href !== 'about:blank' && document.readyState === 'complete'")
    return frame


def press(frame: Any, selector: str) -> None:
    """Press a button by the keyboard: Chromium has been seen to give the first click on a frame to the page around."""
    frame.locator(selector).press("Enter")


def test_a_recording_goes_in_and_the_outputs_come_out(page: Any, served: Server) -> None:
    drop(page, RECORDING, TRANSCRIPT)
    page.click("#label")
    frame = report_of(page)
    frame.locator(".turn[data-turn='2']").wait_for()
    assert frame.locator(".turn").count() == TRANSCRIPT.read_text().count("-->")
    links = {link.get_attribute("href").rsplit("/", 1)[-1]: link.get_attribute("href") for link in all_links(page)}
    assert {"recording.jsonl", "recording.csv", "recording.html"} <= set(links)
    with page.expect_download() as download:
        page.click("#files a[href$='.jsonl']")
    rows = [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]
    assert len(rows) == frame.locator(".turn").count()


def all_links(page: Any) -> list[Any]:
    until(page, "document.querySelectorAll('#files a').length >= 3")
    return list(page.locator("#files a").all())


def test_a_report_on_the_page_is_corrected_and_downloaded(page: Any, tmp_path: Path) -> None:
    drop(page, RECORDING, TRANSCRIPT)
    page.click("#label")
    frame = report_of(page)
    name = frame.locator("#people input").first
    name.fill("Zoe")
    name.blur()
    with page.expect_download() as download:
        press(frame, "#download")
    assert download.value.suggested_filename == "recording.corrected.csv"
    download.value.save_as(tmp_path / "table.csv")
    found = read_corpus("table", str(tmp_path)).utterances
    assert len(found) == TRANSCRIPT.read_text().count("-->")
    assert {"Zoe"} < {utterance.speaker for utterance in found}
    assert {utterance.audio for utterance in found} == {RECORDING.name}


@pytest.mark.parametrize("suffix", [".flac", ".aiff"])
def test_a_recording_above_the_embedding_size_plays(page: Any, suffix: str, tmp_path: Path) -> None:
    """Also in a format that no browser plays, such as AIFF."""
    waveform, rate = soundfile.read(RECORDING)
    soundfile.write(tmp_path / f"call{suffix}", waveform[: 20 * rate], rate)
    (tmp_path / "call.srt").write_text(
        "1\n00:00:01,000 --> 00:00:03,000\nhello\n\n2\n00:00:12,000 --> 00:00:14,000\nyes\n"
    )
    drop(page, tmp_path / f"call{suffix}", tmp_path / "call.srt")
    page.click("#label")
    inside = report_of(page)
    press(inside, ".turn[data-turn='1']")
    until(inside, "document.querySelector('audio').currentTime > 12.05")
    assert "data:" not in inside.evaluate("document.querySelector('audio').src")


def test_the_page_says_what_the_model_is_good_for(page: Any) -> None:
    page.wait_for_selector("#about p")
    assert page.inner_text("#about").startswith("The model was trained on small (language unknown, ")


def test_the_page_names_no_other_site(page: Any, served: Server) -> None:
    text = served.ask("/").text
    assert "gradio.app" not in text.replace("gradio-app", "")
    hosts = set(re.findall(r"https?://([^/\"'\s\\]+)", text))
    assert hosts <= {served.authority}
    named = page.evaluate(
        "[...document.querySelectorAll('*')].flatMap(e => [...e.attributes].map(a => a.value))"
        ".filter(v => /^https?:/.test(v)).map(v => new URL(v).host)"
    )
    assert set(named) <= {served.authority, "www.w3.org"}, "www.w3.org names a kind of image and is asked for nothing"


def test_every_answer_forbids_other_sites_to_show_it(served: Server, labelled: dict[str, str]) -> None:
    for path in ("/", "/theme.css", "/nothing", *labelled.values()):
        headers = served.ask(path).headers
        is_result = path.startswith("/results/")
        assert headers["X-Frame-Options"] == ("SAMEORIGIN" if is_result else "DENY")
        ancestors = "'self'" if is_result else "'none'"
        assert f"frame-ancestors {ancestors}" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "unsafe-eval" not in headers["Content-Security-Policy"]


@pytest.mark.parametrize("host", ["evil.example:{port}", "localhost", "localhost:1", "192.0.2.1:{port}", "", "a@b/c"])
def test_other_names_are_refused(served: Server, host: str) -> None:
    """As after a site has made its own name lead to this machine."""
    answer = served.ask("/", headers={"Host": host.format(port=served.authority.split(":")[1])})
    assert answer.status in (400, 421)
    assert "gradio" not in answer.text
    assert answer.status == 400 or "this page is not served under" in answer.text


@pytest.mark.parametrize("host", ["localhost:{port}", "127.0.0.1:{port}", "[::1]:{port}", "LOCALHOST:{port}"])
def test_its_own_names_are_served(served: Server, host: str) -> None:
    port = served.authority.split(":")[1]
    assert served.ask("/", headers={"Host": host.format(port=port)}).status == 200
    assert served.ask("/", headers={"Origin": f"http://{host.format(port=port)}"}).status == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "file://", "http://localhost:1", "http://[", "x"])
def test_other_sites_can_send_nothing(served: Server, origin: str) -> None:
    for path in ("/gradio_api/upload", "/gradio_api/queue/join", "/gradio_api/run/predict"):
        answer = served.ask(path, b"{}", {"Origin": origin, "Content-Type": "text/plain"})
        assert (answer.status, answer.text) == (403, "this page takes no requests from other sites\n")


@pytest.mark.parametrize("path", UNNEEDED)
def test_nothing_is_served_that_the_page_does_not_need(served: Server, path: str) -> None:
    assert served.ask(path).status == 404


def test_no_file_of_the_server_is_readable(served: Server, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("start,end,text\n0.1,2.0,a secret\n")
    upload = served.upload(TRANSCRIPT)
    (Path(upload).parent / "link.csv").symlink_to(secret)
    asked = [str(secret), "pyproject.toml", f"../..{secret}", f"{upload}/../../../..{secret}", f"{upload[:-4]}link.csv"]
    for path in (*asked, str(Path(upload).with_name("link.csv")), str(served.folder)):
        assert served.ask(f"/gradio_api/file={path}").status == 404
    assert served.ask(f"/gradio_api/file={upload}").body == TRANSCRIPT.read_bytes()
    for name in ("../recording.srt", "..", "%2e%2e", "a/b"):
        assert served.ask(f"/results/x/{name}").status == 404


@pytest.mark.parametrize("more", [{}, {"is_stream": True}, {"url": "http://127.0.0.1/"}])
@pytest.mark.parametrize(
    "path", [str(RECORDING), "", " ", ".", "/", "/dev/zero", "x", "a\0b", "http://127.0.0.1/x.wav"]
)
def test_only_uploads_are_labelled(served: Server, path: str, more: dict[str, Any]) -> None:
    """Also where a request names a file of the server, or an address that the server could fetch."""
    file = {"path": path, "meta": {"_type": "gradio.FileData"}, **more}
    assert served.label(file)["error"] == GONE
    assert served.label(served.upload(RECORDING), file)["error"] == GONE


@pytest.mark.parametrize("name", ["", " ", ".wav", ".", "/", "%", "日本.flac", "a'\u2028<b>&*_.flac"])
def test_any_name_is_answered(served: Server, name: str) -> None:
    """Also an empty one: the results have a name, or a sentence says what is wrong."""
    output = served.label(served.upload(RECORDING, name), served.upload(TRANSCRIPT))
    for address in results(output).values():
        assert served.ask(address).status == 200
    assert all(not file.startswith(".") for file in results(output))


def test_nothing_but_a_recording_is_asked_for(page: Any) -> None:
    page.click("#label")
    page.get_by_text("Add a recording first.").wait_for()


def test_limits(served: Server, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", np.zeros(100 * 8000), 8000, subtype="PCM_U8")
    assert served.label(served.upload(tmp_path / "long.wav"))["error"] == "long.wav: lasts 2 min, the limit is 1.5 min"
    soundfile.write(tmp_path / "large.wav", np.zeros(2_000_000), 48000)
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.wav"\r\n\r\n'
    answer = served.ask(
        "/gradio_api/upload",
        body + (tmp_path / "large.wav").read_bytes() + b"\r\n--x--\r\n",
        {"Content-Type": "multipart/form-data; boundary=x"},
    )
    assert answer.status == 413 and "exceeded" in answer.text
    answer = served.announce("/gradio_api/queue/join", 2_000_000)
    assert (answer.status, answer.text) == (413, "the request is too long\n")


def test_results_hold_no_path_of_the_server(served: Server, labelled: dict[str, str], trained: Path) -> None:
    assert len(labelled) == len(check_formats("all")) + 1
    for name, address in labelled.items():
        text = served.ask(address).text
        for folder in (served.temporary, trained.parent, RECORDING.parent):
            assert str(folder) not in text, name
    assert 'MEDIA_URL="./recording.flac"' in served.ask(labelled["recording.eaf"]).text


def test_a_part_of_a_recording_can_be_asked_for(served: Server, labelled: dict[str, str]) -> None:
    answer = served.ask(labelled["recording.flac"], headers={"Range": "bytes=100-199", "Origin": "null"})
    assert (answer.status, answer.body) == (206, RECORDING.read_bytes()[100:200])
    assert answer.headers["Content-Type"] == "audio/flac"


def test_the_page_answers_while_a_recording_is_labelled(served: Server, page: Any) -> None:
    recording, transcript, session = served.upload(RECORDING), served.upload(TRANSCRIPT), secrets.token_hex(5)
    served.labelling.suspend()
    try:
        assert served.join(session, recording, transcript).status == 200
        for _ in range(20):
            assert served.ask("/").status == 200
        for _ in range(MOST_WAITING + 1):
            answer = served.join(secrets.token_hex(5), recording, transcript)
        assert answer.status == 503 and json.loads(answer.text)["detail"].startswith("Queue is full.")
        drop(page, RECORDING, TRANSCRIPT)
        page.click("#label")
        page.get_by_text("This application is currently busy. Please try again.").first.wait_for()
    finally:
        served.labelling.resume()
    done = served.ask(f"/gradio_api/queue/data?session_hash={session}").text
    assert '"success":true' in next(line for line in done.splitlines() if "process_completed" in line)


def test_a_labelling_that_breaks_off_is_told_and_the_next_one_works(trained: Path, tmp_path: Path) -> None:
    with serving(trained, tmp_path / "server") as server:
        recording, transcript, session = server.upload(RECORDING), server.upload(TRANSCRIPT), secrets.token_hex(5)
        worker = server.labelling
        worker.suspend()
        server.join(session, recording, transcript)
        wait_for(lambda: any((server.folder / "results").iterdir()))
        worker.kill()
        told = server.ask(f"/gradio_api/queue/data?session_hash={session}").text
        assert "recording.flac: labelling it broke off" in told
        assert "recording.csv" in results(server.label(recording, transcript))
        assert server.end(signal.SIGINT) == 130
        assert not list(server.temporary.glob("lpgnet-serve-*"))


def test_the_end_of_a_session_removes_its_files_alone(browser: Any, served: Server, labelled: dict[str, str]) -> None:
    tab = browser.new_page()
    tab.goto(served.address)
    other = Path(served.upload(Path(__file__)))
    drop(tab, RECORDING, TRANSCRIPT)
    tab.click("#label")
    report = tab.wait_for_selector("#report iframe", timeout=60_000)
    address = "/" + report.get_attribute("src").lstrip("/")
    result = served.folder / "results" / address.split("/")[-2]
    assert result.is_dir()
    assert served.ask(address).status == 200
    tab.close()
    wait_for(lambda: not result.exists())
    assert served.ask(address).status == 404
    assert other.exists() and served.ask(labelled["recording.csv"]).status == 200


@pytest.mark.parametrize(("signals", "code"), [(["SIGTERM"], 143), (["SIGINT"], 130), (["SIGINT"] * 2, 130)])
def test_a_signal_removes_everything(trained: Path, tmp_path: Path, signals: list[str], code: int) -> None:
    """Also in the midst of a labelling."""
    with serving(trained, tmp_path / "server") as server:
        worker = server.labelling
        worker.suspend()
        server.join("abc123", server.upload(RECORDING), server.upload(TRANSCRIPT))
        wait_for(lambda: any((server.folder / "results").iterdir()))
        for name in signals:
            server.process.send_signal(getattr(signal, name))
        assert server.process.wait(timeout=300) == code
        assert not list(server.temporary.glob("lpgnet*"))
        assert is_over(worker)
        log = (server.temporary / "log").read_text()
        assert "Traceback" not in log and "serve: text encoder on cpu in " in log
        assert log.splitlines()[-1] in ("lpgnet: interrupted", "lpgnet: terminated"), "no work of it is kept"


def is_over(process: psutil.Process) -> bool:
    """Whether a process has ended, also where nobody has asked for its exit code."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_what_a_killed_server_left_is_removed_by_the_next(trained: Path, tmp_path: Path) -> None:
    with serving(trained, tmp_path / "server") as killed:
        killed.upload(RECORDING)
        left, worker = killed.folder, killed.labelling
        with serving(trained, tmp_path / "server") as second:
            assert left.is_dir(), "a server that runs keeps its own"
            assert second.end(signal.SIGTERM) == 143
        killed.end(signal.SIGKILL)
        wait_for(lambda: is_over(worker))
        assert any((left / "uploads").iterdir())
        with serving(trained, tmp_path / "server") as third:
            assert not left.exists() and third.folder.is_dir()
            third.end(signal.SIGTERM)


def test_a_model_that_is_missing_is_one_line(tmp_path: Path, run: Any) -> None:
    code, _, err = run(["serve", "--model", str(tmp_path / "nothing"), "--port", "0"])
    assert code == 1
    assert "Traceback" not in err and str(tmp_path / "nothing") in err.splitlines()[-1]


def test_a_table_of_many_recordings_is_refused(run: Any, trained: Path) -> None:
    code, _, err = run(["serve", "--model", str(trained), "--prediction.formats", "html,parquet"])
    assert code == 2 and "key 'prediction.formats': parquet is a table of many recordings" in err


def test_an_address_that_is_taken_is_one_line(served: Server, trained: Path, run: Any) -> None:
    port = served.authority.split(":")[1]
    code, _, err = run(["serve", "--model", str(trained), "--port", port])
    assert code == 1
    assert f"port {port} is in use; choose another with --port" in err.splitlines()[-1]
