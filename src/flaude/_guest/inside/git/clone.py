"""Cloning the repositories, all at once, with credentials that touch no disk."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from .. import transient
from ..agent.command import Command, run
from ..agent.user import User
from ..job import Git, Repo
from ..layout import Layout
from . import baseline

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?", re.IGNORECASE)
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_HELPER = '!f() { test "$1" = get && echo "username=$FLAUDE_GIT_USERNAME" && echo "password=$FLAUDE_GIT_TOKEN"; }; f'


_TRIES = 1 + len(transient.PAUSES_S)


class CloneFailed(Exception):
    """A repository could not be cloned; the message says which and why.

    Args:
        message: Which and why.
        transient: Whether the network or the server was to blame.
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


def git_environment(git: Git | None) -> dict[str, str]:
    """Git's settings for the clone, all in its environment: nothing of it is written anywhere.

    The token is given to its own host alone, over TLS unless the host is this machine.
    """
    settings = [
        ("gc.auto", "0"),
        ("maintenance.auto", "0"),
        ("advice.detachedHead", "false"),
        ("credential.helper", ""),
    ]
    environment = {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        "LC_ALL": "C.UTF-8",  # its words are read, whatever language the image speaks
    }
    if git is not None:
        schemes = ["https"] + (["http"] if git.host.rpartition(":")[0] in _LOOPBACK or git.host in _LOOPBACK else [])
        settings += [(f"credential.{scheme}://{git.host}.helper", _HELPER) for scheme in schemes]
        # Without a key in the machine, an address for ssh can only be meant for the token.
        settings += [
            (f"url.https://{git.host}/.insteadOf", address)
            for address in (f"git@{git.host}:", f"ssh://git@{git.host}/")
        ]
        environment |= {"FLAUDE_GIT_USERNAME": git.username, "FLAUDE_GIT_TOKEN": git.token}
    environment["GIT_CONFIG_COUNT"] = str(len(settings))
    for index, (key, value) in enumerate(settings):
        environment[f"GIT_CONFIG_KEY_{index}"] = key
        environment[f"GIT_CONFIG_VALUE_{index}"] = value
    return environment


def global_config(layout: Layout) -> str:
    """A git config that trusts every folder: in here all repositories are the agent's, whoever owns the files."""
    path = layout.opt / "gitconfig"
    path.write_text("[safe]\n\tdirectory = *\n")
    path.chmod(0o644)
    return str(path)


async def clone_all(
    repos: tuple[Repo, ...],
    git: Git | None,
    layout: Layout,
    user: User,
    environment: Mapping[str, str],
    seconds: float,
    tell: Callable[[str], None],
) -> dict[str, str]:
    """Clone every repository into the workspace, and keep a baseline of each.

    What the network or the server makes fail is tried again twice.

    Args:
        repos: The repositories.
        git: Credentials for one host.
        layout: Where everything is.
        user: The agent's user.
        environment: Of that user.
        seconds: How long all of them may take together; 0 for as long as they like.
        tell: Takes what is tried again, for the log.

    Returns:
        The commit that was checked out, by target folder.

    Raises:
        CloneFailed: At least one failed; all that failed are named.
    """
    environment = {**environment, **git_environment(git), "GIT_CONFIG_GLOBAL": global_config(layout)}

    async def one(number: int, repo: Repo) -> str:
        folder = layout.workspace / repo.target_dir
        for parent in reversed(folder.relative_to(layout.workspace).parents):
            user.owns(layout.workspace / parent)
        head = await _Clone(repo, folder, user, environment, troubles[number].append, tell).run()
        try:
            await baseline.keep(folder, head, baseline.place(layout, number), layout, user, environment)
        except OSError as error:
            raise CloneFailed(f"{repo.url}: no copy of its beginning could be kept: {error}") from error
        return head

    troubles: list[list[str]] = [[] for _ in repos]
    tasks = [asyncio.ensure_future(one(number, repo)) for number, repo in enumerate(repos)]
    try:
        await asyncio.wait_for(asyncio.wait(tasks), seconds or None)
    except asyncio.TimeoutError:
        pass
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    problems = []
    for repo, trouble, result in zip(repos, troubles, results):
        if isinstance(result, asyncio.CancelledError):
            because = f": {trouble[-1]}" if trouble else ""
            problems.append(CloneFailed(f"{repo.url}: not done after {seconds:g} s{because}", transient=bool(trouble)))
        elif isinstance(result, CloneFailed):
            problems.append(result)
        elif isinstance(result, BaseException):
            raise result
    if problems:
        message = "; ".join(map(str, problems))
        raise CloneFailed(message, transient=all(problem.transient for problem in problems))
    return {repo.target_dir: result for repo, result in zip(repos, results) if isinstance(result, str)}


