"""What the sources do not agree on about Fly, and how the local Fly server reads it.

Nobody who wrote this has an account: what Fly does in each of these points is known from its code, its docs and the
reports of others, and they differ. The default is the worst reading of each, so that what runs here runs in every
reading; `Quirks.kind()` is the best one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, kw_only=True)
class Quirks:
    """How the local Fly server behaves where sources disagree.

    Attributes:
        exec_stdin: Whether the `stdin` of an exec reaches the command. A live test on record counted 0 of 11 bytes.
        largest_exec_body: Bytes that the body of an exec may have; a longer one is thrown away and answered 200 with
            `Unhandled rejection: Rejection([PayloadTooLarge…` (16 KiB in Fly's published init of 2021, and measured
            between 15.8 and 23.7 KB). None for no limit.
        longest_exec_s: Seconds that the `timeout` of an exec may have; beyond it the answer is 400 (four projects).
        serial_execs: Whether a machine runs one exec at a time (the init of 2021 holds a lock); the time that a call
            waits for its turn counts as its own.
        reject_missing_program: Whether an exec of a program that does not exist is answered 200 with exit code 0 and
            `Unhandled rejection: Rejection([ExecError…` (inferred from the init), and a machine whose main program is
            missing ends with code 1; otherwise both end with code 127.
        largest_exec_output: Bytes of stdout and of stderr that an exec's answer may have; the rest is cut off. None for
            no limit: nothing is known of one.
        exec_not_ready_s: Seconds after `started` in which an exec is rejected, because the machine is not ready.
        largest_create_body: Bytes that the body of a create may have; a larger one is refused. None for no limit: the
            docs say that there is one, and not which.
        machine_limit: Machines that an organization may have, destroyed ones left out; the next create is answered 422
            (20 seen, 50 believed to be the default, 10 on trial). None for no limit.
        young_app_s: Seconds after its creation for which creates and lists of machines in an app are answered 404 (seen
            for a few seconds on creates). Apps that are there from the start are old.
        token_lives_s: Seconds after which the token is refused with 401; None for never. `LocalFly.renew_token` makes
            another one, as flyctl does for a session's token.
        exec_while_stopping: Whether a machine takes an exec while it is `stopping` and its process lives; otherwise it
            is refused with 412, as for one that does not run. Nothing is known of it.
        performance_cpus: Whether machines may have performance CPUs; trial accounts may not.
    """

    exec_stdin: bool = False
    largest_exec_body: int | None = 16 * 1024
    longest_exec_s: int = 60
    serial_execs: bool = True
    reject_missing_program: bool = True
    largest_exec_output: int | None = None
    exec_not_ready_s: float = 0.0
    largest_create_body: int | None = None
    machine_limit: int | None = 20
    young_app_s: float = 2.0
    token_lives_s: float | None = None
    exec_while_stopping: bool = False
    performance_cpus: bool = True

    @classmethod
    def kind(cls) -> Self:
        """The best reading of everything."""
        return cls(
            exec_stdin=True,
            largest_exec_body=None,
            serial_execs=False,
            reject_missing_program=False,
            machine_limit=None,
            young_app_s=0.0,
            exec_while_stopping=True,
        )
