"""What Fly's answers say of a machine that has ended."""

from __future__ import annotations

from typing import Any

import pytest

from flaude import FailureKind
from flaude.diagnosis import cause, create_failure, has_ended
from flaude.errors import FlaudeError, InvalidRequestError, NoCapacityError, NotFoundError
from flaude.fly import Machine


@pytest.mark.parametrize("state", ["stopping", "stopped", "failed", "destroying", "destroyed", "replaced", "migrated"])
def test_what_has_ended(state: str) -> None:
    """Nothing runs any more on a machine of which Fly says one of these words; an unknown word is no end."""
    assert has_ended(Machine(id="m", state=state))
    assert not has_ended(Machine(id="m", state="started")) and not has_ended(Machine(id="m", state="whatever"))


def exited(**event: Any) -> Machine:
    """A machine with such an exit event."""
    events = [{"type": "exit", "request": {"exit_event": event}}]
    return Machine.model_validate({"id": "m", "state": "stopped", "events": events})


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidRequestError("x", fly_text="failed to get manifest ghcr.io/a/b:c: unauthorized"), FailureKind.IMAGE),
        (InvalidRequestError("x", fly_text="invalid Image reference"), FailureKind.IMAGE),
        (InvalidRequestError("x", fly_text="invalid config.guest.cpus"), FailureKind.CREATE_REFUSED),
        (NotFoundError("x", fly_text="Could not find App manifest"), FailureKind.CREATE_REFUSED),
        (NoCapacityError("x"), FailureKind.CAPACITY),
    ],
)
def test_what_kind_of_failure_a_refused_create_is(error: FlaudeError, kind: FailureKind) -> None:
    """What is said of the image is `image`, whether it is called so or by its manifest."""
    assert create_failure(error) is kind


def test_a_stop_that_was_asked_for_is_told() -> None:
    """A machine that somebody asked to stop is told from one that was lost."""
    assert "asked to stop" in cause(exited(exit_code=137, requested_stop=True), booting=False)[1]
    assert "asked to stop" not in cause(exited(exit_code=137), booting=False)[1]


def test_only_a_machine_that_boots_lacks_its_python() -> None:
    """Exit code 127 is a bad image before the guest has answered, and nothing special later."""
    assert cause(exited(exit_code=127), booting=True)[0] is FailureKind.IMAGE
    assert cause(exited(exit_code=127), booting=False)[0] is FailureKind.MACHINE_LOST
