"""Who may ask the served page for what: looked at before any of the page's own code sees the request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lpgnet.pipeline.labelling.page_files import PageFiles

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Where the results of a labelling are served.
RESULTS = "/results"
# All that the page asks for: Gradio serves much more, and would fetch files from other addresses.
_ROUTES = re.compile(
    r"/|/theme\.css|/favicon\.ico|/(?:assets|static)/.+|/results/[^/]+/[^/]+"
    r"|/gradio_api/(?:upload|upload_progress|run/predict|queue/join|queue/data|cancel|reset|heartbeat/\w+)"
)
# The link to an upload.
_UPLOAD = "/gradio_api/file="
# Bodies of other requests than uploads are small (bytes).
_LARGEST_BODY = 1_000_000
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[0-9a-z._-]+)(?::([0-9]{1,5}))?")
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
# Gradio's script styles elements and evaluates none; a page that is shown in another's frame could be clicked unawares.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self'; frame-src 'self'; base-uri 'self'; form-action 'none'; "
    "frame-ancestors 'none'"
)
# A report is an origin of its own: its script could not read the page around it, and gives a table to download.
_RESULT_POLICY = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data:; media-src data: 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"
)
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
# Gradio's template names its own website and pictures on others.
_PREVIEW = re.compile(rb'<meta\s++(?:property|name)="(?:og|twitter):[^<>]*+>')
_ADDRESS = re.compile(rb"""https?://([\[\]\w.:-]*+)[^\s"'<>\\]*+""")


@dataclass(frozen=True)
class Refusal:
    """Why a request is not answered."""

    status: int
    sentence: str


@dataclass(frozen=True)
class Guard:
    """ASGI middleware around everything that the server answers.

    Attributes:
        app: what it guards.
        files: the uploads and results.
        allowed: names under which the page may be reached besides its address: `NAME` or `NAME:PORT`.
    """

    app: ASGIApp
    files: PageFiles
    allowed: frozenset[str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif refusal := self.refusal(scope):
            await _refuse(refusal, scope, receive, _with_headers(scope, send))
        elif scope["path"] == "/":
            await _without_addresses(self.app, scope, receive, _with_headers(scope, send))
        else:
            await self.app(scope, receive, _with_headers(scope, send))

    def refusal(self, scope: Scope) -> Refusal | None:
        """Return why a request is refused, or None.

        A page of another site that makes its own name lead here (DNS rebinding) gives itself away by `Host`, one that
        sends requests to this address by `Origin`.
        """
        headers = _headers(scope)
        hosts, origins = headers.get("host", []), headers.get("origin", [])
        if len(hosts) != 1 or not self._is_own(hosts[0], scope):
            name = " ".join(hosts) or "no name"
            return Refusal(421, f"this page is not served under {name}; allow it with --allowed_hosts")
        # A report is of no origin, and its player says so when it asks for the recording.
        origins = [origin for origin in origins if not (origin == "null" and _is_result(scope))]
        if not all(self._is_own(_authority(origin), scope) for origin in origins):
            return Refusal(403, "this page takes no requests from other sites")
        if not self._is_served(scope["path"]):
            return Refusal(404, "there is no such page")
        return _body_refusal(scope, headers)

    def _is_served(self, path: str) -> bool:
        if path.startswith(_UPLOAD):
            return self.files.is_upload(path.removeprefix(_UPLOAD))
        return _ROUTES.fullmatch(path) is not None

    def _is_own(self, authority: str, scope: Scope) -> bool:
        """Tell whether `NAME:PORT` is this server: by the address of this connection, or as it was allowed."""
        match = _AUTHORITY.fullmatch(authority.lower())
        if match is None:
            return False
        name, port = match[1].strip("[]"), int(match[2] or 80)
        address, own_port = scope["server"]
        # The server may know an IPv4 address in the form that IPv6 has for it.
        own = {*_LOOPBACK, address.removeprefix("::ffff:")}
        return bool({match[0], match[1]} & self.allowed) or (name in own and port == own_port)


def _is_result(scope: Scope) -> bool:
    path: str = scope["path"]
    return path.startswith(f"{RESULTS}/")


def _authority(origin: str) -> str:
    """Return the `NAME:PORT` of an origin; what is none has no name."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _headers(scope: Scope) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _body_refusal(scope: Scope, headers: Mapping[str, list[str]]) -> Refusal | None:
    if scope["method"] in ("GET", "HEAD") or scope["path"] == "/gradio_api/upload":
        return None
    length = headers.get("content-length", [""])[0]
    if not length.isdigit():
        return Refusal(411, "the length of the request is missing")
    return Refusal(413, "the request is too long") if int(length[:20]) > _LARGEST_BODY else None


async def _refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    from starlette.responses import PlainTextResponse

    await PlainTextResponse(f"{refusal.sentence}\n", refusal.status)(scope, receive, send)


def _with_headers(scope: Scope, send: Send) -> Send:
    """Add the headers that tell browsers what the page may do and who may show it."""
    from starlette.datastructures import MutableHeaders

    own = {
        "Content-Security-Policy": _RESULT_POLICY if _is_result(scope) else _PAGE_POLICY,
        "X-Frame-Options": "SAMEORIGIN" if _is_result(scope) else "DENY",
        **_HEADERS,
    }
    if not scope["path"].startswith(("/assets/", "/static/")):
        own["Cache-Control"] = "no-store"

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(own)
        await send(message)

    return send_with_headers


async def _without_addresses(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Send the page without what its template says about other sites."""
    from starlette.datastructures import MutableHeaders

    messages: list[Message] = []

    async def keep(message: Message) -> None:
        messages.append(message)

    # It can be changed as long as it is not compressed.
    readable = [(name, value) for name, value in scope["headers"] if name.lower() != b"accept-encoding"]
    await app({**scope, "headers": readable}, receive, keep)
    headers = _headers(scope)
    hosts = [*headers["host"], *headers.get("x-forwarded-host", [])]
    body = clean(b"".join(message.get("body", b"") for message in messages), hosts)
    start = messages[0]
    if scope["method"] == "GET":
        MutableHeaders(scope=start)["content-length"] = str(len(body))
    await send(start)
    await send({"type": "http.response.body", "body": body})


def clean(page: bytes, hosts: Iterable[str]) -> bytes:
    """Take out of a page the addresses that do not lead to one of the hosts."""
    own = {host.encode("latin-1") for host in hosts}
    return _ADDRESS.sub(lambda found: found[0] if found[1] in own else b"", _PREVIEW.sub(b"", page))
