"""Finding the agent's program, and installing it with npm where the image has none."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path

from .command import run
from .job import Install
from .layout import Layout


class InstallFailed(Exception):
    """The agent is not there and could not be installed; the message says why."""


def search_path(layout: Layout, home: Path, machine_path: str) -> str:
    """PATH of the agent: the image's, then where npm put it, then the user's own."""
    return ":".join([machine_path, str(layout.npm / "node_modules/.bin"), str(home / ".local/bin")])


async def ensure_program(
    program: str, install: Install | None, layout: Layout, environment: Mapping[str, str], seconds: float
) -> str:
    """Install the program when PATH has none.

    Returns:
        What was done, for the log; empty when it was there.

    Raises:
        InstallFailed: It is not there now either.
    """
    if shutil.which(program, path=environment["PATH"]):
        return ""
    if install is None:
        raise InstallFailed(f"{program} is not in the image")
    package = f"{install.package}@{install.version}"
    if not shutil.which("npm", path=environment["PATH"]):
        raise InstallFailed(
            f"{program} is not in the image, and neither is npm to install {package}; use an image that has one of them"
        )
    layout.npm.mkdir(parents=True, exist_ok=True)
    argv = ["npm", "install", "--no-fund", "--no-audit", "--loglevel=error", "--prefix", str(layout.npm), package]
    try:
        # npm gets a home of its own: nothing that it caches or logs is the agent's.
        npm_environment = {**environment, "HOME": str(layout.npm)}
        done = await asyncio.wait_for(run(argv, environment=npm_environment, cwd=str(layout.npm)), seconds or None)
    except asyncio.TimeoutError:
        raise InstallFailed(f"npm install {package} was not done after {seconds:g} s") from None
    if done.code or not shutil.which(program, path=environment["PATH"]):
        told = (done.stderr or done.stdout).decode("utf-8", "replace").strip()[-600:]
        raise InstallFailed(f"npm install {package} failed with code {done.code}: {told}")
    return f"installed {package} with npm"
