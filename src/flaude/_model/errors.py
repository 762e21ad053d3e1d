"""The errors that flaude raises, grouped by what the caller can do about them.

FlaudeError
├── ConfigError                     fix the input: the message names the field
│   └── NoCredentialsError          give a Claude Code token, in the config or the environment
├── FlyError                        the Machines API said no, or nothing
│   ├── NoTokenError                give a Fly token
│   ├── NotAllowedError             give another Fly token, or ask for the right
│   │   └── TokenExpiredError       renew the Fly token: it has worked before
│   ├── NotFoundError               create it, or correct the name
│   ├── NameTakenError              choose another name
│   ├── NoCapacityError             try later, elsewhere or smaller
│   ├── MachineLimitError           wait until machines have gone, or ask Fly for more
│   ├── InvalidRequestError         correct what was asked for
│   │   └── PayloadTooLargeError    send less at once
│   ├── NoSuchProgramError          use an image that has the program
│   ├── NotReadyError               wait: the machine's state forbids this now
│   ├── RateLimitedError            wait
│   └── UnreachableError            wait, or look at the network
├── JournalError                    the record of batches cannot be read or written; the message says why
│   ├── NoSuchBatchError            correct the batch's id: `flaude ps` lists them
│   ├── BatchHeldError              wait for the process that carries it out, or end it
│   └── LeaseLostError              another process has taken the batch over: leave it to that one
├── BatchLeftError                  renew the Fly token, and resume the batch
├── GuestError                      the supervisor inside the machine answered with an error
└── RunError                        a run failed
    ├── RunFailedError              it was stopped, or lost something; `failure` says why, `result` has the rest
    └── MachineExitError            the agent ended with another exit code than zero

A batch that a signal has ended raises `Interrupted` (a KeyboardInterrupt) or `Terminated` (a SystemExit): they end the
program, as the signal asked for, unless it says otherwise: catch them around `run_batch`, or around `asyncio.run`. In
another task than the main one they are a CancelledError as well, so that they break off nobody's cleanup.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Self, TypeGuard, TypeVar

from flaude._model.failures import FailureKind, Phase

if TYPE_CHECKING:  # they are pydantic's, and everything imports the errors
    from flaude._model.results import BatchResult, Leftover
    from flaude._model.run_result import Failure, RunResult


_Error = TypeVar("_Error", bound="FlaudeError")


class FlaudeError(Exception):
    """Base of all errors that flaude raises on purpose; they can be copied and pickled, as results can."""

    def __reduce__(self) -> tuple[Callable[..., FlaudeError], tuple[object, ...]]:
        """Not by their arguments: those are data, and `args` has the sentence that is made of them."""
        return _made_again, (type(self), self.args, self.__dict__)


def _made_again(kind: type[_Error], args: tuple[object, ...], state: dict[str, object]) -> _Error:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class _RefusalError(FlaudeError):
    _kind: ClassVar[FailureKind] = FailureKind.CREATE_REFUSED

    @property
    def failure(self) -> Failure:
        """What it is for a run that it kept from its first attempt."""
        from flaude._model.run_result import Failure  # noqa: PLC0415  # as above

        return Failure(kind=self._kind, phase=Phase.QUEUED, message=str(self))


class ConfigError(_RefusalError):
    """The input is wrong; the message names the field and the fix.

    It is no `ValueError` on purpose: pydantic would swallow one that a validator raises and repackage it.

    Args:
        message: `field: what is wrong; the fix`.
        wrong: Field and sentence of each thing that is wrong, where the message names several.

    Attributes:
        wrong: Likewise; of a single thing too.
    """

    def __init__(self, message: str, wrong: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        field, colon, sentence = message.partition(": ")
        self.wrong = tuple(wrong) or ((field, sentence) if colon else ("", message),)


class NoCredentialsError(ConfigError):
    """Neither the config nor the environment has a token for Claude Code."""

    _kind = FailureKind.AUTH

    def __init__(self) -> None:
        super().__init__(
            "claude_code_oauth_token: no Claude Code credentials; set CLAUDE_CODE_OAUTH_TOKEN or ANTHROPIC_API_KEY in "
            "the environment, or give claude_code_oauth_token or anthropic_api_key (`claude setup-token` makes a "
            "long-lived token)"
        )


class FlyError(_RefusalError):
    """A call to Fly's Machines API failed.

    Args:
        message: What went wrong and, where there is one, the fix. Never holds a token.
        method: HTTP method, `""` when no request was made.
        path: URL path with query, `""` when no request was made.
        status: HTTP status, `None` when no answer came.
        fly_text: Fly's own error text as it stands.
        request_id: The `fly-request-id` header, for Fly's support.

    Attributes:
        may_have_been_done: Whether Fly may have done what was asked, though it did not say so: this attempt, or one
            before it, was sent and not answered.
    """

    may_have_been_done = False

    def __init__(
        self,
        message: str,
        *,
        method: str = "",
        path: str = "",
        status: int | None = None,
        fly_text: str = "",
        request_id: str = "",
    ) -> None:
        super().__init__(message + _place(method, path, status))
        self.method = method
        self.path = path
        self.status = status
        self.fly_text = fly_text
        self.request_id = request_id

    def meaning(self, told: str) -> Self:
        """The same error with a sentence that says what it means to the caller, before Fly's own text."""
        message = f"{told}: {self.fly_text}" if self.fly_text else told
        return _made_again(type(self), (message + _place(self.method, self.path, self.status),), self.__dict__)


