"""What a batch file comes to, and what is given beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flaude._model.request import ExecutionRequest
from flaude._model.settings import ExecutorSettings
from flaude._model.timeouts import Timeouts


@dataclass(frozen=True)
class BatchSpec:
    """What a batch file asks for.

    Attributes:
        settings: What the batch keeps to.
        requests: What is to be run, in the order of the file; all tags are different.
        source: The file's name, as it was given; `<stdin>` for standard input.
    """

    settings: ExecutorSettings
    requests: tuple[ExecutionRequest, ...]
    source: str


@dataclass(frozen=True)
class Given:
    """What is given beside the file.

    Attributes:
        environ: Where secrets and FLY_APP are.
        app: Instead of the file's.
        prompt: Of a CSV file: the prompt with `{column}`s.
        repos: Of a CSV file: repositories, which may have `{column}`s in them.
        timeouts: What the file does not say of them.
    """

    environ: Mapping[str, str]
    app: str | None = None
    prompt: str | None = None
    repos: Sequence[str] = ()
    timeouts: Timeouts = field(default_factory=Timeouts)
