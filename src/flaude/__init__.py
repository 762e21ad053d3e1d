"""flaude runs many Claude Code prompts at once, each alone in its own throw-away Fly.io machine.

from flaude import ConcurrentExecutor, ExecutionRequest, MachineConfig

executor = ConcurrentExecutor("my-app", max_concurrency=5)
batch = await executor.run_batch([ExecutionRequest(MachineConfig(prompt="…", repos=["https://…"]))])
"""

from typing import TYPE_CHECKING

from flaude._lazy import names_of
from flaude._version import __version__

if TYPE_CHECKING:
    from flaude._executor.executor import ConcurrentExecutor
    from flaude._executor.one_run import StreamingRun, run, run_and_destroy, run_stream, run_with_logs
    from flaude._executor.reaper import Reaped, ReapReport, reap
    from flaude._model.config import MachineConfig
    from flaude._model.errors import (
        BatchHeldError,
        BatchLeftError,
        ConfigError,
        FlaudeError,
        FlyError,
        GuestError,
        Interrupted,
        InvalidRequestError,
        JournalError,
        LeaseLostError,
        MachineExitError,
        MachineLimitError,
        NameTakenError,
        NoCapacityError,
        NoCredentialsError,
        NoSuchBatchError,
        NotAllowedError,
        NotFoundError,
        NoTokenError,
        NotReadyError,
        RateLimitedError,
        RunError,
        RunFailedError,
        Terminated,
        TokenExpiredError,
        UnreachableError,
    )
    from flaude._model.failures import FailureKind, Phase
    from flaude._model.repos import RepoSpec
    from flaude._model.request import ExecutionRequest
    from flaude._model.results import BatchResult, ExecutionResult, Leftover
    from flaude._model.retries import Retries
    from flaude._model.run_result import (
        Artifact,
        Attempt,
        Branch,
        Commit,
        ExitEvent,
        Failure,
        FileChange,
        FlyRequest,
        ModelUsage,
        Omitted,
        PermissionDenial,
        RepoResult,
        RunResult,
        Times,
        Usage,
    )
    from flaude._model.secrets import EnvSecret
    from flaude._model.timeouts import Timeouts
    from flaude._providers.fly.apps import ensure_app, remove_shards
    from flaude.batch_file.templates import expand

__all__ = [
    "Artifact",
    "Attempt",
    "BatchHeldError",
    "BatchLeftError",
    "BatchResult",
    "Branch",
    "Commit",
    "ConcurrentExecutor",
    "ConfigError",
    "EnvSecret",
    "ExecutionRequest",
    "ExecutionResult",
    "ExitEvent",
    "Failure",
    "FailureKind",
    "FileChange",
    "FlaudeError",
    "FlyError",
    "FlyRequest",
    "GuestError",
    "Interrupted",
    "InvalidRequestError",
    "JournalError",
    "LeaseLostError",
    "Leftover",
    "MachineConfig",
    "MachineExitError",
    "MachineLimitError",
    "ModelUsage",
    "NameTakenError",
    "NoCapacityError",
    "NoCredentialsError",
    "NoSuchBatchError",
    "NoTokenError",
    "NotAllowedError",
    "NotFoundError",
    "NotReadyError",
    "Omitted",
    "PermissionDenial",
    "Phase",
    "RateLimitedError",
    "ReapReport",
    "Reaped",
    "RepoResult",
    "RepoSpec",
    "Retries",
    "RunError",
    "RunFailedError",
    "RunResult",
    "StreamingRun",
    "Terminated",
    "Timeouts",
    "Times",
    "TokenExpiredError",
    "UnreachableError",
    "Usage",
    "__version__",
    "ensure_app",
    "expand",
    "reap",
    "remove_shards",
    "run",
    "run_and_destroy",
    "run_stream",
    "run_with_logs",
]

_MODULE_OF = {
    "Artifact": "flaude._model.run_result",
    "Attempt": "flaude._model.run_result",
    "BatchHeldError": "flaude._model.errors",
    "BatchLeftError": "flaude._model.errors",
    "BatchResult": "flaude._model.results",
    "Branch": "flaude._model.run_result",
    "Commit": "flaude._model.run_result",
    "ConcurrentExecutor": "flaude._executor.executor",
    "ConfigError": "flaude._model.errors",
    "EnvSecret": "flaude._model.secrets",
    "ExecutionRequest": "flaude._model.request",
    "ExecutionResult": "flaude._model.results",
    "ExitEvent": "flaude._model.run_result",
    "Failure": "flaude._model.run_result",
    "FailureKind": "flaude._model.failures",
    "FileChange": "flaude._model.run_result",
    "FlaudeError": "flaude._model.errors",
    "FlyError": "flaude._model.errors",
    "FlyRequest": "flaude._model.run_result",
    "GuestError": "flaude._model.errors",
    "Interrupted": "flaude._model.errors",
    "InvalidRequestError": "flaude._model.errors",
    "JournalError": "flaude._model.errors",
    "LeaseLostError": "flaude._model.errors",
    "Leftover": "flaude._model.results",
    "MachineConfig": "flaude._model.config",
    "MachineExitError": "flaude._model.errors",
    "MachineLimitError": "flaude._model.errors",
    "ModelUsage": "flaude._model.run_result",
    "NameTakenError": "flaude._model.errors",
    "NoCapacityError": "flaude._model.errors",
    "NoCredentialsError": "flaude._model.errors",
    "NoSuchBatchError": "flaude._model.errors",
    "NoTokenError": "flaude._model.errors",
    "NotAllowedError": "flaude._model.errors",
    "NotFoundError": "flaude._model.errors",
    "NotReadyError": "flaude._model.errors",
    "Omitted": "flaude._model.run_result",
    "PermissionDenial": "flaude._model.run_result",
    "Phase": "flaude._model.failures",
    "RateLimitedError": "flaude._model.errors",
    "ReapReport": "flaude._executor.reaper",
    "Reaped": "flaude._executor.reaper",
    "RepoResult": "flaude._model.run_result",
    "RepoSpec": "flaude._model.repos",
    "Retries": "flaude._model.retries",
    "RunError": "flaude._model.errors",
    "RunFailedError": "flaude._model.errors",
    "RunResult": "flaude._model.run_result",
    "StreamingRun": "flaude._executor.one_run",
    "Terminated": "flaude._model.errors",
    "Timeouts": "flaude._model.timeouts",
    "Times": "flaude._model.run_result",
    "TokenExpiredError": "flaude._model.errors",
    "UnreachableError": "flaude._model.errors",
    "Usage": "flaude._model.run_result",
    "ensure_app": "flaude._providers.fly.apps",
    "expand": "flaude.batch_file.templates",
    "reap": "flaude._executor.reaper",
    "remove_shards": "flaude._providers.fly.apps",
    "run": "flaude._executor.one_run",
    "run_and_destroy": "flaude._executor.one_run",
    "run_stream": "flaude._executor.one_run",
    "run_with_logs": "flaude._executor.one_run",
}

if not TYPE_CHECKING:
    __getattr__ = names_of(__name__, _MODULE_OF)

    def __dir__() -> list[str]:
        return list(__all__)
