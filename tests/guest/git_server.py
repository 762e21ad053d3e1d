"""A real git server over HTTP on 127.0.0.1 (git's own `http-backend`), which may want a user and a password."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

_NO_FAILURE = 200


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        """Fetch."""
        self._answer()

    def do_POST(self) -> None:
        """Negotiate."""
        self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Say nothing."""

    def _answer(self) -> None:
        self.server.asked.append(self.path)
        answer = self.server.failures.pop(0) if self.server.failures else _NO_FAILURE
        if answer != _NO_FAILURE:
            if answer:
                self.send_response(answer)
                self.end_headers()
            self.close_connection = True
            return
        given = self.headers.get("Authorization")
        if self.server.credentials and given != self.server.credentials:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.end_headers()
            return
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        done = subprocess.run(
            ["git", "http-backend"],
            input=body,
            capture_output=True,
            check=False,
            env={
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(self.server.folder),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": "*",
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "PATH_INFO": parts.path,
                "QUERY_STRING": parts.query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "REMOTE_USER": "somebody",
                "REMOTE_ADDR": "127.0.0.1",
            },
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = [line.split(": ", 1) for line in head.decode().splitlines()]
        status = next((value for name, value in headers if name == "Status"), "200 OK")
        self.send_response(int(status.split()[0]))
        for name, value in headers:
            if name != "Status":
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


class _Server(ThreadingHTTPServer):
    folder: Path
    credentials: str | None
    failures: list[int]
    asked: list[str]


@contextmanager
def git_server(
    folder: Path,
    credentials: tuple[str, str] | None = None,
    failures: Sequence[int] = (),
    asked: list[str] | None = None,
) -> Iterator[str]:
    """Serve the repositories below `folder`; yields `host:port`.

    Args:
        folder: Where they are.
        credentials: Who may have them; everybody without.
        failures: What the first requests are answered with: 0 for a connection that is closed, 200 as it should be.
        asked: Takes the path of each request.
    """
    server = _Server(("127.0.0.1", 0), _Handler)
    server.folder = folder
    server.failures = list(failures)
    server.asked = [] if asked is None else asked
    server.credentials = "Basic " + base64.b64encode(":".join(credentials).encode()).decode() if credentials else None
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
