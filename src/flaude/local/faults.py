"""What goes wrong on request: which calls are struck, and by what. Pure: decides, and does nothing.

faults=[
    Fault("create_machine", DropAfter(), times=1),   # the first create is done, and its answer is lost
    Fault("exec_machine", Answer(503), after=2, times=3),
    Fault("*", DropBefore(), chance=0.02),
]
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True)
class Effect:
    """What happens to a request; use one of the classes below.

    Attributes:
        actions: The actions that it can happen to; empty for all.
    """

    actions: ClassVar[frozenset[str]] = frozenset()


@dataclass(frozen=True)
class Answer(Effect):
    """The request is not done, and this is answered.

    Attributes:
        status: HTTP status.
        error: Text, as Fly gives its errors: `{"error": ...}`.
        body: The body as it stands, in place of that; `""` is an empty one.
        retry_after: Seconds for a `Retry-After` header.
    """

    status: int
    error: str = ""
    body: str | None = None
    retry_after: int | None = None

    def __post_init__(self) -> None:
        """Check the status."""
        if not 200 <= self.status <= 599:  # noqa: PLR2004  # what HTTP calls a final status
            raise ValueError(f"status: give an HTTP status from 200 to 599, not {self.status}")


@dataclass(frozen=True)
class DropBefore(Effect):
    """The connection is closed without an answer, and nothing is done."""


@dataclass(frozen=True)
class DropAfter(Effect):
    """The request is done, and the connection is closed without an answer."""


@dataclass(frozen=True)
class Truncate(Effect):
    """The request is done, and half of the answer's body arrives."""


@dataclass(frozen=True)
class Hang(Effect):
    """Nothing is done and nothing is answered, until the client goes."""


@dataclass(frozen=True)
class Delay(Effect):
    """The request is done after so many seconds."""

    seconds: float

    def __post_init__(self) -> None:
        """Check the time."""
        _time("seconds", self.seconds)


Told = Callable[[str], Awaitable[None] | None]


@dataclass(frozen=True)
class Hook(Effect):
    """Calls a function of yours, plain or async, with the request's path.

    Attributes:
        before: Called before the request is done.
        after: Called when it is done, before its answer leaves.
    """

    before: Told | None = None
    after: Told | None = None


@dataclass(frozen=True)
class ListLag(Effect):
    """Machines that are younger than so many seconds are not in the list: Fly lists from a replica."""

    actions = frozenset({"list_machines"})
    seconds: float

    def __post_init__(self) -> None:
        """Check the time."""
        _time("seconds", self.seconds)


@dataclass(frozen=True)
class SlowDelete(Effect):
    """The delete is accepted at once; the machine stays `destroying`, and its process alive, for so many seconds."""

    actions = frozenset({"delete_machine"})
    seconds: float

    def __post_init__(self) -> None:
        """Check the time."""
        _time("seconds", self.seconds)


@dataclass(frozen=True)
class Dies(Effect):
    """The machine that is made is killed some time after it has started.

    Attributes:
        after_s: Seconds.
        oom: Whether its exit event says that it ran out of memory.
        when: Waited for before that, such as an event's `wait`: what has to have happened.
    """

    actions = frozenset({"create_machine"})
    after_s: float = 0.0
    oom: bool = False
    when: Callable[[], Awaitable[object]] | None = None

    def __post_init__(self) -> None:
        """Check the time."""
        _time("after_s", self.after_s)


@dataclass(frozen=True)
class FlyStops(Effect):
    """Fly stops the machine that is made some time after it has started, as it does on a trial account.

    Its process gets the signal of its `stop_config`, and is killed at the end of that one's timeout.

    Attributes:
        after_s: Seconds.
        timeout_s: Seconds until it is killed, whatever its `stop_config` says; None for what that says.
    """

    actions = frozenset({"create_machine"})
    after_s: float = 0.0
    timeout_s: float | None = None

    def __post_init__(self) -> None:
        """Check the times."""
        _time("after_s", self.after_s)
        _time("timeout_s", self.timeout_s or 0.0)


