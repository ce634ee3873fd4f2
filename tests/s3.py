"""A server of the S3 protocol (moto's) in a process of its own; answers can be spoiled, and requests are kept.

Run as a script it prints its port and serves until its standard input ends.
"""

import json
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

# What must never be seen again.
SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIAMADEUPFORTESTS99",
    "AWS_SECRET_ACCESS_KEY": "made/up+secret0for1tests2never3seen4",
    "AWS_SESSION_TOKEN": "madeupsessiontoken567890",
}
_CONTROL = "/__tests__"
Answer = Callable[[str, list[tuple[str, str]]], object]


class S3:
    """The server, and a bucket in it.

    Attributes:
        endpoint: its address.
        bucket: the name of the bucket, which the tests' fixture creates.
    """

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self.endpoint = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        self.bucket = ""

    def environment(self, home: Path) -> dict[str, str]:
        """What a process needs to find the server, and nothing of the account that runs the tests."""
        settings = {"AWS_ENDPOINT_URL": self.endpoint, "AWS_DEFAULT_REGION": "us-east-1", "NO_PROXY": "127.0.0.1"}
        # Errors that a test orders are to be seen at once.
        quick = {"AWS_MAX_ATTEMPTS": "1", "AWS_EC2_METADATA_DISABLED": "true"}
        files = {name: str(home / "none") for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")}
        return {**SECRETS, **settings, **quick, **files, "XDG_CACHE_HOME": str(home / "cache")}

    @property
    def files(self) -> Any:
        """The server's files, by s3fs."""
        import fsspec

        return fsspec.filesystem("s3", use_listings_cache=False)

    @property
    def root(self) -> str:
        """An address in the bucket."""
        return f"s3://{self.bucket}/stores"

    def spoil(self, method: str, part: str, how: str, *, after: int = 0, times: int = 10**9) -> None:
        """Spoil the answers to requests of a method whose path has a part in it.

        Args:
            method: such as GET.
            part: of the path and query.
            how: a status such as "500", or "hang up".
            after: so many such requests are answered well before.
            times: so many are spoiled.
        """
        self._control("spoil", method, part, how, after, times)

    def heal(self) -> None:
        """Answer well again."""
        self._control("heal")

    def requests(self) -> list[list[str]]:
        """What was asked for since the last time: method, path with query, range, bytes of the answer."""
        return self._control("requests")

    def close(self) -> None:
        """End the server."""
        self._process.communicate()

    def _control(self, *command: object) -> Any:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(self.endpoint + _CONTROL, json.dumps(command).encode(), method="POST")
        with opener.open(request) as answer:
            return json.load(answer)


class _Spoiling:
    """A WSGI application around moto's."""

    def __init__(self, app: Any) -> None:
        self.app, self.rules, self.seen = app, list[list[Any]](), list[list[str]]()

    def __call__(self, environ: dict[str, Any], start_response: Answer) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"] + "?" + environ.get("QUERY_STRING", "")
        if path.startswith(_CONTROL):
            size = int(environ["CONTENT_LENGTH"])
            content = json.dumps(self.command(*json.loads(environ["wsgi.input"].read(size)))).encode()
            start_response("200 OK", [("Content-Length", str(len(content)))])
            return [content]
        how = self.spoiled(method, path)
        entry = [method, path, environ.get("HTTP_RANGE", ""), ""]
        self.seen.append(entry)
        if how == "hang up":
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionError
        if how:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response(f"{how} Spoiled", [("Content-Length", "0")])
            return []

        def counted(status: str, headers: list[tuple[str, str]], *rest: object) -> object:
            entry[3] = next((value for name, value in headers if name.lower() == "content-length"), "")
            return start_response(status, headers, *rest)

        return self.app(environ, counted)

    def command(self, name: str, *arguments: Any) -> Any:
        if name == "spoil":
            self.rules.append(list(arguments))
        elif name == "heal":
            self.rules.clear()
        else:
            seen, self.seen = self.seen, []
            return seen
        return None

    def spoiled(self, method: str, path: str) -> str:
        for rule in self.rules:
            if rule[0] == method and rule[1] in path:
                if rule[3] > 0:
                    rule[3] -= 1
                elif rule[4] > 0:
                    rule[4] -= 1
                    return str(rule[2])
        return ""


def main() -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        # Connections are kept, as object storage keeps them.
        protocol_version = "HTTP/1.1"

        def log(self, *_: object) -> None:
            pass

    app = _Spoiling(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
