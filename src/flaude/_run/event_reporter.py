"""What one attempt does, told as events: each says of which run of which batch, when, and on which machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from flaude import events
from flaude._agent.events import EventContext, output_events
from flaude._guest.messages import GuestState, Record
from flaude._model.failures import Phase
from flaude._run.plan import AttemptPlan
from flaude._run.state import AttemptState
from flaude.events.emitter import EventSink

_AT_ONCE = 100  # so many records are told without a look at who takes them


class EventReporter:
    """Tells of one attempt.

    Args:
        plan: Of which run.
        emit: Takes every event.
        state: Says how far it is.
    """

    def __init__(self, plan: AttemptPlan, emit: EventSink, state: Callable[[], AttemptState]) -> None:
        self._plan = plan
        self._emit = emit
        self._state = state

    def begun(self, phase: Phase) -> None:
        """A phase has begun."""
        match phase:
            case Phase.CREATE:
                self._emit(events.Creating(*self._context().header))
            case Phase.BOOT:
                self._emit(events.Created(*self._context().header, region=self._state().region, app=self._plan.app))
            case Phase.CLONE:
                self._emit(events.Booted(*self._context().header))
            case Phase.AGENT:
                self._emit(events.Started(*self._context().header))
            case Phase.COLLECT:
                self._emit(events.Collecting(*self._context().header))
            case Phase.DESTROY:
                self._emit(events.Destroying(*self._context().header))
            case Phase.DONE:
                self._emit(events.Destroyed(*self._context().header, confirmed=self._state().gone))

    def notice(self, text: str) -> None:
        """Something that is worth a line."""
        self._emit(events.Notice(*self._context().header, text=text))

    async def records(
        self,
        records: Sequence[Record],
        clean: Callable[[Any], Any],
        entered: Callable[[GuestState], None],
        reached: Callable[[int], None],
    ) -> None:
        """What the guest has spooled.

        Args:
            records: The spool's records, in their order.
            clean: Takes secrets out of what the agent's lines say.
            entered: Called with each state that the guest says it has come to, before it is told.
            reached: Called with the offset of each record's end as soon as it is told: nothing may come in between.
        """
        told = 0
        try:
            for record in records:
                told += 1
                self._record(record.value, clean, entered)
                reached(record.end)
                if told % _AT_ONCE == 0:
                    await self._emit.checkpoint()
        finally:
            # They come once: whatever ends us here, what they say of the run must not be lost.
            for record in records[told:]:
                self._record(record.value, clean, entered)
                reached(record.end)

    def _record(
        self, record: Mapping[str, Any], clean: Callable[[Any], Any], entered: Callable[[GuestState], None]
    ) -> None:
        match record.get("type"):
            case "stdout":
                for event in output_events(self._context(), str(record.get("line", "")), clean):
                    self._emit(event)
            case "stderr":
                self._emit(events.StderrOutput(*self._context().header, text=str(record.get("line", ""))))
            case "log":
                self.notice(str(record.get("message", "")))
            case "state":
                entered(record["state"])
                if record["state"] == "ready":
                    self._emit(events.Cloned(*self._context().header))
            case _:
                pass

    def _context(self) -> EventContext:
        plan = self._plan
        return EventContext(plan.batch, plan.index, plan.tag, datetime.now(UTC), self._state().machine_id)
