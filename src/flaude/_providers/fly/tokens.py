"""Which token goes with a call: the one that was found and, if Fly refuses it, what can take its place."""

from __future__ import annotations

import logging
import os

import anyio
import anyio.to_thread
from pydantic import SecretStr

from flaude._model.errors import ConfigError, NoTokenError
from flaude._providers.fly import connection

_log = logging.getLogger("flaude.fly")

_READ_AGAIN_S = 1.0  # flyctl writes a new one about once a minute
_SHORTEST_SECRET = 8  # shorter ones are words of tests, and would be found in any text

_RENEW = "`fly tokens create deploy -a APP -x 24h` makes one that lasts"


class Tokens:
    """The token of a client. It never shows one: neither in its repr, nor in what it logs.

    A token that was given as an argument stays what it is. One from the environment or from flyctl's `config.yml` is
    read again when Fly refuses it: flyctl renews the short-lived token of `fly auth login` there, about once a minute
    while it runs. Of a list that has both kinds, the OAuth part is tried alone when the macaroons are refused.

    Args:
        given: The token, where it was given; else it is found when `find` is called.

    Raises:
        ConfigError: The given one cannot be sent in a header.
    """

    def __init__(self, given: str | None) -> None:
        self._given = bool(given and connection.token_parts(given))
        self._place = "token="
        self._token = SecretStr("")
        self._forms: list[SecretStr] = []
        self._form = 0
        self._seen: set[str] = set()
        self._read_at = float("-inf")
        if self._given:
            self._use(connection.find_token(given, {}), self._place)

    async def find(self) -> None:
        """Find it.

        Raises:
            NoTokenError: There is none.
            ConfigError: See `connection.find_token`.
        """
        if not self._forms:
            self._read_at = anyio.current_time()
            self._use(*await anyio.to_thread.run_sync(connection.find_token_and_place, None, os.environ))

    @property
    def header(self) -> SecretStr:
        """The Authorization header as it is to be sent now."""
        return self._forms[self._form]

    @property
    def how_to_renew(self) -> str:
        """What a person can do when Fly refuses it."""
        if self._place == connection.FLYCTL:
            return f"run any `fly` command, which renews the token in flyctl's config.yml ({_RENEW})"
        return f"give another one as {self._place}: {_RENEW}"

    def redact(self, text: str) -> str:
        """The text without any token that was ever in use here."""
        for part in sorted(self._seen, key=len, reverse=True):  # one may be the beginning of another
            text = text.replace(part, "[token]")
        return text

    async def another(self) -> bool:
        """The present header was refused: go on with another one, if there is any; whether it is a new token.

        Reads where the token is from again, at most about once a second. Without a new one, the other form of the
        present one has its turn. Not to be called twice at the same time.
        """
        now = anyio.current_time()
        if not self._given and now - self._read_at >= _READ_AGAIN_S:
            self._read_at = now
            try:
                found, place = await anyio.to_thread.run_sync(connection.find_token_and_place, None, os.environ)
            except (NoTokenError, ConfigError):
                # The file may be half written at this moment: what we have is no worse.
                _log.debug("no Fly token was found when it was read again")
            else:
                if found != self._token.get_secret_value():
                    self._use(found, place)
                    _log.info("Fly has refused the token; another one was found (%s)", place)
                    return True
        self._form = (self._form + 1) % len(self._forms)
        return False

    @property
    def forms(self) -> int:
        """In how many ways the present token can be sent."""
        return len(self._forms)

    def _use(self, token: str, place: str) -> None:
        self._token, self._place = SecretStr(token), place
        self._forms, self._form = [SecretStr(one) for one in connection.authorizations(token)], 0
        self._seen |= {part for part in connection.token_parts(token) if len(part) >= _SHORTEST_SECRET}
