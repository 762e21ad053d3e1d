"""What the stand-in answers when it refuses, in one place.

Where Fly's own words are known they stand here as Fly gives them: the error texts were collected from Fly's docs, the
tests of Fly's own Go client and live replies in public issue trackers (read 2026-11). Where they are not known, the
function says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Reply:
    """One answer: an HTTP status and a JSON body; `body` of None is an empty body.

    Attributes:
        content: The body as it is sent, where who answers has a shorter way to it.
    """

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None


class RefusedError(Exception):
    """Raised by a handler to answer with an error.

    Attributes:
        reply: The answer.
    """

    def __init__(self, status: int, text: str, code: str = "") -> None:
        super().__init__(text)
        self.reply = Reply(status, {"error": text, "status": code} if code else {"error": text})


def unauthorized() -> RefusedError:
    """401, in the words that users of flyctl saw (superfly/flyctl issue 5196)."""
    return RefusedError(401, "Authenticate: token validation error")


def token_expired() -> RefusedError:
    """401 for a token whose time is over, in the words that users saw in the middle of their work."""
    return RefusedError(401, "verify: invalid token: missing third-party discharge tokens")


def rate_limited() -> RefusedError:
    """429; the text is the one that users saw on creates, a `Retry-After` is not known."""
    return RefusedError(429, "resource_exhausted: rate limit exceeded")


def insufficient_capacity() -> RefusedError:
    """422: no host of the regions that were asked for has room (the tests of Fly's Go client)."""
    return RefusedError(422, "could not find a candidate host", "insufficient_capacity")


def machine_limit() -> RefusedError:
    """422: the organization has as many machines as it may have (seen by four projects)."""
    return RefusedError(422, "Your organization has reached its machine limit. Please contact billing@fly.io")


def shutting_down() -> RefusedError:
    """503 while the stand-in ends; Fly has no such state."""
    return RefusedError(503, "unavailable: the local API is shutting down")


def invalid(text: str) -> RefusedError:
    """400 with the reason in `text`."""
    return RefusedError(400, text)


def app_not_found(name: str) -> RefusedError:
    """404 for an app."""
    return RefusedError(404, f'Could not find App "{name}"')


def app_young() -> RefusedError:
    """404 for creates and lists of machines in an app that was made just now (as a public client saw it)."""
    return RefusedError(404, "app not found")


def app_name_taken() -> RefusedError:
    """422: app names are global."""
    return RefusedError(422, "Validation failed: Name has already been taken", "name_taken")


def app_name_invalid() -> RefusedError:
    """422 for the form of a name."""
    return RefusedError(422, "Validation failed: Name under 63 chars using numbers, lowercase letters and dashes")


def app_of_others() -> RefusedError:
    """403: the app is in an organization that the token may not see."""
    return RefusedError(403, "unauthorized")


def network_invalid() -> RefusedError:
    """422 for the form of a network's name; Fly's words are not known."""
    return RefusedError(422, "Validation failed: Network letters, digits and dashes, beginning with a letter")


def app_has_machines() -> RefusedError:
    """412: delete without `force`; Fly's words are not known."""
    return RefusedError(412, "failed_precondition: app still has machines, destroy them first or use force=true")


def machine_not_found() -> RefusedError:
    """404: never was, or destroyed some time ago."""
    return RefusedError(404, "not_found: machine not found")


def name_violation(machine_id: str, name: str) -> RefusedError:
    """409: a living machine of the app has this name."""
    return RefusedError(
        409,
        f'already_exists: unique machine name violation, machine ID {machine_id} already exists with name "{name}"',
    )


def no_performance() -> RefusedError:
    """422: the organization may have shared CPUs only; neither Fly's words nor the status are known."""
    return RefusedError(422, "failed_precondition: performance CPUs are not available to this organization")


def concurrent_update() -> RefusedError:
    """409: `current_version` is no longer the machine's version."""
    return RefusedError(409, "aborted: machine update failed due to concurrent update")


def wait_timeout_out_of_range() -> RefusedError:
    """400: a wait must take 1 to 60 s; Fly does not clamp."""
    return RefusedError(
        400, "invalid_argument: invalid WaitMachineRequest.Timeout: value must be inside range [1s, 1m0s]"
    )


def wait_not_met(wanted: str, state: str) -> RefusedError:
    """408: the wait took its time in vain."""
    return RefusedError(408, f"deadline_exceeded: machine failed to reach desired state, {wanted}, currently {state}")


def cannot(verb: str, state: str) -> RefusedError:
    """412: the state forbids it (`verb` is `start`, `stop`, ...)."""
    return RefusedError(412, f"failed_precondition: unable to {verb} machine from current state: '{state}'")


def not_stopped() -> RefusedError:
    """412: delete without force of a machine that runs."""
    return RefusedError(412, "failed_precondition: unable to destroy machine, not currently stopped")


def not_running() -> RefusedError:
    """412: exec or signal, and no process is there."""
    return RefusedError(412, "failed_precondition: machine not running")


def exec_ended_with_machine() -> RefusedError:
    """412: the machine died under an exec."""
    return RefusedError(412, "failed_precondition: exec request failed: EOF")


def exec_too_long() -> RefusedError:
    """408: an exec took longer than its timeout."""
    return RefusedError(
        408,
        'deadline_exceeded: Post "http://unix/v1/exec": net/http: request canceled '
        "(Client.Timeout exceeded while awaiting headers)",
    )


def exec_timeout_too_long(longest_s: int) -> RefusedError:
    """400: an exec asked for more time than there is; Fly does not clamp (four projects saw it)."""
    return RefusedError(400, f"timeout must not exceed {longest_s} seconds")


NO_SUCH_FILE = 'ExecError(Io(Os { code: 2, kind: NotFound, message: "No such file or directory" }))'
"""Why the init inside a machine could not run a command, as its source (superfly/init-snapshot) suggests it."""


def exec_rejected(why: str) -> Reply:
    """200 and no exit code: the init inside the machine did not run the command (seen by two projects)."""
    return Reply(200, {"stdout": f"Unhandled rejection: Rejection([{why}])"})


def create_too_large(largest: int) -> RefusedError:
    """400: the docs say that a machine's config has a size limit; Fly's words and status are not known."""
    return RefusedError(400, f"invalid_argument: machine config exceeds the size limit of {largest} bytes")


def host_unreachable() -> RefusedError:
    """408: the machine's host does not answer; Fly's words are not known."""
    return RefusedError(408, "deadline_exceeded: the machine's host did not answer in time")


def stale_metadata() -> RefusedError:
    """412: `machine_version` or `updated_at` is not the machine's; Fly's words are not known."""
    return RefusedError(412, "failed_precondition: machine version does not match")


def metadata_key_not_found(key: str) -> RefusedError:
    """404 for one key; Fly's words are not known."""
    return RefusedError(404, f"not_found: metadata key {key} not found")
