"""The agent's process: prompt in, lines out into the spool, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import IO, Any

from .lines import LineSplitter
from .processes import end_all, signal_group
from .spool import Spool
from .user import User

_TAIL_LINES = 20
_TAIL_CHARACTERS = 2000
_DRAIN_S = 5.0
_READ_BYTES = 1 << 16


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
        feed = asyncio.ensure_future(_feed(process.stdin, prompt.encode("utf-8", "replace")))
        pumps = [
            asyncio.ensure_future(self._pump("stdout", process.stdout)),
            asyncio.ensure_future(self._pump("stderr", process.stderr)),
        ]
        try:
            # In a thread: asyncio's own wait has, in some versions, waited for the pipes of grandchildren too.
            code = await asyncio.get_running_loop().run_in_executor(None, process.wait)
        finally:
            feed.cancel()
            # Whoever still holds the pipes has to go before they can end, and before anything is collected.
            await end_all(os.getpid())
            await asyncio.wait(pumps, timeout=_DRAIN_S)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(feed, *pumps, return_exceptions=True)
        return code

    def signal(self, number: int) -> None:
        """Send a signal to its whole process group."""
        if self._process is not None and self._process.returncode is None:
            signal_group(self._process.pid, number)

    def reap_orphans(self) -> None:
        """Reap what the agent's processes left to us, so that they do not pile up as zombies."""
        with contextlib.suppress(ChildProcessError):
            while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if self._process is None or found.si_pid == self._process.pid:
                    return  # that one is waited for in `run`
                os.waitpid(found.si_pid, os.WNOHANG)

    async def _pump(self, stream: str, pipe: IO[bytes]) -> None:
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        lines = LineSplitter(self._max_line_bytes)
        try:
            while piece := await reader.read(_READ_BYTES):
                self.last_output = time.monotonic()
                for line, total in lines.feed(piece):
                    self._take(stream, line, total)
            for line, total in lines.finish():
                self._take(stream, line, total)
        finally:
            transport.close()

    def _take(self, stream: str, line: bytes, total: int) -> None:
        self._spool.line(stream, line, total)
        text = self._spool.redact.beginning(line[: 4 * _TAIL_CHARACTERS].decode("utf-8", "replace"))
        self.tails[stream].append(text[:_TAIL_CHARACTERS])
        if stream == "stdout" and line[:1] == b"{":
            self._note(line)

    def _note(self, line: bytes) -> None:
        try:
            value = self._spool.redact.json(json.loads(line))
        except (ValueError, RecursionError):
            return
        if value.get("type") == "result":
            self.result_line = value
        elif value.get("type") == "rate_limit_event" and isinstance(value.get("rate_limit_info"), dict):
            self.rate_limit = value["rate_limit_info"]


async def _feed(pipe: IO[bytes], data: bytes) -> None:
    """Write the prompt and close stdin; an agent that does not want all of it is free not to read it."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, pipe)
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    try:
        writer.write(data)
        await writer.drain()
    except (BrokenPipeError, ConnectionResetError):
        pass
    finally:
        writer.close()


STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
