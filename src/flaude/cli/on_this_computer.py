"""Machines on this computer, for commands with `--local`."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import anyio.to_thread

from flaude._model.errors import ConfigError
from flaude._model.settings import ExecutorSettings
from flaude._providers.fly.connection import FlyEndpoint

if TYPE_CHECKING:
    from flaude.local import LocalImage

APP = "local"
"""The app of batches that name none and need none."""

_ORPHAN_S = 60.0
_PATIENCE_S = 30.0
_SCRIPTED = "CLAUDE_CODE_OAUTH_TOKEN"


def local_settings(settings: ExecutorSettings) -> ExecutorSettings:
    """The same with short clocks: the stand-in ends with the command, so nobody can come back to its machines."""
    timeouts = replace(settings.timeouts, orphan=_ORPHAN_S, linger=_ORPHAN_S, patience=_PATIENCE_S)
    return replace(settings, timeouts=timeouts)


def is_scripted(prompt: str) -> bool:
    """Whether a prompt has something to do for the scripted agent."""
    return any(line.startswith("::") for line in prompt.splitlines())


@asynccontextmanager
async def local_fly(app: str, repos: Iterable[str], claude: str) -> AsyncIterator[FlyEndpoint]:
    """The stand-in of Fly's API with this app; machines may read the repositories that lie on this computer.

    Args:
        app: The app.
        repos: Addresses of repositories.
        claude: `scripted` for the stand-in that does what the prompt's `::` lines say, `installed` for this computer's.

    Raises:
        ConfigError: `claude` is neither, or there is none installed.
    """
    from flaude.local import LocalFly, Quirks  # noqa: PLC0415  # with a server and all that: only who needs it

    image = await anyio.to_thread.run_sync(_image, claude)
    if claude == "scripted":
        # It asks for none, and the tokens of people are not for it.
        os.environ[_SCRIPTED] = "a-scripted-agent-needs-none"
    quirks = Quirks(machine_limit=None)  # of this computer's user, who has no account's limit
    async with LocalFly(apps=[app], image=image, share=_shared(repos), quirks=quirks) as fly:
        yield fly


def _image(claude: str) -> LocalImage:
    from flaude.local import LocalImage  # noqa: PLC0415  # as above

    if claude == "scripted":
        return LocalImage.default()
    if claude != "installed":
        raise ConfigError(f"--claude: give scripted or installed, not {claude!r}")
    found = shutil.which("claude")
    if found is None:
        raise ConfigError("--claude: there is no `claude` on this computer's PATH; install Claude Code")
    return LocalImage.host(extra=_folders(Path(found)))


def _folders(claude: Path) -> list[Path]:
    """The folders that Claude Code needs: where it is called, where it really is, and node's."""
    # A box hides the user's home, and with it what a link points to.
    node = shutil.which("node")
    programs = [claude, claude.resolve(), *([Path(node)] if node else [])]
    return list(dict.fromkeys(program.parent for program in programs))


def _shared(repos: Iterable[str]) -> list[Path]:
    urls = [urlsplit(repo) for repo in repos if repo.startswith("file:")]
    return list(dict.fromkeys(Path(unquote(url.path)) for url in urls))
