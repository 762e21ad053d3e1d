"""`flaude doctor`: whether everything is there, and what to do."""

from __future__ import annotations

import json as json_
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Annotated

import anyio
from cyclopts import Parameter

from flaude._model.errors import ConfigError
from flaude.cli.checks import fly as fly_checks
from flaude.cli.checks import images as image_checks
from flaude.cli.checks import this_computer as checks
from flaude.cli.checks.this_computer import Check, Verdict
from flaude.cli.text.check_lines import print_check
from flaude.cli.view import consoles

Look = Callable[[], Awaitable[Check | Sequence[Check]]]


async def doctor(
    *,
    app: str | None = None,
    live: Annotated[bool, Parameter(negative="")] = False,
    image: str | None = None,
    save: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Look whether everything is there that flaude needs, and say what to do; exit code 1 when something is wrong.

    Without --live nothing is changed by it; no secret is shown.

        flaude doctor --app my-app
        flaude doctor --image registry.fly.io/my-app:claude
        flaude doctor --live --app my-app --save

    Parameters
    ----------
    app
        The Fly app to look at; else FLY_APP.
    live
        Measure what Fly does with a small machine of the app, for about 90 s and less than a cent, and print it next to
        what flaude assumes. All machines that it makes are deleted, also when it is interrupted. Exit code 1 when Fly
        made no machine, 3 when one could not be confirmed as gone.
    image
        Ask its registry about this image: platform, user, size and digest. With --live it is the machine's image.
    save
        With --live: keep what was measured; the next runs send as much at once, and wait as long, as Fly has allowed.
    json
        Print one JSON object a line and nothing else.
    """
    app = os.environ.get("FLY_APP") if app is None else app
    if live:
        from flaude.cli.checks.live_probe import live_probe  # noqa: PLC0415  # with all of HTTP: only who measures

        return await live_probe(app, image=image, save=save, json=json)
    if save:
        raise ConfigError("--save: it keeps what --live measures; add --live")
    found = await _all(app, image)
    console = consoles.for_results()
    for check in found:
        if json:
            print(json_.dumps(asdict(check)))
        else:
            print_check(console, check)
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
        "measurements": lambda: checks.measurements(environ),
        "image": checks.image if image is None else lambda: image_checks.image(image, environ),
    }
    found = dict[str, Sequence[Check]]()

    async def take(name: str, look: Look) -> None:
        # A registry takes several calls. If it does not answer, its own check reports that.
        patient = name == "image" and image is not None
        with anyio.move_on_after(None if patient else fly_checks.WITHIN_S):
            seen = await look()
            found[name] = [seen] if isinstance(seen, Check) else seen

    async with anyio.create_task_group() as tasks:
        for name, look in looks.items():
            tasks.start_soon(take, name, look)
    late = f"nothing was found within {fly_checks.WITHIN_S:g} s"
    return [check for name in looks for check in found.get(name, [Check(name, Verdict.WRONG, late, "try it again")])]
