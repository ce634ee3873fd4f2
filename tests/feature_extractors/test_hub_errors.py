"""What the hub refuses is told in one line about the model that was asked for; a server here plays the hub."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from lpgnet.feature_extractors.hub_errors import hub_error
from tests.hub_server import Answering

PROGRAM = """
import sys
{before}
from lpgnet.feature_extractors import EncoderError, resolve_spec
try:
    resolve_spec("hf:owner/" + sys.argv[1])
except EncoderError as error:
    print(error)
"""
FILES = ("config.json", "model.safetensors")
TREE = [{"type": "file", "path": name, "size": 70_000, "oid": "0" * 40} for name in FILES]
# A download shows its progress otherwise.
QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1"}
GATED = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to model owner/gated is restricted."}
MISSING = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
COMMIT = {"X-Repo-Commit": "1" * 40, "ETag": '"' + "2" * 40 + '"', "X-Linked-Size": "70000"}


class Hub(Answering):
    """Answers as the hub does for a model that is missing, private, gated, broken or whole, by its name."""

    def do_GET(self) -> None:
        is_file = "/resolve/" in self.path
        if "gated" in self.path and is_file:
            self.answer(403, headers=GATED)
        elif "missing" in self.path:
            self.answer(404, headers=MISSING)
        elif "private" in self.path:
            self.answer(401)
        elif "broken" in self.path:
            self.answer(418)
        elif is_file:
            self.answer(200, b"x" * 70_000, COMMIT)
        elif "/tree/" in self.path:
            self.answer(200, json.dumps(TREE).encode())
        else:
            self.answer(200, json.dumps({"id": "owner/x", "sha": "1" * 40, "siblings": []}).encode())


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def told(model: str, home: Path, endpoint: str, *, before: str = "", **environment: str) -> str:
    """The one line that a process of its own prints when it asks for `hf:owner/MODEL`."""
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), **QUIET, **environment}
    command = [sys.executable, "-c", PROGRAM.format(before=before), model]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"hf:owner/{model}") and "json" not in line and "Request ID" not in line, line
    return line


def test_a_model_that_is_not_there(hub: str, tmp_path: Path) -> None:
    for model in ("missing", "private"):
        assert "the hub has no such model (or it is private: log in" in told(model, tmp_path, hub)


def test_a_model_behind_terms(hub: str, tmp_path: Path) -> None:
    """The list of its files is public, and every file is refused."""
    line = told("gated", tmp_path, hub)
    assert "to those who accept its terms" in line and f"{hub}/owner/gated" in line and "HF_TOKEN" in line


def test_a_hub_that_errs(hub: str, tmp_path: Path) -> None:
    assert "the hub answers with error 418; try again later" in told("broken", tmp_path, hub)


def test_offline(hub: str, tmp_path: Path) -> None:
    line = told("whole", tmp_path, hub, HF_HUB_OFFLINE="1")
    assert "is not cached, and HF_HUB_OFFLINE forbids" in line and "local folder" in line


def test_no_network(tmp_path: Path) -> None:
    line = told("whole", tmp_path, "http://127.0.0.1:9")
    assert "is not cached and the hub cannot be reached" in line and "examples/demo/encoders/audio" in line


def test_a_cache_that_cannot_be_written(hub: str, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("no folder")
    line = told("whole", tmp_path / "home", hub)
    assert "cannot be kept in the cache of the hub" in line and "HF_HOME" in line


def test_a_file_that_the_disk_refuses(hub: str, tmp_path: Path) -> None:
    """As on a full disk: the system lets no file grow beyond a few bytes."""
    pytest.importorskip("resource")
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))"
    line = told("whole", tmp_path, hub, before=limit, PYTHONDONTWRITEBYTECODE="1")
    assert "cannot be kept in the cache of the hub" in line and "make room there" in line


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("No space left on device")])
def test_a_full_disk(error: Exception) -> None:
    wrapped = FileNotFoundError("cannot find config.json in the cached files")
    wrapped.__cause__ = error
    line = str(hub_error("hf:owner/x", "owner/x", wrapped))
    assert "make room there" in line and "config.json" not in line
