"""One call to the Machines API: paced, sent over the pool, repeated where it may be, and read."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

import anyio
from pydantic import SecretStr

from flaude._model.errors import FlyError, NotAllowedError, RateLimitedError, UnreachableError
from flaude._offload import offload
from flaude._providers.fly import connection
from flaude._providers.fly.access import Access
from flaude._providers.fly.calls import Call
from flaude._providers.fly.failures import failure
from flaude._providers.fly.pacing import Pace
from flaude._providers.fly.retries import repeating
from flaude._providers.fly.tokens import Tokens
from flaude._providers.http import Answer, Http, NoAnswerError
from flaude._version import __version__

_log = logging.getLogger("flaude.fly")

T = TypeVar("T")

_ANSWER_MARGIN_S = 15.0
# A thousand runs that end together are a thousand calls: no server, and no memory of ours, has to bear them at once.
_MOST_AT_ONCE = 64
# Fly takes up to two seconds and a half for each machine, and makes one a second in each of up to 64 apps.
_MOST_CREATES_AT_ONCE = 192
# Where nothing limits them they would only keep what has been made from going on.
_MOST_UNLIMITED_CREATES = 16


class ConnectionQuotas(NamedTuple):
    """Limits of concurrent calls, one for each kind; every call in flight has a connection of its own.

    Attributes:
        at_once: Limits calls that Fly answers at once.
        creating: Limits create calls, so that runs that have a machine make progress while a thousand others still
            wait for theirs. A slot is held from the moment the rate limiter admits a call until Fly answers; a call
            that still waits for a slot has sent nothing.
        waiting: Limits calls that wait inside Fly; without it they would take the connections of all others.
    """

    at_once: int
    creating: int
    waiting: int

    @classmethod
    def of(cls, connections: int, *, limited: bool) -> ConnectionQuotas:
        """Share out the connections: most go to calls that wait, for up to 15 seconds each.

        Args:
            connections: How many there are.
            limited: Whether creates have a rate limit.
        """
        at_once = max(1, min(_MOST_AT_ONCE, connections // 4))
        most_creates = _MOST_CREATES_AT_ONCE if limited else _MOST_UNLIMITED_CREATES
        creating = max(1, min(most_creates, connections // 8))
        return cls(at_once, creating, max(1, connections - at_once - creating))


class Sender:
    """Sends calls; use it as `async with`. Arguments and errors are `FlyClient`'s.

    Attributes:
        creating: The room for those who create a machine, from their turn until they are answered: who has not got in
            has not begun.
    """

    def __init__(
        self,
        *,
        base_url: str | None,
        token: str | None,
        timeout_s: float,
        retry_for_s: float,
        rate_limits: float | None,
    ) -> None:
        self.base_url = connection.base_url(base_url, os.environ)
        # Without one the environment is asked on entering: flyctl's file is read then.
        self._tokens = Tokens(token)
        self._access = Access(self._tokens, self._is_let_in)
        self._timeout_s = timeout_s
        self._retry_for_s = retry_for_s
        self._rate_limits = rate_limits
        self._pace = Pace(rate_limits)
        self._room = self._waiting_room = anyio.CapacityLimiter(_MOST_AT_ONCE)
        self.creating = anyio.CapacityLimiter(_MOST_UNLIMITED_CREATES)
        self._told_crowded = False
        self._http: Http | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Open the pool.

        Raises:
            NoTokenError: There is no token; see `FlyClient`.
        """
        await self._tokens.find()
        headers = {"User-Agent": f"flaude/{__version__}"}
        self._http = await self._stack.enter_async_context(Http(self.base_url, headers))
        rooms = ConnectionQuotas.of(self._http.most, limited=self._rate_limits is not None)
        self._room, self._waiting_room = anyio.CapacityLimiter(rooms.at_once), anyio.CapacityLimiter(rooms.waiting)
        self.creating = anyio.CapacityLimiter(rooms.creating)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the pool."""
        self._http = None
        await self._stack.aclose()

    @property
    def share(self) -> float:
        """Which part of its time a call may wait inside Fly so that all who want to have their turn in that time."""
        room = self._waiting_room
        if room.available_tokens > 0:
            return 1.0
        return room.total_tokens / (room.total_tokens + room.statistics().tasks_waiting)

    async def ask(self, call: Call, read: Callable[[bytes], T]) -> T:
        """Wait for the call's turn, then `send` it."""
        await self.turn(call)
        return await self.send(call, read)

    async def turn(self, call: Call, *, again: bool = False) -> None:
        """Return when Fly's rate limits allow the call; `again` says that it has been sent before.

        Raises:
            TokenExpiredError: Fly does not accept the token now: there is no point in waiting for a turn.
        """
        await self._access.heed(call)
        await self._pace.wait(call.action, call.identifier, again=again)

    async def send(self, call: Call, read: Callable[[bytes], T]) -> T:
        """Send a call whose turn it is until there is an answer that counts.

        Args:
            call: What to ask for.
            read: Makes a value of the answer's body; a ValueError of it means that the answer is not readable.

        Raises:
            FlyError: Fly's last answer, or that there was none.
        """

        async def attempt(number: int) -> T:
            if number > 1:
                await self.turn(call, again=True)
            return await self._let_in(call, read)

        return await repeating(
            attempt,
            f"{call.method} {call.where}",
            for_s=self._retry_for_s,
            harmless=call.harmless,
            takes_time=call.takes_s > 0,
        )

    async def _let_in(self, call: Call, read: Callable[[bytes], T]) -> T:
        """Send a call; when its token is refused, again with another one, or because that may have been a blip."""
        repeats = 0
        while True:
            await self._access.heed(call)
            header, sent_at = self._tokens.header, anyio.current_time()
            try:
                async with self._room_for(call):
                    answer = await self._once(call, read, header)
            except NotAllowedError as error:
                if not await self._access.refused(call, error, header, sent_at=sent_at, repeats=repeats):
                    raise
            else:
                self._access.taken(call, sent_at)
                return answer
            repeats += 1
            await self.turn(call, again=True)

    async def _is_let_in(self, call: Call) -> bool | None:
        """Whether Fly accepts the present token, asked with a call that has worked; `None` if it does not answer."""
        await self._pace.wait(call.action, call.identifier, again=True)
        try:
            await self._once(call, len, self._tokens.header)
        except NotAllowedError:
            return False
        except (RateLimitedError, UnreachableError):
            return None
        except FlyError:  # the app may be gone by now: who is not let in does not hear that
            return True
        return True

    async def answer(self, call: Call) -> Answer:
        """Fly's answer to a call as it comes, whatever its status; sent once, and not paced.

        Raises:
            UnreachableError: There is none.
        """
        async with self._room_for(call):
            return await self._answered(call, self._tokens.header)

    def _room_for(self, call: Call) -> AbstractAsyncContextManager[None]:
        """Those who wait leave connections for those who do not: else the end of a run could not be acknowledged."""
        if call.action == "create_machine":
            return nullcontext()  # whoever creates is in `creating`
        if not call.waits:
            return self._room
        room = self._waiting_room
        if room.available_tokens <= 0 and not self._told_crowded:
            self._told_crowded = True
            _log.warning(
                "more runs than connections (%d): news of them come later; `ulimit -n` says how many files a process "
                "may open",
                room.total_tokens,
            )
        return room

    async def _once(self, call: Call, read: Callable[[bytes], T], header: SecretStr) -> T:
        answer = await self._answered(call, header)
        request_id = answer.headers.get("fly-request-id", "")
        if call.heard is not None:
            call.heard(call, answer.status, request_id)
        if not 200 <= answer.status < 300:
            raise failure(answer, call.method, call.where, lambda text: call.clean(self.redact(text)))
        try:
            return await offload(len(answer.content), read, answer.content)
        except ValueError:
            # What is wrong with the answer would be told with the answer's content, which may be a secret.
            raise UnreachableError(
                "Fly's answer is cut, or not what its API promises",
                method=call.method,
                path=call.where,
                status=answer.status,
                request_id=request_id,
            ) from None

    async def _answered(self, call: Call, header: SecretStr) -> Answer:
        if self._http is None:
            raise RuntimeError("use FlyClient as `async with FlyClient(...) as fly`")
        try:
            return await self._http.request(
                call.method,
                f"/v1{call.where}",
                body=None if call.body is None else json.dumps(call.body).encode(),
                headers={"Authorization": header.get_secret_value()},
                connect_s=self._timeout_s,
                answer_s=max(self._timeout_s, call.takes_s + min(self._timeout_s, _ANSWER_MARGIN_S)),
            )
        except NoAnswerError as error:
            told = call.clean(self.redact(str(error)))
            raise UnreachableError(
                f"no answer from {self.base_url}: {told}", method=call.method, path=call.where
            ) from error

    def redact(self, text: str) -> str:
        """The text without any token that has been used."""
        return self._tokens.redact(text)
