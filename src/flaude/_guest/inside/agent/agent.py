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

from ..cooperative import Pace
from ..memory import unprotected
from ..spool import Spool
from . import result_lines
from .lines import LinesByWriter, LineSplitter, without_gaps
from .pipes import drain_slowly, ended, feed
from .processes import end_all, signal_group
from .stdout import KNOWS_WRITERS, Stdout
from .stdout_writer import StdoutWriter
from .user import User

_TAIL_LINES = 20
_TAIL_CHARACTERS = 2000
_DRAIN_S = 5.0
_MOST_REAPED = 200
_STRANGERS_BYTES = 4 << 20
_LINE_BYTES = 200  # what a line costs, even when it has nothing in it
_STRANGERS = "processes other than Claude Code have printed too much to its stdout"


class Agent:
    """One process, in a group of its own.

    Of what is printed only this counts, for the session, the result line and the rate limit: whole lines of its stdout
    that Claude Code's own process, see `StdoutWriter`, wrote before the end of the process that was started. All
    other lines are reported up to a limit, and count for nothing; of empty lines in a row one is reported.

    Guaranteed is that no other process writes a line that counts, wherever it has the socket from (pidfd_getfd(2)),
    when Claude Code is the process that was started: the image's `claude` is it, or becomes it with `exec`. Of one that
    a wrapper has started, it is for as long as it lives, from its first line on. Not guaranteed is what a process of
    the same user makes Claude Code itself do: trace it (ptrace(2)), stop it, or shut its stdout.
    """

    def __init__(self, spool: Spool, max_line_bytes: int) -> None:
        self._spool = spool
        self._max_line_bytes = max_line_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._lines = LinesByWriter(max_line_bytes)
        self._author = StdoutWriter(0)
        self._strangers_left = _STRANGERS_BYTES
        self._pace = Pace(None)
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
        stdout = Stdout()
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
        self._author = StdoutWriter(process.pid)
        assert process.stdin and process.stderr  # noqa: S101, PT018  # both are pipes
        feeding = asyncio.ensure_future(feed(process.stdin, prompt.encode("utf-8", "replace")))
        pumps = [
            asyncio.ensure_future(stdout.drain(self._take_stdout)),
            asyncio.ensure_future(self._pump_stderr(process.stderr)),
        ]
        try:
            code = await ended(process)
            # What it wrote is in the socket by now. What comes later is of processes that it has left behind.
            await stdout.rest(self._end)
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
        lines, pace = LineSplitter(self._max_line_bytes), Pace(None)

        async def take(piece: bytes) -> None:
            self.last_output = time.monotonic()
            for line, total in lines.feed(without_gaps(piece)):
                self._take("stderr", line, total)
                await pace.step()
            await pace.step()

        await drain_slowly(pipe, take)
        for line, total in lines.finish():
            self._take("stderr", line, total)

    async def _take_stdout(self, piece: bytes, writer: int) -> None:
        self.last_output = time.monotonic()
        if not KNOWS_WRITERS and self._process is not None:
            writer = self._process.pid
        known = self._author.knows(writer)
        if not known and self._strangers_left < 0 and self._author.pid is not None:
            self._spool.drop(piece.count(b"\n"), _STRANGERS)  # nothing in it can count
            return
        for author, line, total in self._lines.feed(without_gaps(piece), writer, known=known):
            self._take_line(author, line, total)
            await self._pace.step()

    def _take_line(self, author: int, line: bytes, total: int) -> None:
        if not self._author.knows(author):
            self._strangers_left -= _LINE_BYTES + len(line)
        if self._author.knows(author) or self._strangers_left >= 0:
            self._take("stdout", line, total)
        else:
            self._spool.drop(1, _STRANGERS)
        self._note(line, author)

    def _end(self) -> None:
        self._take_unfinished()
        self._ended = True

    def _take_unfinished(self) -> None:
        for author, line, total in self._lines.finish():
            self._take_line(author, line, total)

    def _take(self, stream: str, line: bytes, total: int) -> None:
        self._spool.line(stream, line, total)
        tail = line[: 4 * _TAIL_CHARACTERS]
        clean = self._spool.redact if len(tail) == total else self._spool.redact.beginning
        self.tails[stream].append(clean(tail.decode("utf-8", "replace"))[:_TAIL_CHARACTERS])

    def _note(self, line: bytes, writer: int) -> None:
        found = None if self._ended else result_lines.parse(line)
        if found is None:
            return
        before = self._author.pid
        if not self._author.believes(writer, begins=found["type"] == "system"):
            return
        if before not in (None, writer):  # what another has said before is nothing of Claude Code's
            self.session_id, self.result_line, self.rate_limit = "", None, None
        clean = self._spool.redact.json
        if found["type"] == "result":
            self.result_line = {key: clean(value) for key, value in found.items()}
        elif found["type"] == "rate_limit_event":
            self.rate_limit = clean(found["rate_limit_info"])
        self.session_id = result_lines.session_id(found) or self.session_id
