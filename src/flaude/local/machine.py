"""What the stand-in knows of an app and of a machine: the records that the API shows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import anyio

from flaude.local import ids
from flaude.local.faults import Dies, FlyStops, HostGone
from flaude.local.isolation import Running

RESTING = frozenset({"created", "started", "stopped", "suspended", "failed", "destroyed"})
"""The states in which a machine may stay (Fly docs, "Machine states")."""


def now() -> str:
    """The time as Fly writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class App:
    """An app; before `known_at`, by the event loop's clock, it is a 404 for machines."""

    name: str
    org_slug: str
    network: str
    number: int
    known_at: float = 0.0

    def shown(self, machine_count: int) -> dict[str, Any]:
        """As `GET /v1/apps/NAME` gives it."""
        return {
            "id": self.name,
            "name": self.name,
            "status": "deployed" if machine_count else "pending",
            "organization": {"name": self.org_slug, "slug": self.org_slug},
            "network": self.network,
            "machine_count": machine_count,
            "volume_count": 0,
            "internal_numeric_id": self.number,
        }


class Order(Enum):
    """What is wanted of a machine: its life (`flaude.local.machine_lifecycle`) works towards it."""

    RUN = "run"
    REST = "rest"
    DESTROY = "destroy"


@dataclass(frozen=True)
class Stop:
    """How the process is asked to end, and after how many seconds it is killed (defaults: Fly docs)."""

    signal: int = 2
    timeout_s: float = 5.0


@dataclass
class Machine:
    """A machine, from its creation until the API forgets it.

    Attributes:
        order: What is wanted of it.
        runs: Counts the runs that are wanted: an update or a restart adds one, and what runs is replaced.
        stop: How the stop that is wanted is to be done.
        running: The processes, while there are any.
        born: Seconds of the monotonic clock.
        destroyed_at: Seconds of the event loop's clock.
        fate: What is to go wrong with it.
        died: The fate that has killed its process.
        host_gone: Whether its host does not answer.
        started_at: Seconds of the event loop's clock.
        exec_turn: Who runs a command in it, where that is one at a time.
        exec_while_stopping: Whether it takes an exec while it is `stopping`.
    """

    app: str
    name: str
    region: str
    config: dict[str, Any]
    order: Order
    id: str = field(default_factory=ids.machine_id)
    instance_id: str = field(default_factory=ids.ulid)
    state: str = "created"
    created_at: str = field(default_factory=now)
    updated_at: str = field(default_factory=now)
    events: list[dict[str, Any]] = field(default_factory=list)
    versions: list[dict[str, Any]] = field(default_factory=list)
    runs: int = 0
    stop: Stop = field(default_factory=Stop)
    running: Running | None = None
    destroyed_at: float | None = None
    fate: Dies | FlyStops | HostGone | None = None
    died: Dies | None = None
    host_gone: bool = False
    started_at: float = 0.0
    exec_turn: anyio.Lock = field(default_factory=anyio.Lock)
    exec_while_stopping: bool = False
    born: float = field(default_factory=time.monotonic)
    _changed: anyio.Event = field(default_factory=anyio.Event)

    def __post_init__(self) -> None:
        self.versions.append({"version": self.instance_id, "user_config": self.config})

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of its config, to be read and changed."""
        found: dict[str, str] = self.config.get("metadata") or {}
        self.config["metadata"] = found
        return found

    @property
    def doomed(self) -> bool:
        """Whether it is to be destroyed, or is."""
        return self.order is Order.DESTROY

    @property
    def alive(self) -> bool:
        """Whether it can take an exec."""
        stops = self.state == "stopping" and self.exec_while_stopping
        return self.running is not None and (self.state == "started" or stops)

    @property
    def is_up(self) -> bool:
        """Whether it runs, and nobody has asked it to stop."""
        return self.running is not None and self.state == "started"

    def event(self, kind: str, status: str, source: str, request: dict[str, Any] | None = None) -> None:
        """Record what happened, newest first."""
        happened = {"id": ids.ulid(), "type": kind, "status": status, "source": source}
        moment = {"timestamp": time.time_ns() // 1_000_000}
        self.events.insert(0, {**happened, **moment, **({} if request is None else {"request": request})})

    def become(self, state: str) -> None:
        """Take on a state and wake everyone who waits for one."""
        self.state = state
        self.touch()

    def want(self, order: Order, stop: Stop | None = None) -> None:
        """Change the order; one that is to be destroyed stays so."""
        if not self.doomed:
            self.order = order
        self.stop = stop or self.stop
        self.touch()

    def replace(self, config: dict[str, Any]) -> None:
        """Give it another config, and with it a new version."""
        self.config = config
        self.instance_id = ids.ulid()
        self.versions.insert(0, {"version": self.instance_id, "user_config": config})

    def touch(self) -> None:
        """Wake everyone who watches."""
        self.updated_at = now()
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when `condition` holds; it is looked at after every change."""
        while not condition():
            await self._changed.wait()

    def shown(self, *, summary: bool = False) -> dict[str, Any]:
        """As the API gives it; `summary` is without config, checks and events (Fly's OpenAPI document)."""
        repository, _, tag = str(self.config.get("image", "")).partition(":")
        about = {
            "id": self.id,
            "name": self.name,
            "state": self.state,
            "region": self.region,
            "instance_id": self.instance_id,
            "version": self.instance_id,
            "private_ip": f"fdaa:0:1:a7b:0:{self.id[:4]}:{self.id[4:8]}:2",
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "image_ref": {"registry": "local", "repository": repository, "tag": tag},
        }
        if summary:
            return about
        details = {**about, "events": self.events[:20], "checks": []}
        if self.host_gone:
            return {**details, "incomplete_config": self.config, "host_status": "unreachable"}
        return {**details, "config": self.config, "host_status": "ok"}
