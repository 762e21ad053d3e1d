"""`flaude` without its start: a process that has imported all of it forks for each call of a small `flaude` on PATH.

The child has the arguments, folder, environment and file descriptors of its caller. It is for tests of many commands
whose start is not what they are about.

    python -m tests.support.fork_server FOLDER    makes FOLDER/flaude, prints a line, and serves until stdin ends
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from cyclopts import App

# What a command imports no sooner than it needs it.
_LATE = (
    "flaude.batch_file.yaml_nodes",
    "flaude._providers.fly.client",
    "flaude.local",
    "flaude._model.codec",
    "rich.markdown",
)

_CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({socket!r})
    said = json.dumps({{"argv": sys.argv, "cwd": os.getcwd(), "environ": dict(os.environ)}}).encode()
    socket.send_fds(server, [len(said).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(said)
    sys.exit((server.recv(1) or b"\\x46")[0])
"""


def serve(folder: Path) -> None:
    """Fork for each call."""
    from flaude.cli import application  # noqa: PLC0415  # what takes its time

    _import_all(application())
    for name in _LATE:
        import_module(name)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "flaude.socket"))
        listener.listen()
        client = folder / "flaude"
        client.write_text(_CLIENT.format(python=sys.executable, socket=str(folder / "flaude.socket")))
        client.chmod(0o755)
        print("ready", flush=True)
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            caller, _ = listener.accept()
            if os.fork() == 0:
                _be(caller)
            caller.close()
            with suppress(ChildProcessError):
                while os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG) is not None:
                    pass


def _import_all(app: App) -> None:
    """Commands are imported when they are looked at."""
    for name in app:
        if not name.startswith("-"):
            _import_all(app[name])


def _be(caller: socket.socket) -> NoReturn:
    code = 70
    try:
        size, descriptors, *_ = socket.recv_fds(caller, 4, 3)
        said = json.loads(caller.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL))
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        # Those of this process may be of another kind: a pipe has no position, a terminal is written to line by line.
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
        os.chdir(said["cwd"])
        os.environ.clear()
        os.environ.update(said["environ"])
        sys.argv = said["argv"]
        code = _main()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001  # whatever it is: no second server may come of it
        traceback.print_exc()
    finally:
        caller.send(bytes([code]))
        os._exit(code)


def _main() -> int:
    from flaude.cli import main  # noqa: PLC0415  # imported long ago

    try:
        main()
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0 if done.code is None else 1
    return 0


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
