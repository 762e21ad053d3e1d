"""`reap`: finds machines that no living controller owns, destroys them, and says what it did.

The third line of defence. The first is the controller, which destroys what it made; the second are the clocks inside
the machine, which end it when the controller is gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

import anyio
from pydantic import BaseModel, ConfigDict

from flaude._executor.ownership import Decision, age, decide, is_ours
from flaude._guest.client import SupervisorClient
from flaude._guest.messages import StatusReply
from flaude._model.errors import ConfigError, FlaudeError, FlyError, NotAllowedError, NotFoundError, TokenExpiredError
from flaude._model.placement import check_app_name
from flaude._model.timeouts import check_seconds
from flaude._providers.base import MANAGED_BY
from flaude._providers.fly.connection import FlyEndpoint, client_for
from flaude._providers.fly.destroy import destroy
from flaude._providers.fly.diagnosis import GONE, UNKNOWN_S, has_ended
from flaude._providers.fly.shard_admin import list_shards, side_by_side
from flaude._providers.fly.state_watcher import MachineStates

if TYPE_CHECKING:
    from flaude._providers.fly import App, FlyClient, Machine

_AT_ONCE = 20
_MOST_LISTS = 6
_RETRY_FOR_S = 15.0

Action = Literal["destroyed", "would_destroy", "kept", "failed"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Reaped(_Frozen):
    """One machine of ours that was found.

    Attributes:
        id: Fly's id.
        name: Its name.
        batch: The batch that it was made for.
        region: Where it is.
        state: Its last known state, in Fly's words.
        created_at: When it was created, as Fly says it.
        action: What was done: `destroyed` is confirmed by a read, `failed` is not.
        reason: Why, in a few words.
        app: The Fly app that it was found in.
    """

    id: str
    name: str
    batch: str
    region: str
    state: str
    created_at: str
    action: Action
    reason: str
    app: str = ""


class ReapReport(_Frozen):
    """What `reap` found and did; oldest machine first.

    Attributes:
        app: The app that was named.
        dry_run: Whether nothing was to be destroyed.
        machines: All that were found.
        incomplete: Why not all lists could be had, so that something may have been missed; empty when they could.
        shards: The apps beside it that were looked through as well.
        note: Why those were not looked for, when the token is for less than the organisation.
    """

    app: str
    dry_run: bool
    machines: tuple[Reaped, ...] = ()
    incomplete: str = ""
    shards: tuple[str, ...] = ()
    note: str = ""

    @property
    def destroyed(self) -> list[Reaped]:
        """Those whose end Fly has confirmed."""
        return list(self._with("destroyed"))

    @property
    def kept(self) -> list[Reaped]:
        """Those that were left alone."""
        return list(self._with("kept"))

    @property
    def failed(self) -> list[Reaped]:
        """Those that had to go and could not be confirmed as gone."""
        return list(self._with("failed"))

    def _with(self, action: Action) -> Iterator[Reaped]:
        return (machine for machine in self.machines if machine.action == action)


async def reap(
    app_name: str,
    *,
    batch: str | None = None,
    older_than: timedelta | float | None = None,
    all: bool = False,  # noqa: A002  # the command's word
    dry_run: bool = False,
    token: str | None = None,
    base_url: str | None = None,
    fly: FlyEndpoint | None = None,
    destroy_within: float = 120.0,
    settle: float = 2.0,
    pulled_within: float | None = None,
) -> ReapReport:
    """Destroy the machines of the app, and of its shards, that flaude made and no living controller owns.

    A machine that is not ours is never touched. One of ours is owned while its guest is being pulled, for its
    controller's `Timeouts.patience` and half a minute after that (the controller may be waiting out a network that
    fails), and as long as it may still be given its job; `flaude._executor.ownership` has the rules. Lists of Fly's
    lag, so the app is listed at least twice, and again until a list has nothing new.

    Shards (`my-app-2` and so on, see `ConcurrentExecutor`) are found by listing the apps of the organisation. A token
    that may not do that is for one app alone, and that one is looked through (`note`).

    Args:
        app_name: The Fly app.
        batch: Only machines of this batch.
        older_than: Only machines older than this (a timedelta, or seconds).
        all: Owned ones as well, whatever their age.
        dry_run: Destroy nothing, say what would be.
        token: Fly token; else as for `ConcurrentExecutor`.
        base_url: Machines API; else as for `ConcurrentExecutor`.
        fly: Another Machines API, such as a `flaude.local.LocalFly`.
        destroy_within: Seconds for destroying a machine and seeing it gone.
        settle: Seconds between two lists.
        pulled_within: For how many seconds after a pull a controller counts as alive, in place of its patience.

    Raises:
        ConfigError: An argument is of no use.
        FlyError: The app cannot be listed. What goes wrong with a single machine is in the report.
    """
    check_app_name(app_name)
    if batch is not None and not re.fullmatch(r"[0-9A-Za-z_-]{1,63}", batch):
        # Above all an empty one, as of a shell's variable that is not set, must not come to mean every batch.
        raise ConfigError(f"batch: {batch!r} is no batch's id; give one, or leave it out for all batches")
    check_seconds("destroy_within", destroy_within)
    older_s = older_than.total_seconds() if isinstance(older_than, timedelta) else older_than or 0.0
    if not older_s >= 0:
        raise ConfigError(f"older_than: give a time from 0 on, not {older_than}")
    async with client_for(fly, token=token, base_url=base_url, retry_for_s=_RETRY_FOR_S) as client:
        shards, note, incomplete = await _find_shards(client, await client.get_app(app_name))
        places = anyio.CapacityLimiter(_AT_ONCE)
        reapers = {
            name: _Reaper(client, name, places, batch, older_s, all, dry_run, destroy_within, pulled_within)
            for name in (app_name, *shards)
        }
        found = await side_by_side(list(reapers), lambda name: reapers[name].run(settle))
    machines, troubles = list[Reaped](), [incomplete, reapers[app_name].incomplete]
    for name, reaped in found.items():
        if not isinstance(reaped, FlyError):
            machines += reaped
        elif name == app_name:
            raise reaped
        elif not isinstance(reaped, NotFoundError):  # such a one was removed meanwhile
            troubles.append(f"{name}: {reaped}")
    troubles += [f"{name}: {reapers[name].incomplete}" for name in shards if reapers[name].incomplete]
    return ReapReport(
        app=app_name,
        dry_run=dry_run,
        machines=tuple(sorted(machines, key=lambda one: one.created_at)),
        incomplete="; ".join(filter(None, troubles)),
        shards=tuple(shards),
        note=note,
    )


async def _find_shards(fly: FlyClient, app: App) -> tuple[list[str], str, str]:
    """The app's shards; else why the token may not list them, or what kept them from being listed."""
    try:
        return await list_shards(fly, app), "", ""
    except TokenExpiredError as error:
        return [], "", f"shards of {app.name}: {error}"
    except (NotAllowedError, NotFoundError):
        told = (
            f"shards of {app.name} were not looked for: the token may not list its organisation's apps; name one "
            f"({app.name}-2) to have it looked through"
        )
        return [], told, ""
    except FlyError as error:
        return [], "", f"shards of {app.name}: {error}"


