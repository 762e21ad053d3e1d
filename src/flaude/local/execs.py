"""Commands in a running machine."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from contextlib import nullcontext

import anyio

from flaude.local import replies
from flaude.local.machine import Machine
from flaude.local.replies import Reply
from flaude.local.request import Call

_DEATH_KNELL_S = 1.0
_KILLED = 128
_NO_PROGRAM = (126, 127)
_NOT_STARTED = re.compile(rb"sh: (line )?\d+: exec: ")


async def exec_(call: Call) -> Reply:
    """`POST .../exec`: 200 whatever the command's exit code, 412 when nothing runs, 408 when it takes too long.

    A command that takes longer than `timeout` is killed. What `Quirks` says of execs happens here. Zeros are left out
    of the answer, as Go does.
    """
    argv, stdin, timeout_s = _request(call)
    machine, quirks = call.reachable_machine, call.world.quirks
    if not machine.alive:
        raise replies.not_running()
    if quirks.largest_exec_body is not None and call.size > quirks.largest_exec_body:
        return replies.exec_rejected("PayloadTooLarge")
    if anyio.current_time() < machine.started_at + quirks.exec_not_ready_s:
        return replies.exec_rejected(replies.NO_SUCH_FILE)
    try:
        with anyio.fail_after(timeout_s):
            async with machine.exec_turn if quirks.serial_execs else nullcontext():
                running = machine.running
                if not machine.alive or running is None:
                    raise replies.not_running()
                done = await running.execute(argv, stdin if quirks.exec_stdin else b"", timeout_s)
    except TimeoutError:
        raise replies.exec_too_long() from None
    except (OSError, ValueError) as error:
        # Too long, or with a NUL in it; or the machine has just gone.
        if machine.alive:
            raise replies.invalid(f"invalid_argument: {error}") from error
        raise replies.exec_ended_with_machine() from error
    code = done.code
    # A shell whose child was killed first says so with 128 and the signal; nsenter says so in words when the box was
    # gone before it could be entered.
    killed = code < 0 or code > _KILLED or done.stderr.startswith(b"nsenter: ")
    if killed and await _died(machine):
        raise replies.exec_ended_with_machine()
    if quirks.reject_missing_program and code in _NO_PROGRAM and _NOT_STARTED.match(done.stderr):
        return replies.exec_rejected(replies.NO_SUCH_FILE)
    most = quirks.largest_exec_output
    answer = {
        "exit_code": max(code, 0),
        "exit_signal": max(-code, 0),
        "stdout": done.stdout[:most].decode(errors="replace"),
        "stderr": done.stderr[:most].decode(errors="replace"),
    }
    return Reply(200, {name: value for name, value in answer.items() if value})


def _request(call: Call) -> tuple[Sequence[str], bytes, int]:
    fields = call.fields
    command, cmd = fields.get("command"), fields.get("cmd")
    try:
        argv = command or shlex.split(cmd or "")
    except ValueError as error:
        raise replies.invalid(f"invalid_argument: cmd: {error}") from error
    if not isinstance(argv, list) or not argv or not all(isinstance(word, str) for word in argv):
        raise replies.invalid("invalid_argument: command is required")
    longest_s = call.world.quirks.longest_exec_s
    stdin, timeout_s = fields.get("stdin") or "", fields.get("timeout") or longest_s
    if not isinstance(stdin, str) or not isinstance(timeout_s, int) or timeout_s < 0:
        raise replies.invalid("invalid_argument: stdin must be a string and timeout a number of seconds")
    if timeout_s > longest_s:
        raise replies.exec_timeout_too_long(longest_s)
    return argv, stdin.encode(), timeout_s


async def _died(machine: Machine) -> bool:
    """Whether the machine has just died: then that is what killed the command."""
    with anyio.move_on_after(_DEATH_KNELL_S):
        await machine.until(lambda: not machine.alive)
    return not machine.alive
