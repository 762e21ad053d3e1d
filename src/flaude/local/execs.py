"""Commands in a running machine."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import anyio

from flaude.local import replies
from flaude.local.call import Call
from flaude.local.machine import Machine
from flaude.local.replies import Reply

_LONGEST_S = 60
_DEATH_KNELL_S = 1.0
_KILLED = 128


async def exec_(call: Call) -> Reply:
    """`POST .../exec`: 200 whatever the command's exit code, 412 when nothing runs, 408 when it takes too long.

    The longest time that Fly allows is not known; here it is 60 s, also without `timeout`. A command that takes
    longer is killed. Zeros are left out of the answer, as Go does.
    """
    argv, stdin, timeout_s = _request(call)
    machine = call.reachable_machine
    running = machine.running
    if not machine.alive or running is None:
        raise replies.not_running()
    try:
        done = await running.execute(argv, stdin, timeout_s)
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
    answer = {
        "exit_code": max(code, 0),
        "exit_signal": max(-code, 0),
        "stdout": done.stdout.decode(errors="replace"),
        "stderr": done.stderr.decode(errors="replace"),
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
    stdin, timeout_s = fields.get("stdin") or "", fields.get("timeout") or _LONGEST_S
    if not isinstance(stdin, str) or not isinstance(timeout_s, int) or timeout_s < 0:
        raise replies.invalid("invalid_argument: stdin must be a string and timeout a number of seconds")
    return argv, stdin.encode(), min(timeout_s, _LONGEST_S)


async def _died(machine: Machine) -> bool:
    """Whether the machine has just died: then that is what killed the command."""
    with anyio.move_on_after(_DEATH_KNELL_S):
        await machine.until(lambda: not machine.alive)
    return not machine.alive
