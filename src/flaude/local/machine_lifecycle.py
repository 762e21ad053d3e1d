"""A machine's life: one task that starts its process, hears of its end, restarts it, destroys it.

The API only changes what is wanted (`Machine.want`); everything that takes time happens here. States and events follow
Fly's docs ("Machine states"): created, started, stopping, stopped, then with `auto_destroy` or a delete destroying and
destroyed; an exit is an event with the whole `exit_event`.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import anyio

from flaude.local import rootfs
from flaude.local.faults import Dies, FlyStops, HostGone
from flaude.local.image import LocalImage
from flaude.local.isolation import Box, Running, Spec
from flaude.local.machine import Machine, Order, Stop, now
from flaude.local.quirks import Quirks

_log = logging.getLogger(__name__)

_MAX_RETRIES = 10  # Fly's default for on-failure; absent means on-failure (Fly docs, "Machine restart policy")
_COULD_NOT_START = 1
_NO_PROGRAM = (126, 127)


class Site(Protocol):
    """What a life needs to know of the place where it is lived."""

    @property
    def box(self) -> Box:
        """Starts the processes."""
        ...

    @property
    def boot_s(self) -> float:
        """Seconds in `created`."""
        ...

    @property
    def quirks(self) -> Quirks:
        """How it behaves where sources disagree about Fly."""
        ...

    def machine_folder(self, machine_id: str) -> Path:
        """The machine's own folder."""
        ...

    def image(self, name: str) -> LocalImage:
        """What the image of this name has."""
        ...

    def lives(self, machine: Machine, running: Running | None) -> None:
        """Take note that a machine's process lives, or with None that it has ended."""
        ...

    def gone(self, machine: Machine) -> None:
        """Take note that a machine is destroyed."""
        ...


@dataclass(frozen=True)
class _Exit:
    code: int
    signal: int = -1
    error: str = ""
    oom: bool = False

    def event(self, *, requested: bool, restarting: bool) -> dict[str, Any]:
        """The `exit_event` (Fly docs; `exited_at` as Fly's Go client reads it)."""
        return {
            "exit_code": self.code,
            "exited_at": now(),
            "guest_exit_code": 0,
            "guest_signal": -1,
            "signal": self.signal,
            "oom_killed": self.oom,
            "requested_stop": requested,
            "restarting": restarting,
            "error": self.error,
            "guest_error": "",
        }


async def live(machine: Machine, site: Site) -> None:
    """Live until destroyed; ends by the order to destroy and not by cancellation, so that no process is left."""
    try:
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(site.boot_s):
                await machine.until(lambda: machine.order is not Order.RUN)
            while machine.order is not Order.DESTROY:
                if machine.order is Order.RUN:
                    await _run(machine, site)
                else:
                    await machine.until(lambda: machine.order is not Order.REST)
            await _destroy(machine, site)
    except BaseException:
        machine.become("failed")
        raise


async def _run(machine: Machine, site: Site) -> None:
    """One wanted run, with the restarts that its policy asks for."""
    wanted = machine.runs
    await site.box.remove(site.machine_folder(machine.id))
    restarts = 0
    while machine.order is Order.RUN and machine.runs == wanted:
        end = await _once(machine, site, wanted)
        requested = machine.order is not Order.RUN or machine.runs != wanted
        restarting = not requested and _restarts(machine.config, end.code, restarts)
        exit_event = end.event(requested=requested, restarting=restarting)
        machine.event("exit", "stopped", "flyd", {"exit_event": exit_event, "restart_count": restarts})
        if restarting:
            restarts += 1
            machine.become("starting")
        elif requested and machine.order is Order.RUN:
            machine.become("starting")
        elif not machine.doomed:
            machine.state = "stopped"
            # With auto_destroy nobody sees a machine in `stopped`: it leaves at once.
            machine.want(Order.DESTROY if machine.config.get("auto_destroy") else Order.REST)


async def _once(machine: Machine, site: Site, wanted: int) -> _Exit:
    """Start the process and follow it to its end."""
    try:
        running = await _start(machine, site)
    except (OSError, RuntimeError, ValueError) as error:
        _log.warning("machine %s did not start: %s", machine.id, error)
        return _Exit(_COULD_NOT_START, error=str(error))
    site.lives(machine, running)
    machine.event("start", "started", "flyd")
    if machine.order is Order.RUN:
        machine.started_at = anyio.current_time()
        machine.become("started")
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_obey, machine, running, wanted)
            tasks.start_soon(_meet, machine, running)
            code = await running.wait()
            tasks.cancel_scope.cancel()
        # The end of the command is the end of the machine: nothing outlives it.
        await running.kill()
    finally:
        site.lives(machine, None)
    if machine.died:
        return _Exit(128 + signal.SIGKILL, signal=signal.SIGKILL, oom=machine.died.oom)
    if code in _NO_PROGRAM and site.quirks.reject_missing_program:
        return _Exit(_COULD_NOT_START, error="failed to spawn command")
    return _Exit(128 - code, signal=-code) if code < 0 else _Exit(code)


