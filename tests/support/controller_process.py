"""Starts `tests.support.controller_program` as a process of its own and hears what it tells."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from tests.conftest import TOKEN

from flaude.local import LocalFly

ROOT = Path(__file__).parents[2]
COMMAND = str(ROOT / "tests" / "support" / "command_program.py")


class Controller:
    """A controller as a process of its own."""

    def __init__(self, process: anyio.abc.Process) -> None:
        assert process.stdout is not None
        self.process = process
        self.seen: list[dict[str, Any]] = []
        self._lines = BufferedByteReceiveStream(process.stdout)

    async def tells(self) -> AsyncIterator[dict[str, Any]]:
        """What it prints, as it comes."""
        while True:
            try:
                line = await self._lines.receive_until(b"\n", 1 << 20)
            except (anyio.IncompleteRead, anyio.EndOfStream):
                return
            self.seen.append(json.loads(line))
            assert "blocked" not in self.seen[-1], self.seen[-1]
            yield self.seen[-1]

    async def until(self, condition: Callable[[dict[str, Any]], bool], count: int = 1) -> None:
        """Return when it has told so many such things."""
        with anyio.fail_after(45):
            async for told in self.tells():
                count -= condition(told)
                if count == 0:
                    return
        pytest.fail(f"the controller ended before: {self.seen}\n{await self._stderr()}")

    async def end(self) -> tuple[int, str]:
        """Its exit code and what is on its stderr, once it has ended."""
        with anyio.fail_after(45):
            async for _ in self.tells():
                pass
            stderr = await self._stderr()
            return await self.process.wait(), stderr

    async def _stderr(self) -> str:
        assert self.process.stderr is not None
        return b"".join([piece async for piece in self.process.stderr]).decode()

    @property
    def raised(self) -> list[str | None]:
        """What its batches raised."""
        return [told["raised"] for told in self.seen if "raised" in told]

    @property
    def results(self) -> list[dict[str, Any]]:
        """What its only batch came to."""
        (results,) = [told["results"] for told in self.seen if "results" in told]
        return list(results)


@asynccontextmanager
async def controller(fly: LocalFly, **options: Any) -> AsyncIterator[Controller]:
    """Start one; what is left of it is killed."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "FLY_FLAPS_BASE_URL": fly.base_url,
        "FLY_API_TOKEN": fly.token,
        "CLAUDE_CODE_OAUTH_TOKEN": TOKEN,
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    command = [sys.executable, "-m", "tests.support.controller_program", json.dumps(options)]
    async with await anyio.open_process(command, env=environment, cwd=ROOT) as process:
        try:
            yield Controller(process)
        finally:
            if process.returncode is None:
                process.kill()
