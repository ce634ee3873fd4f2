"""Which requests the served page's guard lets through, and what it takes out of the page."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpgnet.pipeline.labelling.page_files import PageFiles
from lpgnet.pipeline.labelling.page_guard import Guard, Refusal, clean

FILES = PageFiles(Path("/nowhere"))


def refusal(
    headers: list[tuple[str, str]],
    *,
    path: str = "/",
    method: str = "GET",
    server: tuple[str, int] = ("127.0.0.1", 7860),
    allowed: tuple[str, ...] = (),
) -> Refusal | None:
    async def app(*_: Any) -> None:
        raise AssertionError

    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    scope = {"type": "http", "headers": raw, "path": path, "method": method, "server": server}
    return Guard(app, FILES, frozenset(allowed)).refusal(scope)


@pytest.mark.parametrize(
    ("host", "server", "allowed"),
    [
        ("localhost:7860", ("127.0.0.1", 7860), ()),
        ("localhost", ("127.0.0.1", 80), ()),
        ("192.0.2.7:7860", ("192.0.2.7", 7860), ()),
        ("192.0.2.7:7860", ("::ffff:192.0.2.7", 7860), ()),
        ("[2001:db8::7]:7860", ("2001:db8::7", 7860), ()),
        ("lab.example", ("127.0.0.1", 7860), ("lab.example",)),
        ("lab.example:8443", ("127.0.0.1", 7860), ("lab.example",)),
        ("lab.example:8443", ("127.0.0.1", 7860), ("lab.example:8443",)),
    ],
)
def test_the_address_and_what_is_allowed(host: str, server: tuple[str, int], allowed: tuple[str, ...]) -> None:
    assert refusal([("Host", host), ("Origin", f"https://{host}")], server=server, allowed=allowed) is None


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("lab.example", ()),
        ("lab.example:8444", ("lab.example:8443",)),
        ("lab.example.evil.example", ("lab.example",)),
        ("evil.example:7860", ("lab.example",)),
        ("127.0.0.1.evil.example:7860", ()),
        ("192.0.2.7:7860", ()),
        ("user@localhost:7860", ()),
        ("localhost:7860/x", ()),
        ("localhost:99999999", ()),
        ("", ("lab.example",)),
    ],
)
def test_other_names(host: str, allowed: tuple[str, ...]) -> None:
    found = refusal([("Host", host)], allowed=allowed)
    assert found is not None and found.status == 421
    assert "--allowed_hosts" in found.sentence


def test_no_name_and_two_names() -> None:
    for headers in ([], [("Host", "localhost:7860"), ("Host", "evil.example")]):
        found = refusal(headers)
        assert found is not None and found.status == 421


def test_a_report_asks_for_its_recording_and_for_nothing_else() -> None:
    headers = [("Host", "localhost:7860"), ("Origin", "null")]
    assert refusal(headers, path="/results/x/call.wav") is None
    assert refusal(headers, path="/gradio_api/queue/join", method="POST") is not None
    headers = [("Host", "localhost:7860"), ("Origin", "http://evil.example")]
    assert refusal(headers, path="/results/x/call.wav") is not None


@given(st.text(st.characters(max_codepoint=255)), st.text(st.characters(max_codepoint=255)))
def test_any_name_is_judged(host: str, origin: str) -> None:
    found = refusal([("Host", host), ("Origin", origin)])
    assert found is None or found.status in (403, 421)


def test_addresses_elsewhere_are_taken_out() -> None:
    page = (
        b'<meta property="og:url"\n content="https://gradio.app/" /><p>kept</p>{"a":"https://x.example/y","b":'
        b'"http://localhost:7860/z","c":"http://localhost:7860.evil.example/","d":"http://localhost:78601"}'
    )
    assert clean(page, ["localhost:7860"]) == (b'<p>kept</p>{"a":"","b":"http://localhost:7860/z","c":"","d":""}')
