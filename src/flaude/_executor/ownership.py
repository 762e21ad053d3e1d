"""Which machines nobody owns any more. Pure: decides, and does nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flaude._guest.messages import StatusReply
from flaude._model.timeouts import Timeouts
from flaude._providers.base import MANAGED_BY
from flaude._providers.fly.diagnosis import has_ended
from flaude._run.machine import START_DEADLINE

if TYPE_CHECKING:
    from flaude._providers.fly import Machine

_PULL_MARGIN_S = 30.0
_BOOT_MARGIN_S = 60.0


@dataclass(frozen=True)
class Decision:
    """What is to happen to a machine, and why."""

    destroy: bool
    reason: str


def is_ours(machine: Machine, batch: str | None) -> bool:
    """Whether flaude made it, for this batch if one is named."""
    metadata = machine.metadata
    return metadata.get("managed_by") == MANAGED_BY and batch in (None, metadata.get("flaude_batch"))


def decide(
    machine: Machine,
    guest: StatusReply | None,
    *,
    now: datetime,
    all_: bool = False,
    pulled_within_s: float | None = None,
) -> Decision:
    """Whether a machine of ours is to be destroyed.

    Args:
        machine: As Fly shows it.
        guest: What its guest says; None when it does not answer.
        now: The time.
        all_: Whether it does not matter that somebody may own it.
        pulled_within_s: For how many seconds after a pull a controller counts as alive; None for `silence_s`.
    """
    if all_:
        return Decision(destroy=True, reason="all were asked for")
    if has_ended(machine):
        return Decision(destroy=True, reason=f"is {machine.state}")
    if guest is not None and guest.pulled_s_ago is not None:
        told = f"its controller was last there {guest.pulled_s_ago:.0f} s ago"
        allowed_s = silence_s(machine) if pulled_within_s is None else pulled_within_s
        return Decision(destroy=guest.pulled_s_ago > allowed_s, reason=told)
    start_s = start_deadline_s(machine) + _BOOT_MARGIN_S
    idle_s = age(machine.created_at, now) if guest is None else guest.waited_s
    if idle_s is None or idle_s <= start_s:
        return Decision(destroy=False, reason="it is new, and may still be given its job")
    if guest is not None:
        return Decision(destroy=True, reason=f"it was given no job in {idle_s:.0f} s")
    expires = expires_at(machine)
    if expires is not None and now < expires:
        return Decision(destroy=False, reason=f"its guest does not answer; it expires {expires:%Y-%m-%d %H:%M:%S} UTC")
    return Decision(destroy=True, reason="its guest does not answer, and its time is over")


def age(created_at: str, now: datetime) -> float | None:
    """Seconds since a machine's creation; None when Fly does not say when that was."""
    try:
        created = datetime.fromisoformat(created_at)
    except ValueError:
        return None
    return (now - (created if created.tzinfo else created.replace(tzinfo=UTC))).total_seconds()


def silence_s(machine: Machine) -> float:
    """For how long its controller may be silent and alive, in seconds.

    A controller that lives pulls all the time, unless it waits out a network that fails: for as long as its patience,
    which the metadata has, and half a minute for calls under way.
    """
    try:
        patience_s = float(machine.metadata["flaude_patience_s"])
    except (KeyError, ValueError):
        patience_s = Timeouts.patience
    return patience_s + _PULL_MARGIN_S


def start_deadline_s(machine: Machine) -> float:
    """How long its guest waits for a job, as its own config has it."""
    environment = (machine.config or machine.incomplete_config).get("env")
    try:
        return float(environment[START_DEADLINE]) if isinstance(environment, dict) else Timeouts.start_deadline
    except (KeyError, TypeError, ValueError):
        return Timeouts.start_deadline


def expires_at(machine: Machine) -> datetime | None:
    """When no clock of its own should have let it live; None when its metadata does not say it."""
    try:
        return datetime.fromtimestamp(int(machine.metadata["flaude_expires_at"]), UTC)
    except (KeyError, ValueError, OverflowError, OSError):
        return None