class _Reaper:
    def __init__(
        self,
        fly: FlyClient,
        app: str,
        places: anyio.CapacityLimiter,
        batch: str | None,
        older_s: float,
        all_: bool,
        dry_run: bool,
        destroy_s: float,
        pulled_within_s: float | None,
    ) -> None:
        self._fly = fly
        self._app = app
        self._batch = batch
        self._metadata = {"managed_by": MANAGED_BY, **({"flaude_batch": batch} if batch else {})}
        self._states = MachineStates(fly, app, self._metadata)
        self._older_s = older_s
        self._all = all_
        self._dry_run = dry_run
        self._destroy_s = destroy_s
        self._pulled_within_s = pulled_within_s
        self._places = places
        self._found: dict[str, Reaped | None] = {}
        self.incomplete = ""

    async def run(self, settle_s: float) -> list[Reaped]:
        for number in range(_MOST_LISTS):
            try:
                listed = await self._list()
            except FlyError as error:
                if number == 0:
                    raise
                self.incomplete = str(error)
                break
            new = [machine for machine in listed if machine.id not in self._found]
            if number and not new:
                break
            async with anyio.create_task_group() as tasks:
                for machine in new:
                    self._found[machine.id] = None
                    tasks.start_soon(self._deal_with, machine)
            await anyio.sleep(settle_s)
        else:
            self.incomplete = "new machines keep coming: somebody is launching"
        return [one for one in self._found.values() if one is not None]

    async def _list(self) -> list[Machine]:
        machines = await self._fly.list_machines(self._app, metadata=self._metadata)
        now = datetime.now(UTC)
        # Looked at once more here: what is not ours must not go because a filter was not understood.
        return [
            machine for machine in machines if is_ours(machine, self._batch) and _older(machine, self._older_s, now)
        ]

    async def _deal_with(self, machine: Machine) -> None:
        async with self._places:
            try:
                reaped = await self._carry_out(machine, await self._judge(machine))
            except Exception as error:  # noqa: BLE001  # one odd machine must not keep the others alive
                reaped = self._reaped(machine, "failed", f"{type(error).__name__}: {error}")
            self._found[machine.id] = reaped

    async def _judge(self, machine: Machine) -> Decision:
        now = datetime.now(UTC)
        if self._older_s and age(machine.created_at, now) is None:
            return Decision(destroy=False, reason="Fly does not say how old it is")
        guest = None if self._all or has_ended(machine) else await self._ask(machine)
        return decide(machine, guest, now=now, all_=self._all, pulled_within_s=self._pulled_within_s)

    async def _ask(self, machine: Machine) -> StatusReply | None:
        try:
            return await SupervisorClient(self._fly, self._app, machine.id).status()
        except TokenExpiredError:
            raise  # nobody has asked the guest: that says nothing about its owner
        except FlaudeError:
            return None

    async def _carry_out(self, machine: Machine, verdict: Decision) -> Reaped:
        if not verdict.destroy:
            return self._reaped(machine, "kept", verdict.reason)
        if self._dry_run:
            return self._reaped(machine, "would_destroy", verdict.reason)
        troubles: list[str] = []
        young_s = UNKNOWN_S - (age(machine.created_at, datetime.now(UTC)) or 0.0)
        state = await destroy(
            self._fly,
            self._app,
            machine.id,
            states=self._states,
            within_s=self._destroy_s,
            known_from=anyio.current_time() + young_s,
            notice=troubles.append,
        )
        if state == GONE:
            return self._reaped(machine, "destroyed", verdict.reason, state)
        return self._reaped(machine, "failed", troubles[-1] if troubles else verdict.reason, state)

    def _reaped(self, machine: Machine, action: Action, reason: str, state: str = "") -> Reaped:
        return Reaped(
            id=machine.id,
            name=machine.name,
            batch=machine.metadata.get("flaude_batch", ""),
            region=machine.region,
            state=state or machine.state,
            created_at=machine.created_at,
            action=action,
            reason=reason,
            app=self._app,
        )


def _older(machine: Machine, than_s: float, now: datetime) -> bool:
    """Whether it is older, or may be."""
    age_s = age(machine.created_at, now)
    return than_s == 0 or age_s is None or age_s > than_s
