"""`flaude doctor`: whether everything is there, and what to do."""

from __future__ import annotations

import json as json_
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Annotated

import anyio
from cyclopts import Parameter
from rich.console import Console
from rich.text import Text

from flaude.cli import checks, consoles, fly_checks, image_checks
from flaude.cli.checks import Check, Verdict
from flaude.cli.printable import printable

_MARKS = {Verdict.RIGHT: ("ok", "green"), Verdict.WRONG: ("wrong", "bold red"), Verdict.NOTE: ("note", "yellow")}

Look = Callable[[], Awaitable[Check | Sequence[Check]]]


async def doctor(
    *, app: str | None = None, image: str | None = None, json: Annotated[bool, Parameter(negative="")] = False
) -> int:
    """Look whether everything is there that flaude needs, and say what to do; exit code 1 when something is wrong.

    Nothing is changed by it, and no secret is shown.

        flaude doctor --app my-app
        flaude doctor --image registry.fly.io/my-app:claude

    Parameters
    ----------
    app
        The Fly app to look at; else FLY_APP.
    image
        Ask its registry about this image: platform, user, size and digest. Without it no registry is asked.
    json
        Print one JSON object a line and nothing else.
    """
    found = await _all(os.environ.get("FLY_APP") if app is None else app, image)
    console = consoles.for_results()
    for check in found:
        if json:
            print(json_.dumps(asdict(check)))
        else:
            _print(console, check)
    return 1 if any(check.verdict is Verdict.WRONG for check in found) else 0


async def _all(app: str | None, image: str | None) -> list[Check]:
    environ = os.environ
    looks: dict[str, Look] = {
        "python": checks.python,
        "git": checks.git,
        "bubblewrap": checks.bubblewrap,
        "journal": lambda: checks.journal(environ),
        "claude credentials": lambda: checks.claude_credentials(environ),
        "fly token": lambda: checks.fly_token(environ),
        "fly api": lambda: fly_checks.api_and_clock(environ),
        "app": lambda: fly_checks.app(app),
        "image": checks.image if image is None else lambda: image_checks.image(image, environ),
    }
    found = dict[str, Sequence[Check]]()

    async def take(name: str, look: Look) -> None:
        # A registry is asked several times, and what it does not answer is told by who asks.
        patient = name == "image" and image is not None
        with anyio.move_on_after(None if patient else fly_checks.WITHIN_S):
            seen = await look()
            found[name] = [seen] if isinstance(seen, Check) else seen

    async with anyio.create_task_group() as tasks:
        for name, look in looks.items():
            tasks.start_soon(take, name, look)
    late = f"nothing was found within {fly_checks.WITHIN_S:g} s"
    return [check for name in looks for check in found.get(name, [Check(name, Verdict.WRONG, late, "try it again")])]


def _print(console: Console, check: Check) -> None:
    mark, style = _MARKS[check.verdict]
    console.print(Text.assemble((f"{mark:<7}", style), (f"{check.name:<20}", "bold"), printable(check.found)))
    if check.fix:
        console.print(Text(f"{'':<27}{printable(check.fix)}", "dim"))
