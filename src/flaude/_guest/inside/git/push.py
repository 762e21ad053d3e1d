"""Pushing the agent's work to a branch: never by force, and with a token that the agent's user cannot read.

What needs the agent's objects is done as its user, into a pack. git then pushes as root, who alone may see the token,
from the baseline and that pack: it runs nothing that the agent could have written, and reads none of its settings.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..agent.command import Command, run
from ..job import Git
from ..layout import Layout
from .agent_repo import AgentRepo
from .changes import names
from .clone import git_environment
from .scratch_repo import QUIET, ScratchRepo, git_settings, quoted, why

_SUBJECT = "Changes by Claude Code"
# It is cut before secrets are taken out of it: there is room for all that is said of one push.
_MOST_TOLD = 4000
_IDENTITY = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "flaude"), ("EMAIL", "flaude@localhost"))
}


class NotPushed(Exception):
    """The work was not pushed; the message says why."""


async def commit_to_push(scratch: ScratchRepo, theirs: AgentRepo, head: str, excluded: set[bytes]) -> str | None:
    """The commit to push: the agent's own when all of its work is in there, else one on top of that.

    Where the agent's commits do not begin at the start, ours is on top of the start.

    Args:
        scratch: Has the agent's tree in its index.
        theirs: The agent's repository.
        head: The commit at the start.
        excluded: Paths that are not in the index as the agent left them; what it has committed of them stays.

    Returns:
        Its id; `None` when there is nothing to push.

    Raises:
        NotPushed: git failed.
    """
    scratch.agents_objects = theirs.objects
    parent = head
    if theirs.tip and (await scratch.git("merge-base", "--is-ancestor", head, theirs.tip)).code == 0:
        parent = theirs.tip
    if parent != head and excluded:
        listed = await _done(scratch, "ls-tree", "-r", "-z", parent)
        kept = [record for record in names(listed) if _is_in(excluded, record.partition(b"\t")[2])]
        await _done(scratch, "update-index", "-z", "--index-info", stdin=b"".join(record + b"\0" for record in kept))
    tree = _line(await _done(scratch, "write-tree"))
    if tree == _line(await _done(scratch, "rev-parse", f"{parent}^{{tree}}")):
        return None if parent == head else parent
    made = await _done(scratch, "commit-tree", tree, "-p", parent, "-m", _SUBJECT, environment=_IDENTITY)
    return _line(made)


async def push(
    scratch: ScratchRepo, commit: str, head: str, url: str, branch: str, git: Git | None, layout: Layout
) -> None:
    """Push a commit to a branch, where it is new or goes on from what is there.

    Args:
        scratch: Has the commit.
        commit: Its id.
        head: The commit at the start, which the other side has.
        url: Where to.
        branch: The branch's name.
        git: The token; without one git goes as the agent's user, with what that user has.
        layout: Where everything is.

    Raises:
        NotPushed: The other side refused, or could not be reached.
    """
    pack = str(scratch.folder / "objects/pack/pack")
    await _done(scratch, "pack-objects", "--quiet", "--revs", pack, stdin=f"{commit}\n^{head}\n".encode())
    shallow = scratch.folder / "shallow"
    environment = {
        **os.environ,  # not the agent's: its PATH has folders that it can write to
        **git_settings(layout),
        **git_environment(git),
        "HOME": str(scratch.baseline),
        "XDG_CONFIG_HOME": str(scratch.baseline),
        "GIT_DIR": str(scratch.baseline),
        "GIT_OBJECT_DIRECTORY": str(scratch.folder / "objects"),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": os.fsdecode(quoted(scratch.baseline / "objects")),
        **({"GIT_SHALLOW_FILE": str(shallow)} if shallow.exists() else {}),
    }
    options = ("--porcelain", "--no-verify", "--no-follow-tags", "--no-signed", "--recurse-submodules=no")
    refspec = f"{commit}:refs/heads/{branch}"
    argv = ["git", *QUIET, "push", *options, "--", url, refspec]
    done = await run(argv, user=None if git else scratch.user, environment=environment)
    if done.code:
        raise NotPushed(_reason(done))


def _is_in(excluded: set[bytes], path: bytes) -> bool:
    """Whether it is one of them, or below one."""
    parts = path.split(b"/")
    return any(
        b"/".join(parts[:number]) + end in excluded for number in range(1, len(parts) + 1) for end in (b"", b"/")
    )


def _reason(done: Command) -> str:
    """Git's own words: what it says of the branch, then what it and the other side say beside that."""
    refused = [line.split("\t")[-1] for line in _lines(done.stdout) if line.startswith("!")]
    told = [line for line in _lines(done.stderr) if not line.startswith(("hint:", "To ", "error: failed to push"))]
    return f"git push failed with code {done.code}: {'; '.join([*refused, *told])[:_MOST_TOLD]}"


def _lines(data: bytes) -> list[str]:
    return [line.strip() for line in data.decode("utf-8", "replace").splitlines() if line.strip()]


async def _done(
    scratch: ScratchRepo, *arguments: str, stdin: bytes = b"", environment: Mapping[str, str] | None = None
) -> bytes:
    done = await scratch.git(*arguments, stdin=stdin, environment=environment)
    if done.code:
        raise NotPushed(why(f"git {arguments[0]}", done))
    return done.stdout


def _line(data: bytes) -> str:
    return data.decode().strip()
