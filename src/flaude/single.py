"""One run without an executor of one's own."""

from __future__ import annotations

from flaude.config import MachineConfig
from flaude.endpoint import FlyEndpoint
from flaude.errors import ConfigError, MachineExitError
from flaude.executor import ConcurrentExecutor
from flaude.results import RunResult


async def run(
    app_name: str,
    config: MachineConfig,
    *,
    name: str | None = None,
    token: str | None = None,
    wait_timeout: float = 3600.0,
    fly: FlyEndpoint | None = None,
) -> RunResult:
    """Run one prompt on a machine of its own, which is gone afterwards.

    Args:
        app_name: The Fly app to make the machine in.
        config: What to run, and on which machine.
        name: The machine's name; made up when it is `None`.
        token: Fly token; else as for `ConcurrentExecutor`.
        wait_timeout: How long the run may take once its machine has booted, in seconds.
        fly: Another Machines API than Fly's.

    Returns:
        The result, whatever the agent's exit code.

    Raises:
        ConfigError: The config cannot be run.
        FlyError: There is no token or no such app.
        RunFailedError: The run did not come to the agent's own end.
    """
    executor = ConcurrentExecutor(app_name, token=token, wait_timeout=wait_timeout, fly=fly)
    result = await executor.run_one(config, name=name)
    if result.error is not None:
        raise result.error
    if result.run_result is None:
        raise ConfigError("the run ended with neither a result nor an error")
    return result.run_result


async def run_and_destroy(
    app_name: str,
    config: MachineConfig,
    *,
    name: str | None = None,
    token: str | None = None,
    wait_timeout: float = 3600.0,
    raise_on_failure: bool = True,
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
        fly: See `run`.

    Raises:
        MachineExitError: The agent ended with another exit code than 0; it holds the tail of the output.
        FlaudeError: As `run`.
    """
    result = await run(app_name, config, name=name, token=token, wait_timeout=wait_timeout, fly=fly)
    if raise_on_failure and result.exit_code != 0:
        raise MachineExitError(
            result.machine_id,
            result.exit_code,
            result.state,
            [*result.stdout_tail, *result.stderr_tail],
            reason=result.failure.message if result.failure else "",
        )
    return result
