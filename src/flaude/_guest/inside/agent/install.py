"""Finding the agent's program, and installing it with npm where the image has none."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from .. import transient
from ..job import Install
from ..layout import Layout
from .command import Command, run
from .user import User

_TRIES = 1 + len(transient.PAUSES_S)
_TOLD_CHARACTERS = 600


class InstallFailed(Exception):
    """The agent is not there and could not be installed; the message says why.

    Args:
        message: Why.
        transient: Whether the network or npm's registry was to blame.
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


def search_path(layout: Layout, home: Path, machine_path: str) -> str:
    """PATH of the agent: the image's, then where npm put it, then the user's own."""
    return ":".join([machine_path, str(layout.npm / "node_modules/.bin"), str(home / ".local/bin")])


async def ensure_program(
    program: str,
    install: Install | None,
    layout: Layout,
    user: User,
    environment: Mapping[str, str],
    seconds: float,
    tell: Callable[[str], None],
) -> None:
    """See that the program is on PATH and says its version when asked; install it when PATH has none.

    npm exits 0 and leaves a stub of 500 bytes in the program's place where the package for this platform was not
    published, was not downloaded, or its script was not allowed to run (anthropics/claude-code#88103 and #86941,
    strongdm/leash#79): only its version tells.

    Args:
        program: Its name.
        install: What has it; without one the program is any, and is not asked.
        layout: Where everything is.
        user: Who is to run it.
        environment: Of that user.
        seconds: How long all of it may take; 0 for as long as it likes.
        tell: Takes what was done, for the log.

    Raises:
        InstallFailed: It is not there now either, or does not answer.
    """
    found = shutil.which(program, path=environment["PATH"])
    if install is None:
        if not found:
            raise InstallFailed(f"{program} is not in the image")
        return
    installing = _Installing(program, install, layout, user, environment, tell)
    package = f"{install.package}@{install.version}"
    what = f"{program} --version" if found else f"npm install {package}"
    work = installing.check_image(found) if found else installing.install()
    try:
        await asyncio.wait_for(work, seconds or None)
    except asyncio.TimeoutError:
        # Far longer than it takes where the registry answers.
        because = f": {installing.last_trouble}" if installing.last_trouble else ""
        message = f"{what} was not done after {seconds:g} s{because}"
        raise InstallFailed(message, transient=not found) from None


class _Installing:
    """One installation, with its second and third tries."""

    def __init__(
        self,
        program: str,
        install: Install,
        layout: Layout,
        user: User,
        environment: Mapping[str, str],
        tell: Callable[[str], None],
    ) -> None:
        self._program = program
        self._install = install
        self._layout = layout
        self._user = user
        self._environment = environment
        self._tell = tell
        self.last_trouble = ""

    async def check_image(self, found: str) -> None:
        """See that what the image has runs."""
        problem = await self._problem()
        if problem:
            raise InstallFailed(
                f"the image has {found}, and `{self._program} --version` does not answer as user {self._user.name}: "
                f"{problem}; build the image again, or use one without {self._program}: it is installed then"
            )

    async def install(self) -> None:
        """Install it, if need be in the version that is known to run."""
        install = self._install
        if not self._which("npm"):
            raise InstallFailed(
                f"{self._program} is not in the image, and neither is npm to install "
                f"{install.package}@{install.version}; use an image that has one of them"
            )
        self._layout.npm.mkdir(parents=True, exist_ok=True)
        problem = await self._install_version(install.version)
        # Who names a version wants that one: what a tag names is left to us.
        if problem and install.fallback and not install.version[:1].isdigit():
            self._tell(
                f"warning: {install.package}@{install.version} was installed and does not run: {problem}; installing "
                f"{install.fallback} in its place, the version that flaude is tested with"
            )
            problem = await self._install_version(install.fallback)
        if problem:
            raise InstallFailed(
                f"npm installed {install.package}@{install.version}, but `{self._program} --version` does not answer: "
                f"{problem}; set claude_code_version to another version"
            )

    async def _install_version(self, version: str) -> str:
        """Install that version; why it does not run, or nothing.

        Raises:
            InstallFailed: npm has failed.
        """
        package = f"{self._install.package}@{version}"
        argv = ["npm", "install", "--no-fund", "--no-audit", "--loglevel=error", "--prefix", str(self._layout.npm)]
        problem = ""
        for number in range(1, _TRIES + 1):
            done = await self._run_in_npm([*argv, package])
            if done.code:
                await self._bear(package, done, number)
                continue
            problem = await self._problem()
            script = self._layout.npm / "node_modules" / self._install.package / "install.cjs"
            if problem and script.is_file():
                # What npm should have run, and did not where it allows no scripts.
                done = await self._run_in_npm(["node", str(script)])
                problem = await self._problem()
            if not problem or number == _TRIES or "--force" in argv:
                break
            # npm bears that what the platform needs was not downloaded: once more from the beginning.
            self._tell(f"npm installed {package}, and it does not run: {problem}; installing it again")
            await run(["rm", "-rf", str(self._layout.npm / "node_modules")], environment=self._environment)
            argv.insert(2, "--force")
        if not problem:
            self._tell(f"installed {package} with npm")
        return problem

    async def _bear(self, package: str, done: Command, number: int) -> None:
        """Wait after a failure that may be gone soon; raises for the others, and for the last one."""
        told = _told(done)
        passes = transient.npm_failure(told)
        self.last_trouble = f"npm install {package} failed with code {done.code}: {told[-_TOLD_CHARACTERS:]}"
        if not passes or number == _TRIES:
            tries = f" {number} times, at last" if number > 1 else ""
            message = f"npm install {package} failed{tries} with code {done.code}: {told[-_TOLD_CHARACTERS:]}"
            raise InstallFailed(message, transient=passes)
        self._tell(f"{self.last_trouble}; trying again")
        await asyncio.sleep(transient.pause_s(number))

    async def _problem(self) -> str:
        """Why the program does not say its version, or nothing when it does."""
        found = self._which(self._program)
        if not found:
            return f"there is no {self._program} on PATH"
        # As the agent's user and with its environment: what root can run need not be what the agent can run.
        done = await run([found, "--version"], user=self._user, environment=self._environment)
        if done.code == 0 and done.stdout.strip():
            return ""
        told = _told(done)[-_TOLD_CHARACTERS:] or "it prints nothing"
        return f"{found} exits with code {done.code}: {told}"

    async def _run_in_npm(self, argv: list[str]) -> Command:
        # npm gets a home of its own: nothing that it caches or logs is the agent's.
        environment = {**self._environment, "HOME": str(self._layout.npm)}
        return await run(argv, environment=environment, cwd=str(self._layout.npm))

    def _which(self, program: str) -> str | None:
        return shutil.which(program, path=self._environment["PATH"])


def _told(done: Command) -> str:
    return (done.stderr.strip() or done.stdout.strip()).decode("utf-8", "replace")
