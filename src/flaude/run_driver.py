"""One run: the thin shell that does what `run_state` says next and hands it what was seen."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import anyio

from flaude import claude
from flaude.config import MachineConfig
from flaude.errors import (
    FlaudeError,
    FlyError,
    GuestError,
    InvalidRequestError,
    NoCapacityError,
    NotFoundError,
    NotReadyError,
    RateLimitedError,
    UnreachableError,
)
from flaude.events import Event, Notice, Output, PhaseBegan, StderrOutput
from flaude.fly import FlyClient, Machine
from flaude.job import job
from flaude.link import GuestLink
from flaude.machine_spec import MANAGED_BY, machine_spec
from flaude.outcome import execution_result
from flaude.protocol import SpoolReader, unpack
from flaude.results import ExecutionResult, FailureKind, Phase, Times
from flaude.run_state import (
    Accepted,
    Acked,
    Booted,
    CancelSent,
    Created,
    CreateFailed,
    Destroyed,
    Fetched,
    GaveUp,
    GuestDone,
    GuestEntered,
    Observation,
    Pulled,
    RunState,
    Step,
    StopAsked,
    advance,
)
from flaude.timeouts import Timeouts

_log = logging.getLogger(__name__)

_ENDED_STATES = frozenset({"stopping", "stopped", "failed", "destroying", "destroyed", "replaced", "migrated"})
_GONE = "destroyed"
_POLL_S = 15
_UNKNOWN_S = 15.0  # a new machine may be unknown to the node that answers (Fly staff, flyctl PR 4618)
_STOP_MARGIN_S = 30.0
_BLIPS = (NotReadyError, RateLimitedError, UnreachableError)


@dataclass(frozen=True)
class RunPlan:
    """What a run needs to know of its request and its place in the batch."""

    app: str
    config: MachineConfig
    batch: str
    index: int
    name: str
    tag: str
    run_s: float
    timeouts: Timeouts
    credentials: Mapping[str, str]
    queued: datetime

    @property
    def metadata(self) -> dict[str, str]:
        """How the machine is told to be ours, and this run's: no secrets, nothing of the prompt."""
        t = self.timeouts
        longest_s = t.boot + t.install + t.clone + self.run_s + t.grace + t.collect + t.linger
        return {
            "managed_by": MANAGED_BY,
            "flaude_batch": self.batch,
            "flaude_index": str(self.index),
            "flaude_expires_at": str(round(time.time() + longest_s)),
        }


