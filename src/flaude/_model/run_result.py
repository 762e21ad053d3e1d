"""What comes back of one run: what its agent said, left and cost."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from flaude._model.failures import FailureKind, Phase


class Frozen(BaseModel):
    """A value that never changes, and that JSON carries without loss: bytes travel as base64."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")


class Failure(Frozen):
    """Why a run failed: `kind` for programs, `message` for people, `phase` for both.

    `transient` says of this one failure that the network or a service caused it, whatever its kind usually means: an
    `image` whose `npm install` failed because the registry did not answer, a `clone` whose connection was reset.
    """

    kind: FailureKind
    phase: Phase
    message: str
    transient: bool = False

    @property
    def retryable(self) -> bool:
        """Whether the same request may well succeed later, unchanged."""
        return self.transient or self.kind.retryable


class Usage(Frozen):
    """Tokens that the agent used, as Claude Code's `result` line reports them in `usage`."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0


class ModelUsage(Usage):
    """What one model did for the agent: its tokens, its web searches, and its cost in US dollars."""

    web_search_requests: int = 0
    cost_usd: float | None = None


class PermissionDenial(Frozen):
    """A tool that Claude Code did not let the agent use, and what it was to be used with."""

    tool_name: str = ""
    tool_use_id: str = ""
    tool_input: Any = None


class FileChange(Frozen):
    """One changed path of a repository, relative to its top.

    `status` is git's letter: A added, M modified, D deleted, R renamed, T type changed. `added` and `removed` count
    lines and are `None` for binary files.
    """

    path: str
    status: Literal["A", "M", "D", "R", "T", "C"]
    added: int | None = None
    removed: int | None = None
    old_path: str | None = None


class Omitted(Frozen):
    """A file that did not come back: its path, its size in bytes where that is known, and why."""

    path: str
    size: int | None = None
    reason: str


class Commit(Frozen):
    """A commit of the agent's: `author` is `Name <address>`, `authored_at` is ISO 8601."""

    id: str
    author: str
    authored_at: str
    subject: str


class Branch(Frozen):
    """A branch of the agent's with commits that are on no other line of its work.

    `commits` are the oldest first; `mail` is what `git am` takes on `RepoResult.head`.
    """

    name: str
    commits: tuple[Commit, ...] = ()
    mail: bytes = Field(default=b"", repr=False)


class RepoResult(Frozen):
    """What the agent left in one repository.

    Attributes:
        url: The repository's address.
        path: Where it was in the machine.
        head: The commit that was checked out at the start.
        changes: The changed paths, against `head`.
        diff: What `git apply` takes on a fresh clone at `head` to give the agent's tree: its commits, index, working
            tree and untracked files; empty when nothing changed.
        omitted: What is not in `diff` although it is in the tree, and why.
        error: Why the diff is not whole, or not there, although something changed; empty when all is well.
        commits: The agent's commits from `head` to its own HEAD, the oldest first. `diff` holds what is in them.
        mail: The same as `git format-patch` writes them and `git am` takes them on `head`; merges are not in it.
        branches: What the agent committed elsewhere; none of it is in `diff`.
        pushed_branch: The branch that the work was pushed to; empty when it was not.
        push_error: Why it was not pushed although that was asked for; the work is in `diff` all the same.
    """

    url: str
    path: str
    head: str
    changes: tuple[FileChange, ...] = ()
    diff: bytes = Field(default=b"", repr=False)
    omitted: tuple[Omitted, ...] = ()
    error: str = ""
    commits: tuple[Commit, ...] = ()
    mail: bytes = Field(default=b"", repr=False)
    branches: tuple[Branch, ...] = ()
    pushed_branch: str = ""
    push_error: str = ""

    @property
    def text(self) -> str:
        """The diff as text; bytes that are not UTF-8 are replaced."""
        return self.diff.decode("utf-8", "replace")


class Artifact(Frozen):
    """A file that was asked for with `collect`, or the transcript.

    Attributes:
        path: Its path in the working folder, with `/`.
        size: Bytes.
        sha256: Checksum of its content, in hex; what has arrived was checked against it.
        file: Where it lies now.
    """

    path: str
    size: int
    sha256: str
    file: Path


class Times(Frozen):
    """When each phase began, on the controller's clock; `None` for a phase that was never reached.

    `queued` ends when Fly's rate limits let the create call out: what comes before `create` costs nothing.
    """

    queued: datetime | None = None
    create: datetime | None = None
    boot: datetime | None = None
    clone: datetime | None = None
    agent: datetime | None = None
    collect: datetime | None = None
    destroy: datetime | None = None
    done: datetime | None = None

    @property
    def seconds(self) -> float | None:
        """Wall time from the create call to the machine's confirmed end."""
        if self.create is None or self.done is None:
            return None
        return (self.done - self.create).total_seconds()


class FlyRequest(Frozen):
    """A request to Fly's API by which Fly's support can find it.

    Attributes:
        id: Fly's id of it: the `fly-request-id` header of the answer.
        method: HTTP method.
        path: URL path with query, without `/v1`.
        status: HTTP status of the answer.
    """

    id: str
    method: str
    path: str
    status: int | None = None


