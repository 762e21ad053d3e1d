"""The main program of the machine that is measured; it is sent unchanged, so it needs only Python 3.9.

`live DEADLINE_S LINGER_S HOST PORT` lives until its deadline, whoever watches: then the machine is gone, also when
nobody deletes it. It looks at once whether HOST can be reached, notes signals, and outlives SIGTERM for a while.
`notes` prints what it has noted; `print BYTES`, `every-byte` and `disk MB` do what their names say.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import sys
import threading
import time
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent
_NOTES = _HERE / "notes.json"
_TICK_S = 0.1
_PATIENCE_S = 10.0
_BLOCK = 1 << 20


def _live(deadline_s: float, linger_s: float, host: str, port: int) -> None:
    born = time.monotonic()
    until = [born + deadline_s]
    notes: dict[str, Any] = {}

    def note(name: str, value: Any) -> None:
        notes[name] = value
        beginning = _HERE / f".notes-{threading.get_ident()}"
        beginning.write_text(json.dumps(notes), encoding="utf-8")
        beginning.replace(_NOTES)

    def stop(number: int, _frame: object) -> None:
        note("signal", number)
        until[0] = time.monotonic() + linger_s  # its own deadline is not to be taken for the stop's end

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    threading.Thread(target=lambda: note("egress", _egress(host, port, born)), daemon=True).start()
    while time.monotonic() < until[0]:
        time.sleep(_TICK_S)
    os._exit(0)


def _egress(host: str, port: int, born: float) -> dict[str, Any]:
    """How long a name, a connection and a handshake take, from the first moment on."""
    found: dict[str, Any] = {"host": host, "after_boot_s": round(time.monotonic() - born, 3)}
    began = time.monotonic()
    try:
        address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found["dns_s"] = round(time.monotonic() - began, 3)
        with socket.socket(address[0], socket.SOCK_STREAM) as plain:
            plain.settimeout(_PATIENCE_S)
            plain.connect(address[4])
            found["connect_s"] = round(time.monotonic() - began, 3)
            with ssl.create_default_context().wrap_socket(plain, server_hostname=host):
                found["tls_s"] = round(time.monotonic() - began, 3)
    except OSError as error:
        found["error"] = f"{type(error).__name__}: {error}"
    return found


def _disk(megabytes: int) -> None:
    """How long it takes until so much is on the disk."""
    file, block = _HERE / "disk", os.urandom(_BLOCK)
    began = time.monotonic()
    try:
        with file.open("wb") as to:
            for _ in range(megabytes):
                to.write(block)
            to.flush()
            os.fsync(to.fileno())
        print(json.dumps({"mb": megabytes, "seconds": round(time.monotonic() - began, 3)}))
    finally:
        file.unlink()


def main(words: list[str]) -> None:
    """Do what the words say."""
    verb, *rest = words
    if verb == "live":
        _live(float(rest[0]), float(rest[1]), rest[2], int(rest[3]))
    elif verb == "notes":
        print(_NOTES.read_text(encoding="utf-8") if _NOTES.exists() else "{}")
    elif verb == "print":
        sys.stdout.write("x" * int(rest[0]))
    elif verb == "every-byte":
        sys.stdout.buffer.write(bytes(range(256)))
    elif verb == "disk":
        _disk(int(rest[0]))
    else:
        sys.exit(f"{verb}: no such verb")


if __name__ == "__main__":
    main(sys.argv[1:])