class Run:
    """One run on one machine, from the create call until the machine is gone.

    Args:
        fly: The client.
        plan: What to run, and where.
        emit: Takes every event; must not raise.
    """

    def __init__(self, fly: FlyClient, plan: RunPlan, emit: Callable[[Event], Awaitable[None]]) -> None:
        self._fly = fly
        self._plan = plan
        self._emit = emit
        self._state = RunState()
        self._job_id = f"{plan.batch}-{plan.index}"
        self._spool = SpoolReader()
        self._diffs: dict[str, bytes] = {}
        self._times = {Phase.QUEUED.value: plan.queued}
        self._deadline = self._known_from = float("inf")
        self._failing_since: float | None = None
        self._failures = 0
        self._steps: dict[Step, Callable[[], Awaitable[Observation | None]]] = {
            Step.CREATE: self._create,
            Step.BOOT: self._boot,
            Step.START: self._start,
            Step.PULL: self._pull,
            Step.CANCEL: self._cancel,
            Step.FETCH: self._fetch,
            Step.ACK: self._ack,
            Step.DESTROY: self._destroy,
        }

    async def execute(self) -> ExecutionResult:
        """Run it to its end; a failure of any kind is in the result, only cancellation is raised.

        When cancelled, the agent is asked to stop, its work is collected and the machine destroyed, in a time that
        `Timeouts` bounds; `result` has the outcome then.
        """
        try:
            await self._drive()
        except anyio.get_cancelled_exc_class():
            await self._wind_up()
            raise
        return self.result

    @property
    def result(self) -> ExecutionResult:
        """The outcome as far as it is known."""
        return execution_result(self._plan.tag, self._state, self._diffs, Times(**self._times))

    async def _wind_up(self) -> None:
        timeouts = self._plan.timeouts
        with anyio.move_on_after(timeouts.grace + timeouts.collect + _STOP_MARGIN_S, shield=True):
            await self._see(StopAsked(FailureKind.CANCELLED, "the run was cancelled"))
            await self._drive()
        if self._state.step is not Step.DONE:
            with anyio.move_on_after(timeouts.destroy, shield=True):
                await self._see(GaveUp(FailureKind.CANCELLED, "the run was cancelled, and collecting took too long"))
                await self._drive()

    async def _drive(self) -> None:
        await self._began(self._state.phase)
        while self._state.step is not Step.DONE:
            step = self._state.step
            try:
                seen = await self._steps[step]()
            except FlaudeError as error:
                seen = await self._trouble(error)
            except Exception as error:  # noqa: BLE001  # a defect of ours must not leave a machine behind
                _log.exception("run %s failed in step %s", self._plan.name, step)
                seen = GaveUp(FailureKind.INTERNAL, f"{type(error).__name__}: {error}")
                if step is Step.DESTROY:
                    seen = Destroyed(confirmed=False, machine_state="")
            else:
                self._failing_since = None
                self._failures = 0
            if seen is not None:
                await self._see(seen)

    async def _see(self, seen: Observation) -> None:
        before = self._state.phase
        self._state = advance(self._state, seen)
        if self._state.phase is not before:
            await self._began(self._state.phase)

    async def _began(self, phase: Phase) -> None:
        if phase.value not in self._times:
            self._times[phase.value] = datetime.now(UTC)
            await self._emit(PhaseBegan(*self._where(), phase=phase, machine_id=self._state.machine_id))

    def _where(self) -> tuple[str, int, str, datetime]:
        return self._plan.batch, self._plan.index, self._plan.tag, datetime.now(UTC)

    # --- one method a step: do it, say what was seen ---

    async def _create(self) -> Observation:
        plan = self._plan
        spec = machine_spec(plan.config, metadata=plan.metadata, start_deadline_s=plan.timeouts.start_deadline)
        machine = await self._fly.create_machine(plan.app, name=plan.name, config=spec, region=plan.config.region)
        self._known_from = anyio.current_time() + _UNKNOWN_S
        self._deadline = anyio.current_time() + plan.timeouts.boot
        return Created(machine.id, machine.region, machine.state)

    async def _boot(self) -> Observation | None:
        if await self._fly.wait_machine(self._plan.app, self._state.machine_id, state="started", timeout_s=_POLL_S):
            return Booted()
        return await self._look() or self._overdue(FailureKind.BOOT_TIMEOUT, "did not start")

    async def _start(self) -> Observation:
        plan = self._plan
        await self._link.start(
            job(
                plan.config,
                job_id=self._job_id,
                run_s=plan.run_s,
                timeouts=plan.timeouts,
                credentials=plan.credentials,
            )
        )
        t = plan.timeouts
        # The guest keeps the run's deadline; this one is for a guest that does not.
        self._deadline = anyio.current_time() + t.install + t.clone + plan.run_s + t.grace + t.collect + _STOP_MARGIN_S
        return Accepted()

    async def _pull(self) -> Observation | None:
        reply = await self._link.pull(self._job_id, self._state.offset)
        records = self._spool.feed(unpack(reply.data))
        # The offset moves with the bytes, before anything else may fail: else they would be fed twice.
        await self._see(Pulled(reply.next))
        for record in records:
            await self._tell(record)
        if reply.result is not None:
            return GuestDone(await self._link.result(reply))
        if self._state.failure is None and anyio.current_time() > self._deadline:
            return StopAsked(FailureKind.DEADLINE, f"not done {self._plan.run_s:g} s after it was started")
        return None

    async def _cancel(self) -> Observation:
        failure = self._state.failure
        await self._link.cancel(self._job_id, failure.message if failure else "")
        return CancelSent()

    async def _fetch(self) -> Observation:
        result = self._state.result
        if result is not None:
            for repo in result.repos:
                if repo.patch and repo.patch not in self._diffs:
                    self._diffs[repo.patch] = await self._link.fetch(result.file(repo.patch))
        return Fetched()

    async def _ack(self) -> Observation:
        # A courtesy, which gives the machine's exit event the agent's code: its failure harms nobody.
        try:
            await self._link.ack(self._job_id)
        except FlaudeError as error:
            _log.debug("ack of %s failed: %s", self._plan.name, error)
        return Acked()

    async def _destroy(self) -> Observation:
        app, machine_id, state = self._plan.app, self._state.machine_id, ""
        with anyio.move_on_after(self._plan.timeouts.destroy, shield=True):
            while True:
                try:
                    await self._fly.delete_machine(app, machine_id, force=True)
                    state = (await self._fly.get_machine(app, machine_id)).state
                    if state != _GONE:
                        await self._fly.wait_machine(app, machine_id, state=_GONE, timeout_s=_POLL_S)
                        state = (await self._fly.get_machine(app, machine_id)).state
                except NotFoundError:
                    state = _GONE
                except FlyError as error:
                    await self._notice(f"destroying machine {machine_id}: {error}")
                    await anyio.sleep(_jitter(1.0))
                if state == _GONE:
                    return Destroyed(confirmed=True, machine_state=state)
        await self._notice(f"machine {machine_id} could not be confirmed as gone (last seen: {state or 'unknown'})")
        return Destroyed(confirmed=False, machine_state=state)

    # --- what may go wrong on the way ---

    async def _trouble(self, error: FlaudeError) -> Observation | None:
        """What an error means for the run; `None`: nothing yet, the step is tried again after a while."""
        step = self._state.step
        if step is Step.CREATE:
            return CreateFailed(_create_failure(error), str(error))
        if isinstance(error, NotFoundError):
            return await self._look()
        if isinstance(error, GuestError) and step is Step.START:
            # The exec was answered, yet not by our guest: the image has no python3, or the guest has died.
            return await self._look() or GaveUp(FailureKind.IMAGE, f"the guest does not run in this image: {error}")
        if not isinstance(error, (*_BLIPS, GuestError)):
            return GaveUp(FailureKind.API, str(error))
        if isinstance(error, NotReadyError) and (seen := await self._look()):
            return seen
        now = anyio.current_time()
        self._failing_since = now if self._failing_since is None else self._failing_since
        self._failures += 1
        if step in (Step.BOOT, Step.START):
            if overdue := self._overdue(FailureKind.BOOT_TIMEOUT, f"does not answer: {error}"):
                return overdue
        elif now - self._failing_since > self._plan.timeouts.patience:
            return GaveUp(FailureKind.API, f"no usable answer for {self._plan.timeouts.patience:g} s: {error}")
        if self._failures > 1:  # the first one is nothing special: a machine that boots answers 412
            await self._notice(f"waiting out: {error}")
        await anyio.sleep(_jitter(min(0.1 * 2**self._failures, 10.0)))
        return None

    async def _look(self) -> Observation | None:
        """Ask Fly how the machine is; `None` when it may still do its work."""
        try:
            machine = await self._fly.get_machine(self._plan.app, self._state.machine_id)
        except NotFoundError:
            if anyio.current_time() < self._known_from:
                return None
            return GaveUp(FailureKind.MACHINE_LOST, "Fly no longer knows the machine", machine_state=_GONE)
        except _BLIPS:
            return None
        if machine.state not in _ENDED_STATES:
            return None
        kind, message = _cause(machine, booting=self._state.step in (Step.BOOT, Step.START))
        return GaveUp(kind, message, machine_state=machine.state)

    def _overdue(self, kind: FailureKind, what: str) -> Observation | None:
        if anyio.current_time() <= self._deadline:
            return None
        return GaveUp(kind, f"the machine {what} within {self._plan.timeouts.boot:g} s of its creation")

    # --- telling ---

    async def _tell(self, record: Mapping[str, Any]) -> None:
        match record.get("type"):
            case "stdout":
                await self._emit(Output(*self._where(), line=claude.parse_line(str(record.get("line", "")))))
            case "stderr":
                await self._emit(StderrOutput(*self._where(), text=str(record.get("line", ""))))
            case "log":
                await self._notice(str(record.get("message", "")))
            case "state":
                await self._see(GuestEntered(record["state"]))
            case _:
                pass

    async def _notice(self, text: str) -> None:
        await self._emit(Notice(*self._where(), text=text))

    @cached_property
    def _link(self) -> GuestLink:
        return GuestLink(self._fly, self._plan.app, self._state.machine_id)


