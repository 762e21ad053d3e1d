"""What Fly's answers say of a run: is its machine over, and why; why there is none. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flaude._model.errors import FlaudeError, InvalidRequestError, MachineLimitError, NoCapacityError
from flaude._model.failures import FailureKind

if TYPE_CHECKING:
    from flaude._providers.fly import Machine
    from flaude._providers.fly.models import ExitEvent

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

_OF_THE_IMAGE = ("image", "manifest")
"""What a refusal that is about the image says: `failed to get manifest …` names it by its address alone."""

ENDED_STATES = frozenset({"stopped", "failed", "destroying", "destroyed", "replaced", "migrated"})
"""The states in which nothing will run on a machine any more.

`stopping` is none of them: what runs in a machine that is being stopped has its `stop_config` to end, and the guest
holds what it has collected for that long. Whether Fly lets an exec into it is not known: asking tells.
"""

NOT_ROOT = 77
"""The guest's exit code where it is not root in a machine of its own (EX_NOPERM of sysexits.h)."""


def has_ended(machine: Machine) -> bool:
    """Whether nothing will run on it any more."""
    return machine.state in ENDED_STATES


def create_failure(error: FlaudeError) -> FailureKind:
    """The kind of failure that a refused create is."""
    if isinstance(error, NoCapacityError | MachineLimitError):
        return FailureKind.CAPACITY
    if isinstance(error, InvalidRequestError) and any(words in error.fly_text.lower() for words in _OF_THE_IMAGE):
        return FailureKind.IMAGE
    return FailureKind.CREATE_REFUSED


def classify_exit(machine: Machine, *, booting: bool) -> tuple[FailureKind, str]:
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
    if booting and event.exit_code == NOT_ROOT:
        return FailureKind.IMAGE, (
            "the image has a USER line, so flaude does not run as root in the machine; remove USER from the Dockerfile "
            "(flaude runs the agent as its own unprivileged user)"
        )
    if event.requested_stop:
        return _stopped(machine, event)
    if event.exit_code == 0:
        # The guest ends with 0 when its own clocks end it, so that Fly destroys the machine at once.
        waited = "was given no job within its start deadline" if booting else "was not reached for too long"
        return FailureKind.MACHINE_LOST, f"the machine is {machine.state}: it {waited} and ended itself (exit code 0)"
    return FailureKind.MACHINE_LOST, f"the machine is {machine.state}: exit code {event.exit_code}"


def _stopped(machine: Machine, event: ExitEvent) -> tuple[FailureKind, str]:
    """Of a machine that ended because it was asked to."""
    ended = f"the machine is {machine.state}: exit code {event.exit_code}"
    if any(found.type == "destroy" and found.source == "user" for found in machine.events):
        return FailureKind.MACHINE_LOST, f"{ended}, destroyed by somebody else"
    return FailureKind.MACHINE_STOPPED, (
        f"{ended}, asked to stop by Fly (trial accounts: after 5 minutes; host maintenance) or by somebody else; what "
        "it had not sent by then is lost"
    )
