"""The link to the guest: its verbs as calls of Fly's exec endpoint.

A request travels in argv, packed into one word, because Fly may drop the standard input of an exec; one that is too
long for a call goes before, in parts, or by standard input where that was seen to arrive. Every verb may be asked again
without harm (a second `start` of the same job starts nothing, `pull` and `fetch` name their offset), so calls are
repeated as if they were reads. No call waits longer than 15 seconds inside the machine, or than was measured to be
possible; each 408 halves the wait. What an exec may send and answer is not documented either: what is refused as too
large is sent in smaller parts, pieces of answers grow while they arrive whole, and shrink when one does not
(`fly.exec_limits` has what is known).

The guest takes the run's secrets out of all that it tells. What comes through here is filtered once more: a proxy may
show a request in its error, and the agent, who knows its own token, may have found a way past the first filter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from flaude._guest.chunk_size import ChunkSize
from flaude._guest.inside.ctl import STDIN
from flaude._guest.inside.packing import pack_request
from flaude._guest.inside.parts import name_of
from flaude._guest.inside.redact import Redactor
from flaude._guest.job_calls import GUEST, body_bytes, pack_job, room_beside
from flaude._guest.messages import GuestFile, GuestResult, PullReply, Record, SpoolReader, StatusReply, unpack
from flaude._guest.program import guest_sha256, packed_guest
from flaude._model.errors import (
    FlaudeError,
    GuestError,
    InvalidRequestError,
    NoSuchProgramError,
    NotReadyError,
    PayloadTooLargeError,
    UnreachableError,
)
from flaude._model.json_values import cut_nesting
from flaude._offload import offload
from flaude._providers.fly.exec_limits import EXEC_MARGIN_S, SHORTEST_WAIT_S

if TYPE_CHECKING:
    from flaude._providers.fly import FlyClient

ANSWER_AT_ONCE = "SIGUSR1"
"""The signal by which the guest answers whoever waits for news at once."""

_FIRST_WAIT_S = 1.0
_MOST_DAMAGED = 3
_REQUEST_TIMEOUT = 408  # this exec was too long for Fly
_NO_PROGRAM = (126, 127)  # a shell's word for it
_NOT_YET = 75  # the guest's EX_TEMPFAIL: booted, but the supervisor does not answer yet
_ALL_HERE = -1  # the guest's word for: all of the guest is in the machine

_LONGEST_REASON = 500
_FETCH_OVERHEAD = 200


class JobRefusedError(GuestError):
    """The guest does not take the job: it has another one, or cannot do what this one asks for."""


class NoGuestError(GuestError):
    """What was run there is not the guest: it failed, or ended, without the guest's answer.

    `missing` tells whether that is because the machine has no such program.
    """

    def __init__(self, message: str, *, missing: bool = False) -> None:
        super().__init__(message)
        self.missing = missing


class CutAnswerError(GuestError):
    """The beginning of an answer arrived; `size` is its length."""

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


class SupervisorClient:
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
        self._wait_s = fly.exec_limits.longest_wait_s
        self._pieces = ChunkSize(fly.exec_limits.answer_bytes)
        self._packed_job = ("", "")
        self._begun = ("", b"")
        self._sent = 0
        self._guest_sent: int | None = None

    async def start(self, job: Mapping[str, Any], pad: bytes) -> PullReply | None:
        """One step of handing over the job, all of it under the pad: the one time that its secrets travel.

        Calls are rationed: the last one brings what a `pull` then has to tell, so that the agent begins a second
        earlier.

        Args:
            job: The job.
            pad: The machine's pad.

        Returns:
            What has been told, when the guest has taken the job; None when there is more to be sent.
        """
        if self._guest_sent is not None:
            await self._send_guest(self._guest_sent)
            return None
        packed = await self._pack(job, pad)
        try:
            if len(packed) <= self._room("start"):
                answer = await self._ctl("start", packed, wait_s=_FIRST_WAIT_S)
            elif self._fits_stdin(packed):
                answer = await self._ctl("start", STDIN, wait_s=_FIRST_WAIT_S, stdin=packed)
            elif (word := await self._send_part(packed)) is not None:
                answer = await self._ctl("start", word, wait_s=_FIRST_WAIT_S)
            else:
                return None
        except PayloadTooLargeError:
            return None  # in smaller parts then
        except CutAnswerError as error:
            self._shrink(error)
            if not self._sent:
                self._packed_job = ("", "")  # so that the next `start` asks for less; a job in parts keeps its name
            raise
        if "guest_bytes" in answer:
            self._guest_sent = 0
            return None
        if answer.get("stdin") == "empty":
            self._fly.exec_limits.stdin = False  # it was measured elsewhere, or Fly has changed: in parts then
            return None
        if "missing" in answer:
            self._sent = int(answer["missing"])
            return None
        if not answer.get("accepted"):
            raise JobRefusedError(self.clean(f"the guest refused the job: {answer.get('error', answer)}"))
        self._packed_job = ("", "")
        if "pull" not in answer:  # it had the job already
            return PullReply(state="waiting", offset=0, next=0)
        return self._pulled(answer["pull"], 0)

    async def _pack(self, job: Mapping[str, Any], pad: bytes) -> str:
        """The job as it travels: each time the same, so that its parts fit together."""
        job_id, packed = self._packed_job
        if job_id != job["job_id"]:
            pull = {"offset": 0, "wait_s": _FIRST_WAIT_S, "max_bytes": self._pieces.bytes}
            packed = await offload(len(job["prompt"]), pack_job, {**job, "pull": pull}, pad)
            self._packed_job, self._sent = (job["job_id"], packed), 0
        return packed

    async def _send_part(self, packed: str) -> str | None:
        """Send one more part of a request; or the word by which all of it is called, when the guest has it."""
        name = name_of(packed)
        if self._sent >= len(packed):
            return f"@{name}:{len(packed)}"
        where = f"{name}:{self._sent}"
        part = packed[self._sent : self._sent + self._room("part", where)]
        answer = await self._ctl("part", where, part)
        if "guest_bytes" in answer:
            self._guest_sent = 0
        elif answer.get("ok"):
            self._sent += len(part)
        else:
            raise GuestError(self.clean(f"part: {answer.get('error', answer)}"))
        return None

    async def _send_guest(self, offset: int) -> None:
        """Send one more part of the guest itself, to the program that keeps its place (`guest/bootstrap.py`)."""
        whole = packed_guest()
        if offset < len(whole):
            command = [*GUEST, "part", str(offset)]
            command.append(whole[offset : offset + room_beside(command, self._fly.exec_limits)])
        else:
            command = [*GUEST, "join", guest_sha256()]
        try:
            there = int((await self._exec("part", command)).get("guest_bytes", _ALL_HERE))
        except PayloadTooLargeError:
            return  # in smaller parts then
        self._guest_sent = None if there == _ALL_HERE else there

    async def pull(self, job_id: str, offset: int) -> PullReply:
        """What is new since `offset`; waits inside the machine while there is nothing."""
        wait_s = max(SHORTEST_WAIT_S, min(self._wait_s, self._fly.exec_limits.longest_wait_s) * self._fly.share)
        request = {"job_id": job_id, "offset": offset, "wait_s": wait_s, "max_bytes": self._pieces.bytes}
        try:
            answer = await self._call("pull", request, wait_s=wait_s)
        except UnreachableError as error:
            if error.status == _REQUEST_TIMEOUT:
                self._wait_s = max(SHORTEST_WAIT_S, self._wait_s / 2)
            else:
                self._pieces.failed()
            raise
        except GuestError as error:
            self._shrink(error)
            raise
        return self._pulled(answer, offset)

    def _shrink(self, error: Exception) -> None:
        """An answer was too long, or may have been."""
        if isinstance(error, CutAnswerError):
            self._pieces.cut(error.size)
        else:
            self._pieces.failed()

    def _pulled(self, answer: Any, offset: int) -> PullReply:
        try:
            reply = PullReply.model_validate(answer)
        except ValidationError as error:
            raise GuestError(f"the guest's answer to pull is not readable: {self.clean(str(error))}") from None
        if reply.offset != offset:
            raise GuestError(f"the guest answered for offset {reply.offset} instead of {offset}")
        self._pieces.arrived(max(reply.next - offset, len(reply.data)))
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
        """A whole file, in pieces, checked against its size and SHA-256.

        When it fails, what has arrived is there for the next call for the same file.
        """
        begun, content = self._begun
        if begun != file.sha256:
            content = b""
        self._begun = ("", b"")
        try:
            while len(content) < file.size:
                content += await self.piece(file, len(content))
        except FlaudeError:
            self._begun = (file.sha256, content)
            raise
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
            except GuestError as error:
                damaged += 1
                self._shrink(error)
                if damaged == _MOST_DAMAGED:
                    raise
            else:
                self._pieces.arrived(max(len(piece), len(answer["data"])))
                return piece

    async def fetch_together(self, files: Sequence[GuestFile]) -> dict[str, bytes]:
        """Small files in one call: the contents of those that fit into it, by name; at least the first one's."""
        request = {"names": self._names_in_one_call(files), "length": self._pieces.bytes}
        try:
            answer = await self._call("fetch", request)
        except (UnreachableError, GuestError) as error:
            self._shrink(error)
            raise
        told = answer.get("files")
        found = await offload(self._pieces.bytes, _contents, files, told if isinstance(told, list) else [])
        if not found:
            raise GuestError(f"{files[0].name} did not arrive")
        return found

    def _names_in_one_call(self, files: Sequence[GuestFile]) -> list[str]:
        """The first names, as many as fit into one call, were they as dense as they can be."""
        left, names = self._room("fetch") * 3 // 4, list[str]()
        for file in files:
            left -= len(json.dumps(file.name)) + 1
            if names and left < _FETCH_OVERHEAD:
                break
            names.append(file.name)
        return names

    async def cancel(self, job_id: str, reason: str) -> None:
        """Ask the agent to stop; what it did is collected all the same."""
        await self._call("cancel", {"job_id": job_id, "reason": reason[:_LONGEST_REASON]})

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

    async def _call(self, verb: str, request: Mapping[str, Any], *, wait_s: float | None = None) -> dict[str, Any]:
        try:
            answer = await self._ctl(verb, pack_request(dict(request)), wait_s=wait_s)
        except PayloadTooLargeError as error:
            raise GuestError(f"{verb}: {error}") from error
        if "error" in answer:
            raise GuestError(self.clean(f"{verb}: {answer['error']}"))
        return answer

    async def _ctl(self, verb: str, *words: str, wait_s: float | None = None, stdin: str = "") -> dict[str, Any]:
        return await self._exec(verb, [*GUEST, "ctl", verb, *words], wait_s=wait_s, stdin=stdin)

    async def _exec(
        self, verb: str, command: list[str], *, wait_s: float | None = None, stdin: str = ""
    ) -> dict[str, Any]:
        """The guest's answer; `wait_s` is for how long it may wait for news.

        A machine may run one exec at a time: what does not wait itself may have to wait for one that does.
        """
        limits = self._fly.exec_limits
        longest_s = limits.longest_wait_s
        try:
            reply = await self._fly.exec_machine(
                self._app,
                self._machine_id,
                command,
                stdin=stdin,
                timeout_s=round(longest_s if wait_s is None else wait_s) + EXEC_MARGIN_S,
                retry=True,
                waits=bool(wait_s),
                clean=self.clean,
            )
        except PayloadTooLargeError as error:
            if not limits.body_refused(body_bytes(command, stdin)):
                raise NotReadyError(f"the machine refused {verb}: {error}") from error
            raise
        except NoSuchProgramError as error:
            raise NoGuestError(f"{verb}: {error}", missing=True) from error
        except InvalidRequestError as error:
            # What was measured, here or elsewhere, is not true any more.
            if "timeout" in error.fly_text.lower() and limits.wait_refused(longest_s):
                raise NotReadyError(f"the machine refused {verb}: {error}") from error
            raise
        stderr = self.clean(reply.stderr).strip()[-500:]
        if reply.exit_code == _NOT_YET:
            raise NotReadyError(f"the guest does not answer {verb} yet: {stderr}")
        try:
            answer = await offload(len(reply.stdout), json.loads, reply.stdout)
        except ValueError:
            answer = None
        if isinstance(answer, dict):
            return answer
        told = f"{verb}: the guest exited with code {reply.exit_code} and no answer: {stderr}"
        if reply.exit_code == 0 and reply.stdout.startswith("{"):
            # The guest exits with 0 when it has answered: an answer that is none was cut on the way.
            limits.answer_cut(len(reply.stdout))
            raise CutAnswerError(told, len(reply.stdout))
        raise NoGuestError(told, missing=reply.exit_code in _NO_PROGRAM)

    def _room(self, *words: str) -> int:
        """How long one more word of a `ctl` command may be."""
        return room_beside([*GUEST, "ctl", *words], self._fly.exec_limits)

    def _fits_stdin(self, packed: str) -> bool:
        """Whether a request that is too long for a word goes in one call all the same."""
        limits, command = self._fly.exec_limits, [*GUEST, "ctl", "start", STDIN]
        return limits.stdin and body_bytes(command, packed) <= limits.body_bytes


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
