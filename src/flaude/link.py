"""The link to the guest: its verbs as calls of Fly's exec endpoint.

Every verb may be asked again without harm (a second `start` of the same job starts nothing, `pull` and `fetch` name
their offset), so calls are repeated as if they were reads. No call waits longer than 15 seconds inside the machine,
because Fly does not say how long an exec may last and users saw 408 from 25 seconds on; each 408 halves the wait.
How much one answer may hold is not documented either: pieces grow while they arrive whole, and shrink when one does
not.

The guest takes the run's secrets out of all that it tells. What comes through here is filtered once more: a proxy may
show a request in its error, and the agent, who knows its own token, may have found a way past the first filter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from flaude.claude import cut_nesting
from flaude.errors import GuestError, NotReadyError, UnreachableError
from flaude.guest.redact import Redactor
from flaude.offloading import offload
from flaude.piece_size import PieceSize
from flaude.protocol import GuestFile, GuestResult, PullReply, Record, SpoolReader, StatusReply, unpack

if TYPE_CHECKING:
    from flaude.fly import FlyClient

GUEST_PATH = "/opt/flaude/guest.pyz"
"""Where the guest lies in the machine."""

_LONGEST_WAIT_S = 15.0
_SHORTEST_WAIT_S = 2.0
_FIRST_WAIT_S = 1.0
_EXEC_MARGIN_S = 10
_MOST_DAMAGED = 3
_NOT_YET = 75  # the guest's EX_TEMPFAIL: booted, but the supervisor does not answer yet


class JobRefusedError(GuestError):
    """The guest does not take the job: it has another one, or cannot do what this one asks for."""


class NoGuestError(GuestError):
    """What was run there is not the guest: it failed without the guest's answer."""


