"""A batch as plain lines, one for each change: for logs, CI, and terminals that can do no more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TextIO

from rich.cells import cell_len

from flaude._model.results import BatchResult, ExecutionResult
from flaude.cli.text.action import action_of
from flaude.cli.text.amounts import apps_text, clock, count, dollars
from flaude.cli.text.event_words import event_words
from flaude.cli.text.one_line import one_line
from flaude.cli.view.columns import cut
from flaude.cli.view.nonblocking_writer import Outlet
from flaude.cli.view.streaming_view import StreamedView
from flaude.cli.view.summary import changed_files, summary, why
from flaude.cli.view.terminal_size import columns_of
from flaude.cli.view.terminal_style import Style, look_of
from flaude.events import Destroyed, Event, Finished, Notice, Queued, RateLimited, Retried, StopRequested

_WIDEST_TAG = 24
_SIGNALS = ("SIGINT", "SIGTERM")


class Lines(StreamedView):
    """A line on stderr for each phase, notice, failure and result; the summary on stdout.

    Args:
        stdout: Where the summary goes.
        stderr: Where the lines go.
        environ: The environment: colours.
    """

    def __init__(self, stdout: TextIO, stderr: TextIO, environ: Mapping[str, str]) -> None:
        self._look = look_of(stderr, environ)
        self._summary_look = look_of(stdout, environ)
        self._width = columns_of(stdout, environ)
        self._results = Outlet(stdout, self._summary_look.encoding)
        super().__init__(Outlet(stderr, self._look.encoding), self._results)
        self._tag = 0
        self._batch = self._app = ""
        self._told: set[bool] = set()

    def launched(self, batch: str, app: str, total: int, shards: int = 1) -> None:
        """See `View`."""
        self._batch, self._app = batch, app
        self._outlet.write(f"batch {batch} on {apps_text(app, shards)}: {count(total, 'run')}\n")

    def text_of(self, event: Event) -> str:
        """The line of an event."""
        tag = one_line(event.tag, 80) or f"#{event.index}"
        self._tag = max(self._tag, min(_WIDEST_TAG, cell_len(tag)))
        text = self._words(event)
        if not text:
            return ""
        shown = cut(tag, self._tag, self._look.glyphs.more)
        shown += " " * (self._tag - cell_len(shown))
        line = f"{event.at.astimezone():%H:%M:%S}  {shown}  {text}\n"
        return self._hint(event) + line

    def tell_end(self, result: BatchResult, exit_code: int) -> None:  # noqa: ARG002
        """The summary."""
        text = summary(result, self._summary_look, self._width, app=self._app, batch=self._batch)
        self._results.write(f"\n{text}" if text else "")

    def _words(self, event: Event) -> str:
        match event:
            case Queued() | Destroyed(confirmed=True):  # nobody waits for that
                return ""
            case Destroyed():
                return self._look.paint(event_words(event), Style.BAD)
            case Retried():
                return self._look.paint(event_words(event), Style.WARNING)
            case Notice(text=text):
                return one_line(text, 500)
            case RateLimited():
                return action_of(event)
            case Finished(result=result):
                return self._outcome(result)
            case _:
                return event_words(event)

    def _hint(self, event: Event) -> str:
        """What another signal would do, said once."""
        if not isinstance(event, StopRequested) or event.at_once in self._told:
            return ""
        if not any(name in event.reason for name in _SIGNALS):
            return ""
        self._told.add(event.at_once)
        what = (
            "destroying all machines at once; a third signal: leave, and they end by themselves"
            if event.at_once
            else "stopping the agents, collecting their work; another signal: destroy at once; a third: leave"
        )
        return f"{event.at.astimezone():%H:%M:%S}  {self._look.paint(what, Style.WARNING)}\n"

    def _outcome(self, result: ExecutionResult) -> str:
        run = result.run_result
        facts = []
        if run is not None and run.times.seconds is not None:
            facts.append(clock(run.times.seconds))
        if result.cost_usd is not None:
            facts.append(dollars(result.cost_usd))
        if files := changed_files(result):
            facts.append(files)
        told = ", ".join(facts)
        if result.success:
            return self._look.paint("done", Style.GOOD) + (f"  {told}" if told else "")
        kind = result.failure.kind if result.failure else type(result.error).__name__
        failed = self._look.paint(f"failed  {kind}: {why(result)}", Style.BAD)
        return failed + (f"  ({told})" if told else "")
