"""The agent's process: prompt in, lines out into the spool, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import IO, Any

from . import said
from .lines import LinesByWriter, LineSplitter
from .memory import unprotected
from .pipes import drain, ended, feed
from .processes import end_all, signal_group
from .spool import Spool
from .stdout import Stdout
from .user import User

_TAIL_LINES = 20
_TAIL_CHARACTERS = 2000
_DRAIN_S = 5.0
_MOST_REAPED = 200


class Agent:
    """One process, in a group of its own.

    Of what is printed only this counts, for the session, the result line and the rate limit: whole lines of its stdout
    that Claude Code's own process wrote before the end. That process is the one that printed the first line of a kind
    that counts: no other has the agent's stdout before it runs, and mostly it is the one that was started, but a
    wrapper in the image may have started it in turn. Lines of all others are told, and count for nothing.
    """

    def __init__(self, spool: Spool, max_line_bytes: int) -> None:
        self._spool = spool
        self._max_line_bytes = max_line_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._lines = LinesByWriter(max_line_bytes)
        self._claude: int | None = None
        self._ended = False
        self.session_id = ""
        self.result_line: dict[str, Any] | None = None
        self.rate_limit: dict[str, Any] | None = None
        self.tails: dict[str, deque[str]] = {
            "stdout": deque(maxlen=_TAIL_LINES),
            "stderr": deque(maxlen=_TAIL_LINES),
        }
        self.last_output = time.monotonic()

    async def run(
        self, argv: Sequence[str], prompt: str, *, cwd: str, environment: Mapping[str, str], user: User
    ) -> int:
        """Run it to its end, and end whatever it leaves behind.

        Returns:
            Its return code as `subprocess` gives it: negative for a signal.

        Raises:
            OSError: It could not be started.
        """
        self.last_output = time.monotonic()
        stdout = Stdout(self._take_stdout)
        try:
            with stdout.theirs, unprotected():
                process = self._process = subprocess.Popen(
                    argv,
                    stdin=subprocess.PIPE,
                    stdout=stdout.theirs.fileno(),
                    stderr=subprocess.PIPE,
                    cwd=cwd,
                    env=dict(environment),
                    start_new_session=True,
                    **user.popen,
                )
        except BaseException:
            stdout.close()
            raise
        assert process.stdin and process.stderr  # noqa: S101, PT018  # both are pipes
        feeding = asyncio.ensure_future(feed(process.stdin, prompt.encode("utf-8", "replace")))
        pumps = [asyncio.ensure_future(stdout.drain()), asyncio.ensure_future(self._pump_stderr(process.stderr))]
        try:
            code = await ended(process)
            # What it wrote is in the socket by now. What comes later is of processes that it has left behind.
            stdout.hand_over_rest()
            self._take_unfinished()
            self._ended = True
        finally:
            feeding.cancel()
            # Whoever still holds the pipes has to go before they can end, and before anything is collected.
            await end_all(os.getpid(), user.number)
            await asyncio.wait(pumps, timeout=_DRAIN_S)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(feeding, *pumps, return_exceptions=True)
            self._take_unfinished()
        return code

    def signal(self, number: int) -> None:
        """Send a signal to its whole process group."""
        if self._process is not None and self._process.returncode is None:
            signal_group(self._process.pid, number)

    def reap_orphans(self) -> None:
        """Reap what the agent's processes left to us, so that they do not pile up as zombies.

        Not without end: an agent that makes them faster must not keep us from looking at the clocks.
        """
        with contextlib.suppress(ChildProcessError):
            for _ in range(_MOST_REAPED):
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if found is None or self._process is None or found.si_pid == self._process.pid:
                    return  # that one is waited for in `run`
                os.waitpid(found.si_pid, os.WNOHANG)

    async def _pump_stderr(self, pipe: IO[bytes]) -> None:
        lines = LineSplitter(self._max_line_bytes)

        def take(piece: bytes) -> None:
            self.last_output = time.monotonic()
            for line, total in lines.feed(piece):
                self._take("stderr", line, total)

        await drain(pipe, take)
        for line, total in lines.finish():
            self._take("stderr", line, total)

    def _take_stdout(self, piece: bytes, writer: int) -> None:
        self.last_output = time.monotonic()
        for author, line, total in self._lines.feed(piece, writer):
            self._take("stdout", line, total)
            self._note(line, author)

    def _take_unfinished(self) -> None:
        for author, line, total in self._lines.finish():
            self._take("stdout", line, total)
            self._note(line, author)

    def _take(self, stream: str, line: bytes, total: int) -> None:
        self._spool.line(stream, line, total)
        tail = line[: 4 * _TAIL_CHARACTERS]
        clean = self._spool.redact if len(tail) == total else self._spool.redact.beginning
        self.tails[stream].append(clean(tail.decode("utf-8", "replace"))[:_TAIL_CHARACTERS])

    def _note(self, line: bytes, author: int) -> None:
        if self._ended or author == LinesByWriter.NOBODY or self._claude not in (None, author):
            return
        found = said.parse(line)
        if found is None:
            return
        self._claude = author
        clean = self._spool.redact.json
        if found["type"] == "result":
            self.result_line = {key: clean(value) for key, value in found.items()}
        elif found["type"] == "rate_limit_event":
            self.rate_limit = clean(found["rate_limit_info"])
        self.session_id = said.session_id(found) or self.session_id
