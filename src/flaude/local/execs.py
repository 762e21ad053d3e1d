"""Commands in a running machine."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import anyio
from anyio.abc import ByteReceiveStream, Process

from flaude.local import replies
from flaude.local.call import Call
from flaude.local.machine import Machine
from flaude.local.replies import Reply

_LONGEST_S = 60
_LEFT_OPEN_S = 0.5
_DEATH_KNELL_S = 1.0
_KILLED = 128
_END_WITHIN_S = 5.0


@dataclass
class _Output:
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)


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
    output = _Output()
    try:
        process = await running.enter(argv)
    except (OSError, ValueError) as error:
        # Too long, or with a NUL in it; or the machine has just gone.
        if machine.alive:
            raise replies.invalid(f"invalid_argument: {error}") from error
        raise replies.exec_ended_with_machine() from error
    async with process:
        try:
            with anyio.fail_after(timeout_s):
                await _converse(process, stdin, output)
        except TimeoutError:
            raise replies.exec_too_long() from None
        finally:
            if process.returncode is None:
                with anyio.move_on_after(_END_WITHIN_S, shield=True):
                    await running.end(process)
    code = process.returncode or 0
    # A shell whose child was killed first says so with 128 and the signal; nsenter says so in words when the box was
    # gone before it could be entered.
    killed = code < 0 or code > _KILLED or output.stderr.startswith(b"nsenter: ")
    if killed and await _died(machine):
        raise replies.exec_ended_with_machine()
    answer = {
        "exit_code": max(code, 0),
        "exit_signal": max(-code, 0),
        "stdout": output.stdout.decode(errors="replace"),
        "stderr": output.stderr.decode(errors="replace"),
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


async def _converse(process: Process, stdin: bytes, output: _Output) -> None:
    """Give the command its input and take its output, until it ends."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_feed, process, stdin)
        tasks.start_soon(_drain, process.stdout, output.stdout)
        tasks.start_soon(_drain, process.stderr, output.stderr)
        await process.wait()
        # A child that was left behind may hold the pipes open for ever.
        tasks.cancel_scope.deadline = anyio.current_time() + _LEFT_OPEN_S


async def _feed(process: Process, stdin: bytes) -> None:
    if process.stdin is None:
        return
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, BrokenPipeError, ConnectionResetError):
        await process.stdin.send(stdin)
    await process.stdin.aclose()


async def _drain(stream: ByteReceiveStream | None, into: bytearray) -> None:
    if stream is not None:
        async for piece in stream:
            into += piece


async def _died(machine: Machine) -> bool:
    """Whether the machine has just died: then that is what killed the command."""
    with anyio.move_on_after(_DEATH_KNELL_S):
        await machine.until(lambda: not machine.alive)
    return not machine.alive
