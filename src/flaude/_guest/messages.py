"""What the guest answers, as frozen models, and its spool of output as records.

The other side of these messages is `flaude._guest.inside`; both travel in the same release, so they
cannot differ in version.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from flaude._model.errors import GuestError
from flaude._model.run_result import Commit, FileChange, Omitted

PROTOCOL = 2


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class GuestFile(_Message):
    """A file that the guest keeps for us; `data` is its packed content when it is small."""

    name: str
    size: int
    sha256: str
    data: str | None = None


class GuestBranch(_Message):
    """A branch with commits of its own; `mail` names the `GuestFile` that holds them."""

    name: str
    commits: tuple[Commit, ...] = ()
    mail: str | None = None


class GuestRepo(_Message):
    """What collecting found in one repository; `patch` and `mail` name the `GuestFile`s that hold it."""

    url: str
    path: str
    head: str = ""
    changes: tuple[FileChange, ...] = ()
    patch: str | None = None
    omitted: tuple[Omitted, ...] = ()
    patch_error: str = ""
    commits: tuple[Commit, ...] = ()
    mail: str | None = None
    branches: tuple[GuestBranch, ...] = ()
    pushed_branch: str = ""
    push_error: str = ""

    @property
    def files(self) -> list[str]:
        """The names of all its files."""
        names = [self.patch, self.mail, *(branch.mail for branch in self.branches)]
        return [name for name in names if name]


class GuestArtifact(_Message):
    """A file of the working folder, or the transcript: `path` in that folder, `file` names the `GuestFile`."""

    path: str
    file: str


class GuestLines(_Message):
    """What became of the agent's lines; `dropped` counts those that there was no room for."""

    dropped: int = 0


EndedBy = Literal["exit", "clone", "image", "deadline", "idle", "cancelled", "orphan", "stopped", "internal"]


class GuestResult(_Message):
    """The supervisor's account of the run.

    `exit_code` is `None` when the agent never started; `oom` says that the kernel killed it for want of memory;
    `transient` that the network or a registry made it fail.
    """

    job_id: str
    exit_code: int | None
    ended_by: EndedBy
    oom: bool = False
    transient: bool = False
    message: str = ""
    session_id: str = ""
    result_line: dict[str, Any] | None = None
    rate_limit: dict[str, Any] | None = None
    stdout_tail: tuple[str, ...] = ()
    stderr_tail: tuple[str, ...] = ()
    repos: tuple[GuestRepo, ...] = ()
    artifacts: tuple[GuestArtifact, ...] = ()
    artifacts_omitted: tuple[Omitted, ...] = ()
    artifacts_error: str = ""
    transcript: GuestArtifact | None = None
    workspace_files: tuple[str, ...] = ()
    workspace_files_left_out: int = 0
    lines: GuestLines = GuestLines()
    files: tuple[GuestFile, ...] = ()

    def file(self, name: str) -> GuestFile:
        """The file of that name.

        Raises:
            GuestError: The guest promised it and does not list it.
        """
        for file in self.files:
            if file.name == name:
                return file
        raise GuestError(f"the guest names the file {name} but does not have it")


GuestState = Literal["waiting", "installing", "cloning", "ready", "running", "collecting", "done"]


class PullReply(_Message):
    """Answer to `pull`: the spool's bytes from `offset` to `next`, and the result once all is told.

    `result` is the `GuestResult` itself, or `{"file": GuestFile}` when it is too large for one answer.
    """

    state: GuestState
    offset: int = Field(ge=0)
    next: int = Field(ge=0)
    data: str = ""
    result: dict[str, Any] | None = None


class StatusReply(_Message):
    """Answer to `status`.

    `waited_s` counts since the machine came up, or a part of its job arrived; `pulled_s_ago` is 0 while a pull waits,
    and None like `job_id` before there is a job.
    """

    state: GuestState
    waited_s: float
    job_id: str | None = None
    pulled_s_ago: float | None = None


def unpack(data: str) -> bytes:
    """The bytes that the guest packed with zlib and base64.

    Raises:
        GuestError: They are damaged.
    """
    try:
        return zlib.decompress(base64.b64decode(data, validate=True)) if data else b""
    except (ValueError, zlib.error) as error:
        raise GuestError(f"the guest's answer is damaged: {error}") from error


class Record(NamedTuple):
    """A record of the guest's spool: a JSON object, and the offset at which it ends."""

    value: dict[str, Any]
    end: int


class SpoolReader:
    """Turns the spool's bytes, in pieces cut anywhere, into its records (one JSON object a line).

    Args:
        clean: Takes what is secret out of a record; left out, records are as they come.
        offset: Where in the spool the first piece begins: at the beginning of a record.
    """

    def __init__(self, clean: Callable[[Any], Any] = lambda record: record, offset: int = 0) -> None:
        self._clean = clean
        self._rest = bytearray()
        self._offset = offset

    def feed(self, piece: bytes) -> list[Record]:
        """The records that `piece` completes.

        Raises:
            GuestError: A line is no JSON object.
        """
        return self.take(self.read(piece))

    def read(self, piece: bytes) -> tuple[list[Record], bytearray]:
        """What to `take` after this piece. Changes nothing, so that it may be done in another thread, and again.

        Raises:
            GuestError: A line is no JSON object.
        """
        records, offset = [], self._offset
        *lines, rest = (self._rest + piece).split(b"\n")
        try:
            for line in lines:
                offset += len(line) + 1
                records.append(Record(self._clean(json.loads(line)), offset))
        except ValueError as error:
            raise GuestError(f"the guest's spool holds a line that is no JSON: {error}") from error
        return records, rest

    def take(self, read: tuple[list[Record], bytearray]) -> list[Record]:
        """The records of a piece that was read; the next one is read after it."""
        records, self._rest = read
        if records:
            self._offset = records[-1].end
        return records
