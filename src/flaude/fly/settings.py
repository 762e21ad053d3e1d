"""Where the Machines API is and which token to send: from arguments, the environment and flyctl's config file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from flaude.errors import NoTokenError

DEFAULT_BASE_URL = "https://api.machines.dev"
_SCHEME = re.compile(r"^(bearer|flyv1)\s+", re.IGNORECASE)
_MACAROONS = ("fm1r", "fm1a", "fm2")


def base_url(argument: str | None, environ: Mapping[str, str]) -> str:
    """Base URL without a trailing slash and without `/v1`.

    Order: the argument, `FLY_FLAPS_BASE_URL` (flyctl's variable), `FLY_API_HOSTNAME` (the docs' variable, which they
    write with and without a scheme), Fly's public address.
    """
    url = argument or environ.get("FLY_FLAPS_BASE_URL") or environ.get("FLY_API_HOSTNAME") or DEFAULT_BASE_URL
    if "://" not in url:
        url = f"https://{url}"
    return url.rstrip("/").removesuffix("/v1")


def find_token(argument: str | None, environ: Mapping[str, str]) -> str:
    """The token: the argument, `FLY_API_TOKEN`, `FLY_ACCESS_TOKEN`, then flyctl's `config.yml`.

    Raises:
        NoTokenError: None of them has one.
    """
    token = argument or environ.get("FLY_API_TOKEN") or environ.get("FLY_ACCESS_TOKEN") or _flyctl_token(environ)
    if not token or not token.strip():
        raise NoTokenError
    return token.strip()


def authorization(token: str) -> str:
    """The Authorization header, as flyctl makes it: `FlyV1` for macaroons, else `Bearer`.

    Source: superfly/fly-go, tokens/tokens.go. A token may be a comma list and may carry its scheme in front, as
    `fly tokens create` prints it.
    """
    rest = token.strip()
    while match := _SCHEME.match(rest):
        rest = rest[match.end() :].lstrip()
    parts = [part.strip() for part in rest.split(",") if part.strip()]
    macaroons = [part for part in parts if part.split("_", 1)[0] in _MACAROONS]
    return f"FlyV1 {','.join(macaroons)}" if macaroons else f"Bearer {','.join(parts)}"


def _flyctl_token(environ: Mapping[str, str]) -> str | None:
    folder = environ.get("FLY_CONFIG_DIR")
    path = Path(folder) if folder else Path(environ.get("HOME", "~")).expanduser() / ".fly"
    try:
        config = YAML(typ="safe", pure=True).load((path / "config.yml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError):
        return None
    token = config.get("access_token") if isinstance(config, dict) else None
    return token if isinstance(token, str) else None
