"""The box of machines that are no processes."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio

from flaude.local.isolation import BoxName, Executed, Spec
from flaude.local.simulated.agent import SimulatedAgent
from flaude.local.simulated.requests import MissingPartsError, Parts, unpack_request
from flaude.local.simulated.supervisor import EX_TEMPFAIL, Supervisor

# Measured with the real guest on a computer with two CPUs: its first answer after the machine has started, and how
# long a `ctl` takes, which is a Python of its own.
_UP_AFTER_S = 0.2
_CTL_S = 0.05

_VERBS = ("start", "pull", "fetch", "cancel", "ack", "status")
_PAD = "/opt/flaude/pad"
_PART_WORDS = 3
_STDIN = "-"
_PROMPT = "FLAUDE_PROMPT"
_USAGE, _NOT_FOUND = 64, 127
_NOT_YET = Executed(EX_TEMPFAIL, stderr=b"the supervisor does not answer: it is not there\n")
_KILLED = Executed(-signal.SIGKILL)


class SimulatedBox:
    """Starts machines without a process.

    One whose command is a file of its config has flaude's guest. Any other does what its `FLAUDE_PROMPT` says, if it
    has one, which is how flaude before 1.0 told it, and takes no exec.
    """

    name: BoxName = "simulated"

    def __init__(self) -> None:
        self._pads: dict[Path, bytes] = {}

    async def prepare(self, folder: Path, files: Mapping[str, tuple[bytes, int]]) -> None:
        """There is no folder; of the files only the pad matters."""
        self._pads[folder] = files.get(_PAD, (b"", 0))[0]

    async def remove(self, folder: Path) -> None:
        """There is no folder."""
        self._pads.pop(folder, None)

    async def start(self, spec: Spec) -> SimulatedMachine:
        """See `Box.start`."""
        return SimulatedMachine(spec, self._pads.get(spec.folder, b""))


class SimulatedMachine:
    """What runs in one machine; see `Running`."""

    def __init__(self, spec: Spec, pad: bytes) -> None:
        has_guest = any(word in spec.files for word in spec.argv)
        self._supervisor = Supervisor(spec.env, pad) if has_guest else None
        self._parts = Parts()
        self._used = ""
        self._prompt = spec.env.get(_PROMPT, "")
        self._up_at = time.monotonic() + _UP_AFTER_S
        self._signal = 0
        self._signalled = anyio.Event()
        self._execs: set[anyio.CancelScope] = set()

    async def wait(self) -> int:
        """See `Running.wait`; what runs, runs in here."""
        codes: list[int] = []

        async def run() -> None:
            codes.append(await (self._supervisor.run() if self._supervisor else self._run_alone()))
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await self._signalled.wait()
            tasks.cancel_scope.cancel()
        self._end(signal.SIGKILL)  # whoever asks now asks nobody
        return codes[0] if codes else -self._signal

    def signal(self, number: int) -> None:
        """See `Running.signal`."""
        if number in (signal.SIGTERM, signal.SIGINT) and self._supervisor:
            self._supervisor.stop()
        elif number == signal.SIGUSR1 and self._supervisor:
            self._supervisor.hurry()
        elif number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGHUP, signal.SIGQUIT):
            self._end(number)

    def _end(self, number: int) -> None:
        self._signal = self._signal or number
        self._signalled.set()
        for scope in self._execs:
            scope.cancel()

    async def kill(self) -> None:
        """See `Running.kill`."""
        self.signal(signal.SIGKILL)

    async def execute(self, argv: Sequence[str], stdin: bytes, timeout_s: float) -> Executed:
        """See `Running.execute`: it knows `ctl` of the guest, and no other command."""
        if any("\0" in word for word in argv):
            raise ValueError("embedded null byte")
        with anyio.CancelScope(deadline=anyio.current_time() + timeout_s) as scope:
            self._execs.add(scope)
            try:
                return _KILLED if self._signalled.is_set() else await self._ctl(argv, stdin)
            finally:
                self._execs.discard(scope)
        if self._signalled.is_set():
            return _KILLED
        raise TimeoutError

    async def _ctl(self, argv: Sequence[str], stdin: bytes) -> Executed:
        if self._supervisor is None or "ctl" not in argv:
            return Executed(_NOT_FOUND, stderr=f"sh: 1: exec: {argv[0]}: not found\n".encode())
        await anyio.sleep(_CTL_S)
        words, name = argv[list(argv).index("ctl") + 1 :], ""
        try:
            if words[:1] == ["part"] and len(words) == _PART_WORDS:
                self._parts.keep(*words[1].partition(":")[::2], words[2])
                self._supervisor.arriving()
                return _said({"ok": True})
            if len(words) != len(("VERB", "REQUEST")) or words[0] not in _VERBS:
                return _refused(f"usage: ctl {'|'.join(_VERBS)} REQUEST, or ctl part NAME:OFFSET TEXT")
            verb, word = words
            if word == _STDIN and not (word := stdin.decode().strip()):
                return _refused("the request is empty", stdin="empty")
            name, length = word[1:].partition(":")[::2] if word.startswith("@") else ("", "")
            request = unpack_request(self._parts.join(name, length) if name else word)
        except MissingPartsError as missing:
            return _said({"accepted": True} if name == self._used else {"missing": missing.offset})
        except ValueError as error:
            return _refused(f"not a request: {error}")
        if (left_s := self._up_at - time.monotonic()) > 0:
            if verb != "start":
                return _NOT_YET
            await anyio.sleep(left_s)
        answer = await self._answer(self._supervisor, verb, request)
        if verb == "start":
            self._used = name if answer.get("accepted") else ""
            self._parts.clear()
        return _said(answer)

    @staticmethod
    async def _answer(supervisor: Supervisor, verb: str, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return await supervisor.answer(verb, request)
        except Exception as error:  # noqa: BLE001  # as the guest does: an answer is due
            return {"error": f"bad request: {error}"}

    async def _run_alone(self) -> int:
        """The work of a machine without a guest: its agent, whose lines nobody reads."""
        agent = SimulatedAgent([], {"CLAUDE_CODE_OAUTH_TOKEN": "any"}, lambda _: None)
        return await agent.run(self._prompt or "::silent")


def _said(answer: dict[str, Any]) -> Executed:
    return Executed(0, json.dumps(answer).encode())


def _refused(error: str, **more: str) -> Executed:
    return Executed(_USAGE, json.dumps({"error": error, **more}).encode() + b"\n")