def _place(method: str, path: str, status: int | None) -> str:
    return f" [{method} {path}{f' -> {status}' if status is not None else ''}]" if method else ""


class NoTokenError(FlyError):
    """No Fly token was given and none was found."""

    def __init__(self) -> None:
        super().__init__(
            "token: no Fly.io token; put the one that `fly tokens create deploy -a my-app -x 24h` prints into "
            "FLY_API_TOKEN, pass token=, or log in with `fly auth login` (that token dies within minutes)"
        )


class NotAllowedError(FlyError):
    """Fly refused the token (401), or the token may not do this (403)."""


class TokenExpiredError(NotAllowedError):
    """A token that has worked until now is refused (401, 403): renew it, and pending calls continue.

    Nothing was done. The client has looked for another token before: see `flaude._providers.fly.FlyClient`.

    Attributes:
        token_works: Whether Fly accepts the token for other calls all the same, and refuses this one, which it has
            answered before.
    """

    _kind = FailureKind.API
    token_works = False


class NotFoundError(FlyError):
    """The app, machine or other thing does not exist (404).

    Attributes:
        denies_app: Whether Fly says that it is the app that does not exist.
    """

    denies_app = False


class NameTakenError(FlyError):
    """The name belongs to another app or to a living machine (409, 422).

    Args:
        message: See `FlyError`; so are the other keywords.
        machine_id: Id of the machine that holds the name, when Fly says it.
    """

    def __init__(
        self,
        message: str,
        *,
        machine_id: str | None = None,
        method: str = "",
        path: str = "",
        status: int | None = None,
        fly_text: str = "",
        request_id: str = "",
    ) -> None:
        super().__init__(message, method=method, path=path, status=status, fly_text=fly_text, request_id=request_id)
        self.machine_id = machine_id


class NoCapacityError(FlyError):
    """Fly has no room for this machine now in this region, or on the volume's host."""

    _kind = FailureKind.CAPACITY


class MachineLimitError(FlyError):
    """The organisation has as many machines as Fly lets it have, in all its apps and stopped ones too (422)."""

    _kind = FailureKind.CAPACITY


class InvalidRequestError(FlyError):
    """Fly refused the request as invalid (400, 422)."""


class PayloadTooLargeError(InvalidRequestError):
    """What was sent is larger than Fly takes at once; nothing of it was used."""


class NoSuchProgramError(FlyError):
    """A command could not be started in a machine: its image does not have the program."""

    _kind = FailureKind.IMAGE


class NotReadyError(FlyError):
    """The machine's present state forbids the call (412), or a lease or update holds it (409)."""


class RateLimitedError(FlyError):
    """Fly's rate limit was still exceeded after all retries (429); `retry_after_s` is Fly's word on it, if any."""

    _kind = FailureKind.API
    retry_after_s: float | None = None


class UnreachableError(FlyError):
    """No answer, a broken one, a server error (5xx) or a time-out (408), after all retries."""

    _kind = FailureKind.API