@dataclass(frozen=True)
class HostGone(Effect):
    """The host of the machine that is made stops answering some time after the machine has started.

    From then on what needs the machine itself (exec, wait, stop, ...) answers 408, the record has `host_status`
    `unreachable` and no config, and a delete stays pending. The machine's processes go on.

    Attributes:
        after_s: Seconds.
        back_s: Seconds until the host is back; None for never.
    """

    actions = frozenset({"create_machine"})
    after_s: float = 0.0
    back_s: float | None = None

    def __post_init__(self) -> None:
        """Check the times."""
        _time("after_s", self.after_s)
        _time("back_s", self.back_s or 0.0)


@dataclass(frozen=True)
class NoCapacity(Effect):
    """There is no room for a machine: a create is put into the next region that it allows, or answered 422.

    Attributes:
        regions: The codes of the regions that are full; empty for all.
    """

    actions = frozenset({"create_machine"})
    regions: Collection[str] = ()

    def __post_init__(self) -> None:
        """Check the regions."""
        if isinstance(self.regions, str):
            raise ValueError(f"regions: give a list of codes, not {self.regions!r}")  # noqa: TRY004  # as the others do


ACTIONS = frozenset(
    {
        *("current_token", "list_apps", "create_app", "get_app", "delete_app"),
        *("list_org_machines", "list_machines", "create_machine", "get_machine", "update_machine", "delete_machine"),
        *("list_events", "list_versions", "wait_machine", "exec_machine"),
        *("start_machine", "stop_machine", "restart_machine", "signal_machine"),
        *("get_metadata", "put_metadata", "get_metadata_key", "set_metadata_key", "delete_metadata_key"),
    }
)
"""What a fault can strike."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        action: What it strikes, such as `create_machine` (see `ACTIONS`); `*` for everything.
        effect: What happens.
        times: How often it strikes; None for always.
        after: How many such requests it lets pass first.
        chance: How likely it strikes one, from 0 to 1, by the stand-in's `seed`.

    Raises:
        ValueError: A value is of no use; the message names it.
    """

    action: str
    effect: Effect
    times: int | None = None
    after: int = 0
    chance: float = 1.0

    def __post_init__(self) -> None:
        """Check every value."""
        if self.action != "*" and self.action not in ACTIONS:
            raise ValueError(f"action: no such action: {self.action!r}; give one of {', '.join(sorted(ACTIONS))} or *")
        if self.effect.actions and self.action not in self.effect.actions:
            name, possible = type(self.effect).__name__, ", ".join(self.effect.actions)
            raise ValueError(f"effect: {name} happens to {possible} alone, not to {self.action}")
        if self.times is not None and self.times < 1:
            raise ValueError(f"times: give a number from 1, or None for always, not {self.times}")
        if self.after < 0:
            raise ValueError(f"after: give a number from 0, not {self.after}")
        if not 0 <= self.chance <= 1:
            raise ValueError(f"chance: give a number from 0 to 1, not {self.chance}")


@dataclass
class _Count:
    fault: Fault
    met: int = 0
    struck: int = 0


@dataclass
class Faults:
    """The faults of a stand-in; they may be changed while it serves.

    Attributes:
        seed: Of the random numbers: the same requests in the same order meet the same faults.
        struck: How often each effect happened to each action, such as `("create_machine", "DropAfter")`.
    """

    seed: int = 0
    struck: Counter[tuple[str, str]] = field(default_factory=Counter)
    _counts: list[_Count] = field(default_factory=list)
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Seed the random numbers."""
        self._random = random.Random(self.seed)  # noqa: S311  # to be repeatable is its purpose

    def add(self, *faults: Fault) -> None:
        """From now on these happen too; of several that fit a request, the one that was added first strikes."""
        self._counts.extend(_Count(fault) for fault in faults)

    def clear(self) -> None:
        """Nothing goes wrong any more; what has happened stays."""
        self._counts.clear()

    def strike(self, action: str) -> Effect | None:
        """What happens to the next request of this action."""
        for count in self._counts:
            fault = count.fault
            if fault.action not in ("*", action) or count.struck == fault.times:
                continue
            count.met += 1
            if count.met > fault.after and self._random.random() < fault.chance:
                count.struck += 1
                self.struck[action, type(fault.effect).__name__] += 1
                return fault.effect
        return None


def made(faults: Iterable[Fault], seed: int) -> Faults:
    """The faults that a stand-in begins with."""
    result = Faults(seed)
    result.add(*faults)
    return result


def _time(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"{name}: give seconds from 0, not {value}")
