"""flaude runs many Claude Code prompts at once, each alone in its own throw-away Fly.io machine.

from flaude import ConcurrentExecutor, ExecutionRequest, MachineConfig

executor = ConcurrentExecutor("my-app", max_concurrency=5)
batch = await executor.run_batch([ExecutionRequest(MachineConfig(prompt="…", repos=["https://…"]))])
"""

from typing import TYPE_CHECKING

from flaude._version import __version__
from flaude.on_demand import names_of

if TYPE_CHECKING:
    from flaude.apps import ensure_app, remove_shards
    from flaude.config import MachineConfig
    from flaude.env_secret import EnvSecret
    from flaude.errors import (
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
    from flaude.executor import ConcurrentExecutor
    from flaude.expansion import expand
    from flaude.failure import Failure, FailureKind, Phase
    from flaude.reaper import Reaped, ReapReport, reap
    from flaude.repos import RepoSpec
    from flaude.request import ExecutionRequest
    from flaude.results import BatchResult, ExecutionResult, Leftover
    from flaude.retries import Retries
    from flaude.run_result import (
        Artifact,
        Attempt,
        Branch,
        Commit,
        ExitEvent,
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
    from flaude.single import run, run_and_destroy
    from flaude.streaming import StreamingRun, run_stream, run_with_logs
    from flaude.timeouts import Timeouts

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
    "Artifact": "flaude.run_result",
    "Attempt": "flaude.run_result",
    "BatchHeldError": "flaude.errors",
    "BatchLeftError": "flaude.errors",
    "BatchResult": "flaude.results",
    "Branch": "flaude.run_result",
    "Commit": "flaude.run_result",
    "ConcurrentExecutor": "flaude.executor",
    "ConfigError": "flaude.errors",
    "EnvSecret": "flaude.env_secret",
    "ExecutionRequest": "flaude.request",
    "ExecutionResult": "flaude.results",
    "ExitEvent": "flaude.run_result",
    "Failure": "flaude.failure",
    "FailureKind": "flaude.failure",
    "FileChange": "flaude.run_result",
    "FlaudeError": "flaude.errors",
    "FlyError": "flaude.errors",
    "FlyRequest": "flaude.run_result",
    "GuestError": "flaude.errors",
    "Interrupted": "flaude.errors",
    "InvalidRequestError": "flaude.errors",
    "JournalError": "flaude.errors",
    "LeaseLostError": "flaude.errors",
    "Leftover": "flaude.results",
    "MachineConfig": "flaude.config",
    "MachineExitError": "flaude.errors",
    "MachineLimitError": "flaude.errors",
    "ModelUsage": "flaude.run_result",
    "NameTakenError": "flaude.errors",
    "NoCapacityError": "flaude.errors",
    "NoCredentialsError": "flaude.errors",
    "NoSuchBatchError": "flaude.errors",
    "NoTokenError": "flaude.errors",
    "NotAllowedError": "flaude.errors",
    "NotFoundError": "flaude.errors",
    "NotReadyError": "flaude.errors",
    "Omitted": "flaude.run_result",
    "PermissionDenial": "flaude.run_result",
    "Phase": "flaude.failure",
    "RateLimitedError": "flaude.errors",
    "ReapReport": "flaude.reaper",
    "Reaped": "flaude.reaper",
    "RepoResult": "flaude.run_result",
    "RepoSpec": "flaude.repos",
    "Retries": "flaude.retries",
    "RunError": "flaude.errors",
    "RunFailedError": "flaude.errors",
    "RunResult": "flaude.run_result",
    "StreamingRun": "flaude.streaming",
    "Terminated": "flaude.errors",
    "Timeouts": "flaude.timeouts",
    "Times": "flaude.run_result",
    "TokenExpiredError": "flaude.errors",
    "UnreachableError": "flaude.errors",
    "Usage": "flaude.run_result",
    "ensure_app": "flaude.apps",
    "expand": "flaude.expansion",
    "reap": "flaude.reaper",
    "remove_shards": "flaude.apps",
    "run": "flaude.single",
    "run_and_destroy": "flaude.single",
    "run_stream": "flaude.streaming",
    "run_with_logs": "flaude.streaming",
}

if not TYPE_CHECKING:
    __getattr__ = names_of(__name__, _MODULE_OF)

    def __dir__() -> list[str]:
        return list(__all__)
