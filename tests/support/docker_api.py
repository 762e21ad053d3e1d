"""The least of Docker's API over its unix socket, for what the tests set up before any client is tested."""

from __future__ import annotations

import http.client
import json
import os
import socket
from pathlib import Path
from typing import IO, Any

_TIMEOUT_S = 120


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path: the host's name is nobody's."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(str(self._path))


def ask(api: Path, method: str, path: str, body: IO[bytes] | dict[str, Any] | None = None) -> bytes:
    """Send one request, and a file as a tar.

    Raises:
        OSError: Nobody listens there.
        RuntimeError: The answer is an error, or a progress that ends with one.
    """
    connection = _Connection(api)
    headers = {}
    data: IO[bytes] | bytes | None
    if isinstance(body, dict):
        data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
    else:
        data = body
        if body:
            headers |= {"Content-Type": "application/x-tar", "Content-Length": str(os.fstat(body.fileno()).st_size)}
    try:
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        said = response.read()
    finally:
        connection.close()
    if response.status >= http.client.BAD_REQUEST or b'"errorDetail"' in said:
        raise RuntimeError(f"{method} {path}: {response.status} {said[-500:].decode(errors='replace')}")
    return said
