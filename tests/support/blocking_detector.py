"""A detector for calls that block an event loop: while one does, all runs of the process stand still.

Inside `detecting()` a call that may wait (for a disk, a name server, another thread) raises `BlockingError` when code
of flaude has made it, itself or through a library, on a thread whose event loop runs. `ALLOWED` says what is harmless,
and why. The guest is left out: it has a machine and an event loop for itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import blockbuster.blockbuster
from blockbuster import BlockBuster, BlockBusterFunction, BlockingError

__all__ = ["BlockingError", "detecting"]


class Allowed(NamedTuple):
    """Functions of a file in which, and below which, may be blocked."""

    file: str
    functions: tuple[str, ...]
    why: str


ALLOWED = [
    Allowed("<frozen importlib._bootstrap>", ("_find_and_load",), "a module is read once a process"),
    Allowed("/asyncio/base_events.py", ("subprocess_exec",), "asyncio forks on its loop, and opens /dev/null for that"),
    Allowed("/flaude/_providers/fly/prices.py", ("price_table",), "a small file, read once a process, like a module"),
    Allowed("/flaude/journal/sql_files.py", ("blocks",), "likewise"),
    Allowed("/flaude/_model/settings.py", ("_checked_folder",), "one look, for a caller who cannot await"),
    Allowed("/flaude/journal/holder.py", ("_began", "_boot", "_pids"), "/proc is memory of the kernel, on no disk"),
    Allowed("/flaude/local/processes.py", ("children", "exists"), "likewise"),
    Allowed("/flaude/local/image.py", ("host",), "a look at PATH for an argument of `LocalFly`, before anything runs"),
    Allowed("/flaude/_executor/signals.py", ("_leave",), "the last words of a process that ends in the next line"),
    Allowed("/logging/__init__.py", ("callHandlers",), "where a log goes is for the program to say, not for a library"),
    Allowed("/tests/support/openapi.py", ("_document",), "a file of the tests, read once a process"),
    Allowed(
        "/tests/report/test_browser.py", ("report", "test_a_script_that_gets_in_does_not_run"), "not our event loop"
    ),
    Allowed("/tests/support/controller_program.py", ("__call__",), "a blocking handler is what some tests are about"),
]
LEFT_OUT = {
    "os.getcwd": "the kernel has it in memory",
    "os.path.abspath": "likewise",
    "os.path.samestat": "compares numbers",
    "io.BufferedWriter.write": "Python would crash at its end, when it flushes stdout; opening a file is seen",
}
"""What blockbuster looks for besides, and why it is left out."""


def _never(*_: object, **__: object) -> bool:
    return False


def _of_descriptor(file: object, *_: object, **__: object) -> bool:
    """Nothing is looked up for a file that is open already."""
    return isinstance(file, int)


_MORE: dict[str, Callable[..., bool]] = {
    "builtins.open": _of_descriptor,
    "io.open": _of_descriptor,
    "os.open": _never,
    "os.lstat": _never,
    "os.scandir": _never,
    "os.chmod": _never,
    "os.fsync": _never,
    "fcntl.flock": _never,
    "socket.getaddrinfo": _never,
    "subprocess.run": _never,
    "ssl.SSLContext.load_verify_locations": _never,  # all authorities' certificates are read
    "ssl.SSLContext.set_default_verify_paths": _never,
}
"""What blockbuster does not know, each with the test for what may be called all the same."""


@contextmanager
def detecting(tell: Callable[[str], object] = lambda _: None) -> Iterator[None]:
    """Blocking calls raise inside the block, everywhere in this process.

    Args:
        tell: Called with each too: code that bears any exception would hide it.
    """

    class ToldError(BlockingError):
        def __init__(self, function: str) -> None:
            super().__init__(function)
            tell(f"{self}, from {_caller()}")

    detector = BlockBuster(["flaude"], excluded_modules=["flaude._guest.inside"])
    for name in LEFT_OUT:
        del detector.functions[name]
    for name, predicate in _MORE.items():
        detector.functions[name] = BlockBusterFunction(
            None,
            name,
            scanned_modules=["flaude"],
            excluded_modules=["flaude._guest.inside"],
            can_block_predicate=predicate,
        )
    for function in detector.functions.values():
        for allowed in ALLOWED:
            function.can_block_in(allowed.file, allowed.functions)
    blockbuster.blockbuster.BlockingError = ToldError  # type: ignore[misc,assignment]  # it has no hook
    detector.activate()
    try:
        yield
    finally:
        detector.deactivate()
        blockbuster.blockbuster.BlockingError = BlockingError  # type: ignore[misc]


def _caller() -> str:
    """The innermost line of flaude's that has led here."""
    frame = sys._getframe()  # noqa: SLF001  # as `inspect` does it
    while frame.f_back is not None:
        frame = frame.f_back
        name = str(frame.f_globals.get("__name__", ""))
        if name.startswith("flaude."):
            return f"{name}.{frame.f_code.co_qualname}, line {frame.f_lineno}"
    return "nobody"
