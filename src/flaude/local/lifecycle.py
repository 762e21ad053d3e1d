"""Machines as they run: wait, start, stop, restart, signal."""

from __future__ import annotations

import anyio

from flaude.local import replies
from flaude.local.machine import RESTING, Machine, Order, Stop
from flaude.local.machine_lifecycle import signal_number
from flaude.local.machines import stop_of
from flaude.local.replies import Reply
from flaude.local.request import Call, seconds

_LONGEST_WAIT_S = 60.0


async def wait(call: Call) -> Reply:
    """`GET .../wait`: 200 when one of the states is there, 408 when it does not come, 404 when it never can."""
    timeout_s = _timeout(call)
    machine = call.reachable_machine
    wanted = call.words("state") or ["started"]
    accepted = RESTING if "settled" in wanted else frozenset(wanted)
    for name in ("version", "instance_id"):
        if any(version not in [known["version"] for known in machine.versions] for version in call.words(name)):
            raise replies.machine_not_found()
    with anyio.move_on_after(timeout_s):
        await machine.until(lambda: machine.state in accepted or machine.state == "destroyed")
    if machine.state in accepted:
        event_id = machine.events[0]["id"]
        return Reply(200, {"ok": True, "state": machine.state, "event_id": event_id, "version": machine.instance_id})
    if machine.state == "destroyed":
        raise replies.machine_not_found()
    raise replies.wait_not_met(", ".join(wanted), machine.state)


async def start(call: Call) -> Reply:
    """`POST .../start`: not while the machine is on its way somewhere."""
    machine = _living(call)
    before = machine.state
    if (before == "created" and machine.order is Order.RUN) or before not in RESTING:
        raise replies.cannot("start", before)
    if machine.order is Order.REST:
        machine.state = "starting"
        machine.event("start", "starting", "user")
        machine.runs += 1
        machine.want(Order.RUN)
    return Reply(200, {"previous_state": before, "migrated": False, "new_host": ""})


async def stop(call: Call) -> Reply:
    """`POST .../stop`: answers before it has stopped."""
    machine = _living(call)
    asked = _stop(call, machine)
    if machine.is_up:
        machine.state = "stopping"
        machine.event("stop", "stopping", "user")
        machine.want(Order.REST, asked)
    elif machine.state not in ("stopped", "stopping", "suspended"):
        raise replies.cannot("stop", machine.state)
    return Reply(200, {"ok": True})


async def restart(call: Call) -> Reply:
    """`POST .../restart?force_stop=&timeout=&signal=`."""
    machine = _living(call)
    if not machine.is_up:
        raise replies.cannot("restart", machine.state)
    usual = stop_of(machine.config)
    number = 9 if call.flag("force_stop") else signal_number(call.query.get("signal", (usual.signal,))[-1])
    if number is None:
        raise replies.invalid("invalid_argument: invalid signal")
    machine.state = "restarting"
    machine.event("restart", "restarting", "user")
    machine.runs += 1
    machine.want(Order.RUN, Stop(number, seconds(call.query.get("timeout", ("",))[-1], usual.timeout_s)))
    return Reply(200, {"ok": True})


async def signal(call: Call) -> Reply:
    """`POST .../signal`: a name (the spec) or a number (Fly's Go client)."""
    machine = _living(call)
    number = signal_number(call.fields.get("signal"))
    if number is None:
        raise replies.invalid("invalid_argument: invalid signal")
    if machine.running is None:
        raise replies.not_running()
    machine.running.signal(number)
    return Reply(200, {"ok": True})


def _living(call: Call) -> Machine:
    if call.machine.state == "destroyed":
        raise replies.machine_not_found()
    return call.reachable_machine


def _stop(call: Call, machine: Machine) -> Stop:
    usual = stop_of(machine.config)
    number = signal_number(call.fields.get("signal") or usual.signal)
    if number is None:
        raise replies.invalid("invalid_argument: invalid signal")
    return Stop(number, seconds(call.fields.get("timeout"), usual.timeout_s))


def _timeout(call: Call) -> float:
    asked = call.query.get("timeout", ("60",))[-1]
    timeout_s = seconds(asked, 0)
    if not 1 <= timeout_s <= _LONGEST_WAIT_S:
        raise replies.wait_timeout_out_of_range()
    return timeout_s