def _create_failure(error: FlaudeError) -> FailureKind:
    if isinstance(error, NoCapacityError):
        return FailureKind.CAPACITY
    if isinstance(error, _BLIPS):
        return FailureKind.API
    if isinstance(error, InvalidRequestError) and "image" in error.fly_text.lower():
        return FailureKind.IMAGE
    return FailureKind.CREATE_REFUSED


def _cause(machine: Machine, *, booting: bool) -> tuple[FailureKind, str]:
    """Why a machine ended that should not have."""
    event = machine.exit_event
    if event is None:
        return FailureKind.MACHINE_LOST, f"the machine is {machine.state}, and Fly does not say why"
    if event.oom_killed:
        return FailureKind.OOM, "the machine ran out of memory; give it more with vm_size or vm_memory_mb"
    if booting and event.exit_code == 127:  # noqa: PLR2004  # the shell's and Fly's word for "no such program"
        return FailureKind.IMAGE, "the image cannot run the guest: it has no python3 (exit code 127)"
    asked = ", asked to stop by somebody else" if event.requested_stop else ""
    return FailureKind.MACHINE_LOST, f"the machine is {machine.state}: exit code {event.exit_code}{asked}"


def _jitter(seconds: float) -> float:
    return seconds * random.uniform(0.5, 1.5)  # noqa: S311  # spreads calls, guards nothing
