"""How a job travels: under the pad, in one word of a command, or in as many parts as Fly's exec calls take."""

from __future__ import annotations

import base64
import json
import math
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from flaude._guest.inside.ctl import STDIN
from flaude._guest.inside.packing import compressed, pack_request
from flaude._guest.inside.pad import NONCE_BYTES, masked
from flaude._guest.inside.parts import NAME_LENGTH
from flaude._guest.program import GUEST_PATH
from flaude._providers.fly.exec_limits import LONGEST_WORD, ExecLimits

# Without what it does not need (site packages, the environment): it starts every second, on a busy machine.
GUEST = ("python3", "-I", "-S", GUEST_PATH)
"""The command that is the guest, in argv."""

_SHORTEST_PART = 512


def pack_job(job: Mapping[str, Any], pad: bytes) -> str:
    """A job as it travels: compressed, and all of it under the pad, as any field of it may hold what is secret."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    hidden = base64.b64encode(masked(compressed(dict(job)), pad, nonce)).decode()
    return pack_request({"masked": hidden, "nonce": nonce.hex()})


def body_bytes(command: Sequence[str], stdin: str = "") -> int:
    """How many bytes the body of an exec has."""
    return len(json.dumps({"command": list(command), "timeout": 60, **({"stdin": stdin} if stdin else {})}))


def room_beside(command: Sequence[str], limits: ExecLimits) -> int:
    """How many characters one more word of the command may have."""
    left = limits.body_bytes - body_bytes([*command, ""])
    return max(_SHORTEST_PART, min(left, LONGEST_WORD))


def calls_of_start(packed: str, limits: ExecLimits) -> int:
    """How many calls it takes to hand over a job, while all of them are answered."""
    start = [*GUEST, "ctl", "start"]
    if len(packed) <= room_beside(start, limits):
        return 1
    if limits.stdin and body_bytes([*start, STDIN], packed) <= limits.body_bytes:
        return 1
    part = [*GUEST, "ctl", "part", f"{'0' * NAME_LENGTH}:{len(packed)}"]
    return math.ceil(len(packed) / room_beside(part, limits)) + 1
