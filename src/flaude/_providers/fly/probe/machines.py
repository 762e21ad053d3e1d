"""The machines that a probe makes, until they are gone."""

from __future__ import annotations

import base64
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from flaude._model.errors import FlyError
from flaude._providers.base import MANAGED_BY
from flaude._providers.fly.destroy import destroy
from flaude._providers.fly.diagnosis import GONE, UNKNOWN_S
from flaude._providers.fly.probe.plan import SIZE, Plan
from flaude._providers.fly.state_watcher import MachineStates

if TYPE_CHECKING:
    from flaude._providers.fly import FlyClient, Machine
    from flaude._providers.fly.calls import Call

PROGRAM = "/opt/flaude/probe.py"
"""Where the measured machine has its program."""

MARK = "flaude_probe"
"""The metadata by which a probe knows its machines."""

_LOOK_AGAIN_S = 1.0
_NOT_FOUND = 404


@dataclass
class Made:
    """A machine of the probe.

    Attributes:
        from_: Since when it may run, by the event loop's clock.
        gone_at: Since when it is known to be gone.
    """

    id: str
    name: str
    region: str
    from_: float = field(default_factory=anyio.current_time)
    gone_at: float | None = None


class ProbeMachines:
    """Makes machines, and deletes them all at its end.

    Args:
        fly: The client.
        app: The app.
        plan: Image, region and times.
        files: What else is in the measured machine.

    Attributes:
        made: All that were made.
        left: After the end: those whose end Fly has not confirmed.
        unsure: Names whose create was sent and not answered; after the end: those that no list has shown.
    """

    def __init__(self, fly: FlyClient, app: str, plan: Plan, files: Sequence[Mapping[str, Any]]) -> None:
        self._fly = fly
        self._app = app
        self._plan = plan
        self._files = files
        self._mark = secrets.token_hex(4)
        self._troubles: list[str] = []
        self.made: dict[str, Made] = {}
        self.left: list[Made] = []
        self.unsure: set[str] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """A block whose machines are gone at its end, however it ends, or named in `left` or `unsure`."""
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await self._delete_all()

    @property
    def seconds(self) -> float:
        """How long machines have run at the most, all together."""
        now = anyio.current_time()
        return sum((made.gone_at or now) - made.from_ for made in self.made.values())

    @property
    def troubles(self) -> Sequence[str]:
        """What went wrong while they were deleted."""
        return self._troubles

    def config(self, *command: str) -> dict[str, Any]:
        """A machine's config; `auto_destroy` and no restart: its program's end is its own."""
        return {
            "image": self._plan.image,
            "guest": asdict(SIZE),
            "init": {"exec": list(command)},
            "restart": {"policy": "no"},
            "auto_destroy": True,
            "metadata": {"managed_by": MANAGED_BY, MARK: self._mark},
            "dns": {"skip_registration": True},
        }

    async def measured_config(self) -> dict[str, Any]:
        """The config of the machine that is measured: with all of `files`."""
        program = await anyio.to_thread.run_sync(_program)
        host, port = self._plan.egress
        linger_s = self._plan.stop_s + 30
        words = [f"{self._plan.deadline_s:g}", f"{linger_s:g}", host, str(port)]
        return {
            **self.config("python3", "-I", "-S", PROGRAM, "live", *words),
            "files": [
                {"guest_path": PROGRAM, "raw_value": base64.b64encode(program).decode("ascii")},
                *self._files,
            ],
            "stop_config": {"signal": "SIGTERM", "timeout": f"{self._plan.stop_s:g}s"},
        }

    def name(self, number: int) -> str:
        """The name of the machine of that number."""
        return f"flaude-probe-{self._mark}-{number}"

    async def create(self, name: str, config: Mapping[str, Any]) -> tuple[Machine, float]:
        """A new machine, and for how many seconds creates were answered that there is no such app.

        Raises:
            FlyError: Fly refused it.
        """
        sent = list[float]()

        async def send() -> None:
            sent.append(anyio.current_time())
            self.unsure.add(name)

        def heard(_: Call, status: int, __: str) -> None:
            if status == _NOT_FOUND:  # the app is young: the next create may be cancelled before it is sent
                self.unsure.discard(name)

        try:
            machine = await self._fly.create_machine(
                self._app,
                name=name,
                config=config,
                region=self._plan.region,
                identity={MARK: self._mark},
                on_turn=send,
                heard=heard,
            )
        except FlyError as error:
            (self.unsure.add if error.may_have_been_done else self.unsure.discard)(name)
            raise
        self.unsure.discard(name)
        self.add(machine.id, name, machine.region)
        return machine, sent[-1] - sent[0]

    def add(self, machine_id: str, name: str, region: str = "") -> None:
        """One was made."""
        self.made[machine_id] = Made(machine_id, name, region)

    def gone(self, machine_id: str) -> None:
        """One is known to be gone."""
        if self.made[machine_id].gone_at is None:
            self.made[machine_id].gone_at = anyio.current_time()

    async def _delete_all(self) -> None:
        with anyio.move_on_after(self._plan.cleanup_s):
            async with anyio.create_task_group() as tasks:
                for made in self.made.values():
                    if made.gone_at is None:
                        tasks.start_soon(self._delete, made)
                # At the same time: a list may fail for as long as there is.
                await self._find_others(lambda made: tasks.start_soon(self._delete, made))
        self.left = [made for made in self.made.values() if made.gone_at is None]

    async def _find_others(self, found: Callable[[Made], object]) -> None:
        """Those whose create was sent and whose answer never came; a list may lag."""
        until = anyio.current_time() + (UNKNOWN_S if self.unsure else 0.0)
        while True:
            try:
                for machine in await self._fly.list_machines(self._app, metadata={MARK: self._mark}):
                    if machine.metadata.get(MARK) == self._mark and machine.id not in self.made:
                        self.add(machine.id, machine.name, machine.region)
                        self.unsure.discard(machine.name)
                        found(self.made[machine.id])
            except FlyError as error:
                self._troubles.append(f"machines could not be listed: {error}")
            if not self.unsure or anyio.current_time() >= until:
                return
            await anyio.sleep(_LOOK_AGAIN_S)

    async def _delete(self, made: Made) -> None:
        state = await destroy(
            self._fly,
            self._app,
            made.id,
            states=MachineStates(self._fly, self._app, {MARK: self._mark}),
            within_s=self._plan.cleanup_s,
            known_from=made.from_ + UNKNOWN_S,
            notice=self._troubles.append,
        )
        if state == GONE:
            self.gone(made.id)


def _program() -> bytes:
    return resources.files("flaude._providers.fly.probe").joinpath("in_machine.py").read_bytes()
