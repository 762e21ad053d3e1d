"""What a registry asks for before it answers: `WWW-Authenticate`. No I/O."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from urllib.parse import urlencode

_FIELD = re.compile(r'\b(\w+)=(?:"([^"]*)"|([^\s,"]+))')
_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class Basic:
    """A user name and a password are wanted."""


@dataclass(frozen=True)
class Bearer:
    """A token is wanted, which somebody else hands out.

    Attributes:
        url: Where to ask for it, with the query.
    """

    url: str


def read_challenge(header: str, *, repository: str) -> Basic | Bearer | None:
    """What is asked for; None when it is nothing that is known here.

    Source: github.com/distribution/distribution, docs/spec/auth/token.md.
    """
    scheme, _, rest = header.strip().partition(" ")
    if scheme.lower() == "basic":
        return Basic()
    fields = {name.lower(): quoted or bare for name, quoted, bare in _FIELD.findall(rest)}
    if scheme.lower() != "bearer" or not fields.get("realm"):
        return None
    asked = {"scope": fields.get("scope") or f"repository:{repository}:pull"}
    if service := fields.get("service"):
        asked["service"] = service
    return Bearer(f"{fields['realm']}{'&' if '?' in fields['realm'] else '?'}{urlencode(asked)}")


def read_token(content: bytes) -> str | None:
    """The token in the answer of whoever hands it out; None when there is none that a header can hold."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    # The spec has both names for the same.
    token = found.get("token") or found.get("access_token")
    return token if isinstance(token, str) and _TOKEN.fullmatch(token) else None