class ExitEvent(Frozen):
    """How a machine's process ended, as Fly has shown it in the machine's `exit` event.

    Attributes:
        exit_code: The exit code of the machine's program.
        signal: The signal that ended it; -1 for none.
        oom_killed: Whether the machine ran out of memory.
        requested_stop: Whether somebody had asked for its stop.
        exited_at: When; `None` when Fly did not say.
    """

    exit_code: int = 0
    signal: int = -1
    oom_killed: bool = False
    requested_stop: bool = False
    exited_at: datetime | None = None


class Attempt(Frozen):
    """One try of a run, on a machine of its own.

    Attributes:
        number: 1 for the first.
        name: The machine's name; known before the machine is asked for.
        machine_id: Fly's id of the machine; empty when Fly never told one.
        region: Fly's code of the region that it ran in.
        state: The machine's last known state, in Fly's words.
        gone: Whether nothing of it is left: Fly confirmed that the machine is gone, or never made one.
        failure: Why this try failed; `None` when it did not.
        agent_started: Whether the agent had begun, or may have.
        cost_usd: What the agent cost in US dollars, as Claude Code reports it; `None` when it reported nothing.
        machine_seconds: How long there was a machine.
        machine_cost_usd: What the machine cost in US dollars, by list prices; `None` when its price is not known.
        times: When each phase began.
        app: The Fly app of the machine; empty in what an older flaude has written.
        requests: Fly's ids of the creates, and of the last calls that failed: for Fly's support.
        exit_event: How the machine ended, where flaude had to ask; of a run that ends well it does not.
    """

    number: int
    name: str
    machine_id: str = ""
    region: str = ""
    state: str = ""
    gone: bool
    failure: Failure | None = None
    agent_started: bool = False
    cost_usd: float | None = None
    machine_seconds: float = 0.0
    machine_cost_usd: float | None = 0.0
    times: Times = Times()
    app: str = ""
    requests: tuple[FlyRequest, ...] = ()
    exit_event: ExitEvent | None = None


class RunResult(Frozen):
    """One run that got a machine. `model_dump_json` and `model_validate_json` lose nothing of it.

    Attributes:
        machine_id: Fly's id of the machine.
        exit_code: The agent's exit code as the supervisor saw it: 128 + signal when a signal ended it, 70 when it
            exited 0 without a usable `result` line, 124 on a deadline, 130 when cancelled; `None` when it never ran.
        state: The machine's last known state, in Fly's words.
        destroyed: Whether Fly confirmed that the machine is gone.
        region: Fly's code of the region that it ran in.
        failure: What went wrong; `None` when nothing did.
        text: The agent's final answer.
        structured_output: The answer as JSON when the config had a `json_schema`.
        session_id: Claude Code's session.
        num_turns: Turns that the agent took.
        cost_usd: What the agent cost in US dollars, as Claude Code reports it in its last line; `None` when it came to
            none: an agent that was stopped has none.
        usage: Tokens in all.
        model_usage: The same by model, with its cost.
        permission_denials: Tools that the agent was not allowed to use.
        machine_seconds: How long there was a machine, from the create call to its confirmed end: no less than Fly
            bills.
        machine_cost_usd: What that costs in US dollars, by list prices; `None` when its price is not known.
        patches: What the agent left in each repository, in the order of the config's `repos`.
        artifacts: The files that `collect` asked for.
        artifacts_omitted: Those that did not come back, and why.
        transcript: Claude Code's own record of the session, when `transcript` asked for it.
        workspace_files: Paths of the files in the working folder when the agent had ended.
        workspace_files_left_out: How many more there were than are listed.
        stdout_tail: Last lines of the agent's output that are of use to people.
        stderr_tail: Last lines of the agent's stderr.
        lines_dropped: Lines of output that the machine had no room for: too many, or its disk was full.
        times: When each phase began, in the last attempt.
        attempts: All tries, the last one last; the fields above are the last one's.
        app: The Fly app of the machine; empty in what an older flaude has written.
    """

    machine_id: str
    exit_code: int | None
    state: str
    destroyed: bool
    region: str = ""
    failure: Failure | None = None
    text: str = ""
    structured_output: Any = None
    session_id: str = ""
    num_turns: int | None = None
    cost_usd: float | None = None
    usage: Usage = Usage()
    model_usage: Mapping[str, ModelUsage] = Field(default_factory=dict)
    permission_denials: tuple[PermissionDenial, ...] = ()
    machine_seconds: float = 0.0
    machine_cost_usd: float | None = None
    patches: tuple[RepoResult, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    artifacts_omitted: tuple[Omitted, ...] = ()
    transcript: Artifact | None = None
    workspace_files: tuple[str, ...] = ()
    workspace_files_left_out: int = 0
    stdout_tail: tuple[str, ...] = ()
    stderr_tail: tuple[str, ...] = ()
    lines_dropped: int = 0
    times: Times = Times()
    attempts: tuple[Attempt, ...] = ()
    app: str = ""
