"""flaude runs many Claude Code prompts at once, each alone in its own throw-away Fly.io machine.

from flaude import ConcurrentExecutor, ExecutionRequest, MachineConfig

executor = ConcurrentExecutor("my-app", max_concurrency=5)
batch = await executor.run_batch([ExecutionRequest(MachineConfig(prompt="…", repos=["https://…"]))])
"""

from flaude._version import __version__
from flaude.apps import ensure_app, remove_shards
from flaude.config import MachineConfig
from flaude.env_secret import EnvSecret
from flaude.errors import (
    BatchHeldError,
    ConfigError,
    FlaudeError,
    FlyError,
    GuestError,
    Interrupted,
    InvalidRequestError,
    JournalError,
    LeaseLostError,
    MachineExitError,
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
    UnreachableError,
)
from flaude.executor import ConcurrentExecutor
from flaude.expand import expand
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
    FileChange,
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
    "BatchResult",
    "Branch",
    "Commit",
    "ConcurrentExecutor",
    "ConfigError",
    "EnvSecret",
    "ExecutionRequest",
    "ExecutionResult",
    "Failure",
    "FailureKind",
    "FileChange",
    "FlaudeError",
    "FlyError",
    "GuestError",
    "Interrupted",
    "InvalidRequestError",
    "JournalError",
    "LeaseLostError",
    "Leftover",
    "MachineConfig",
    "MachineExitError",
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
