"""Machines as records: create, list, get, update, delete, events, versions."""

from __future__ import annotations

import math
import re
import time
from typing import Any

import anyio

from flaude.local import guest_sizes, ids, regions, replies, rootfs
from flaude.local.faults import Dies, FlyStops, HostGone, ListLag, NoCapacity, SlowDelete
from flaude.local.json_text import encode_machine, encode_machines
from flaude.local.machine import Machine, Order, Stop
from flaude.local.machine_lifecycle import signal_number
from flaude.local.replies import Reply
from flaude.local.request import Call, seconds

_EVENTS, _MOST_EVENTS = 20, 50
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


async def create(call: Call) -> Reply:
    """`POST .../machines`: 200 with state `created`; the boot is on its way then."""
    app, fields = call.grown_app, call.fields
    largest = call.world.quirks.largest_create_body
    if largest is not None and call.size > largest:
        raise replies.create_too_large(largest)
    config = _config(call)
    name = fields.get("name") or ids.machine_name()
    # Fly's rule for names is not known: this is what all examples keep to.
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise replies.invalid("invalid_argument: name must be letters, digits and dashes, at most 63")
    full = (call.effect.regions or None) if isinstance(call.effect, NoCapacity) else ()
    region = regions.choose(str(fields.get("region") or ""), full)
    order = Order.REST if fields.get("skip_launch") else Order.RUN
    fate = call.effect if isinstance(call.effect, Dies | FlyStops | HostGone) else None
    machine = Machine(app.name, name, region, config, order, stop=stop_of(config), fate=fate)
    machine.exec_while_stopping = call.world.quirks.exec_while_stopping
    call.world.add_machine(machine)
    return _shown(machine)


async def list_(call: Call) -> Reply:
    """`GET .../machines`: destroyed ones only with `include_deleted`; several `metadata.KEY` must all match."""
    states, in_regions = call.words("state"), call.words("region")
    metadata = {
        name.removeprefix("metadata."): values[-1] for name, values in call.query.items() if "metadata." in name
    }
    youngest_s = call.effect.seconds if isinstance(call.effect, ListLag) else 0.0
    found = [
        machine.shown(summary=call.flag("summary"))
        for machine in call.world.machines(call.grown_app.name)
        if time.monotonic() - machine.born >= youngest_s
        and (machine.state != "destroyed" or call.flag("include_deleted"))
        and (not states or machine.state in states)
        and (not in_regions or machine.region in in_regions)
        and metadata.items() <= machine.metadata.items()
    ]
    return Reply(200, found, content=encode_machines(found))


async def get(call: Call) -> Reply:
    """`GET .../machines/ID`: a destroyed one too, for a while."""
    return _shown(call.machine)


async def update(call: Call) -> Reply:
    """`POST .../machines/ID`: the whole config is replaced; what runs is started anew, its disk empty."""
    machine, fields = call.machine, call.fields
    if machine.doomed:
        raise replies.machine_not_found()
    if fields.get("current_version", machine.instance_id) != machine.instance_id:
        raise replies.concurrent_update()
    config = _config(call)
    machine.replace(config)
    machine.event("update", "replacing", "user")
    machine.runs += 1
    if machine.is_up:
        machine.state = "replacing"
    machine.want(Order.REST if fields.get("skip_launch") else Order.RUN, stop_of(config))
    return _shown(machine)


async def delete(call: Call) -> Reply:
    """`DELETE .../machines/ID`: one that runs only with `force` (Fly's docs) or `kill` (Fly's Go client)."""
    machine = call.machine
    if machine.state == "destroyed":
        raise replies.machine_not_found()
    if machine.state != "destroying" and not machine.doomed:
        if machine.state not in ("stopped", "suspended", "failed", "created") and not (
            call.flag("force") or call.flag("kill")
        ):
            raise replies.not_stopped()
        machine.event("destroy", "destroying", "user")
        machine.become("destroying")
        if isinstance(call.effect, SlowDelete) or machine.host_gone:
            slow_s = call.effect.seconds if isinstance(call.effect, SlowDelete) else math.inf
            call.world.tasks.start_soon(_destroy_later, machine, slow_s)
        else:
            machine.want(Order.DESTROY)
    return Reply(200, {"ok": True})


async def _destroy_later(machine: Machine, seconds: float) -> None:
    """When the time is over, or the host is back; at once when the stand-in ends."""
    with anyio.CancelScope(deadline=anyio.current_time() + seconds):
        await machine.until(lambda: machine.doomed or (math.isinf(seconds) and not machine.host_gone))
    machine.want(Order.DESTROY)


async def events(call: Call) -> Reply:
    """`GET .../events`: newest first, 20 unless `limit` says another number up to 50."""
    limit = call.query.get("limit", (str(_EVENTS),))[-1]
    if not limit.isdigit():
        raise replies.invalid("invalid_argument: limit is not a number")
    return Reply(200, call.machine.events[: min(int(limit), _MOST_EVENTS)])


async def versions(call: Call) -> Reply:
    """`GET .../versions`: newest first."""
    return Reply(200, call.machine.versions)


def _shown(machine: Machine) -> Reply:
    shown = machine.shown()
    return Reply(200, shown, content=encode_machine(shown))


def stop_of(config: dict[str, Any]) -> Stop:
    """How a machine is stopped when a call does not say it (defaults: Fly docs, SIGINT and 5 s)."""
    asked = config.get("stop_config") or {}
    number = signal_number(asked.get("signal") or "SIGINT")
    if number is None:
        raise replies.invalid(f"invalid_argument: invalid config.stop_config.signal {asked.get('signal')!r}")
    return Stop(number, seconds(asked.get("timeout"), 5.0))


def _config(call: Call) -> dict[str, Any]:
    """The config of a create or an update, refused with 400 where Fly refuses it."""
    config = call.fields.get("config")
    if not isinstance(config, dict) or not isinstance(config.get("image"), str) or not config["image"]:
        raise replies.invalid("invalid_argument: config.image is required")
    for name in ("env", "metadata", "guest", "init", "restart", "rootfs", "stop_config"):
        if not isinstance(config.get(name) or {}, dict):
            raise replies.invalid(f"invalid_argument: config.{name} must be an object")
    for name in ("env", "metadata"):
        if not all(isinstance(value, str) for value in (config.get(name) or {}).values()):
            raise replies.invalid(f"invalid_argument: config.{name} must map strings to strings")
    for name in ("exec", "entrypoint", "cmd"):
        words = (config.get("init") or {}).get(name) or []
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise replies.invalid(f"invalid_argument: config.init.{name} must be a list of strings")
    guest_sizes.check(config.get("guest") or {}, performance=call.world.quirks.performance_cpus)
    size_gb = (config.get("rootfs") or {}).get("size_gb")
    if size_gb is not None and (isinstance(size_gb, bool) or not isinstance(size_gb, int) or size_gb < 1):
        raise replies.invalid("invalid_argument: config.rootfs.size_gb must be a number from 1")
    rootfs.decode_files(config)
    stop_of(config)
    return config
