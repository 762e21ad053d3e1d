"""Points that are measured by commands in the machine; each method measures one and returns it as JSON."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import anyio

from flaude._model.errors import PayloadTooLargeError
from flaude._providers.fly.exec_limits import SMALLEST_ANSWER_BYTES
from flaude._providers.fly.probe import measuring
from flaude._providers.fly.probe.asking import Asking, NotMeasuredError
from flaude._providers.fly.probe.machines import PROGRAM
from flaude._providers.fly.probe.measuring import Answered, Found
from flaude._providers.fly.probe.plan import Plan

FACTS = (
    "echo uid=$(id -u); echo home=$HOME; echo cwd=$(pwd); echo path=$PATH; echo python3=$(command -v python3); "
    "echo git=$(command -v git); echo arch=$(uname -m); echo disk=$(df -Pk / | tail -n 1); "
    "echo main=$(cat /proc/1/comm); "
    "echo main_uid=$(while read -r k v r; do [ $k = Uid: ] && echo $v; done < /proc/1/status); "
    "echo now=$(date +%s.%N)"
)
"""A shell's commands; `measuring.facts` reads what they print."""

_PROGRAM = ("python3", "-I", "-S", PROGRAM)
_STDIN = "eleven bytes"[:11]
_PAUSE_S = 0.5
_BETWEEN_S = 0.7
_TIMES = 3
_TOO_LONG_S = 61
_REFUSALS = (400, 413, 422)


