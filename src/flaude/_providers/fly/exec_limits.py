"""What Fly's exec call bears: what is believed of it, with the sources, and what has been seen meanwhile."""

from __future__ import annotations

import re
from dataclasses import dataclass

FIRST_BODY_BYTES = 12_000
"""Bytes of an exec's body that are sent without having tried.

Fly's published init (superfly/init-snapshot, 2021) takes 16 KiB; users of the live API saw 15.8 KB run and 23.7 KB
thrown away, answered 200 with exit code 0.
"""

SMALLEST_BODY_BYTES = 1_024
"""A body of so many bytes is never taken for too large."""

FIRST_ANSWER_BYTES = 1024 * 1024
"""Bytes that the first answers are asked to have at the most; no source knows a limit."""

SMALLEST_ANSWER_BYTES = 4 * 1024
"""An answer of so many bytes is never taken for too long."""

LONGEST_WORD = 120_000
"""Characters that one word of a command may have: Linux takes 128 KiB (MAX_ARG_STRLEN)."""

LONGEST_WAIT_S = 15.0
"""Seconds that a call may wait inside a machine, unless it was measured that it may wait longer.

Fly refuses a `timeout` above 60 s (four projects); users saw 408 from 25 s on.
"""

SHORTEST_WAIT_S = 2.0
"""Seconds that a call may wait inside a machine, whatever Fly refuses."""

LONGEST_MEASURED_WAIT_S = 45.0
"""Seconds that no call waits beyond, whatever was measured: with its margin it stays under Fly's 60."""

EXEC_MARGIN_S = 10
"""Seconds that a call may take in addition to its waiting, where a machine is slow, or runs one call at a time."""

NOT_READY_S = 15.0
"""Seconds after `started` for which no answer of an exec counts as more than "not yet".

Users saw 412, empty answers and rejections from machines that had just started.
"""

REJECTION = "Unhandled rejection: Rejection("
"""How the answer begins of an init that could not run the command, in stdout or stderr, with exit code 0."""

TOO_LARGE = "PayloadTooLarge"
"""Part of that answer when the body was too large (seen by two projects)."""

NO_PROGRAM = re.compile(r"ExecError.*(code: 2\b|NotFound)", re.DOTALL)
"""That answer when there is no such program, ENOENT (from the init's source); any other number may pass."""


@dataclass
class ExecLimits:
    """How much one exec may send and answer, as far as it is known; one object for all machines of a client.

    Attributes:
        body_bytes: Largest body that is sent.
        answer_bytes: Longest answer that is asked for at first.
        stdin: Whether the standard input of an exec arrives: false until it was measured.
        longest_wait_s: Seconds that a call may wait inside a machine.
        whole_creates: Whether creates may hold the whole guest; else it comes in parts, through exec.
    """

    body_bytes: int = FIRST_BODY_BYTES
    answer_bytes: int = FIRST_ANSWER_BYTES
    stdin: bool = False
    longest_wait_s: float = LONGEST_WAIT_S
    whole_creates: bool = True

    def body_refused(self, size: int) -> bool:
        """A body of so many bytes was refused as too large; whether it is taken for that."""
        if size <= SMALLEST_BODY_BYTES:
            return False
        self.body_bytes = max(SMALLEST_BODY_BYTES, min(self.body_bytes, size // 2))
        return True

    def wait_refused(self, seconds: float) -> bool:
        """Fly has refused a call that may wait for so many seconds; whether the next one is to wait less."""
        if seconds <= SHORTEST_WAIT_S:
            return False
        self.longest_wait_s = min(self.longest_wait_s, max(SHORTEST_WAIT_S, seconds / 2))
        return True

    def answer_cut(self, size: int) -> None:
        """An answer was cut off after so many bytes."""
        self.answer_bytes = max(SMALLEST_ANSWER_BYTES, min(self.answer_bytes, size * 3 // 4))
