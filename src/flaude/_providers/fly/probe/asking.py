"""Asking Fly so that the answer itself can be looked at."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import anyio

from flaude._model.errors import FlyError, UnreachableError
from flaude._providers.fly.calls import Call
from flaude._providers.fly.client import rejection
from flaude._providers.fly.diagnosis import ENDED_STATES
from flaude._providers.fly.exec_limits import REJECTION
from flaude._providers.fly.failures import failure
from flaude._providers.fly.probe.measuring import Answered
from flaude._providers.http import Answer

if TYPE_CHECKING:
    from flaude._providers.fly import FlyClient

_NO_STATUS = 0
_LIMITED, _MACHINE_GONE = 429, (404, 412)
_TIMES = 5
_LONGEST_TIMEOUT_S = 60


class NotMeasuredError(Exception):
    """Something could not be measured; the message says why."""


class Asking:
    """Calls whose answers are measured, for one app.

    Args:
        fly: The client.
        app: The app.
    """

    def __init__(self, fly: FlyClient, app: str) -> None:
        self.fly = fly
        self.app = app
        self._longest_timeout_s = _LONGEST_TIMEOUT_S

    async def ask(self, call: Call, *, paced: bool = True) -> Answered:
        """The answer, whatever it is; status 0 when there is none. A call over the rate limit is made again."""
        answered = await self._once(call, paced=paced)
        for _ in range(_TIMES if paced else 0):
            if answered.status != _LIMITED:
                break
            await anyio.sleep(1)
            answered = await self._once(call, paced=paced)
        return answered

    async def _once(self, call: Call, *, paced: bool) -> Answered:
        if paced:
            # The wait for the rate limiter is not part of the measurement.
            await self.fly.turn(call)
        began = time.monotonic()
        try:
            answer = await self.fly.answer(call)
        except UnreachableError as error:
            return Answered(_NO_STATUS, str(error), {}, time.monotonic() - began)
        seconds = time.monotonic() - began
        text = self.fly.without_token(answer.content.decode(errors="replace"))
        return Answered(answer.status, text, answer.headers, seconds)

    async def check_alive(self, machine_id: str) -> None:
        """Whether a machine runs, or may yet.

        Raises:
            NotMeasuredError: It has ended.
            FlyError: It cannot be read.
        """
        machine = await self.fly.get_machine(self.app, machine_id)
        if machine.state in ENDED_STATES:
            event = machine.exit_event
            code = f", its program ended with code {event.exit_code}" if event else ""
            raise NotMeasuredError(f"the machine is {machine.state}{code}: has the image python3?")

    async def exec_body(self, machine_id: str, body: Mapping[str, Any], *, paced: bool = True) -> Answered:
        """What an exec with this body comes to; a `timeout` that is refused is halved.

        Raises:
            NotMeasuredError: The machine does not run any more.
        """
        while True:
            answered = await self.exec_once(
                machine_id, {**body, "timeout": min(body["timeout"], self._longest_timeout_s)}, paced=paced
            )
            if not answered.refuses_timeout or self._longest_timeout_s <= 1:
                return answered
            self._longest_timeout_s = max(1, min(body["timeout"], self._longest_timeout_s) // 2)

    async def exec_once(self, machine_id: str, body: Mapping[str, Any], *, paced: bool = True) -> Answered:
        """What an exec with exactly this body comes to.

        Raises:
            NotMeasuredError: The machine does not run any more.
        """
        answered = await self.ask(self._exec(machine_id, body), paced=paced)
        if answered.status in _MACHINE_GONE:
            raise NotMeasuredError(f"the machine does not run any more: {answered.told}")
        return answered

    def exec_error(self, machine_id: str, answered: Answered) -> FlyError | None:
        """See `error_of`, of an exec's answer."""
        return error_of(answered, self._exec(machine_id, {}))

    def _exec(self, machine_id: str, body: Mapping[str, Any]) -> Call:
        path = f"/apps/{self.app}/machines/{machine_id}/exec"
        takes_s = float(body.get("timeout", 0))
        return Call("exec_machine", machine_id, "POST", path, body=body, takes_s=takes_s, waits=True)

    async def run(self, machine_id: str, *command: str, timeout_s: int = 15, stdin: str = "") -> Answered:
        """What a command comes to that must be run.

        Raises:
            NotMeasuredError: It was not.
        """
        body = {"command": list(command), "timeout": timeout_s, **({"stdin": stdin} if stdin else {})}
        answered = await self.exec_body(machine_id, body)
        if not answered.ran:
            raise NotMeasuredError(answered.told)
        return answered


def error_of(answered: Answered, call: Call) -> FlyError | None:
    """The error that flaude makes of an answer; None when it would go by what is in it, or none came."""
    if not answered.status:
        return None
    if not answered.ok:
        return failure(Answer(answered.status, answered.headers, answered.text.encode()), call.method, call.where, str)
    for text in (answered.stdout, answered.stderr):
        if text.lstrip().startswith(REJECTION):
            return rejection(text, call)
    return None
