"""What happens to the runs of a batch, made up: for tests of what is shown of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from flaude import ExecutionResult, Failure, FailureKind, Phase
from flaude._model.errors import RunFailedError
from flaude._model.run_result import Attempt, FileChange, RepoResult, RunResult, Times
from flaude.events import (
    AssistantText,
    Booted,
    Cloned,
    Collecting,
    Created,
    Creating,
    Destroyed,
    Destroying,
    Event,
    Finished,
    Notice,
    Queued,
    Retried,
    Started,
    StopRequested,
    ToolResult,
    ToolUse,
)

BEGAN = datetime(2026, 11, 23, 14, 0, 0, tzinfo=UTC)
BATCH = "4f2a9c01de"


class Happenings:
    """One run's events, in the order in which they may come.

    Args:
        index: Its place in the batch.
        tag: Its tag.
        begins: Seconds after the batch at which it gets its place.
        lasts: Seconds from there to its end.
        retries: How many attempts fail before the one that counts.
        outputs: How much its agent says.
        fails: Whether it fails; `early` for before there was a machine.
        cost_usd: What its agent says that it cost.
    """

    def __init__(
        self,
        index: int,
        tag: str = "",
        *,
        begins: float = 0.0,
        lasts: float = 10.0,
        retries: int = 0,
        outputs: int = 1,
        fails: bool | str = False,
        cost_usd: float | None = 0.25,
    ) -> None:
        self.index = index
        self.tag = tag or f"run-{index}"
        self._begins, self._lasts = begins, lasts
        self._retries, self._outputs = retries, outputs
        self._fails = fails
        self._cost_usd = cost_usd

    def where(self, seconds: float, machine: str = "") -> tuple[str, int, str, datetime, str]:
        """The fields of every event."""
        return BATCH, self.index, self.tag, BEGAN + timedelta(seconds=seconds), machine

    def events(self) -> Iterator[Event]:
        """All of them."""
        begins, ends = self._begins, self._begins + self._lasts
        yield Queued(*self.where(0))
        for attempt in range(1, self._retries + 1):
            machine = f"m{self.index}a{attempt}"
            yield Creating(*self.where(begins))
            yield Created(*self.where(begins, machine), region="iad")
            yield Destroying(*self.where(begins, machine))
            yield Destroyed(*self.where(begins, machine), confirmed=True)
            yield Retried(*self.where(begins, machine), attempt=attempt, failure=self._failure(), pause_s=2.0)
        if self._fails == "early":
            yield Creating(*self.where(begins))
            yield Destroyed(*self.where(ends), confirmed=True)
        else:
            yield from self._with_machine(begins, ends, f"m{self.index}")
        yield Finished(*self.where(ends, f"m{self.index}"), result=self.result())

    def until(self, kind: type[Event]) -> Iterator[Event]:
        """Those up to the first of a kind."""
        for event in self.events():
            yield event
            if isinstance(event, kind):
                return

    def stop(self, *, reason: str = "stopped by SIGINT", at_once: bool = False) -> StopRequested:
        """It is to stop."""
        return StopRequested(*self.where(self._begins, f"m{self.index}"), reason=reason, at_once=at_once)

    def says(self, text: str) -> AssistantText:
        """Its agent says something."""
        return AssistantText(*self.where(self._begins, f"m{self.index}"), text=text)

    def result(self) -> ExecutionResult:
        """What it comes to."""
        failure = self._failure() if self._fails else None
        if self._fails == "early":
            return ExecutionResult(tag=self.tag, error=RunFailedError(self._failure()))
        begin, end = (BEGAN + timedelta(seconds=seconds) for seconds in (self._begins, self._begins + self._lasts))
        times = Times(create=begin, done=end)
        attempt = Attempt(
            number=1 + self._retries,
            name=f"flaude-{self.index}",
            machine_id=f"m{self.index}",
            gone=True,
            agent_started=True,
            cost_usd=self._cost_usd,
            machine_seconds=self._lasts,
            machine_cost_usd=0.001,
        )
        run = RunResult(
            machine_id=f"m{self.index}",
            exit_code=1 if failure else 0,
            state="destroyed",
            destroyed=True,
            failure=failure,
            text=f"answer of {self.tag}",
            num_turns=7,
            cost_usd=self._cost_usd,
            times=times,
            patches=(RepoResult(url="u", path="p", head="h", changes=(FileChange(path="a.py", status="M"),)),),
        )
        return ExecutionResult(tag=self.tag, run_result=run, attempts=(attempt,))

    def _failure(self) -> Failure:
        return Failure(kind=FailureKind.AGENT_ERROR, phase=Phase.AGENT, message=f"no luck with {self.tag}")

    def _with_machine(self, begins: float, ends: float, machine: str) -> Iterator[Event]:
        yield Creating(*self.where(begins))
        yield Created(*self.where(begins, machine), region="iad")
        yield Notice(*self.where(begins, machine), text="waiting out: no answer")
        yield Booted(*self.where(begins, machine))
        yield Cloned(*self.where(begins, machine))
        yield Started(*self.where(begins, machine))
        for number in range(self._outputs):
            yield AssistantText(*self.where(begins, machine), text=f"step {number}")
            yield ToolUse(*self.where(begins, machine), id=str(number), name="Bash", input={"command": "pytest -q"})
            yield ToolResult(*self.where(begins, machine), tool_use_id=str(number), text="ok", is_error=False)
        yield Collecting(*self.where(ends, machine))
        yield Destroying(*self.where(ends, machine))
        yield Destroyed(*self.where(ends, machine), confirmed=True)
