"""`flaude logs`: what the agent of a run has printed, and goes on to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import anyio
from cyclopts import Parameter

from flaude._recovery.records import BatchRecord, BatchState, RunRecord, read_batch, state_of
from flaude.cli.journals import recorded
from flaude.cli.text.log_lines import DETACHED, FINISHED, LogLines, end_of, provider_lines, tail_of
from flaude.cli.view import consoles

_POLL_S = 0.25
_LOOK_EVERY = 8
_AT_ONCE = 500


async def logs(
    batch: str,
    tag: str,
    /,
    *,
    follow: Annotated[bool, Parameter(name=("--follow", "-f"), negative="")] = False,
) -> int:
    """Print what the agent of a run has printed, and what flaude did in between.

    Lines with [fly] have what Fly's support asks for: the machine, the IDs of requests (of the creates and of the calls
    that failed), and the machine's exit event.

        flaude logs last auth-review -f
        flaude logs 3f2a 0

    Parameters
    ----------
    batch
        The batch's id, how it alone begins, or `last`.
    tag
        The run's tag, or its number from 0.
    follow
        Go on until the run is over. Exit code 1 when before that nobody carries the batch out any more.
    """
    consoles.for_results()
    async with recorded(batch) as found:
        return await _Log(found, found.run(tag)).print(follow=follow)


class _Log:
    """The log of one run."""

    def __init__(self, found: BatchRecord, run: RunRecord) -> None:
        self._found = found
        self._run = run
        self._after = 0
        self._lines = LogLines()
        self._over = True

    async def print(self, *, follow: bool) -> int:
        """Print what there is and, to follow, what comes."""
        polls = 0
        while True:
            # Read before the events are: when a run is over here, all of its events are.
            if polls % _LOOK_EVERY == 0 or self._over:
                await self._look()
            self._over = await self._print_new()
            if self._run.is_over or not follow:
                await self._print_end()
                return 0
            if polls % _LOOK_EVERY == 0 and (told := self._nobody_goes_on()):
                consoles.for_talk().print(told)
                return 1
            polls += 1
            await anyio.sleep(_POLL_S)

    async def _look(self) -> None:
        self._found = await read_batch(self._found.journal, self._found.id)
        self._run = self._found.runs[self._run.index]

    async def _print_new(self) -> bool:
        """Print what is new; whether that may be the end."""
        over = False
        while True:
            entries = await self._found.journal.events(
                self._found.id, index=self._run.index, after=self._after, limit=_AT_ONCE
            )
            for entry in entries:
                over = over or entry.kind in (FINISHED, DETACHED)
                for line in self._lines.of(entry):
                    print(line)
            if entries:
                print(end="", flush=True)
                self._after = entries[-1].number
            if len(entries) < _AT_ONCE:
                return over

    async def _print_end(self) -> None:
        lines = [] if self._lines.any_output else await tail_of(self._found, self._run)
        for line in (*lines, *await provider_lines(self._found, self._run), *end_of(self._run)):
            print(line)

    def _nobody_goes_on(self) -> str:
        state = state_of(self._found.entry, datetime.now(UTC))
        if state is BatchState.RUNNING:
            return ""
        why = "works alone" if state is BatchState.DETACHED else "has been left"
        return f"flaude: the batch {why}: flaude resume {self._found.id}"
