"""A real `lpgnet serve`, and asking it for things as a browser or a stranger would."""

import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.e2e.workplace import ROOT


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


@dataclass(frozen=True)
class Server:
    """A server that runs.

    Attributes:
        temporary: the folder in which it makes its own.
    """

    process: subprocess.Popen[str]
    address: str
    temporary: Path

    @property
    def authority(self) -> str:
        return self.address.split("/")[2]

    @property
    def folder(self) -> Path:
        (folder,) = self.temporary.glob("lpgnet-serve-*")
        return folder

    @property
    def labelling(self) -> psutil.Process:
        """Its process that labels."""
        children = psutil.Process(self.process.pid).children()
        (found,) = [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]
        return found

    def ask(self, path: str, data: bytes | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Get a path, or post data to it."""
        request = urllib.request.Request(self.address.rstrip("/") + path, data, dict(headers or {}))
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.headers, error.read())

    def announce(self, path: str, n_bytes: int) -> Answer:
        """Say that so many bytes of JSON come, and take the answer before one is sent, which could break it off."""
        connection = http.client.HTTPConnection(self.authority, timeout=60)
        with closing(connection):
            connection.putrequest("POST", path)
            connection.putheader("Content-Type", "application/json")
            connection.putheader("Content-Length", str(n_bytes))
            connection.endheaders()
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())

    def upload(self, file: Path, name: str | None = None) -> str:
        """Upload a file, under another name if one is given, and return its path on the server."""
        name = file.name if name is None else name
        head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        body = head.encode() + file.read_bytes() + b"\r\n--x--\r\n"
        answer = self.ask("/gradio_api/upload", body, {"Content-Type": "multipart/form-data; boundary=x"})
        assert answer.status == 200, answer.text
        return str(json.loads(answer.body)[0])

    def join(self, session: str, recording: Any, transcript: Any = None) -> Answer:
        """Ask for a labelling of files that requests name, by their paths or as they are."""

        def named(file: Any) -> Any:
            return {"path": file, "meta": {"_type": "gradio.FileData"}} if isinstance(file, str) else file

        data = {"data": [named(recording), named(transcript)], "fn_index": 0, "session_hash": session}
        return self.ask("/gradio_api/queue/join", json.dumps(data).encode(), {"Content-Type": "application/json"})

    def label(self, recording: Any, transcript: Any = None, session: str | None = None) -> dict[str, Any]:
        """Label files and return what the page is told at the end."""
        session = session or secrets.token_hex(5)
        assert self.join(session, recording, transcript).status == 200
        for line in self.ask(f"/gradio_api/queue/data?session_hash={session}").text.split("\n"):
            if '"process_completed"' in line:
                output: dict[str, Any] = json.loads(line.removeprefix("data: "))["output"]
                return output
        raise AssertionError("the labelling was not completed")

    def end(self, signal_number: int) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(signal_number)
        return self.process.wait(timeout=300)


@contextmanager
def serving(model: Path, temporary: Path, *options: str) -> Iterator[Server]:
    """Run a server with a temporary folder of its own, and kill it at the end if it still runs."""
    temporary.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "lpgnet.pipeline.serve", "--model", str(model), "--port", "0", *options]
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}
    log = temporary / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=file, stderr=file, text=True, preexec_fn=_hear_interrupts
        )
    try:
        wait_for(lambda: "serving at" in log.read_text() or process.poll() is not None, seconds=600)
        assert process.poll() is None, log.read_text()
        address = log.read_text().split("serving at ")[1].split()[0]
        yield Server(process, address, temporary)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _hear_interrupts() -> None:
    """A process in the background of a shell ignores them, and so would the server that it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def wait_for(condition: Callable[[], object], *, seconds: float = 300) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "never so"
        time.sleep(0.05)
