"""Identifiers in the forms that Fly gives them."""

from __future__ import annotations

import secrets
import time

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = tuple(first + second for first in _CROCKFORD for second in _CROCKFORD)


def ulid() -> str:
    """26 characters that sort by time: events, machine versions and requests are named so (Fly's OpenAPI document)."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])


def machine_id() -> str:
    """14 hexadecimal characters."""
    return secrets.token_hex(7)


def machine_name() -> str:
    """A name for a machine that was created without one."""
    return f"local-machine-{secrets.token_hex(4)}"