class _Clone:
    """The clone of one repository."""

    def __init__(
        self,
        repo: Repo,
        folder: Path,
        user: User,
        environment: Mapping[str, str],
        note: Callable[[str], None],
        tell: Callable[[str], None],
    ) -> None:
        self._repo = repo
        self._folder = folder
        self._user = user
        self._environment = environment
        self._note = note
        self._tell = tell

    async def run(self) -> str:
        """Clone it; the commit that is checked out.

        Raises:
            CloneFailed: It could not be cloned.
        """
        repo, folder = self._repo, str(self._folder)
        # A clone of a path would share its objects with the original, whose owner and history are not ours to change.
        clone = ("clone", "--quiet", "--no-local", "--depth=1")
        fetch = ("-C", folder, "fetch", "--quiet")
        if _COMMIT.fullmatch(repo.ref):
            # A commit cannot be named to `git clone`; servers that do not serve one by its id get a full clone.
            done = await self._from_server(*clone, "--no-checkout", "--", repo.url, folder)
            if done.code == 0:
                done = await self._from_server(*fetch, "--depth=1", "origin", repo.ref)
                if done.code and not transient.git_failure(_told(done)):
                    everything = "+refs/heads/*:refs/remotes/origin/*"
                    done = await self._from_server(*fetch, "--unshallow", "--tags", "origin", everything)
            if done.code == 0:
                done = await self._git("-C", folder, "checkout", "--quiet", "--detach", repo.ref)
        else:
            branch = [f"--branch={repo.ref}"] if repo.ref else []
            done = await self._from_server(*clone, *branch, "--", repo.url, folder)
        if done.code:
            raise CloneFailed(_why(repo, done), transient=transient.git_failure(_told(done)))
        head = await self._git("-C", folder, "rev-parse", "HEAD")
        if head.code:
            raise CloneFailed(f"{repo.url}: the repository is empty, it has no commit")
        return head.stdout.decode().strip()

    async def _from_server(self, *arguments: str) -> Command:
        """What talks to the server may fail by what is gone a moment later; git removes a clone that it began."""
        done = await self._git(*arguments)
        for number in range(1, _TRIES):
            if done.code == 0 or not transient.git_failure(_told(done)):
                break
            self._note(_why(self._repo, done))
            self._tell(f"{_why(self._repo, done)}; trying again")
            await asyncio.sleep(transient.pause_s(number))
            done = await self._git(*arguments)
        return done

    async def _git(self, *arguments: str) -> Command:
        return await run(["git", *arguments], user=self._user, environment=self._environment)


def _told(done: Command) -> str:
    return done.stderr.decode("utf-8", "replace")


def _why(repo: Repo, done: Command) -> str:
    text = "; ".join(line.strip() for line in _told(done).splitlines() if line.strip())
    what = f"{repo.url}" + (f" at {repo.ref}" if repo.ref else "")
    missing = "Remote branch" in text or "couldn't find remote ref" in text or "unable to read tree" in text
    hint = f" (no branch, tag or commit {repo.ref})" if repo.ref and (missing or _COMMIT.fullmatch(repo.ref)) else ""
    return f"{what}: git failed with code {done.code}{hint}: {text[-600:]}"
