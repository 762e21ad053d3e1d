"""What Fly's answers say of a run: is its machine over, and why; why there is none. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flaude.errors import FlaudeError, InvalidRequestError, NoCapacityError
from flaude.failure import FailureKind

if TYPE_CHECKING:
    from flaude.fly import Machine

GONE = "destroyed"
"""The state of a machine that is no more."""

STARTED = "started"
"""The state of a machine that runs."""

UNKNOWN_S = 15.0
"""Seconds for which a new machine may be unknown to the node that answers (Fly staff, flyctl PR 4618)."""

NEEDS_PYTHON = "the image needs python3 3.9 or newer"

# 127 and 126 are a shell's codes for a program that is missing or cannot be run; with 1 ends Fly's init that could not
# start it (seen by users), and an older Python that cannot read the guest.
_NO_PYTHON = frozenset({1, 126, 127})

OUT_OF_MEMORY = "the machine ran out of memory; give it more with vm_size or vm_memory_mb"

ENDED_STATES = frozenset({"stopping", "stopped", "failed", "destroying", "destroyed", "replaced", "migrated"})
"""The states in which nothing will run on a machine any more."""


def has_ended(machine: Machine) -> bool:
    """Whether nothing will run on it any more."""
    return machine.state in ENDED_STATES


def create_failure(error: FlaudeError) -> FailureKind:
    """The kind of failure that a refused create is."""
    if isinstance(error, NoCapacityError):
        return FailureKind.CAPACITY
    if isinstance(error, InvalidRequestError) and "image" in error.fly_text.lower():
        return FailureKind.IMAGE
    return FailureKind.CREATE_REFUSED


def cause(machine: Machine, *, booting: bool) -> tuple[FailureKind, str]:
    """Why a machine ended that should not have, by its exit event.

    Args:
        machine: As Fly last showed it.
        booting: Whether its guest has not yet answered.
    """
    event = machine.exit_event
    if event is None:
        return FailureKind.MACHINE_LOST, f"the machine is {machine.state}, and Fly does not say why"
    if event.oom_killed:
        return FailureKind.OOM, OUT_OF_MEMORY
    if booting and event.exit_code in _NO_PYTHON:
        return FailureKind.IMAGE, f"{NEEDS_PYTHON}: the machine ended with code {event.exit_code} at its start"
    asked = ", asked to stop by somebody else" if event.requested_stop else ""
    return FailureKind.MACHINE_LOST, f"the machine is {machine.state}: exit code {event.exit_code}{asked}"
