"""One run without an executor of one's own."""

from __future__ import annotations

from pathlib import Path

from flaude.config import MachineConfig
from flaude.endpoint import FlyEndpoint
from flaude.errors import ConfigError, MachineExitError, RunFailedError
from flaude.executor import ConcurrentExecutor
from flaude.results import ExecutionResult
from flaude.run_result import RunResult


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
