"""`ctl VERB`: hands one JSON object to the supervisor and prints its answer. Imports little: it starts often."""

from __future__ import annotations

import json
import os
import socket
import sys
import time

VERBS = ("start", "pull", "fetch", "cancel", "ack", "status")
SOCKET = "ctl.sock"
EX_USAGE = 64
EX_TEMPFAIL = 75
_ANSWER_S = 60
_UP_S = 5.0


def ctl(arguments: list[str], run_folder: str) -> int:
    """Returns the exit code: 0 when the supervisor has answered, whatever it said."""
    if len(arguments) != 1 or arguments[0] not in VERBS:
        print(json.dumps({"error": "usage: ctl " + "|".join(VERBS)}))
        return EX_USAGE
    try:
        request = json.loads(sys.stdin.buffer.read() or b"{}")
    except ValueError as error:
        print(json.dumps({"error": "not valid JSON: " + str(error)}))
        return EX_USAGE
    if not isinstance(request, dict):
        print(json.dumps({"error": "give a JSON object"}))
        return EX_USAGE
    message = json.dumps({"verb": arguments[0], "request": request}).encode()
    try:
        with _connected(run_folder, _UP_S if arguments[0] == "start" else 0.0) as connection:
            connection.sendall(message)
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
