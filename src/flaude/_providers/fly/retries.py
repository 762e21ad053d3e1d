"""Which failed calls are sent again, after how long, and for how long."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from flaude._model.backoff import doubled, jitter
from flaude._model.errors import FlyError, RateLimitedError, UnreachableError
from flaude._providers.http import NoAnswerError

_log = logging.getLogger("flaude.fly")

T = TypeVar("T")

_INITIAL_WAIT_S = 0.2
_LONGEST_WAIT_S = 5.0
_REQUEST_TIMEOUT = 408


def may_repeat(error: Exception, *, harmless: bool, takes_time: bool) -> bool:
    """Whether the call that ended in `error` may be sent again.

    Args:
        error: What came of it.
        harmless: Whether doing it twice is as good as doing it once.
        takes_time: Whether it waits for something; then 408 is an answer: the time is over.
    """
    match error:
        case RateLimitedError():
            return True  # it was turned away at the door
        case UnreachableError(status=int(status)):
            redirect = 300 <= status < 400
            return harmless and not redirect and not (takes_time and status == _REQUEST_TIMEOUT)
        case UnreachableError():
            return harmless or _never_sent(error)
        case _:
            return False


def may_have_been_done(error: Exception) -> bool:
    """Whether Fly may have done what was asked for, though the attempt ended in `error`."""
    match error:
        case UnreachableError(status=int(status)):
            return not 300 <= status < 400  # a redirect does nothing
        case UnreachableError():
            return not _never_sent(error)
        case _:
            return False


def _never_sent(error: UnreachableError) -> bool:
    return isinstance(error.__cause__, NoAnswerError) and not error.__cause__.sent


async def repeating(
    attempt_number: Callable[[int], Awaitable[T]], what: str, *, for_s: float, harmless: bool, takes_time: bool
) -> T:
    """Await `attempt_number(1)`, `attempt_number(2)` and so on until one of them returns.

    Waits 0.2 seconds, then twice as long each time, 5 at most, with jitter; after 429 as long as Fly asks for. No wait
    begins after `for_s` seconds, nor one that would end after them because Fly asks for more. The error that is raised
    says in `may_have_been_done` whether any attempt may have been.

    Args:
        attempt_number: Makes one attempt.
        what: Name of the call, for the log.
        for_s: Seconds in which attempts may fail and be followed by another.
        harmless: See `may_repeat`.
        takes_time: See `may_repeat`.
    """
    ends = anyio.current_time() + for_s
    maybe, number = False, 1
    while True:
        try:
            return await attempt_number(number)
        except Exception as error:
            maybe = maybe or may_have_been_done(error)
            if isinstance(error, FlyError):
                error.may_have_been_done = maybe
            now, asked_s = anyio.current_time(), getattr(error, "retry_after_s", None)
            if now >= ends or not may_repeat(error, harmless=harmless, takes_time=takes_time):
                raise
            if asked_s and now + asked_s > ends:
                raise
            cause = error
        pause_s = asked_s or jitter(doubled(_INITIAL_WAIT_S, number, _LONGEST_WAIT_S))
        await anyio.sleep(pause_s)
        number += 1
        _log.info("%s: attempt %d, %.1f s after: %s", what, number, pause_s, cause)
