"""What Fly's answers say of a machine that has ended."""

from __future__ import annotations

from typing import Any

import pytest

from flaude import FailureKind
from flaude._model.errors import FlaudeError, InvalidRequestError, NoCapacityError, NotFoundError
from flaude._providers.fly import Machine
from flaude._providers.fly.diagnosis import classify_exit, create_failure, has_ended


@pytest.mark.parametrize("state", ["stopped", "failed", "destroying", "destroyed", "replaced", "migrated"])
def test_what_has_ended(state: str) -> None:
    """Nothing runs any more on a machine of which Fly says one of these words; an unknown word is no end."""
    assert has_ended(Machine(id="m", state=state))
    assert not has_ended(Machine(id="m", state="started")) and not has_ended(Machine(id="m", state="whatever"))


def test_a_machine_that_is_being_stopped_has_not_ended() -> None:
    """Its guest has minutes to hold what it has collected: that is pulled for as long as it answers."""
    assert not has_ended(Machine(id="m", state="stopping"))


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


@pytest.mark.parametrize("code", [0, 137])
@pytest.mark.parametrize("booting", [True, False])
def test_a_stop_that_was_asked_for_is_told(code: int, booting: bool) -> None:
    """A machine that Fly, or somebody, asked to stop is told from one that was lost, whatever it ended with."""
    kind, message = classify_exit(exited(exit_code=code, requested_stop=True), booting=booting)
    assert kind is FailureKind.MACHINE_STOPPED and "asked to stop by Fly" in message
    kind, message = classify_exit(exited(exit_code=code), booting=booting)
    assert kind is FailureKind.MACHINE_LOST and "asked to stop" not in message


def test_a_machine_that_somebody_destroyed_was_not_stopped() -> None:
    """A delete asks its process to stop too: it is no stop of Fly's."""
    exit_ = {"type": "exit", "request": {"exit_event": {"exit_code": 137, "requested_stop": True}}}
    deleted = {"type": "destroy", "status": "destroying", "source": "user"}
    machine = Machine.model_validate({"id": "m", "state": "destroyed", "events": [exit_, deleted]})
    kind, message = classify_exit(machine, booting=False)
    assert kind is FailureKind.MACHINE_LOST and "destroyed by somebody else" in message


def test_a_guest_that_ended_itself_is_told() -> None:
    """Its own clocks end it with code 0: the words say which one it can have been."""
    for booting, words in ((True, "given no job within its start deadline"), (False, "was not reached for too long")):
        kind, message = classify_exit(exited(exit_code=0), booting=booting)
        assert kind is FailureKind.MACHINE_LOST and words in message


def test_an_image_whose_user_is_not_root() -> None:
    """The guest refuses to run in it: the image is to blame, and the words say what to remove."""
    kind, message = classify_exit(exited(exit_code=77), booting=True)
    assert kind is FailureKind.IMAGE and "remove USER from the Dockerfile" in message
    assert classify_exit(exited(exit_code=77), booting=False)[0] is FailureKind.MACHINE_LOST


def test_only_a_machine_that_boots_lacks_its_python() -> None:
    """Exit code 127 is a bad image before the guest has answered, and nothing special later."""
    assert classify_exit(exited(exit_code=127), booting=True)[0] is FailureKind.IMAGE
    assert classify_exit(exited(exit_code=127), booting=False)[0] is FailureKind.MACHINE_LOST
