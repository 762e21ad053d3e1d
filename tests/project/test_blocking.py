"""The detector of `tests.support.blocking_detector`, which looks at all other tests."""

from __future__ import annotations

import ast
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from tests.support.blocking_detector import ALLOWED, BlockingError

import flaude
from flaude._executor.event_delivery import EventDispatcher
from flaude._offload import offload
from flaude._run.shutdown import Shutdown
from flaude.events import Event, Notice

ROOT = Path(__file__).parents[2]

CALLS = {
    "sleeps": "import time; time.sleep(0)",
    "reads a file": "import pathlib; pathlib.Path('/etc/passwd').read_text()",
    "looks at a folder": "import pathlib; list(pathlib.Path('/').iterdir())",
    "looks for a file": "import pathlib; pathlib.Path('/etc').exists()",
    "asks a name server": "import socket; socket.getaddrinfo('localhost', 80)",
    "reads all certificates": "import ssl; ssl.create_default_context()",
    "runs a program": "import subprocess; subprocess.run(['true'])",
    "asks a database": "import contextlib, sqlite3\n"
    "    with contextlib.closing(sqlite3.connect(':memory:')) as database: database.execute('select 1')",
}


def of_flaude(statement: str) -> Callable[[], object]:
    """A function that does this, as if it stood in a module of flaude's."""
    module: dict[str, Any] = {}
    file = Path(flaude.__file__).with_name("made_up.py")
    exec(compile(f"def call():\n    {statement}\n", file, "exec"), module)  # noqa: S102  # ours
    return module["call"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("statement", [pytest.param(call, id=name) for name, call in CALLS.items()])
async def test_a_call_that_blocks_is_detected(statement: str, _detector: list[str]) -> None:  # noqa: PT019
    """What blocks raises on the event loop, and in a worker thread it does not."""
    call = of_flaude(statement)
    await anyio.to_thread.run_sync(call)
    assert _detector == []
    with pytest.raises(BlockingError):
        call()
    assert len(_detector) == 1
    _detector.clear()


async def test_a_call_whose_error_is_borne_is_detected(_detector: list[str]) -> None:  # noqa: PT019
    """Code that goes on whatever is raised does not hide from the detector that it has blocked."""
    call = of_flaude(CALLS["sleeps"])

    def handler(_event: Event) -> None:
        call()

    async with EventDispatcher(handler, Shutdown(), lambda _: None).following() as emit:
        emit(Notice("b", 0, "t", datetime.now(UTC), "m", text="x"))
    assert len(_detector) == 1 and _detector[0].startswith(
        "Blocking call to time.sleep, from flaude._executor.event_delivery.EventDispatcher._"
    )
    _detector.clear()


async def test_what_is_large_leaves_the_event_loop() -> None:
    """Reading a large answer is a worker thread's; for a small one the way there would take longer."""
    assert await offload(1000, threading.get_ident) == threading.get_ident()
    assert await offload(1_000_000, threading.get_ident) != threading.get_ident()


async def test_what_has_arrived_is_read_by_who_is_cancelled() -> None:
    """A large answer is not lost because its task is cancelled before it has been read."""
    read = ""
    with anyio.CancelScope() as scope:
        scope.cancel()
        read = await offload(1_000_000, str.upper, "read")
    assert read == "READ"


@pytest.mark.parametrize("allowed", [one for one in ALLOWED if one.file.startswith(("/flaude/", "/tests/"))])
def test_no_allowance_outlives_its_function(allowed: Any) -> None:
    """Every function that may block is there, and has a reason."""
    file = ROOT / "src" / allowed.file[1:] if allowed.file.startswith("/flaude/") else ROOT / allowed.file[1:]
    names = {node.name for node in ast.walk(ast.parse(file.read_text())) if hasattr(node, "name")}
    assert set(allowed.functions) <= names and allowed.why
