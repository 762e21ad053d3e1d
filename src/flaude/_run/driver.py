"""One attempt at a run: the thin shell that does what `run_state` says next and hands it what was seen."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import anyio

from flaude._guest.client import ANSWER_AT_ONCE, JobRefusedError, NoGuestError, SupervisorClient
from flaude._guest.messages import GuestState, PullReply
from flaude._model.backoff import OutageBackoff, jitter
from flaude._model.errors import (
    FlaudeError,
    FlyError,
    GuestError,
    JournalError,
    MachineLimitError,
    NoCapacityError,
    NotFoundError,
    NotReadyError,
    PayloadTooLargeError,
    RateLimitedError,
    TokenExpiredError,
    UnreachableError,
    refuses_token,
)
from flaude._model.failures import FailureKind, Phase
from flaude._model.results import Leftover
from flaude._model.run_result import Attempt, Times
from flaude._providers.fly.destroy import destroy
from flaude._providers.fly.diagnosis import (
    GONE,
    NEEDS_PYTHON,
    STARTED,
    UNKNOWN_S,
    classify_exit,
    create_failure,
    has_ended,
)
from flaude._providers.fly.exec_limits import NOT_READY_S
from flaude._providers.fly.provider_record import ProviderRecord
from flaude._providers.fly.state_watcher import MachineStates
from flaude._run.checkpoint import Checkpoint, CollectedWork
from flaude._run.downloads import Downloader
from flaude._run.event_reporter import EventReporter
from flaude._run.job import build_job_message, secret_values
from flaude._run.machine import machine_spec
from flaude._run.outcome import attempt_of
from flaude._run.plan import AttemptPlan
from flaude._run.recorder import NullRecorder, RunRecorder
from flaude._run.refused_token import RefusedToken
from flaude._run.shutdown import Shutdown, Stage
from flaude._run.state import (
    Accepted,
    Acked,
    AttemptState,
    Booted,
    CancelSent,
    Created,
    CreateFailed,
    CreateUnanswered,
    Destroyed,
    Fetched,
    Found,
    GaveUp,
    GuestDone,
    GuestEntered,
    Observation,
    Pulled,
    Step,
    StopAsked,
    advance,
)
from flaude.events.emitter import EventSink

if TYPE_CHECKING:
    from flaude._providers.fly import FlyClient

_log = logging.getLogger(__name__)
_steps_log = logging.getLogger("flaude.run")

_POLL_S = 15
_FIND_FOR_S = 15.0  # a list is read from a replica, which may lag behind a create
_STOP_MARGIN_S = 30.0
_LONGEST_SIGNAL_S = 5.0
_BOOTING = 4
_UNKEPT_S = 2.0
_UNANSWERED = (RateLimitedError, TokenExpiredError, UnreachableError)
_BLIPS = (NotReadyError, JournalError, *_UNANSWERED)
_COLLECTING = (Step.PULL, Step.CANCEL, Step.FETCH)


class AttemptDriver:
    """One attempt on one machine, from the create call until the machine is gone.

    Args:
        fly: The client.
        plan: What to run, and where.
        emit: Takes every event.
        shutdown: Tells when to stop.
        record: Takes how far it is.
        left: Where another controller has left it; it is taken up there.
        states: Sees how the machines of the batch are.
        token: Hears when Fly refuses the token.
        made: Called when Fly has made the machine.

    Attributes:
        refused: Fly's refusal, where it has no room for the machine now.
    """

    def __init__(
        self,
        fly: FlyClient,
        plan: AttemptPlan,
        emit: EventSink,
        shutdown: Shutdown,
        record: RunRecorder | None = None,
        left: Checkpoint | None = None,
        states: MachineStates | None = None,
        token: RefusedToken | None = None,
        made: Callable[[], None] | None = None,
    ) -> None:
        self._made = made
        self.refused: MachineLimitError | NoCapacityError | None = None
        self._too_large: PayloadTooLargeError | None = None
        self._fly = fly
        self._token = token or RefusedToken(shutdown, recorded=plan.recorded)
        self._states = states or MachineStates(fly, plan.app, plan.identity)
        self._plan = plan
        self._reporter = EventReporter(plan, emit, lambda: self.state)
        self._shutdown = shutdown
        self._record = record or NullRecorder()
        self.state = left.state if left else AttemptState()
        self.provider = ProviderRecord(*((left.requests, left.exit_event) if left else ()))
        self.fetching = Downloader(plan.folder, left.downloaded if left else None, anew=left is not None)
        self._began_at = dict(left.began_at) if left else {Phase.QUEUED.value: plan.queued}
        self.told = self.state.offset
        self._deadline = self._known_from = self._collect_until = self._keep_until = float("inf")
        self._began_step = float("inf")
        self._ready_by = anyio.current_time() + NOT_READY_S
        # A pull that nobody listens to any more may still wait in the machine: ours, or our predecessor's.
        self._pull_waits = left is not None and left.state.step in (Step.PULL, Step.CANCEL)
        self._patience = OutageBackoff(plan.timeouts.patience)
        self._told_to_stop = False
        self._start_recorded = self.state.agent_started
        self._harvested = self.state.result is not None
        if left:
            self._take_up(left)
        self._ending: BaseException | None = None
        self._steps: dict[Step, Callable[[], Awaitable[Observation | None]]] = {
            Step.CREATE: self._create,
            Step.FIND: self._find,
            Step.BOOT: self._boot,
            Step.START: self._start,
            Step.PULL: self._pull,
            Step.CANCEL: self._cancel,
            Step.FETCH: self._fetch,
            Step.ACK: self._ack,
            Step.DESTROY: self._destroy,
        }

    def _take_up(self, left: Checkpoint) -> None:
        """Wind the clocks of a run that another controller has begun."""
        t, now = self._plan.timeouts, anyio.current_time()
        self._deadline = now + (t.boot if self.state.step in (Step.BOOT, Step.START) else self._longest_s)
        if self.state.failure is not None:
            self._collect_until = now + t.grace + t.collect + _STOP_MARGIN_S
        age_s = (datetime.now(UTC) - left.began_at.get(Phase.CREATE.value, self._plan.queued)).total_seconds()
        self._known_from = now + min(max(0.0, UNKNOWN_S - age_s), UNKNOWN_S)  # the wall clock may have gone back

    async def execute(self) -> None:
        """Run it to its end; what came of it is in `state`, `fetching` and `times`.

        Never raises for what may happen to the run. It is stopped by `shutdown`, and out of reach of cancellation:
        when its task is cancelled all the same, or the program ends, it takes that as the next stage, and raises it
        when it is done.
        """
        with anyio.CancelScope(shield=True):
            try:
                await self._drive()
            finally:
                await self.fetching.close()
        if self._ending is not None:
            raise self._ending

    @property
    def began_at(self) -> Mapping[str, datetime]:
        """When each phase began, by its word."""
        return self._began_at

    @property
    def times(self) -> Times:
        """When each phase began."""
        return Times(**self._began_at)

    @property
    def attempt(self) -> Attempt:
        """What is to be kept of it."""
        return attempt_of(self._plan, self.state, self.times, self.fetching.downloaded, self.provider)

    @property
    def leftover(self) -> Leftover | None:
        """The machine that may be alive if everything ended now."""
        untouched = self.state.step is Step.CREATE and Phase.CREATE.value not in self._began_at
        if untouched or self.state.gone:
            return None
        return Leftover(name=self._plan.name, machine_id=self.state.machine_id, app=self._plan.app)

    @property
    def machine_s(self) -> float:
        """For how many seconds there has been a machine by now."""
        began, ended = self._began_at.get(Phase.CREATE.value), self._began_at.get(Phase.DONE.value)
        if began is None or (self.state.step is Step.DONE and not self.state.machine_id):
            return 0.0
        return ((ended or datetime.now(UTC)) - began).total_seconds()

    async def _drive(self) -> None:
        while self.state.step is not Step.DONE and self._shutdown.stage < Stage.DETACH:
            try:
                self._enter(self.state.phase)
                await self._go_on()
            except (anyio.get_cancelled_exc_class(), KeyboardInterrupt, SystemExit) as ending:
                self._outlive(ending)

    def _outlive(self, ending: BaseException) -> None:
        """The program ends, or its event loop is closed, over our head: the next stage, and no machine left behind."""
        # All runs of a loop that is being closed are cancelled at once: that is one stage, and not one for each.
        self._shutdown.ask(Stage.AGENTS if self._ending is None else Stage.COLLECTING, "the run was cancelled")
        self._ending = self._ending or ending
        if self.state.step is Step.CREATE and Phase.CREATE.value in self._began_at:
            self._see(CreateUnanswered())

    async def _go_on(self) -> None:
        """Do one step, or hear what comes in its place."""
        told = self._heed()
        if told is not None:
            self._see(told)
            return
        step, self._began_step = self.state.step, anyio.current_time()
        seen: Observation | None = None
        try:
            with self._interruptible():
                try:
                    seen = await self._steps[step]()
                except FlaudeError as error:
                    seen = await self._trouble(error)
                else:
                    # What the network took is not the machine's fault.
                    self._deadline += self._patience.answered(anyio.current_time())
        except Exception as error:  # noqa: BLE001  # not even a defect of ours may leave a machine behind
            seen = self._defect(step, error)
        if seen is not None:
            self._see(seen)

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """What may be left when it is time to stop: any step but the last ones, and collecting not at once."""
        if self.state.step in (Step.DESTROY, Step.FIND):
            with self._shutdown.interrupts(Stage.DETACH):
                yield
            return
        with self._shutdown.interrupts(Stage.COLLECTING if self._told_to_stop else Stage.AGENTS) as scope:
            scope.deadline = self._collect_until
            yield

    def _heed(self) -> Observation | None:
        """What being told to stop means for the present step."""
        stage = self._shutdown.stage
        if stage >= Stage.AGENTS and not self._told_to_stop:
            self._told_to_stop = True
            return self._stop(self._shutdown.kind, self._shutdown.reason)
        if stage < Stage.COLLECTING and anyio.current_time() < self._collect_until:
            return None
        if self.state.step in _COLLECTING:
            return GaveUp(FailureKind.CANCELLED, "its work was not collected in time")
        return Acked() if self.state.step is Step.ACK else None

    def _stop(self, kind: FailureKind, message: str) -> StopAsked:
        t = self._plan.timeouts
        self._collect_until = min(self._collect_until, anyio.current_time() + t.grace + t.collect + _STOP_MARGIN_S)
        return StopAsked(kind, message)

    def _see(self, seen: Observation) -> None:
        before = self.state.step
        self.state = advance(self.state, seen)
        # The observation's name alone: what is in it may be long, and is the agent's.
        _steps_log.debug("%s: %s -> %s, %s", self._plan.name, before, self.state.step, type(seen).__name__)
        self._record.moved()
        self._enter(self.state.phase)

    def _enter(self, phase: Phase) -> None:
        # Not `create`: that one begins when its call has its turn at Fly's rate limits, not when it queues for it.
        if phase is not Phase.CREATE:
            self._begin(phase)

    def _begin(self, phase: Phase) -> None:
        if phase.value in self._began_at:
            return
        self._began_at[phase.value] = datetime.now(UTC)
        self._reporter.begun(phase)

    # --- one method a step: do it, say what was seen ---

    async def _create(self) -> Observation | None:
        plan = self._plan
        limits = self._fly.exec_limits
        whole = limits.whole_creates and self._too_large is None
        spec = machine_spec(
            plan.config,
            metadata=plan.metadata,
            start_deadline_s=plan.timeouts.start_deadline,
            pad=plan.pad,
            whole=whole,
        )
        try:
            machine = await self._fly.create_machine(
                plan.app,
                name=plan.name,
                config=spec,
                region=",".join(plan.config.regions),
                identity=plan.identity,
                on_turn=self._has_its_turn,
                heard=self.provider.heard,
                unsure=self.state.unsure,
            )
        except PayloadTooLargeError as error:
            if not whole or (error.may_have_been_done and not self.state.unsure):
                raise
            self._too_large = error
            return None
        if self._too_large is not None and limits.whole_creates:
            # Known only now: until the smaller one is made, it may be something else that is too large. Said by the
            # first of those that were under way together.
            limits.whole_creates = False
            self._reporter.notice(f"flaude's own program goes to the machines in parts: {self._too_large}")
        if self._made:
            self._made()
        self._known_from = anyio.current_time() + UNKNOWN_S
        self._deadline = anyio.current_time() + plan.timeouts.boot
        return Created(machine.id, machine.region, machine.state)

    async def _has_its_turn(self) -> None:
        # The queue may be a quarter of an hour long: that is no failure of Fly's, and costs nothing.
        self._began_step = anyio.current_time()
        self._begin(Phase.CREATE)
        self._record.moved()
        await self._record.durable()  # without it no machine is made that nobody would know of

    async def _find(self) -> Observation:
        """Look for the machine of a create that was not answered; lists lag, so more than once."""
        look_until, said = anyio.current_time() + _FIND_FOR_S, ""
        with anyio.move_on_after(self._plan.timeouts.destroy):
            while True:
                try:
                    found = await self._fly.list_machines(self._plan.app, metadata=self._plan.identity)
                except FlyError as error:
                    self.provider.failed(error)
                    if refuses_token(error) and self._token.can_be_left(self._shutdown):
                        raise
                    if said != (said := str(error)):
                        self._reporter.notice(f"looking for machine {self._plan.name}: {said}")
                else:
                    if found:
                        self._known_from = anyio.current_time() + UNKNOWN_S
                        return Found(found[0].id, found[0].region, found[0].state)
                    if anyio.current_time() > look_until:
                        break
                await anyio.sleep(jitter(2.0))
        self._reporter.notice(f"Fly did not say whether it made machine {self._plan.name}, and does not list it")
        return Found()

    async def _boot(self) -> Observation | None:
        if await self._states.wait(self.state.machine_id, STARTED, timeout_s=_POLL_S):
            return self._booted()
        return await self._look() or self._overdue(FailureKind.BOOT_TIMEOUT, "did not start")

    def _booted(self) -> Booted:
        self._ready_by = anyio.current_time() + NOT_READY_S
        return Booted()

    async def _start(self) -> Observation | None:
        # One part of it a step: what has arrived shows that Fly answers, and a stop is heard in between.
        plan = self._plan
        reply = await self._link.start(self._job, plan.pad)
        if reply is None:
            # A machine to which a long job is on its way is there: it has as long again for the next part.
            now = anyio.current_time()
            self._deadline = max(self._deadline, now + plan.timeouts.boot)
            self._ready_by = max(self._ready_by, now + NOT_READY_S)
            return None
        self._known_from = anyio.current_time()  # the node that answers knows it: a list would not have shown that
        self._deadline = self._known_from + self._longest_s
        self._see(Accepted())
        return await self._take(reply)

    @property
    def _longest_s(self) -> float:
        """How long the guest may have the job: it keeps its own deadlines, this is for one that does not."""
        t = self._plan.timeouts
        return t.install + t.clone + self._plan.run_s + t.grace + t.collect + _STOP_MARGIN_S

    async def _pull(self) -> Observation | None:
        if self.state.agent_started and not self._start_recorded:
            # The guest starts the agent when this pull shows that we know: so shall whoever comes after us.
            await self._record.durable()
            self._start_recorded = True
        await self._end_waiting_pull()
        self._pull_waits = True
        try:
            reply = await self._link.pull(self._plan.job_id, self.state.offset)
        except FlaudeError:
            self._pull_waits = False
            raise
        self._pull_waits = False
        return await self._take(reply)

    async def _take(self, reply: PullReply) -> Observation | None:
        """What the guest has told by now."""
        records = await self._link.records(reply)
        # The offset moves with the bytes, before anything else may fail: else they would be fed twice.
        self.state = advance(self.state, Pulled(reply.next))
        await self._reporter.records(records, self._link.clean.json, self._guest_entered, self._reached)
        if reply.result is not None:
            return GuestDone(await self._link.result(reply))
        if self.state.failure is None and anyio.current_time() > self._deadline:
            return self._stop(FailureKind.DEADLINE, f"not done {self._plan.run_s:g} s after it was started")
        return None

    async def _end_waiting_pull(self) -> None:
        """Have the guest answer a pull that still waits: a machine may run one exec at a time."""
        if not self._pull_waits:
            return
        self._pull_waits = False
        # Without it the next call waits as long as that pull does: no reason to try for longer.
        with anyio.move_on_after(_LONGEST_SIGNAL_S), suppress(FlyError):
            await self._fly.signal_machine(self._plan.app, self.state.machine_id, ANSWER_AT_ONCE)

    async def _cancel(self) -> Observation | None:
        if not await self._is_ours():
            return None
        await self._end_waiting_pull()
        failure = self.state.failure
        await self._link.cancel(self._plan.job_id, failure.message if failure else "")
        return CancelSent()

    async def _fetch(self) -> Observation | None:
        # One piece a step: what has arrived shows that Fly answers, and a stop is heard in between.
        result = self.state.result
        if result is None:
            return Fetched()
        if await self.fetching.go_on(self._link, result):
            return None
        # The machine goes when it is told that all has arrived: then it has to be somewhere else.
        if await self._keep_harvest() or anyio.current_time() > self._keep_until:
            return Fetched()
        # As long as the machine is sure to wait; when the journal is not to be had by then, the work is here at least.
        self._keep_until = min(self._keep_until, self._began_step + self._patience.limit_s)
        await anyio.sleep(jitter(_UNKEPT_S))
        return None

    async def _keep_harvest(self) -> bool:
        result = self.state.result
        if result is not None and not self._harvested:
            collected = CollectedWork(result, self.fetching.downloaded)
            self._harvested = await self._record.collected(self._plan.attempt, collected)
        return self._harvested

    async def _is_ours(self) -> bool:
        """Whether the batch is still this process's, which may have slept; where the journal does not say, it is."""
        with suppress(JournalError):  # said already; a machine is not left alive for it
            await self._record.durable()
        return self._shutdown.stage < Stage.DETACH

    async def _ack(self) -> Observation:
        # A courtesy, which gives the machine's exit event the agent's code: its failure harms nobody.
        try:
            await self._link.ack(self._plan.job_id)
        except FlaudeError as error:
            _log.debug("ack of %s failed: %s", self._plan.name, error)
        return Acked()

    async def _destroy(self) -> Observation | None:
        plan = self._plan
        if not await self._is_ours():
            return None
        await self._keep_harvest()  # of what was not collected to its end, and is the last that there is
        state = await destroy(
            self._fly,
            plan.app,
            self.state.machine_id,
            states=self._states,
            within_s=plan.timeouts.destroy,
            known_from=self._known_from,
            notice=self._reporter.notice,
            failed=self.provider.failed,
            # Whoever takes it up destroys it; until then its own clocks hold.
            leaves_token=self._token.can_be_left(self._shutdown),
        )
        return Destroyed(confirmed=state == GONE, machine_state=state)

    # --- what may go wrong on the way ---

    async def _trouble(self, error: FlaudeError) -> Observation | None:
        """What an error means for the run; `None`: nothing yet, the step is tried again after a while."""
        step = self.state.step
        if isinstance(error, FlyError):
            self.provider.failed(error)
        if self._shutdown.stage is Stage.DETACH:
            return None  # what goes wrong now is somebody else's
        if step is Step.CREATE:
            if getattr(error, "may_have_been_done", False):
                self._see(CreateUnanswered())
            elif isinstance(error, TokenExpiredError) and not self.state.unsure:
                # Who is not let in has made nothing: it is as if the create had never begun.
                self._began_at.pop(Phase.CREATE.value, None)
                self._record.moved()
            if not isinstance(error, _BLIPS):
                self.refused = error if isinstance(error, MachineLimitError | NoCapacityError) else None
                return CreateFailed(create_failure(error), str(error))
        elif isinstance(error, NotFoundError):
            return await self._look() or await self._wait_out(error)
        elif isinstance(error, JobRefusedError):
            return GaveUp(FailureKind.INTERNAL, str(error))
        elif isinstance(error, NoGuestError) and error.missing and step is Step.START:
            return await self._no_program(error)
        elif not isinstance(error, (*_BLIPS, GuestError)):
            return GaveUp(FailureKind.API, str(error))
        elif isinstance(error, NotReadyError) and (seen := await self._look()):
            return seen
        return await self._wait_out(error)

    async def _no_program(self, error: NoGuestError) -> Observation | None:
        """The machine is not ready yet, or its image has no python3."""
        if seen := await self._look():
            return seen
        if anyio.current_time() < self._ready_by:
            return await self._wait_out(NotReadyError(f"the machine is not ready: {error}"))
        return GaveUp(FailureKind.IMAGE, f"{NEEDS_PYTHON}: {error}")

    async def _wait_out(self, error: FlaudeError) -> Observation | None:
        """A blip never ends a healthy run: wait a while, unless Fly has failed for longer than anybody's patience."""
        patience, now = self._patience, anyio.current_time()
        counts = self.state.step not in (Step.BOOT, Step.START) or isinstance(error, _UNANSWERED)
        over = patience.failed(self._began_step, now, counts=counts)
        if refuses_token(error):
            if over and self._token.give_up(error, self._shutdown):
                return None
            over = over or (self._token.patience_over and self.state.step is Step.CREATE)
            if not over and self._token.is_news(now):
                self._reporter.notice(f"waiting {patience.limit_s:g} s at most for a Fly token that works: {error}")
        if over:
            return GaveUp(FailureKind.API, f"no usable answer for {patience.limit_s:g} s: {error}")
        if not counts and (overdue := self._overdue(FailureKind.BOOT_TIMEOUT, f"does not answer: {error}")):
            return overdue
        # A machine that boots answers 412 at first, and its guest needs a moment: that is nothing special.
        if patience.failures > (1 if counts else _BOOTING) and not refuses_token(error):
            self._reporter.notice(f"waiting out: {error}")
        await anyio.sleep(jitter(patience.pause_s))
        return None

    def _defect(self, step: Step, error: Exception) -> Observation:
        """Something that no code here expected; the run ends, its machine as well."""
        clean = self._link.clean if self.state.machine_id else str
        if not isinstance(error, FlaudeError):
            told = clean("".join(traceback.format_exception(error)))
            _log.error("machine %s: step %s failed\n%s", self._plan.name, step, told)
        match step:
            case Step.DESTROY:
                return Destroyed(confirmed=False, machine_state="")
            case Step.FIND:
                return Found()
            case Step.CREATE:
                self._see(CreateUnanswered())
        kind = FailureKind.API if isinstance(error, FlaudeError) else FailureKind.INTERNAL
        return GaveUp(kind, clean(f"{type(error).__name__}: {error}"))

    async def _look(self) -> Observation | None:
        """Ask Fly how the machine is; `None` when it may still do its work."""
        try:
            machine = await self._fly.get_machine(self._plan.app, self.state.machine_id)
        except NotFoundError:
            if anyio.current_time() < self._known_from:
                return None
            return GaveUp(FailureKind.MACHINE_LOST, "Fly no longer knows the machine", machine_state=GONE)
        except _BLIPS:
            return None
        if self.state.step is Step.BOOT and machine.state == STARTED:
            return self._booted()  # the lists are behind
        if not has_ended(machine):
            return None
        self.provider.ended(machine)
        kind, message = classify_exit(machine, booting=self.state.step in (Step.BOOT, Step.START))
        return GaveUp(kind, message, machine_state=machine.state)

    def _overdue(self, kind: FailureKind, what: str) -> Observation | None:
        if anyio.current_time() <= self._deadline:
            return None
        return GaveUp(kind, f"the machine {what} within {self._plan.timeouts.boot:g} s of its creation")

    def _guest_entered(self, state: GuestState) -> None:
        self._see(GuestEntered(state))

    def _reached(self, offset: int) -> None:
        self.told = offset
        self._record.moved()

    @cached_property
    def _job(self) -> Mapping[str, Any]:
        plan = self._plan
        return build_job_message(
            plan.config,
            job_id=plan.job_id,
            run_s=plan.run_s,
            timeouts=plan.timeouts,
            credentials=plan.credentials,
            push_branch=plan.push_branch,
        )

    @cached_property
    def _link(self) -> SupervisorClient:
        plan = self._plan
        secrets = secret_values(plan.config, plan.credentials)
        return SupervisorClient(self._fly, plan.app, self.state.machine_id, secrets, offset=self.told)