async def _start(machine: Machine, site: Site) -> Running:
    folder = site.machine_folder(machine.id)
    files = rootfs.decode_files(machine.config)
    await site.box.prepare(folder, files)
    image = site.image(str(machine.config.get("image", "")))
    spec = Spec(
        machine_id=machine.id,
        folder=folder,
        log=folder.with_suffix(".log"),
        argv=_argv(machine.config),
        env=environment(machine, image),
        image=image,
        files=list(files),
    )
    return await site.box.start(spec)


async def _obey(machine: Machine, running: Running, wanted: int) -> None:
    """End the process when it is no longer wanted: asked by its signal, then killed."""
    await machine.until(lambda: machine.order is not Order.RUN or machine.runs != wanted)
    if machine.order is not Order.DESTROY:
        running.signal(machine.stop.signal)
        with anyio.move_on_after(machine.stop.timeout_s):
            await machine.until(lambda: machine.order is Order.DESTROY)
    await running.kill()


async def _meet(machine: Machine, running: Running) -> None:
    """What was to go wrong with the machine goes wrong."""
    match machine.fate:
        case Dies() as fate:
            if fate.when is not None:
                await fate.when()
            await anyio.sleep(fate.after_s)
            machine.died = fate
            await running.kill()
        case FlyStops(after_s=after_s, timeout_s=timeout_s):
            await anyio.sleep(after_s)
            if machine.is_up:
                machine.state = "stopping"
                machine.event("stop", "stopping", "flyd")
                stop = machine.stop
                machine.want(Order.REST, stop if timeout_s is None else Stop(stop.signal, timeout_s))
        case HostGone(after_s=after_s, back_s=back_s):
            await anyio.sleep(after_s)
            machine.host_gone = True
            machine.touch()
            if back_s is not None:
                await anyio.sleep(back_s)
                machine.host_gone = False
                machine.touch()


async def _destroy(machine: Machine, site: Site) -> None:
    if machine.state != "destroying":
        machine.become("destroying")
    machine.event("destroy", "destroyed", "flyd")
    await site.box.remove(site.machine_folder(machine.id))
    site.gone(machine)
    machine.become("destroyed")


def _restarts(config: Mapping[str, Any], code: int, restarts: int) -> bool:
    restart = config.get("restart") or {}
    match restart.get("policy") or "on-failure":
        case "always":
            return True
        case "on-failure":
            return code != 0 and restarts < (restart.get("max_retries") or _MAX_RETRIES)
        case _:
            return False


def _argv(config: Mapping[str, Any]) -> list[str]:
    """`init.exec` beats everything; without any of the three, an image's own command would run: a shell that rests."""
    init = config.get("init") or {}
    exec_: list[str] = init.get("exec") or [*(init.get("entrypoint") or []), *(init.get("cmd") or [])]
    return exec_ or ["sleep", "infinity"]


def environment(machine: Machine, image: LocalImage) -> dict[str, str]:
    """The whole environment of a machine's processes (names: Fly docs, "The Machine runtime environment")."""
    guest = machine.config.get("guest") or {}
    return {
        "PATH": ":".join(map(str, image.path)) or "/nonexistent",
        "HOME": "/root",
        **image.env,
        "PRIMARY_REGION": machine.region,
        **(machine.config.get("env") or {}),
        "FLY_APP_NAME": machine.app,
        "FLY_MACHINE_ID": machine.id,
        "FLY_ALLOC_ID": machine.id,
        "FLY_MACHINE_VERSION": machine.instance_id,
        "FLY_REGION": machine.region,
        "FLY_IMAGE_REF": str(machine.config.get("image", "")),
        "FLY_VM_MEMORY_MB": str(guest.get("memory_mb", 256)),
    }


def signal_number(value: Any) -> int | None:
    """The number of `SIGTERM`, `TERM` or 15; None for what is no signal."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if value in {int(number) for number in signal.Signals} else None
    name = str(value).upper()
    found = signal.Signals.__members__.get(name if name.startswith("SIG") else f"SIG{name}")
    return int(found) if found else None
