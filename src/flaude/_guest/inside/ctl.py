"""`ctl VERB REQUEST`: hands a request to the supervisor and prints its answer. Imports little: it starts often.

REQUEST is packed (`packing.py`), as nothing else than argv is sure to arrive: Fly may drop the standard input of an
exec. One that is longer than a call comes before, in parts (`ctl part NAME:OFFSET TEXT`), and is then named:
`ctl VERB @NAME:LENGTH`. Where standard input was seen to arrive, `ctl VERB -` reads the request from there.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time

from .packing import unpack_request

VERBS = ("start", "pull", "fetch", "cancel", "ack", "status")
SOCKET = "ctl.sock"
STDIN = "-"
EX_USAGE = 64
EX_TEMPFAIL = 75
_ANSWER_S = 60
_UP_S = 5.0
_PART_WORDS = 2


def ctl(arguments: list[str], run_folder: str) -> int:
    """Returns the exit code: 0 when the supervisor has answered, whatever it said."""
    verb, *words = arguments or [""]
    try:
        if verb == "part" and len(words) == _PART_WORDS:
            from . import parts  # noqa: PLC0415  # few requests have any

            parts.keep(run_folder, *words[0].partition(":")[::2], words[1])
            return _say({"ok": True})
        if verb not in VERBS or len(words) != 1:
            return _say({"error": "usage: ctl " + "|".join(VERBS) + " REQUEST, or ctl part NAME:OFFSET TEXT"}, EX_USAGE)
        word = sys.stdin.read().strip() if words[0] == STDIN else words[0]
        if not word:
            return _say({"error": "the request is empty", "stdin": "empty"}, EX_USAGE)
        message = _message(verb, word, run_folder)
    except ValueError as error:
        return _say({"error": "not a request: " + str(error)}, EX_USAGE)
    except OSError as error:
        return _say({"error": "no room for the request: " + str(error)})
    try:
        with _connected(run_folder, _UP_S if verb == "start" else 0.0) as connection:
            connection.sendall(json.dumps(message).encode())
            connection.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    except OSError as error:
        sys.stderr.write("the supervisor does not answer: " + str(error) + "\n")
        return EX_TEMPFAIL
    if not answer:
        sys.stderr.write("the supervisor ended before it answered\n")
        return EX_TEMPFAIL
    sys.stdout.write(answer.decode())
    return 0


def _message(verb: str, word: str, run_folder: str) -> dict[str, object]:
    """What the supervisor is asked; where parts are missing, it may know the request from the last time."""
    if not word.startswith("@"):
        return {"verb": verb, "request": unpack_request(word)}
    from . import parts  # noqa: PLC0415  # as above

    name, _, length = word[1:].partition(":")
    try:
        return {"verb": verb, "request": unpack_request(parts.join(run_folder, name, length)), "name": name}
    except parts.PartsMissing as missing:
        return {"verb": verb, "request": None, "name": name, "missing": missing.offset}


def _say(answer: dict[str, object], code: int = 0) -> int:
    print(json.dumps(answer))
    return code


def _connected(run_folder: str, within_s: float) -> socket.socket:
    """A connection to the supervisor, who needs a moment after the machine has started.

    Waiting here costs nothing; another call from outside does.
    """
    until = time.monotonic() + within_s
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            os.chdir(run_folder)  # a socket's path may have 108 bytes at most: a relative one always fits
            connection.settimeout(_ANSWER_S)
            connection.connect(SOCKET)
        except OSError as error:
            connection.close()
            # Not there yet: all else will not change by waiting.
            if not isinstance(error, (FileNotFoundError, ConnectionRefusedError)) or time.monotonic() >= until:
                raise
            time.sleep(0.05)
        else:
            return connection