class GuestLink:
    """Calls to the guest of one machine.

    Every method raises `NotReadyError` while the machine or its supervisor does not answer yet, `UnreachableError`,
    `RateLimitedError` and `NotFoundError` as `FlyClient` does, and `GuestError` when the guest refuses or answers
    something unreadable. No line, result or error that leaves it holds one of `secrets`; patches and other files come
    as they are, because a changed one would be of no use.

    Args:
        fly: The client.
        app: The machine's app.
        machine_id: The machine.
        secrets: What must not be told.
        offset: How much of the guest's spool somebody has read already, in bytes.
    """

    def __init__(
        self, fly: FlyClient, app: str, machine_id: str, secrets: Iterable[str] = (), *, offset: int = 0
    ) -> None:
        self.clean = Redactor(secrets)
        self.spool = SpoolReader(self.clean.told, offset)
        self._fly = fly
        self._app = app
        self._machine_id = machine_id
        self._wait_s = _LONGEST_WAIT_S
        self._pieces = PieceSize()

    async def start(self, job: Mapping[str, Any]) -> PullReply:
        """Hand over the job, secrets included: the one time that they travel. Returns what a `pull` then has to tell.

        Calls are rationed: with one less, the agent begins a second earlier.
        """
        pull = {"offset": 0, "wait_s": _FIRST_WAIT_S, "max_bytes": self._pieces.bytes}
        answer = await self._call("start", {**job, "pull": pull}, wait_s=_FIRST_WAIT_S)
        if not answer.get("accepted"):
            raise JobRefusedError(self.clean(f"the guest refused the job: {answer.get('error', answer)}"))
        return self._pulled(answer.get("pull"), 0)

    async def pull(self, job_id: str, offset: int) -> PullReply:
        """What is new since `offset`; waits inside the machine while there is nothing."""
        wait_s = max(_SHORTEST_WAIT_S, self._wait_s * self._fly.share)
        request = {"job_id": job_id, "offset": offset, "wait_s": wait_s, "max_bytes": self._pieces.bytes}
        try:
            answer = await self._call("pull", request, wait_s=wait_s)
        except UnreachableError as error:
            if error.status == 408:  # noqa: PLR2004  # Request Timeout: this exec was too long for Fly
                self._wait_s = max(_SHORTEST_WAIT_S, self._wait_s / 2)
            self._pieces.failed()
            raise
        except GuestError:
            self._pieces.failed()
            raise
        return self._pulled(answer, offset)

    def _pulled(self, answer: Any, offset: int) -> PullReply:
        try:
            reply = PullReply.model_validate(answer)
        except ValidationError as error:
            raise GuestError(f"the guest's answer to pull is not readable: {self.clean(str(error))}") from None
        if reply.offset != offset:
            raise GuestError(f"the guest answered for offset {reply.offset} instead of {offset}")
        self._pieces.arrived(reply.next - offset)
        return reply

    async def records(self, reply: PullReply) -> list[Record]:
        """The spool's records that a `pull` has told of; those of a reply must be taken before the next one's."""
        read = await offload(reply.next - reply.offset, lambda: self.spool.read(unpack(reply.data)))
        return self.spool.take(read)

    async def result(self, reply: PullReply) -> GuestResult:
        """The result that a `pull` has told of, fetched when it was too large for that answer."""
        value = reply.result
        try:
            if value is not None and "file" in value:
                content = await self.fetch(GuestFile.model_validate(value["file"]))
                return await offload(len(content), lambda: self._as_result(json.loads(content)))
            return self._as_result(value)
        except (ValueError, RecursionError) as error:
            raise GuestError(f"the guest's result is not readable: {self.clean(str(error))}") from None

    def _as_result(self, value: Any) -> GuestResult:
        return GuestResult.model_validate(self._clean_result(value))

    def _clean_result(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        # Files come as they are, the small ones in here. What the agent has printed may have secrets in its keys too.
        agents = {
            name: self.clean.json(cut_nesting(value[name])) for name in ("result_line", "rate_limit") if name in value
        }
        return {**self.clean.told({**value, "files": None}), **agents, "files": value.get("files", [])}

    async def fetch(self, file: GuestFile) -> bytes:
        """A whole file, in pieces, checked against its size and SHA-256."""
        content = b""
        while len(content) < file.size:
            content += await self.piece(file, len(content))
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise GuestError(f"{file.name} arrived damaged: its SHA-256 is not {file.sha256}")
        return content

    async def piece(self, file: GuestFile, offset: int) -> bytes:
        """The next piece of a file; one that arrives damaged is fetched again, a few times."""
        if file.data is not None:
            return _piece_at(offset, {"offset": offset, "data": file.data}, file)[offset:]
        damaged = 0
        while True:
            request = {"name": file.name, "offset": offset, "length": self._pieces.bytes}
            try:
                answer = await self._call("fetch", request)
                piece = await offload(len(str(answer.get("data"))), _piece_at, offset, answer, file)
            except UnreachableError:
                self._pieces.failed()
                raise
            except GuestError:
                damaged += 1
                self._pieces.failed()
                if damaged == _MOST_DAMAGED:
                    raise
            else:
                self._pieces.arrived(len(piece))
                return piece

    async def fetch_together(self, files: Sequence[GuestFile]) -> dict[str, bytes]:
        """Small files in one call: the contents of those that fit into it, by name; at least the first one's."""
        request = {"names": [file.name for file in files], "length": self._pieces.bytes}
        try:
            answer = await self._call("fetch", request)
        except (UnreachableError, GuestError):
            self._pieces.failed()
            raise
        told = answer.get("files")
        found = await offload(self._pieces.bytes, _contents, files, told if isinstance(told, list) else [])
        if not found:
            raise GuestError(f"{files[0].name} did not arrive")
        return found

    async def cancel(self, job_id: str, reason: str) -> None:
        """Ask the agent to stop; what it did is collected all the same."""
        await self._call("cancel", {"job_id": job_id, "reason": reason})

    async def ack(self, job_id: str) -> None:
        """Say that everything has arrived: the guest exits, with the agent's exit code."""
        await self._call("ack", {"job_id": job_id})

    async def status(self) -> StatusReply:
        """What the guest does, and when its controller was last there; asking does not count as being there."""
        answer = await self._call("status", {})
        try:
            return StatusReply.model_validate(answer)
        except ValidationError as error:
            raise GuestError(f"the guest's status is not readable: {error}") from None

    async def _call(self, verb: str, request: Mapping[str, Any], *, wait_s: float = 0.0) -> dict[str, Any]:
        reply = await self._fly.exec_machine(
            self._app,
            self._machine_id,
            # Without what it does not need (site packages, the environment): it starts every second, on a busy machine.
            ["python3", "-I", "-S", GUEST_PATH, "ctl", verb],
            stdin=json.dumps(request),
            timeout_s=round(wait_s) + _EXEC_MARGIN_S,
            retry=True,
            waits=wait_s > 0,
            clean=self.clean,
        )
        stderr = self.clean(reply.stderr).strip()[-500:]
        if reply.exit_code == _NOT_YET:
            raise NotReadyError(f"the guest does not answer {verb} yet: {stderr}")
        try:
            answer = await offload(len(reply.stdout), json.loads, reply.stdout)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            # The guest exits with 0 when it has answered: an answer that is none was cut on the way.
            kind = GuestError if reply.exit_code == 0 else NoGuestError
            raise kind(f"{verb}: the guest exited with code {reply.exit_code} and no answer: {stderr}")
        if "error" in answer and verb != "start":
            raise GuestError(self.clean(f"{verb}: {answer['error']}"))
        return answer


def _contents(files: Sequence[GuestFile], told: Sequence[object]) -> dict[str, bytes]:
    found = {}
    for file, packed in zip(files, told, strict=False):
        content = unpack(str(packed))
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise GuestError(f"{file.name} arrived damaged: its SHA-256 is not {file.sha256}")
        found[file.name] = content
    return found


def _piece_at(offset: int, answer: Mapping[str, Any], file: GuestFile) -> bytes:
    piece = unpack(str(answer.get("data", "")))
    if not piece or answer.get("offset") != offset:
        raise GuestError(f"{file.name} ends at byte {offset} of {file.size}")
    return piece
