"""Which Machines API to talk to, and with which token: from arguments, the environment and flyctl's config file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from flaude._model.errors import ConfigError, NoTokenError

if TYPE_CHECKING:
    from flaude._providers.fly import FlyClient


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
    from flaude._providers.fly import FlyClient  # noqa: PLC0415  # with all of HTTP: only who connects
    from flaude._providers.fly.probe.saved import measured_limits  # noqa: PLC0415  # as above

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


DEFAULT_BASE_URL = "https://api.machines.dev"
_SCHEME = re.compile(r"^(bearer|flyv1)(\s+|$)", re.IGNORECASE)
_MACAROONS = ("fm1r", "fm1a", "fm2")
_SENDABLE = re.compile(r"[!-~]+")

FLYCTL = "access_token in flyctl's config.yml"
"""The place of a token that flyctl has written: the one of `fly auth login`, which dies within minutes."""


def base_url(argument: str | None, environ: Mapping[str, str]) -> str:
    """Base URL without a trailing slash and without `/v1`.

    Order: the argument, `FLY_FLAPS_BASE_URL` (flyctl's variable), `FLY_API_HOSTNAME` (the docs' variable, which they
    write with and without a scheme), Fly's public address.

    Raises:
        ConfigError: It is no URL that requests can go to.
    """
    url = argument or environ.get("FLY_FLAPS_BASE_URL") or environ.get("FLY_API_HOSTNAME") or DEFAULT_BASE_URL
    if "://" not in url:
        url = f"https://{url}"
    if "@" in url:
        # It would be sent instead of the token, and be shown in errors: also in that of a URL that is none, so this is
        # asked first.
        raise ConfigError("base_url: must not have a user name or password in it; pass token= instead")
    try:
        parts = urlsplit(url)
        port = parts.port or 0
    except ValueError as error:
        raise ConfigError(f"base_url: no URL: {error}") from None
    usable = _SENDABLE.fullmatch(url) and parts.scheme in ("http", "https") and parts.hostname and 0 <= port <= 65535
    if not usable:
        raise ConfigError(f"base_url: must be like {DEFAULT_BASE_URL}, not {url!r}")
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def find_token(argument: str | None, environ: Mapping[str, str]) -> str:
    """The token: the argument, `FLY_API_TOKEN`, `FLY_ACCESS_TOKEN`, then flyctl's `config.yml`.

    What has no token in it (empty, blank, a scheme alone) counts as absent.

    Raises:
        NoTokenError: None of them has one.
        ConfigError: The one that was found cannot be sent in a header.
    """
    token, _ = find_token_and_place(argument, environ)
    return token


def find_token_and_place(argument: str | None, environ: Mapping[str, str]) -> tuple[str, str]:
    """The same, and where it was found, for people.

    Raises:
        NoTokenError: See `find_token`; so is `ConfigError`.
    """
    places = {
        "token=": argument,
        "FLY_API_TOKEN": environ.get("FLY_API_TOKEN"),
        "FLY_ACCESS_TOKEN": environ.get("FLY_ACCESS_TOKEN"),
    }
    for place, found in places.items():
        if found and token_parts(found):
            return _sendable(found, place), place
    if (found := _flyctl_token(environ)) and token_parts(found):
        return _sendable(found, FLYCTL), FLYCTL
    raise NoTokenError


def token_parts(token: str) -> list[str]:
    """The single tokens of a comma list, without the scheme that `fly tokens create` prints in front."""
    parts = []
    for part in token.split(","):
        rest = part.strip()
        while match := _SCHEME.match(rest):
            rest = rest[match.end() :]
        if rest:
            parts.append(rest)
    return parts


def authorization(token: str) -> str:
    """The Authorization header, as flyctl makes it: `FlyV1` for macaroons, else `Bearer`.

    Source: superfly/fly-go, tokens/tokens.go.
    """
    return authorizations(token)[0]


def authorizations(token: str) -> list[str]:
    """All headers that the token can be sent in, the one of `authorization` first.

    flyctl's `config.yml` may have both kinds in one list. Its macaroons live ten minutes (superfly/flyctl,
    internal/config/tokens.go) and the OAuth token next to them longer: it is sent alone when they are refused.
    """
    parts = token_parts(token)
    macaroons = [part for part in parts if part.split("_", 1)[0] in _MACAROONS]
    others = [part for part in parts if part not in macaroons]
    return [
        *([f"FlyV1 {','.join(macaroons)}"] if macaroons else []),
        *([f"Bearer {','.join(others)}"] if others else []),
    ]


def _sendable(token: str, place: str) -> str:
    # A header with a line break or a letter outside ASCII fails below us, in an exception that shows the whole header.
    if not all(_SENDABLE.fullmatch(part) for part in token_parts(token)):
        raise ConfigError(f"{place}: the Fly token has blanks, line breaks or other characters that no token has")
    return token.strip()


def _flyctl_token(environ: Mapping[str, str]) -> str | None:
    from ruamel.yaml import YAML  # noqa: PLC0415  # no token was given: only then
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415

    folder = environ.get("FLY_CONFIG_DIR")
    try:
        path = Path(folder) if folder else Path(environ.get("HOME") or Path.home()) / ".fly"
        config = YAML(typ="safe", pure=True).load((path / "config.yml").read_text(encoding="utf-8"))
    except (OSError, RuntimeError, ValueError, YAMLError):
        # No home, no file, none that can be read: there is no token, and the error about that says what to do.
        return None
    token = config.get("access_token") if isinstance(config, dict) else None
    return token if isinstance(token, str) else None
