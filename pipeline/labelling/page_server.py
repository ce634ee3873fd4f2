"""The server of the page: its address, the results that it serves, and what happens at its end."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import ModuleType
from typing import TYPE_CHECKING

from lpgnet.pipeline.config import ServeConfig
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.labelling.page_files import SWEEP_SECONDS, PageFiles
from lpgnet.pipeline.labelling.page_guard import RESULTS, Guard
from lpgnet.pipeline.labelling.page_process import LabellingProcess
from lpgnet.pipeline.labelling.web_page import FONTS, STYLE, import_gradio, make_page
from lpgnet.pipeline.reports.page import PLAYED_TYPES

if TYPE_CHECKING:
    import gradio
    import uvicorn
    from fastapi import FastAPI
    from fastapi.responses import Response

# How long connections are waited for at the end (seconds): browsers hold theirs open as long as they can.
_PATIENCE_SECONDS = 1
_INLINE_TYPES = {".html": "text/html; charset=utf-8", **PLAYED_TYPES}


class PageServer:
    """The page at its address, which is taken at once: who asks before `run` is answered when it runs.

    Args:
        config: the address, and the names under which the page may be reached.
        files: the uploads and results.
        process: labels.

    Attributes:
        address: where a browser finds the page.

    Raises:
        PipelineError: Gradio is not installed, or the address cannot be listened at.
    """

    def __init__(self, config: ServeConfig, files: PageFiles, process: LabellingProcess) -> None:
        self._socket = _listen(config.host.strip("[]"), config.port)
        self.address = _address(config.host.strip("[]"), self._socket.getsockname()[1])
        app = _make_app(config, files, process)
        allowed = frozenset(name.lower() for name in config.allowed_hosts)
        self._server = _uvicorn(Guard(app, files, allowed))

    def run(self) -> None:
        """Serve until `stop`, or until a signal, which then does what it would have done without the server."""
        self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """Let `run` end, called in another thread."""
        self._server.should_exit = True


def _uvicorn(app: Guard) -> uvicorn.Server:
    import uvicorn

    config = uvicorn.Config(
        app, log_level="critical", ws="none", server_header=False, timeout_graceful_shutdown=_PATIENCE_SECONDS
    )
    return uvicorn.Server(config)


def _make_app(config: ServeConfig, files: PageFiles, process: LabellingProcess) -> FastAPI:
    """Gradio's page and the results, under one roof."""
    gr = import_gradio()
    from fastapi import FastAPI
    from fastapi.responses import FileResponse, PlainTextResponse

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep_regularly(files))
        yield
        sweeping.cancel()
        # Its requests wait for it.
        process.close()

    app = FastAPI(lifespan=lifespan, openapi_url=None)

    def result(token: str, name: str) -> Response:
        path = files.result(token, name)
        if path is None:
            return PlainTextResponse("These results are no longer here: label the recording again.\n", 404)
        kind = _INLINE_TYPES.get(path.suffix.lower())
        how = "inline" if kind else "attachment"
        return FileResponse(
            path, media_type=kind or "application/octet-stream", filename=path.name, content_disposition_type=how
        )

    app.add_api_route(f"{RESULTS}/{{token}}/{{name}}", result, response_model=None)
    return _mount(gr, app, make_page(process, files), config)


def _mount(gr: ModuleType, app: FastAPI, page: gradio.Blocks, config: ServeConfig) -> FastAPI:
    mounted: FastAPI = gr.mount_gradio_app(
        app,
        page,
        path="/",
        max_file_size=round(config.max_megabytes * 1e6),
        allowed_paths=[],
        show_error=False,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        theme=gr.themes.Default(font=FONTS, font_mono=["monospace"]),
        css=STYLE,
    )
    return mounted


async def _sweep_regularly(files: PageFiles) -> None:
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        with suppress(OSError):
            await asyncio.to_thread(files.sweep)


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = min(found)
        listening = socket.socket(family, kind, protocol)
        if os.name == "posix":
            # There it lets a server start again at once; on Windows it would let two share a port.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()
        return listening
    except (OSError, OverflowError) as error:
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise PipelineError(f"port {port} is in use; choose another with --port (0 for any free one)") from None
        raise PipelineError(f"cannot listen at {host}, port {port} ({error}); choose --host and --port") from None


def _address(host: str, port: int) -> str:
    shown = {"0.0.0.0": "localhost", "::": "localhost"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}/"
