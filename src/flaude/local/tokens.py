"""Who is let in: the present token, for as long as it lives."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from flaude.local import replies


class LocalTokens:
    """The tokens of a local server: one is valid, those before it are not any more.

    Args:
        first: The first one.
        lives_s: Seconds after which each is refused; None for never.
        clock: Seconds, monotonic.
    """

    def __init__(self, first: str, lives_s: float | None, clock: Callable[[], float]) -> None:
        self._present = first
        self._before: list[str] = []
        self._lives_s = lives_s
        self._clock = clock
        self._made_at = clock()

    def renew(self) -> str:
        """Another token, valid from now on; the present one is refused from now on."""
        self._before.append(self._present)
        self._present, self._made_at = f"local-{secrets.token_hex(16)}", self._clock()
        return self._present

    def check(self, authorization: str) -> None:
        """Whether a request may pass, by its header; refuses with 401.

        The header is read as Fly's Go client writes it: `Bearer` or `FlyV1`, several tokens with commas between them.
        """
        scheme, _, tokens = authorization.partition(" ")
        if scheme.lower() not in ("bearer", "flyv1"):
            raise replies.unauthorized()
        given = [token.strip().encode() for token in tokens.split(",")]
        if _has(given, self._present):
            if self._lives_s is None or self._clock() - self._made_at < self._lives_s:
                return
            raise replies.token_expired()
        if any(_has(given, token) for token in self._before):
            raise replies.token_expired()
        raise replies.unauthorized()


def _has(given: list[bytes], token: str) -> bool:
    return any(secrets.compare_digest(one, token.encode()) for one in given)
