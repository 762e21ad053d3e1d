"""Where programs written for flaude 0.6.1 import these names from; new ones write `from flaude import …`."""

from flaude._executor.executor import ConcurrentExecutor
from flaude._model.request import ExecutionRequest
from flaude._model.results import BatchResult, ExecutionResult

__all__ = ["BatchResult", "ConcurrentExecutor", "ExecutionRequest", "ExecutionResult"]
