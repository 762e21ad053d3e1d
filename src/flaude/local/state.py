"""The apps and machines of one stand-in, and the rules for finding them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio.abc import TaskGroup

from flaude.local import replies
from flaude.local.image import LocalImage
from flaude.local.isolation import Box, Running
from flaude.local.limits import Limits
from flaude.local.machine import App, Machine, Order
from flaude.local.machine_lifecycle import live
from flaude.local.quirks import Quirks


@dataclass
class State:
    """Everything that is there.

    Attributes:
        box: Starts the processes of machines.
        folder: Holds a folder for every machine.
        default_image: For every image name that is not in `images`.
        boot_s: Seconds that a machine is `created`.
        remember_s: Seconds for which a destroyed machine can still be read.
        quirks: How it behaves where sources disagree about Fly.
        limits: Fly's rate limits, when they are on.
        tasks: Where machines live.
        taken: Names of apps of others.
        created: Ids of all machines that ever were.
        alive: Machines whose process lives.
        peak_alive: The most that were alive at once.
    """

    box: Box
    folder: Path
    default_image: LocalImage
    images: Mapping[str, LocalImage]
    boot_s: float
    remember_s: float
    quirks: Quirks
    limits: Limits | None
    tasks: TaskGroup
    taken: frozenset[str] = frozenset()
    created: list[str] = field(default_factory=list)
    alive: int = 0
    peak_alive: int = 0
    _apps: dict[str, App] = field(default_factory=dict)
    _machines: dict[str, dict[str, Machine]] = field(default_factory=dict)
    _names: dict[tuple[str, str], Machine] = field(default_factory=dict)
    _destroyed: deque[Machine] = field(default_factory=deque)
    _apps_made: int = 0

    def add_app(self, name: str, *, org_slug: str = "personal", network: str = "default", young_s: float = 0.0) -> App:
        """Make an app, which is not known everywhere for `young_s` seconds; refuses with 422 when the name is taken."""
        if name in self._apps or name in self.taken:
            raise replies.app_name_taken()
        self._apps_made += 1
        self._apps[name] = App(name, org_slug, network, self._apps_made, anyio.current_time() + young_s)
        self._machines[name] = {}
        return self._apps[name]

    def remove_app(self, app: App) -> None:
        """Forget an app; its machines are destroyed."""
        for machine in self._machines.pop(app.name).values():
            machine.want(Order.DESTROY)
            self._names.pop((app.name, machine.name), None)
        del self._apps[app.name]

    def app(self, name: str) -> App:
        """The app of this name; refuses with 404, or 403 for one of others."""
        if name in self.taken:
            raise replies.app_of_others()
        if name not in self._apps:
            raise replies.app_not_found(name)
        return self._apps[name]

    def grown_app(self, name: str) -> App:
        """The same for what is done in it; refuses with 404 also while it is young."""
        app = self.app(name)
        if anyio.current_time() < app.known_at:
            raise replies.app_young()
        return app

    def apps(self, org_slug: str) -> list[App]:
        """The apps of an organization."""
        return [app for app in self._apps.values() if app.org_slug == org_slug]

    def machine(self, app: str, machine_id: str) -> Machine:
        """The machine with this id, also for a while after it is destroyed; refuses with 404."""
        self.app(app)
        found = self._machines[app].get(machine_id)
        if found is None or self._forgotten(found):
            raise replies.machine_not_found()
        return found

    def machines(self, app: str) -> list[Machine]:
        """All machines of an app that can still be read, oldest first."""
        self._forget()
        return list(self._machines[self.app(app).name].values())

    def add_machine(self, machine: Machine) -> None:
        """Let a machine live; refuses with 409 when a living one has its name, with 422 at the organization's limit."""
        self._forget()
        # Fly's order of the two is not known. Like this, who asks again for a machine is not told that he has it.
        self._check_limit(self._apps[machine.app].org_slug)
        if (other := self._names.get((machine.app, machine.name))) is not None:
            raise replies.name_violation(other.id, other.name)
        self._names[machine.app, machine.name] = machine
        self._machines[machine.app][machine.id] = machine
        self.created.append(machine.id)
        machine.event("launch", "created", "user")
        self.tasks.start_soon(live, machine, self)

    def _check_limit(self, org_slug: str) -> None:
        limit = self.quirks.machine_limit
        if limit is None:
            return
        # Stopped ones count, and those that nobody has asked to go.
        machines = (machine for app in self.apps(org_slug) for machine in self._machines[app.name].values())
        if sum(machine.state != "destroyed" for machine in machines) >= limit:
            raise replies.machine_limit()

    async def destroy_all(self) -> None:
        """Destroy all machines and return when they are."""
        machines: Iterable[Machine] = [machine for known in self._machines.values() for machine in known.values()]
        for machine in machines:
            machine.want(Order.DESTROY)
        for machine in machines:
            await machine.until(lambda machine=machine: machine.state in ("destroyed", "failed"))  # type: ignore[misc]

    def machine_folder(self, machine_id: str) -> Path:
        """The machine's own folder."""
        return self.folder / "machines" / machine_id

    def image(self, name: str) -> LocalImage:
        """What the image of this name has."""
        return self.images.get(name, self.default_image)

    def lives(self, machine: Machine, running: Running | None) -> None:
        """Take note that a machine's process lives, or with None that it has ended."""
        self.alive += (running is not None) - (machine.running is not None)
        self.peak_alive = max(self.peak_alive, self.alive)
        machine.running = running
        machine.touch()

    def gone(self, machine: Machine) -> None:
        """Take note that a machine is destroyed."""
        machine.destroyed_at = anyio.current_time()
        self._destroyed.append(machine)
        if self._names.get((machine.app, machine.name)) is machine:
            del self._names[machine.app, machine.name]
        if self.limits:
            self.limits.forget(machine.id)

    def _forget(self) -> None:
        """Drop the machines that can no longer be read; those that were destroyed first come first."""
        while self._destroyed and self._forgotten(self._destroyed[0]):
            machine = self._destroyed.popleft()
            self._machines.get(machine.app, {}).pop(machine.id, None)

    def _forgotten(self, machine: Machine) -> bool:
        return machine.destroyed_at is not None and anyio.current_time() - machine.destroyed_at > self.remember_s
