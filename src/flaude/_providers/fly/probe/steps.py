"""The probe: its steps in their order, each told as it is measured."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anyio

from flaude._model.errors import FlyError, MachineLimitError, NameTakenError, NotFoundError
from flaude._providers.fly.calls import Call
from flaude._providers.fly.diagnosis import ENDED_STATES, GONE, STARTED
from flaude._providers.fly.probe import measuring
from flaude._providers.fly.probe.asking import Asking, NotMeasuredError, error_of
from flaude._providers.fly.probe.assumptions import Row, row
from flaude._providers.fly.probe.execs import Execs
from flaude._providers.fly.probe.machines import MARK, ProbeMachines
from flaude._providers.fly.probe.measuring import Found
from flaude._providers.fly.probe.plan import Plan
from flaude._providers.fly.retries import may_have_been_done

if TYPE_CHECKING:
    from flaude._providers.fly import App, FlyClient, Machine

_EVERY_S = 0.2
_WAIT_S = 10
_AFTER_STOP_S = 15.0
_COUNT_S = 15.0
_CREATE_ANSWER_S = 30.0
_IN_THE_MACHINE = (
    "exec_stdin",
    "exec_body",
    "exec_output",
    "exec_bytes",
    "exit_codes",
    "missing_program",
    "parallel_execs",
    "exec_timeout",
    "burst",
    "egress",
    "disk",
    "longest_exec",
    "stopping",
)

Measure = Callable[[], Awaitable[Mapping[str, Found]]]


class Probe:
    """Measures; use `run` once.

    Args:
        fly: The client.
        app: The app, which exists.
        plan: Sizes and times.
        tell: Takes each point as it was found.
        files: What a run's machine is created with, so that what is measured has the size of a real create.

    Attributes:
        measured: What was measured, by the names of the points.
        machines: The machines; none is left after `run`, or `machines.left` names it.
    """

    def __init__(
        self,
        fly: FlyClient,
        app: str,
        plan: Plan,
        tell: Callable[[Row], None],
        files: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._fly = fly
        self._app = app
        self._plan = plan
        self._tell = tell
        self._asking = Asking(fly, app)
        self.measured: dict[str, Found] = {}
        self.machines = ProbeMachines(fly, app, plan, files)

    async def run(self) -> None:
        """Measure everything; what cannot be measured is reported as not measured.

        Raises:
            FlyError: There is no such app, or Fly made no machine.
        """
        about = await self._fly.get_app(self._app)
        async with self.machines.open():
            await self._point(lambda: self._org_machines(about), "org_machines")
            await self._point(self._token, "token")
            machine = await self._create()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._point, lambda: self._visible(machine), "visible", "image_ref")
                await self._started_and_after(machine)

    async def _started_and_after(self, machine: Machine) -> None:
        if not await self._point(lambda: self._started(machine), "started"):
            for name in ("first_exec", "machine", "clock", *_IN_THE_MACHINE):
                self._tell(row(name, None, "the machine has not started"))
            await self._beside(machine)
            return
        execs = Execs(self._asking, machine.id, self._plan)
        if not await self._point(execs.first, "first_exec", "machine", "clock"):
            for name in _IN_THE_MACHINE:
                self._tell(row(name, None, "no exec has worked"))
            await self._beside(machine)
            return
        for name, measure in (
            ("exec_stdin", execs.stdin),
            ("exec_body", execs.body),
            ("exec_output", execs.output),
            ("exec_bytes", execs.bytes),
            ("exit_codes", execs.codes),
            ("missing_program", execs.missing_program),
            ("parallel_execs", execs.parallel),
            ("exec_timeout", execs.timeout),
            ("burst", execs.burst),
            ("egress", execs.egress),
            ("disk", execs.disk),
        ):
            await self._point(_named(name, measure), name)
        # While nothing else is asked of this machine.
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._point, _named("longest_exec", execs.longest), "longest_exec")
            await self._beside(machine)
        await self._point(lambda: self._stopping(machine), "stopping")

    async def _beside(self, machine: Machine) -> None:
        """What needs other machines, or none."""
        await self._point(lambda: self._duplicate(machine), "duplicate_name")
        await self._point(self._delete, "machine_limit", "delete")
        await self._point(self._exit_1, "exit_1")

    async def _point(self, measure: Measure, *names: str) -> bool:
        """Measure and tell; whether the first of these was."""
        found, error = dict[str, Found](), "it was not seen"
        try:
            found = dict(await measure())
        except Exception as odd:  # noqa: BLE001  # whatever one point meets, the others are measured
            error = _said(odd)
        for name in names:
            self._take(name, found.get(name), error)
        return names[0] in found

    def _take(self, name: str, found: Found | None, error: str = "") -> None:
        try:
            told = row(name, found, error)
        except (KeyError, TypeError, ValueError) as odd:
            told = row(name, None, f"an answer of another form: {odd!r}")
        else:
            if found is not None:
                self.measured[name] = found
        self._tell(told)

    # --- the account ---

    async def _org_machines(self, about: App) -> Mapping[str, Found]:
        with anyio.move_on_after(_COUNT_S):
            return {"org_machines": {"count": await self._fly.count_machines(about.organization.slug)}}
        raise NotMeasuredError(f"not counted within {_COUNT_S:.0f} s")

    async def _token(self) -> Mapping[str, Found]:
        answer = await self._asking.ask(Call("current_token", "", "GET", "/tokens/current"))
        if not answer.ok or answer.body is None:
            raise NotMeasuredError(answer.told)
        return {"token": measuring.token_kinds(answer.body)}

    # --- a machine's beginning ---

    async def _create(self) -> Machine:
        config = await self.machines.measured_config()
        began = anyio.current_time()
        machine, unknown_s = await self.machines.create(self.machines.name(1), config)
        body = {"name": machine.name, "config": config, "skip_secrets": True}
        found: dict[str, Any] = {
            "seconds": round(anyio.current_time() - began - unknown_s, 2),
            "state": machine.state,
            "region": machine.region,
            "body_bytes": len(measuring.as_body(body)),
            "unknown_for_s": round(unknown_s, 1),
        }
        self._take("create", found)
        return machine

    async def _visible(self, machine: Machine) -> Mapping[str, Found]:
        """When GET, the list and the filtered summary show it."""
        path = f"/apps/{self._app}/machines"
        calls = {
            "get_s": Call("get_machine", machine.id, "GET", f"{path}/{machine.id}"),
            "list_s": Call("list_machines", self._app, "GET", path),
            "filtered_s": Call(
                "list_machines",
                self._app,
                "GET",
                path,
                query={f"metadata.{MARK}": machine.metadata.get(MARK, ""), "summary": "true"},
            ),
        }
        seen, image = dict[str, Any](), dict[str, Any]()
        began = anyio.current_time()

        async def look(name: str, call: Call) -> None:
            while True:
                after_s = round(anyio.current_time() - began, 2)
                answer = await self._asking.ask(call)
                listed = answer.body if isinstance(answer.body, list) else [answer.body]
                for one in listed:
                    if answer.ok and isinstance(one, dict) and one.get("id") == machine.id:
                        seen[name] = after_s
                        image.update(one.get("image_ref") or {})
                        return
                await anyio.sleep(_EVERY_S)

        with anyio.move_on_after(self._plan.visible_s):
            async with anyio.create_task_group() as tasks:
                for name, call in calls.items():
                    tasks.start_soon(look, name, call)
        found = {name: seen.get(name) for name in calls}
        named = {name: str(image[name]) for name in ("registry", "repository", "tag", "digest") if image.get(name)}
        return {"visible": found, **({"image_ref": named} if named else {})}

    async def _started(self, machine: Machine) -> Mapping[str, Found]:
        began = anyio.current_time()
        while (seconds := anyio.current_time() - began) < self._plan.boot_s:
            try:
                if await self._fly.wait_machine(self._app, machine.id, state=STARTED, timeout_s=_WAIT_S):
                    return {"started": {"seconds": round(anyio.current_time() - began, 2)}}
                await self._asking.check_alive(machine.id)
            except NotFoundError:
                if seconds > self._plan.visible_s:
                    raise
                await anyio.sleep(_EVERY_S)
        raise NotMeasuredError(f"not started after {self._plan.boot_s:.0f} s")

    # --- other machines ---

    async def _duplicate(self, machine: Machine) -> Mapping[str, Found]:
        """A create with the name of a machine that lives."""
        config = self.machines.config("true")  # if it is made, it ends by itself
        call = Call(
            "create_machine",
            self._app,
            "POST",
            f"/apps/{self._app}/machines",
            body={"name": machine.name, "config": config, "skip_secrets": True},
            harmless=False,
        )
        await self._fly.turn(call)
        # Once it is sent its answer is read: it may have made a machine.
        self.machines.unsure.add(machine.name)
        with anyio.move_on_after(_CREATE_ANSWER_S, shield=True):
            answer = await self._asking.ask(call, paced=False)
            made = str(answer.fields.get("id", "")) if answer.ok else ""
            error = error_of(answer, call)
            if made or (error is not None and not may_have_been_done(error)):
                self.machines.unsure.discard(machine.name)
            if made and made not in self.machines.made:
                self.machines.add(made, machine.name)
            if isinstance(error, MachineLimitError):
                raise NotMeasuredError(answer.told)
            found = {"answer": answer.told, "made_another": bool(made) and made != machine.id}
            return {"duplicate_name": {**found, "recognised": isinstance(error, NameTakenError)}}
        raise NotMeasuredError(f"no answer within {_CREATE_ANSWER_S:.0f} s")

    async def _delete(self) -> Mapping[str, Found]:
        """One more machine: whether there is room for it, and how it goes when it is deleted."""
        seconds = f"{self._plan.deadline_s:.0f}"
        try:
            machine, _ = await self.machines.create(self.machines.name(2), self.machines.config("sleep", seconds))
        except MachineLimitError as error:
            return {"machine_limit": {"refused": True, "text": error.fly_text}}
        with anyio.move_on_after(self._plan.boot_s):
            await self._started(machine)
        began = anyio.current_time()
        await self._fly.delete_machine(self._app, machine.id)
        state = await self._until_gone(machine, 60.0)
        gone_s = anyio.current_time() - began
        limit: dict[str, Found] = {"machine_limit": {"refused": False}}
        if state != GONE:
            return limit
        then = f"`{GONE}`"
        with anyio.move_on_after(self._plan.then_s):
            while True:
                try:
                    await self._fly.get_machine(self._app, machine.id)
                except NotFoundError:
                    then = f"404 {anyio.current_time() - began - gone_s:.1f} s later"
                    break
                await anyio.sleep(_EVERY_S)
        return {**limit, "delete": {"gone_s": round(gone_s, 2), "then": then}}

    async def _exit_1(self) -> Mapping[str, Found]:
        """How long a machine lives on whose program has ended with 1."""
        machine, _ = await self.machines.create(self.machines.name(3), self.machines.config("sh", "-c", "exit 1"))
        began = anyio.current_time()
        state = await self._until_gone(machine, self._plan.exit_s)
        seconds = round(anyio.current_time() - began, 1)
        if state == GONE:
            return {"exit_1": {"destroyed_s": seconds}}
        return {"exit_1": {"destroyed_s": None, "state": state, "watched_s": seconds}}

    async def _until_gone(self, machine: Machine, within_s: float) -> str:
        """The last state that was seen, once it is gone or the time is over."""
        state = ""
        with anyio.move_on_after(within_s):
            while state != GONE:
                try:
                    state = (await self._fly.get_machine(self._app, machine.id)).state
                except NotFoundError:
                    if state:  # it was seen before, so it is not too young to be listed
                        state = GONE
                if state != GONE:
                    await anyio.sleep(_EVERY_S)
        if state == GONE:
            self.machines.gone(machine.id)
        return state

    # --- its end ---

    async def _stopping(self, machine: Machine) -> Mapping[str, Found]:
        """Stop it as its config says; its program does not mind."""
        path = f"/apps/{self._app}/machines/{machine.id}/stop"
        stopped = await self._asking.ask(Call("stop_machine", machine.id, "POST", path, body={}))
        if not stopped.ok:
            raise NotMeasuredError(stopped.told)
        began = anyio.current_time()
        works, told = False, ""
        try:
            answer = await self._asking.run(machine.id, "true", timeout_s=5)
            works, told = answer.ran, answer.told
        except NotMeasuredError as error:
            told = str(error)
        watched_s = self._plan.stop_s + _AFTER_STOP_S
        ended_s = None
        with anyio.move_on_after(watched_s):
            while ended_s is None:
                try:
                    state = (await self._fly.get_machine(self._app, machine.id)).state
                except NotFoundError:
                    state = GONE
                if state in ENDED_STATES:
                    ended_s = round(anyio.current_time() - began, 1)
                    if state == GONE:
                        self.machines.gone(machine.id)
                else:
                    await anyio.sleep(_EVERY_S)
        found = {"exec_works": works, "exec": told, "asked_s": self._plan.stop_s}
        return {"stopping": {**found, "ended_s": ended_s, "watched_s": watched_s}}


def _said(error: Exception) -> str:
    """What went wrong, also in one of several tasks."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    expected = isinstance(error, NotMeasuredError | FlyError)
    return str(error) if expected else f"{type(error).__name__}: {error}"


def _named(name: str, measure: Callable[[], Awaitable[Found]]) -> Measure:
    async def measured() -> Mapping[str, Found]:
        return {name: await measure()}

    return measured
