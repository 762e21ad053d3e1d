"""Whether Fly takes our token now, found out once for all calls that are refused at the same time.

A 401 says little by itself: it may be a blip, the end of a token that lived ten minutes, or a token that was never for
this app (Fly answers 401 for some apps of others: flyctl, WaitForApp). What has worked before tells them apart.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio
from pydantic import SecretStr

from flaude._model.backoff import jitter
from flaude._model.errors import NotAllowedError, TokenExpiredError
from flaude._providers.fly.tokens import Tokens

if TYPE_CHECKING:
    from flaude._providers.fly.calls import Call

_log = logging.getLogger("flaude.fly")

_UNAUTHENTICATED = 401
_PROOF = "get_app"
_PROBES = 3
_PAUSE_S = 0.3
_MOST_REPEATS = 2
_ASK_AGAIN_S = 1.0


class Access:
    """Decides what a refused call means.

    While the token is known to be refused, one call per second asks whether it is accepted again, and nothing else is
    sent: a thousand waiting runs do not ask a thousand times.

    Args:
        tokens: The client's token.
        ask: Sends a call with the present token; whether Fly takes it, `None` when Fly did not say.
    """

    def __init__(self, tokens: Tokens, ask: Callable[[Call], Awaitable[bool | None]]) -> None:
        self._tokens = tokens
        self._ask = ask
        self._worked: set[tuple[str, str]] = set()
        self._proof: Call | None = None
        self._good_at = self._asked_at = self._refused_at = float("-inf")
        self._refused: NotAllowedError | None = None
        self._finding_out = anyio.Lock()

    def taken(self, call: Call, sent_at: float) -> None:
        """A call that was sent at this time, by the event loop's clock, has worked."""
        self._worked.add((call.action, call.app))
        if call.action == _PROOF and self._proof is None:
            self._proof = call
        if sent_at >= self._refused_at:  # what was sent before says nothing about now
            self._works()

    async def heed(self, call: Call) -> None:
        """Return when there is a point in sending the call.

        Raises:
            TokenExpiredError: Fly does not take the token now.
        """
        if self._refused is None:
            return
        due = anyio.current_time() - self._asked_at >= _ASK_AGAIN_S
        if due and not self._finding_out.locked():
            async with self._finding_out:
                await self._find_out(1)
        if self._refused is not None:
            raise self._expired(call, self._refused, sent=False)

    async def refused(
        self, call: Call, error: NotAllowedError, header: SecretStr, sent_at: float, repeats: int
    ) -> bool:
        """Whether to send a call again that was refused; if not, `error` is Fly's last word on it.

        Args:
            call: The call.
            error: The refusal.
            header: The Authorization header that was sent.
            sent_at: When, by the event loop's clock.
            repeats: How often the call has been sent again for this reason.

        Raises:
            TokenExpiredError: The call, or the token, has worked before.
        """
        has_worked = (call.action, call.app) in self._worked
        if error.status != _UNAUTHENTICATED and not has_worked:
            return False  # a 403 says that this token may not do this: so it was from the start
        async with self._finding_out:
            if self._proof is None:
                if self._tokens.header == header:
                    await self._tokens.another()
                again = repeats < max(self._tokens.forms, _MOST_REPEATS if self._worked else 1)
            else:
                again = await self._is_taken(header, sent_at, error)
                if not again:
                    raise self._expired(call, error)
                again = repeats < (_MOST_REPEATS if has_worked else 1)
        if again:
            await anyio.sleep(jitter(_PAUSE_S))
        elif has_worked:
            raise self._expired(call, error, token_works=self._proof is not None)
        return again

    async def _is_taken(self, header: SecretStr, sent_at: float, error: NotAllowedError) -> bool:
        """Whether Fly takes the present token, as far as is known; found out by who comes first."""
        if self._good_at > sent_at and (self._refused is None or self._tokens.header != header):
            return True
        if self._refused is None:
            # Until it is known better: who asks comes from a call that was refused just now.
            await self._find_out(_PROBES, error)
        return self._refused is None

    async def _find_out(self, probes: int, error: NotAllowedError | None = None) -> None:
        assert self._proof is not None  # noqa: S101  # without one nothing is ever known to be refused
        for number in range(probes):
            if number:
                await anyio.sleep(jitter(_PAUSE_S))
            await self._tokens.another()
            self._asked_at = anyio.current_time()
            if await self._ask(self._proof):
                self._works()
                return
        if error is not None:
            self._refused, self._refused_at = error, anyio.current_time()
            _log.warning("%s", self._words(error))

    def _works(self) -> None:
        self._good_at = anyio.current_time()
        if self._refused is not None:
            self._refused = None
            _log.warning("Fly accepts the token again")

    def _expired(
        self, call: Call, error: NotAllowedError, *, token_works: bool = False, sent: bool = True
    ) -> TokenExpiredError:
        """What a call is told; one that was not sent has neither status nor request id: those are another call's."""
        expired = TokenExpiredError(
            self._words(error, token_works=token_works),
            method=call.method,
            path=call.where,
            status=error.status if sent else None,
            fly_text=error.fly_text,
            request_id=error.request_id if sent else "",
        )
        expired.token_works = token_works
        return expired

    def _words(self, error: NotAllowedError, *, token_works: bool = False) -> str:
        said = f": {error.fly_text}" if error.fly_text else ""
        if token_works:
            told = f"Fly accepts the token for other calls, and now refuses it for this one ({error.status})"
            return f"{told}; see what the token may do, or {self._tokens.how_to_renew}{said}"
        return f"Fly now refuses the token that has worked so far ({error.status}); {self._tokens.how_to_renew}{said}"
