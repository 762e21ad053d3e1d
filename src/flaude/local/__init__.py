"""The embedded stand-in of Fly's Machines API: the same HTTP, and its machines are real processes on this computer.

    async with LocalFly(apps=["my-app"]) as fly:
        executor = ConcurrentExecutor("my-app", fly=fly)

It misbehaves on request, so that what depends on it can show that it bears that:

    async with LocalFly(apps=["my-app"], faults=[Fault("*", DropAfter(), chance=0.02)], seed=1) as fly:
        ...

What it serves is told in `flaude.local.routes`, what it answers as Fly does in `flaude.local.replies`, what a machine
is in `flaude.local.isolation`, and what can go wrong in `flaude.local.faults`. Public, for the tests of flaude's
users too.
"""

from flaude.local.faults import (
    Answer,
    Delay,
    Dies,
    DropAfter,
    DropBefore,
    Effect,
    Fault,
    Faults,
    FlyStops,
    Hang,
    Hook,
    HostGone,
    ListLag,
    NoCapacity,
    SlowDelete,
    Truncate,
)
from flaude.local.fly import LocalFly
from flaude.local.image import LocalImage
from flaude.local.middleware import Exchange
from flaude.local.quirks import Quirks

__all__ = [
    "Answer",
    "Delay",
    "Dies",
    "DropAfter",
    "DropBefore",
    "Effect",
    "Exchange",
    "Fault",
    "Faults",
    "FlyStops",
    "Hang",
    "Hook",
    "HostGone",
    "ListLag",
    "LocalFly",
    "LocalImage",
    "NoCapacity",
    "Quirks",
    "SlowDelete",
    "Truncate",
]
