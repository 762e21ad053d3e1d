"""How a batch is shown while it goes on, and which way suits where the output goes."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self, TextIO

from flaude._model.results import BatchResult
from flaude.cli.view.terminal_style import is_dumb, is_terminal
from flaude.events import Event


class View(Protocol):
    """Shows a batch. Use it as `async with` around the batch; what the block raises stays as it is.

    `take` neither waits nor raises, and so do the others: who watches never holds up a run.
    """

    async def __aenter__(self) -> Self:
        """Begin to show."""

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Show what is left, then what was given to `ended`, and leave the terminal as it was found."""

    def launched(self, batch: str, app: str, total: int, shards: int = 1) -> None:
        """The batch begins: its id, its Fly app, how many runs it has, over how many apps. Before any event."""

    def take(self, event: Event) -> None:
        """Something has happened."""

    def ended(self, result: BatchResult, exit_code: int) -> None:
        """The batch is over; also when a signal has ended it, with what was collected."""


def choose_view(*, json: bool, plain: bool, stdout: TextIO, stderr: TextIO, environ: Mapping[str, str]) -> View:
    """The view that suits where the output goes. stdout is for results, stderr for talk.

    Args:
        json: One JSON object a line on stdout, whatever else is asked for.
        plain: No table that changes, even on a terminal.
        stdout: The program's stdout.
        stderr: The program's stderr.
        environ: The environment: CI, TERM and, for colours, NO_COLOR and FORCE_COLOR.
    """
    if json:
        from flaude.cli.view.json_lines import JsonLines  # noqa: PLC0415  # what is not used is not loaded

        return JsonLines(stdout)
    in_ci = environ.get("CI", "") not in ("", "0", "false")
    if plain or in_ci or is_dumb(environ) or not is_terminal(stderr):
        from flaude.cli.view.line_view import Lines  # noqa: PLC0415

        return Lines(stdout, stderr, environ)
    from flaude.cli.view.live import LiveView  # noqa: PLC0415

    return LiveView(stdout, stderr, environ)
