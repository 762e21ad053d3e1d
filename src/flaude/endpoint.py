"""Which Machines API to talk to, and with which token."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from flaude.errors import ConfigError

if TYPE_CHECKING:
    from flaude.fly import FlyClient


class FlyEndpoint(Protocol):
    """Where a Machines API is and the token that it takes: `flaude.local.LocalFly` is one."""

    @property
    def base_url(self) -> str:
        """Base URL without `/v1`."""

    @property
    def token(self) -> str:
        """The token to send."""


def check_endpoint(fly: FlyEndpoint | None, *, token: str | None, base_url: str | None) -> None:
    """Nobody can go to two places.

    Raises:
        ConfigError: An endpoint was given, and a token or an address besides.
    """
    if fly is not None and (token is not None or base_url is not None):
        raise ConfigError("fly: brings its own token and base_url; leave those two out")


def check_app_name(app_name: str) -> None:
    """Whether Fly can have an app of that name.

    Raises:
        ConfigError: It cannot.
    """
    if not isinstance(app_name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", app_name):
        raise ConfigError(f"app_name: {app_name!r} is no app name; use up to 63 of a-z, 0-9 and '-'")


def client_for(
    fly: FlyEndpoint | None,
    *,
    token: str | None,
    base_url: str | None,
    timeout_s: float = 30.0,
    retry_for_s: float = 60.0,
    rate_limits: float | None = 1.0,
) -> FlyClient:
    """The client for an endpoint, or else for an address and a token, or else for what the environment has.

    Raises:
        NoTokenError: There is no Fly token.
        ConfigError: See `check_endpoint`; or the address or token is of no use.
    """
    from flaude.fly import FlyClient  # noqa: PLC0415  # with all of HTTP: only who connects
    from flaude.probe.saved import measured_limits  # noqa: PLC0415  # as above

    check_endpoint(fly, token=token, base_url=base_url)
    if fly is not None:
        base_url, token = fly.base_url, fly.token
    return FlyClient(
        base_url=base_url,
        token=token,
        timeout_s=timeout_s,
        retry_for_s=retry_for_s,
        rate_limits=rate_limits,
        measured=measured_limits if fly is None else None,
    )