class JournalError(FlaudeError):
    """The journal cannot be read or written, or was written by a newer flaude."""


class NoSuchBatchError(JournalError):
    """No batch of that id is in the journal, or several begin like it."""


class BatchHeldError(JournalError):
    """Another process carries out this batch now."""


class LeaseLostError(JournalError):
    """Another process has taken this batch over, because it did not hear of this one for too long."""


class BatchLeftError(FlaudeError):
    """A batch was left as it is, for `resume`: Fly has refused its token for longer than `Timeouts.patience`.

    Its machines go on alone, for as long as `Timeouts.orphan` and `linger` say. With a token that works,
    `ConcurrentExecutor.resume` (`flaude resume`) collects their work; nothing is paid twice. When a signal ends the
    program at that moment, this is the `__cause__` of the `Interrupted` or `Terminated` that is raised.

    Args:
        message: Why, and what to do.
        batch: The results of the runs that are over, and the batch's id.
        leftovers: The machines that may be alive.
    """

    def __init__(self, message: str, batch: BatchResult, leftovers: Sequence[Leftover] = ()) -> None:
        super().__init__(message)
        self.batch = batch
        self.leftovers = tuple(leftovers)


class GuestError(FlaudeError):
    """The supervisor inside the machine refused a call or answered something unreadable."""


class RunError(FlaudeError):
    """A run failed."""


class RunFailedError(RunError):
    """A run did not come to the agent's own end, or its work not back whole.

    Args:
        failure: Kind, phase and message of what ended it.
        result: What came back all the same, where `run` or `run_and_destroy` raises it.
    """

    def __init__(self, failure: Failure, result: RunResult | None = None) -> None:
        self._failure = failure
        self.result = result
        super().__init__(f"{failure.kind} ({failure.phase}): {failure.message}")

    @property
    def failure(self) -> Failure:
        """What ended the run."""
        return self._failure


class MachineExitError(RunError):
    """The agent ended with an exit code other than zero.

    Args:
        machine_id: Id of the machine that ran it.
        exit_code: The exit code; `None` when the agent never ran.
        state: Last known state of the machine, in Fly's words.
        logs: The last lines of the agent's output.
        reason: What flaude made of it, one line; may be empty.
        result: All that came back: the patch, the cost, the rest.
    """

    def __init__(
        self,
        machine_id: str,
        exit_code: int | None,
        state: str,
        logs: list[str] | None = None,
        *,
        reason: str = "",
        result: RunResult | None = None,
    ) -> None:
        self.result = result
        self.machine_id = machine_id
        self.exit_code = exit_code
        self.state = state
        self.logs = logs or []
        self.reason = reason
        tail = "\n".join(self.logs)
        super().__init__(
            f"machine {machine_id} exited with code {exit_code}"
            + (f": {reason}" if reason else "")
            + (f"\n{tail}" if tail else "")
        )


class Interrupted(KeyboardInterrupt):  # it is what its base is: no error
    """SIGINT (Ctrl-C) has ended a batch; raised when its machines are dealt with.

    Args:
        batch: What the runs came to, collected before their machines were destroyed.
        batches: The same of all batches that the signal has ended, this one too.
    """

    def __init__(self, batch: BatchResult, batches: Sequence[BatchResult] = ()) -> None:
        super().__init__("the batch was interrupted")
        self.batch = batch
        self.batches = tuple(batches) or (batch,)


class Terminated(SystemExit):  # it is what its base is: no error
    """SIGTERM has ended a batch; raised when its machines are dealt with. Unless caught, the exit code is 143.

    Args:
        batch: What the runs came to, collected before their machines were destroyed.
        batches: The same of all batches that the signal has ended, this one too.
    """

    def __init__(self, batch: BatchResult, batches: Sequence[BatchResult] = ()) -> None:
        super().__init__(128 + signal.SIGTERM)
        self.batch = batch
        self.batches = tuple(batches) or (batch,)


def refuses_token(error: Exception) -> TypeGuard[TokenExpiredError]:
    """Whether Fly refuses the token for all calls: if it is for one call alone, that is the trouble of one run."""
    return isinstance(error, TokenExpiredError) and not error.token_works
