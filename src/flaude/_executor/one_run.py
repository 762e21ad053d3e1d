"""One run without an executor of its own: awaited, or followed while it works."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from flaude._executor.background import BackgroundTask
from flaude._executor.executor import ConcurrentExecutor
from flaude._model.config import MachineConfig
from flaude._model.errors import ConfigError, MachineExitError, RunFailedError
from flaude._model.request import ExecutionRequest
from flaude._model.results import ExecutionResult
from flaude._model.run_result import RunResult
from flaude._providers.fly.connection import FlyEndpoint
from flaude.events import Event
from flaude.events.buffer import BufferBudget, EventBuffer
from flaude.events.text import lines_of


async def run(
    app_name: str,
    config: MachineConfig,
    *,
    name: str | None = None,
    token: str | None = None,
    wait_timeout: float = 3600.0,
    output_dir: str | Path = "flaude-output",
    fly: FlyEndpoint | None = None,
) -> RunResult:
    """Run one prompt on a machine of its own, which is gone afterwards.

    Args:
        app_name: The Fly app to make the machine in.
        config: What to run, and on which machine.
        name: The machine's name; made up when it is `None`.
        token: Fly token; else as for `ConcurrentExecutor`.
        wait_timeout: How long the run may take once its machine has booted, in seconds.
        output_dir: Where the files go that `collect` and `transcript` ask for; see `ConcurrentExecutor`.
        fly: Another Machines API than Fly's.

    Returns:
        The result, whatever the agent's exit code.

    Raises:
        ConfigError: The config cannot be run.
        FlyError: There is no token or no such app.
        RunFailedError: The run did not come to the agent's own end, or its work not back whole; what did come back is
            in its `result`.
    """
    executor = ConcurrentExecutor(app_name, token=token, wait_timeout=wait_timeout, output_dir=output_dir, fly=fly)
    return result_of(await executor.run_one(config, name=name))


async def run_and_destroy(
    app_name: str,
    config: MachineConfig,
    *,
    name: str | None = None,
    token: str | None = None,
    wait_timeout: float = 3600.0,
    raise_on_failure: bool = True,
    output_dir: str | Path = "flaude-output",
    fly: FlyEndpoint | None = None,
) -> RunResult:
    """Like `run`, and an exit code other than 0 is an error too.

    Args:
        app_name: See `run`; so are the others.
        config: See `run`.
        name: See `run`.
        token: See `run`.
        wait_timeout: See `run`.
        raise_on_failure: With `False`, it is `run`.
        output_dir: See `run`.
        fly: See `run`.

    Raises:
        MachineExitError: The agent ended with another exit code than 0; it holds the tail of the output.
        FlaudeError: As `run`.
    """
    result = await run(
        app_name, config, name=name, token=token, wait_timeout=wait_timeout, output_dir=output_dir, fly=fly
    )
    if raise_on_failure:
        check_exit_code(result)
    return result


def result_of(execution: ExecutionResult) -> RunResult:
    """The result of a run, or the error that it had.

    Raises:
        ConfigError: As `run`.
        FlyError: As `run`.
        RunFailedError: As `run`.
    """
    error, result = execution.error, execution.run_result
    if isinstance(error, RunFailedError):
        raise RunFailedError(error.failure, result)
    if error is not None:
        raise error
    if result is None:
        raise ConfigError("the run ended with neither a result nor an error")
    return result


def check_exit_code(result: RunResult) -> None:
    """Whether the agent succeeded.

    Raises:
        MachineExitError: It did not.
    """
    if result.exit_code != 0:
        raise MachineExitError(
            result.machine_id,
            result.exit_code,
            result.state,
            [*result.stdout_tail, *result.stderr_tail],
            reason=result.failure.message if result.failure else "",
            result=result,
        )


async def run_stream(
    app_name: str,
    config: MachineConfig,
    *,
    name: str | None = None,
    token: str | None = None,
    wait_timeout: float = 3600.0,
    output_dir: str | Path = "flaude-output",
    fly: FlyEndpoint | None = None,
) -> AsyncGenerator[Event]:
    """Run one prompt and yield what happens, as it happens; the last event is `Finished`, with the result.

    To leave the loop early, hold this in a `contextlib.aclosing`: that stops the agent and destroys the machine.

    Args:
        app_name: The Fly app to make the machine in.
        config: What to run, and on which machine.
        name: The machine's name; made up when it is `None`.
        token: Fly token; else as for `ConcurrentExecutor`.
        wait_timeout: How long the run may take once its machine has booted, in seconds.
        output_dir: Where the files go that `collect` and `transcript` ask for; see `ConcurrentExecutor`.
        fly: Another Machines API than Fly's.

    Raises:
        ConfigError: An argument is wrong.
    """
    executor = ConcurrentExecutor(app_name, token=token, wait_timeout=wait_timeout, output_dir=output_dir, fly=fly)
    async with aclosing(executor.stream([ExecutionRequest(config=config, name=name)])) as events:
        async for event in events:
            yield event


def run_with_logs(
    app_name: str,
    config: MachineConfig,
    *,
    name: str | None = None,
    token: str | None = None,
    wait_timeout: float = 3600.0,
    include_stderr: bool = False,
    output_dir: str | Path = "flaude-output",
    fly: FlyEndpoint | None = None,
) -> StreamingRun:
    """One run whose output is read line by line.

        async with run_with_logs("my-app", config) as run:
            async for line in run:
                print(line)
        result = await run.result()

    Args:
        app_name: See `run_stream`; so are the others.
        config: See `run_stream`.
        name: See `run_stream`.
        token: See `run_stream`.
        wait_timeout: See `run_stream`.
        include_stderr: Whether the agent's stderr is among the lines.
        output_dir: See `run_stream`.
        fly: See `run_stream`.

    Raises:
        ConfigError: An argument is wrong.
    """
    executor = ConcurrentExecutor(app_name, token=token, wait_timeout=wait_timeout, output_dir=output_dir, fly=fly)
    return StreamingRun(executor, ExecutionRequest(config=config, name=name), include_stderr=include_stderr)


class StreamingRun:
    """A run in an `async with`: begins when that is entered, and is stopped and destroyed when that is left early.

    Iterate over it for what the agent says and does, and what flaude has to say, as lines of text: with a timeout if
    you like, and from any task. Giving up a line does not end the run; only leaving the block does.
    """

    def __init__(self, executor: ConcurrentExecutor, request: ExecutionRequest, *, include_stderr: bool) -> None:
        self._executor = executor
        self._request = request
        self._include_stderr = include_stderr
        self._events = _Events(BufferBudget())
        self._background: BackgroundTask | None = None
        self._lines: deque[str] = deque()
        self._finished: ExecutionResult | None = None

    @property
    def machine_id(self) -> str:
        """Fly's id of the machine; empty as long as there is none."""
        return self._events.machine_id

    def __await__(self) -> Generator[Any, None, Self]:
        """The same: `async with await run_with_logs(…)` does as well."""
        return self
        yield

    async def __aenter__(self) -> Self:
        """Begin the run.

        Raises:
            ConfigError: It has begun before.
        """
        if self._background is not None:
            raise ConfigError("run_with_logs: a run is entered once; call run_with_logs again for another one")
        owner = asyncio.current_task()
        self._background = BackgroundTask(
            lambda: self._executor.run_into(self._events, [self._request], self._keep, owner)
        )
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the run if it is not over, collect what there is, and destroy its machine."""
        await self._begun.end()

    def __aiter__(self) -> Self:
        """Itself: a loop that was left may be taken up again."""
        return self

    async def __anext__(self) -> str:
        """The next line."""
        begun = self._begun
        while not self._lines:
            event = await anext(self._events, None)
            if event is None:
                await begun.wait()
                raise StopAsyncIteration
            self._lines.extend(lines_of(event, include_stderr=self._include_stderr))
        return self._lines.popleft()

    async def result(self, *, raise_on_failure: bool = True) -> RunResult:
        """What came of it, once it is over; nobody has to read the lines for that.

        Args:
            raise_on_failure: With `False`, an exit code other than 0 is no error.

        Raises:
            MachineExitError: The agent ended with another exit code than 0.
            FlaudeError: As `run`.
        """
        await self._begun.wait()
        if self._finished is None:
            raise ConfigError("run_with_logs: the run was cancelled before it had a result")
        result = result_of(self._finished)
        if raise_on_failure:
            check_exit_code(result)
        return result

    @property
    def _begun(self) -> BackgroundTask:
        if self._background is None:
            raise ConfigError("run_with_logs: enter it first, with `async with run_with_logs(…) as run:`")
        return self._background

    async def _keep(self, result: ExecutionResult) -> None:
        self._finished = result


class _Events(EventBuffer):
    """The run's events, and what is to be known of it whether or not they are read."""

    machine_id = ""

    def put(self, event: Event) -> None:
        """Take an event."""
        self.machine_id = event.machine_id or self.machine_id
        super().put(event)