class Execs:
    """The points of one machine that has started.

    Args:
        asking: Asks Fly.
        machine_id: The machine.
        plan: Sizes and times.
    """

    def __init__(self, asking: Asking, machine_id: str, plan: Plan) -> None:
        self._asking = asking
        self._machine_id = machine_id
        self._plan = plan

    async def first(self) -> dict[str, Found]:
        """The first exec, at once; again until one works: `first_exec`, `machine` and `clock`."""
        began, refused = anyio.current_time(), list[str]()
        with anyio.move_on_after(self._plan.first_exec_s):
            while True:
                asked = anyio.current_time() - began
                body = {"command": ["sh", "-c", FACTS], "timeout": 10}
                try:
                    answer = await self._asking.exec_body(self._machine_id, body)
                except NotMeasuredError as error:
                    refused.append(str(error))
                    await self._asking.check_alive(self._machine_id)
                else:
                    if answer.ran and "uid=" in answer.stdout:
                        first = {"seconds": round(asked, 2), "refused": list(dict.fromkeys(refused))[:3]}
                        return {"first_exec": first, "machine": measuring.facts(answer.stdout), **_clock(answer)}
                    refused.append(answer.told)
                await anyio.sleep(_PAUSE_S)
        raise NotMeasuredError(f"no exec has worked: {refused[-1] if refused else 'no answer'}")

    async def egress(self) -> Found:
        """What the main program has seen of the network."""
        for _ in range(_TIMES * 4):
            notes = _json(await self._run(*_PROGRAM, "notes"))
            if "egress" in notes:
                found: Found = notes["egress"]
                return found
            await anyio.sleep(_PAUSE_S)
        raise NotMeasuredError("the machine waits for an answer of the network")

    async def stdin(self) -> Found:
        """How much of its standard input arrives."""
        answer = await self._run("wc", "-c", stdin=_STDIN)
        if not answer.stdout.strip().isdigit():
            raise NotMeasuredError(f"wc printed {answer.stdout[:80]!r}")
        return {"sent": len(_STDIN), "arrived": int(answer.stdout)}

    async def body(self) -> Found:
        """The largest body that works, and the answer to the first one that does not."""
        largest, refused, refusal, known = 0, None, dict[str, Any](), True
        for size in self._plan.bodies:
            body = measuring.exec_body(size, 10)
            answer = await self._twice(body)
            if not answer.status or (answer.ran and answer.exit_code):
                raise NotMeasuredError(answer.told)
            if not (answer.ran and answer.stdout.strip() == str(measuring.words_in(body))):
                refused, refusal = size, measuring.exec_seen(answer)
                known = isinstance(self._asking.exec_error(self._machine_id, answer), PayloadTooLargeError)
                break
            largest = size
        return {"largest": largest, "refused": refused, "refusal": refusal, "recognised": known}

    async def output(self) -> Found:
        """The longest output that arrives whole, and what becomes of a longer one."""
        largest, short = 0, dict[str, Any]()
        for size in self._plan.outputs:
            if short := await self._printed(size):
                break
            largest = size
        size = self._plan.outputs[0]
        while not largest:
            size //= 2
            if size < SMALLEST_ANSWER_BYTES:
                raise NotMeasuredError(f"no output of {size * 2} bytes arrives: {short.get('error', 'it is cut')}")
            if shorter := await self._printed(size):
                short = shorter
            else:
                largest = size
        return {"largest": largest, **short}

    async def _printed(self, size: int) -> dict[str, Any]:
        """What becomes of an output of so many bytes; empty when it arrives whole."""
        answer = await self._twice({"command": [*_PROGRAM, "print", str(size)], "timeout": 30})
        if answer.ran and answer.exit_code:
            raise NotMeasuredError(answer.told)
        if answer.ran and len(answer.stdout) == size:
            return {}
        cut = answer.ran and 0 < len(answer.stdout) < size
        return {"asked": size, **({"cut_at": len(answer.stdout)} if cut else {"error": answer.told})}

    async def bytes(self) -> Found:
        """Whether bytes that are no text survive."""
        return {"kept": measuring.bytes_kept((await self._run(*_PROGRAM, "every-byte")).stdout)}

    async def codes(self) -> Found:
        """How exit codes and signals come through."""
        ended = await self._twice({"command": ["sh", "-c", "exit 75"], "timeout": 10})
        killed = await self._twice({"command": ["sh", "-c", "kill -9 $$"], "timeout": 10})
        return {"exit_75": measuring.exec_seen(ended), "kill_9": measuring.exec_seen(killed)}

    async def missing_program(self) -> Found:
        """What is answered for a program that does not exist."""
        return measuring.exec_seen(await self._twice({"command": ["flaude-has-no-such-program"], "timeout": 10}))

    async def parallel(self) -> Found:
        """Whether an exec runs while another one does."""
        sleep = f"{self._plan.parallel_s:g}"
        read = "read -r up rest < /proc/uptime"
        long = ("sh", "-c", f"{read}; echo from=$up; sleep {sleep}; {read}; echo to=$up")
        answers = dict[str, Answered]()

        async def run(name: str, *command: str) -> None:
            body = {"command": list(command), "timeout": 20}
            answers[name] = await self._asking.exec_body(self._machine_id, body)

        for _ in range(_TIMES):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run, "long", *long)
                await anyio.sleep(_BETWEEN_S)
                await run("short", "sh", "-c", f"{read}; echo at=$up")
            within = measuring.is_within(answers["long"].stdout, answers["short"].stdout)
            if within is not None:
                return {"serial": not within}
        raise NotMeasuredError(f"{answers['long'].told} and {answers['short'].told}")

    async def longest(self) -> Found:
        """How long an exec may take."""
        refused = list[str]()
        for seconds, timeout_s in self._plan.longest:
            body = {"command": ["sh", "-c", f"sleep {seconds:g}"], "timeout": timeout_s}
            answer = await self._asking.exec_once(self._machine_id, body)
            if not answer.ran and not answer.refuses_timeout and measuring.is_passing(answer.seconds, seconds):
                answer = await self._asking.exec_once(self._machine_id, body)
            if answer.refuses_timeout:
                refused.append(answer.told)
                continue
            found = {"asked_s": seconds, "refused": refused}
            if answer.ran:
                return {**found, "works_s": seconds}
            if measuring.is_passing(answer.seconds, seconds):
                raise NotMeasuredError(answer.told)
            return {**found, "works_s": None, "ended_s": round(answer.seconds, 1), "answer": answer.told}
        raise NotMeasuredError(refused[-1])

    async def timeout(self) -> Found:
        """What is answered to a `timeout` of 61 s."""
        answer = await self._twice({"command": ["true"], "timeout": _TOO_LONG_S}, self._asking.exec_once)
        return {"status": answer.status, "answer": answer.told}

    async def burst(self) -> Found:
        """Several execs at once, without our own pace."""
        await anyio.sleep(self._plan.settle_s)
        answers = list[Answered]()

        async def one() -> None:
            body = {"command": ["true"], "timeout": 10}
            answers.append(await self._asking.exec_body(self._machine_id, body, paced=False))

        async with anyio.create_task_group() as tasks:
            for _ in range(self._plan.burst):
                tasks.start_soon(one)
        return measuring.burst(answers)

    async def disk(self) -> Found:
        """How fast the disk is."""
        return _json(await self._run(*_PROGRAM, "disk", str(self._plan.disk_mb), timeout_s=25))

    async def _twice(self, body: Found, exec_: Callable[[str, Found], Awaitable[Answered]] | None = None) -> Answered:
        """An answer that is not a passing failure: a refusal stands, anything else is asked for once more."""
        exec_ = exec_ or self._asking.exec_body
        answer = await exec_(self._machine_id, body)
        return answer if answer.ok or answer.status in _REFUSALS else await exec_(self._machine_id, body)

    async def _run(self, *command: str, timeout_s: int = 15, stdin: str = "") -> Answered:
        return await self._asking.run(self._machine_id, *command, timeout_s=timeout_s, stdin=stdin)


def _clock(answer: Answered) -> dict[str, Found]:
    """How far the machine's clock is ahead of the API's, of which there are whole seconds."""
    theirs = measuring.number(answer.stdout, "now")
    try:
        api = parsedate_to_datetime(answer.headers.get("date", "")).timestamp() + 0.5
    except ValueError:
        return {}
    return {} if theirs is None else {"clock": {"skew_s": round(theirs - api, 1)}}


def _json(answer: Answered) -> Mapping[str, Any]:
    try:
        found = json.loads(answer.stdout)
    except ValueError:
        raise NotMeasuredError(f"{answer.told}") from None
    return found if isinstance(found, dict) else {}
