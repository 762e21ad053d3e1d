"""A Fly in memory, whose machines have a guest that keeps to the protocol, and a clock that does not wait.

For properties that need thousands of runs: what real machines do is tested with real ones.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import selectors
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, cast

import anyio
import anyio.to_thread
import pytest
from tests.conftest import TOKEN
from tests.support.journal_helpers import BEGAN

from flaude._guest.inside.layout import PAD_FILE
from flaude._guest.inside.packing import unpack_request
from flaude._guest.inside.server import pack
from flaude._model.errors import GuestError, MachineLimitError, NameTakenError, NoCapacityError, NotFoundError
from flaude._providers.fly import Machine
from flaude._providers.fly.exec_limits import ExecLimits
from flaude._providers.fly.models import ExecResult
from flaude.journal import Journal, MemoryJournal
from flaude.local.simulated.requests import unmasked

PATCH = b"a patch, which somebody has paid for"
STATES = ("installing", "cloning", "ready", "running", "collecting", "done")
_READY = STATES.index("ready") + 1


class VirtualTime(asyncio.SelectorEventLoop):
    """An event loop that does not wait: when there is nothing to do, in no worker thread either, it is later.

    Attributes:
        threads: What counts the worker threads at work.
    """

    def __init__(self) -> None:
        self._ahead = 0.0
        self.threads: anyio.CapacityLimiter | None = None
        super().__init__(_Impatient(self))

    def time(self) -> float:
        """Seconds."""
        return super().time() + self._ahead

    def passes(self, seconds: float) -> None:
        """It is later."""
        self._ahead += seconds


class _Impatient(selectors.DefaultSelector):
    def __init__(self, loop: VirtualTime) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self._loop.threads and self._loop.threads.borrowed_tokens:
            return super().select(timeout)  # a thread wakes it up
        found = super().select(None if timeout is None else 0)
        if not found and timeout:
            self._loop.passes(timeout)
        return found


@dataclass
class Guest:
    """A machine, and the supervisor in it."""

    machine: Machine
    job_id: str = ""
    told: int = 0

    @property
    def pad(self) -> bytes:
        """What hides its job."""
        files = {file["guest_path"]: file["raw_value"] for file in self.machine.config["files"]}
        return base64.b64decode(files[PAD_FILE])

    @property
    def spool(self) -> list[bytes]:
        """What it has said by now, as the lines of its spool."""
        lines = [{"type": "state", "state": state} for state in STATES[: self.told]]
        if self.told > _READY:
            said = {"type": "assistant", "message": {"content": [{"type": "text", "text": "hello"}]}}
            lines.insert(_READY + 1, {"type": "stdout", "line": json.dumps(said)})
        return [json.dumps(line).encode() + b"\n" for line in lines]


@dataclass
class World:
    """All machines that there have ever been.

    Attributes:
        guests: By Fly's id.
        starts: The jobs whose agents have started, once for each time.
        gone: Machines that are no more.
        at_work: Whether agents that have started go on and on.
        full: How many more times there is no room for a machine.
        full_regions: Regions that have no room.
        limit: How many machines the organisation may have.
        others: How many of them are somebody else's.
        asked: When creates were asked for, and in which regions.
    """

    guests: dict[str, Guest] = field(default_factory=dict)
    starts: list[str] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    at_work: bool = False
    full: int = 0
    full_regions: set[str] = field(default_factory=set)
    limit: int | None = None
    others: int = 0
    asked: list[tuple[float, str]] = field(default_factory=list)

    @property
    def alive(self) -> list[Guest]:
        """Machines that cost something."""
        return [guest for guest in self.guests.values() if guest.machine.id not in self.gone]

    def create(self, name: str, config: Mapping[str, Any], region: str) -> Machine:
        """As Fly does: a name belongs to one living machine."""
        self.asked.append((anyio.current_time(), region))
        if self.limit is not None and len(self.alive) + self.others >= self.limit:
            raise MachineLimitError("reached its machine limit", method="POST", path="/machines")
        free = [code for code in region.split(",") if code not in self.full_regions]
        if self.full or not free:
            self.full = max(0, self.full - 1)
            raise NoCapacityError("no room", method="POST", path="/machines")
        for guest in self.alive:
            if guest.machine.name == name:
                raise NameTakenError("already_exists", method="POST", path="/machines", machine_id=guest.machine.id)
        machine = Machine(id=f"m{len(self.guests)}", name=name, state="started", region=free[0], config=dict(config))
        self.guests[machine.id] = Guest(machine)
        return machine

    def answer(self, guest: Guest, verb: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """What the guest says."""
        if verb == "start":
            guest.job_id = guest.job_id or request["job_id"]
            return {"accepted": guest.job_id == request["job_id"], "pull": self._pull(guest, 0)}
        if request["job_id"] != guest.job_id:
            raise GuestError("another job")
        if verb == "cancel":
            guest.told = len(STATES)
        if verb == "ack":
            self.gone.add(guest.machine.id)
        return {"ok": True} if verb != "pull" else self._pull(guest, int(request["offset"]))

    def _pull(self, guest: Guest, offset: int) -> dict[str, Any]:
        if self.at_work and guest.told > _READY:
            pass
        elif guest.told != _READY:
            guest.told = min(guest.told + 1, len(STATES))
        elif offset >= len(b"".join(guest.spool)):
            # The controller knows: the agent starts.
            self.starts.append(guest.job_id)
            guest.told += 1
        spool = b"".join(guest.spool)
        done = guest.told == len(STATES)
        return {
            "state": STATES[max(0, guest.told - 1)],
            "offset": offset,
            "next": len(spool),
            "data": pack(spool[offset:]),
            "result": _result(guest.job_id, started=guest.job_id in self.starts) if done else None,
        }


def _result(job_id: str, *, started: bool) -> dict[str, Any]:
    file = {"name": "p", "size": len(PATCH), "sha256": hashlib.sha256(PATCH).hexdigest(), "data": pack(PATCH)}
    line = {"type": "result", "subtype": "success", "is_error": False, "result": "done", "total_cost_usd": 0.5}
    repo = {"url": "https://github.com/your-org/api", "path": "/workspace/api", "patch": "p"}
    if not started:
        return {"job_id": job_id, "exit_code": None, "ended_by": "cancelled"}
    told = {"job_id": job_id, "exit_code": 0, "ended_by": "exit", "result_line": line}
    return {**told, "repos": [repo], "files": [file]}


Around = Callable[[str], Awaitable[None]]


class SimulatedFly:
    """What a controller has of the world; see `FlyClient` for its methods.

    Args:
        world: The world.
        around: Awaited before and after everything that is done, with its name.
    """

    share = 1.0

    def __init__(self, world: World, around: Around) -> None:
        self._world = world
        self._around = around
        self.exec_limits = ExecLimits()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    async def get_app(self, _app: str) -> None:
        """There is one."""

    async def create_machine(
        self,
        _app: str,
        *,
        name: str,
        config: Mapping[str, Any],
        region: str,
        identity: Mapping[str, str],
        on_turn: Callable[[], Awaitable[None]],
        **_more: Any,
    ) -> Machine:
        """A machine, or the one that was made before."""
        await on_turn()
        await self._around("create")
        try:
            machine = self._world.create(name, config, region)
        except NameTakenError as error:
            machine = self._world.guests[error.machine_id or ""].machine
            if not identity.items() <= machine.metadata.items():
                raise
        await self._around("created")
        return machine

    async def list_machines(self, _app: str, *, metadata: Mapping[str, str]) -> list[Machine]:
        """Those that are alive."""
        await self._around("list")
        machines = [guest.machine for guest in self._world.alive]
        return [machine for machine in machines if metadata.items() <= machine.metadata.items()]

    async def machine_states(self, _app: str, *, metadata: Mapping[str, str], include_deleted: bool) -> dict[str, str]:
        """How all are, those that are gone too if they are wanted."""
        await self._around("list")
        found = {}
        for machine in (guest.machine for guest in self._world.guests.values()):
            gone = machine.id in self._world.gone
            if metadata.items() <= machine.metadata.items() and (include_deleted or not gone):
                found[machine.id] = "destroyed" if gone else machine.state
        return found

    async def get_machine(self, _app: str, machine_id: str) -> Machine:
        """One that is alive."""
        await self._around("get")
        return self._guest(machine_id).machine

    async def wait_machine(self, _app: str, machine_id: str, *, state: str, timeout_s: int) -> bool:
        """They boot at once."""
        del timeout_s
        await self._around("wait")
        return self._guest(machine_id).machine.state == state

    async def exec_machine(self, _app: str, machine_id: str, command: Sequence[str], **_more: Any) -> ExecResult:
        """A guest's answer."""
        verb = command[-2]
        await self._around(verb)
        guest = self._guest(machine_id)
        answer = self._world.answer(guest, verb, unmasked(unpack_request(command[-1]), guest.pad))
        if verb == "pull" and not answer["data"]:
            await anyio.sleep(1)  # it waits for news, for a while
        await self._around(f"{verb} done")
        return ExecResult(stdout=json.dumps(answer))

    async def signal_machine(self, _app: str, machine_id: str, _signal: str) -> None:
        """Nobody waits in here."""
        self._guest(machine_id)

    async def delete_machine(self, _app: str, machine_id: str, *, force: bool) -> None:
        """It is gone at once."""
        del force
        await self._around("delete")
        self._world.gone.add(machine_id)
        await self._around("deleted")

    def _guest(self, machine_id: str) -> Guest:
        guest = self._world.guests.get(machine_id)
        if guest is None or machine_id in self._world.gone:
            raise NotFoundError("not found", method="GET", path=machine_id, status=404)
        return guest


Test = Callable[[VirtualTime, World, Journal], Awaitable[None]]


def run(test: Test) -> None:
    """Run it in a world of its own, with an empty journal: an executor's `fly` is a `SimulatedFly`."""

    async def main() -> None:
        loop = cast("VirtualTime", asyncio.get_running_loop())
        loop.threads = anyio.to_thread.current_default_thread_limiter()
        async with MemoryJournal(clock=lambda: BEGAN + timedelta(seconds=loop.time())) as journal:
            await test(loop, World(), journal)

    with pytest.MonkeyPatch.context() as patched, asyncio.Runner(loop_factory=VirtualTime) as runner:
        patched.setenv("CLAUDE_CODE_OAUTH_TOKEN", TOKEN)
        patched.setattr("flaude._executor.executor.client_for", lambda fly, **_: fly)
        runner.run(main())
