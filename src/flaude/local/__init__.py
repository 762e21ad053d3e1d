"""The embedded stand-in of Fly's Machines API: the same HTTP, and its machines are real processes on this computer.

    async with LocalFly(apps=["my-app"]) as fly:
        executor = ConcurrentExecutor("my-app", fly=fly)

What it serves is told in `flaude.local.routes`, what it answers as Fly does in `flaude.local.replies`, and what a
machine is in `flaude.local.boxes`. Public, for the tests of flaude's users too.
"""

from flaude.local.fly import LocalFly
from flaude.local.gate import Exchange
from flaude.local.image import LocalImage

__all__ = ["Exchange", "LocalFly", "LocalImage"]
