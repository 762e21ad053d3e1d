"""The agent's process: prompt in, lines out into the spool, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import IO, Any

from .lines import LineSplitter
from .pipes import drain, ended, feed
from .processes import end_all, signal_group
from .spool import Spool
from .user import User

_TAIL_LINES = 20
_TAIL_CHARACTERS = 2000
_DRAIN_S = 5.0
_MOST_LEVELS = 100
_MOST_REAPED = 200


class Agent:
    """One process, in a group of its own. Only its own stdout counts for the result line and the rate limit."""

    def __init__(self, spool: Spool, max_line_bytes: int) -> None:
        self._spool = spool
        self._max_line_bytes = max_line_bytes
        self._process: subprocess.Popen[bytes] | None = None
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
        process = self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=dict(environment),
            start_new_session=True,
            **user.popen,
        )
        assert process.stdin and process.stdout and process.stderr  # noqa: S101, PT018  # all three are pipes
        feeding = asyncio.ensure_future(feed(process.stdin, prompt.encode("utf-8", "replace")))
        pumps = [
            asyncio.ensure_future(self._pump("stdout", process.stdout)),
            asyncio.ensure_future(self._pump("stderr", process.stderr)),
        ]
        try:
            code = await ended(process)
        finally:
            feeding.cancel()
            # Whoever still holds the pipes has to go before they can end, and before anything is collected.
            await end_all(os.getpid())
            await asyncio.wait(pumps, timeout=_DRAIN_S)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(feeding, *pumps, return_exceptions=True)
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

    async def _pump(self, stream: str, pipe: IO[bytes]) -> None:
        lines = LineSplitter(self._max_line_bytes)

        def take(piece: bytes) -> None:
            self.last_output = time.monotonic()
            for line, total in lines.feed(piece):
                self._take(stream, line, total)

        await drain(pipe, take)
        for line, total in lines.finish():
            self._take(stream, line, total)

    def _take(self, stream: str, line: bytes, total: int) -> None:
        self._spool.line(stream, line, total)
        tail = line[: 4 * _TAIL_CHARACTERS]
        clean = self._spool.redact if len(tail) == total else self._spool.redact.beginning
        self.tails[stream].append(clean(tail.decode("utf-8", "replace"))[:_TAIL_CHARACTERS])
        if stream == "stdout" and line[:1] == b"{":
            self._note(line)

    def _note(self, line: bytes) -> None:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            return
        if _is_deep(found):
            return  # no line of Claude Code's is, and nobody on the way to the caller could read it
        value = self._spool.redact.json(found)
        if value.get("type") == "result":
            self.result_line = value
        elif value.get("type") == "rate_limit_event" and isinstance(value.get("rate_limit_info"), dict):
            self.rate_limit = value["rate_limit_info"]


def _is_deep(value: Any) -> bool:
    """Whether it has lists or objects inside of each other over more than so many levels."""
    level = [value]
    for _ in range(_MOST_LEVELS):
        inner = [part.values() if isinstance(part, dict) else part for part in level if isinstance(part, (dict, list))]
        level = [item for items in inner for item in items]
        if not level:
            return False
    return True
