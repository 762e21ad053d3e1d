"""Collecting: what the agent left in each repository, as a patch against the commit it began with.

git runs as the agent's user, after all of the agent's processes are gone: the repository's config is the agent's, and
git runs programs that are named in it.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from .command import Command, run
from .job import Job, Repo
from .layout import Layout
from .outbox import Outbox
from .user import User

_QUIET = (
    "-c", "core.fsmonitor=false",
    "-c", "core.untrackedCache=false",
    "-c", "core.hooksPath=/dev/null",
    "-c", "core.quotePath=true",
    "-c", "gc.auto=0",
)  # fmt: skip
_DIFF = ("diff", "--cached", "--no-ext-diff", "--no-textconv", "--no-color", "--find-renames", "--no-relative")
_PATCH = ("--binary", "--full-index", "--src-prefix=a/", "--dst-prefix=b/", "--unified=3")


async def collect_all(
    job: Job, heads: Mapping[str, str], layout: Layout, user: User, environment: Mapping[str, str], outbox: Outbox
) -> list[dict[str, Any]]:
    """The result's part on each repository; the patches go into the outbox.

    One repository that fails, or takes too long, does not take the others' work with it: its `patch_error` says why.

    Args:
        job: What was to be done.
        heads: The commits that were checked out, by target folder.
        layout: Where everything is.
        user: The agent's user.
        environment: The agent's environment, without its secrets.
        outbox: Takes the patches.
    """
    environment = {**environment, "GIT_CONFIG_GLOBAL": str(layout.opt / "gitconfig")}
    seconds = job.limits.collect_s
    deadline = time.monotonic() + seconds if seconds else None
    found: list[dict[str, Any]] = []
    for index, repo in enumerate(job.repos if job.collect.patches else ()):
        folder, head = layout.workspace / repo.target_dir, heads.get(repo.target_dir, "")
        entry: dict[str, Any] = {"url": repo.url, "path": str(folder), "head": head, "changes": []}
        if not head:
            found.append({**entry, "patch_error": "not cloned"})
            continue
        left = None if deadline is None else max(0.1, deadline - time.monotonic())
        work = collect_repo(repo, folder, head, user, environment, job.limits.max_patch_bytes)
        try:
            entry, patch = await asyncio.wait_for(work, left)
            if patch is not None:
                entry["patch"] = outbox.keep(f"patch/{index}.diff", patch)["name"]
        except asyncio.TimeoutError:
            entry["patch_error"] = f"collecting took longer than {seconds:g} s"
        except Exception as error:  # noqa: BLE001  # whatever it is, it is this repository's alone
            entry["patch_error"] = f"collecting failed: {error}"
        found.append(entry)
    return found


async def collect_repo(
    repo: Repo, folder: Path, head: str, user: User, environment: Mapping[str, str], max_bytes: int
) -> tuple[dict[str, Any], bytes | None]:
    """The repository's part of the result, without the patch's name, and the patch; `None` when nothing changed."""
    found: dict[str, Any] = {
        "url": repo.url,
        "path": str(folder),
        "head": head,
        "changes": [],
        "patch": None,
        "patch_error": "",
    }
    with tempfile.TemporaryDirectory(prefix="flaude-index-") as scratch:
        user.owns(Path(scratch))
        # An index of our own, made from the first commit: the agent's may hide files (assume-unchanged, sparse).
        git_environment = {**environment, "GIT_INDEX_FILE": f"{scratch}/index", "GIT_OPTIONAL_LOCKS": "0"}

        async def git(*arguments: str, most: int = 0, stdin: bytes = b"") -> Command:
            argv = ["git", *_QUIET, "-C", str(folder), *arguments]
            return await run(argv, user=user, environment=git_environment, max_stdout=most, stdin=stdin)

        done = await git("read-tree", head)
        if done.code:
            found["patch_error"] = _why("git read-tree", done)
            return found, None
        await _follow_agents_index(git, folder, user, environment)
        # One unreadable file, or a repository without a commit inside, must not cost the rest of the patch.
        done = await git("add", "--all", "--ignore-errors", ".")
        if done.code > 1:
            found["patch_error"] = _why("git add", done)
            return found, None
        if done.code:
            found["patch_error"] = _why("some files are not in the patch: git add", done)
        names = await git(*_DIFF, "--name-status", "-z", head)
        numbers = await git(*_DIFF, "--numstat", "-z", head)
        if names.code or numbers.code:
            found["patch_error"] = _why("git diff", names if names.code else numbers)
            return found, None
        found["changes"] = changes(names.stdout, numbers.stdout)
        if not found["changes"]:
            return found, None
        diff = await git(*_DIFF, *_PATCH, head, most=max_bytes)
    if max_bytes and len(diff.stdout) > max_bytes:
        found["patch_error"] = f"the patch is larger than the limit of {max_bytes} bytes"
        return found, None
    if diff.code:
        found["patch_error"] = _why("git diff", diff)
        return found, None
    return found, diff.stdout


async def _follow_agents_index(
    git: Callable[..., Awaitable[Command]], folder: Path, user: User, environment: Mapping[str, str]
) -> None:
    """Take over what `add --all` cannot know of ignored files: which the agent tracks, and which it no longer does."""
    argv = ["git", *_QUIET, "-C", str(folder), "ls-files", "-z"]
    theirs = await run(argv, user=user, environment=environment)
    ours = await git("ls-files", "-z")
    if theirs.code or ours.code:
        return
    wanted, known = set(theirs.stdout.split(b"\0")), set(ours.stdout.split(b"\0"))
    ignored = await git("ls-files", "-z", "--others", "--ignored", "--exclude-standard")
    forced = (wanted - known) & set(ignored.stdout.split(b"\0"))
    for option, paths in (("--force-remove", known - wanted), ("--add", forced)):
        if paths:
            await git("update-index", option, "-z", "--stdin", stdin=b"\0".join(sorted(paths)))


def changes(names: bytes, numbers: bytes) -> list[dict[str, Any]]:
    """The changed paths from `--name-status -z` and `--numstat -z`; line counts are `None` for binary files."""
    counts: dict[str, tuple[int | None, int | None]] = {}
    fields = iter(_fields(numbers))
    for entry in fields:
        added, removed, path = entry.split("\t", 2)
        if not path:  # a rename: the old and the new path follow
            next(fields)
            path = next(fields)
        counts[path] = (None, None) if added == "-" else (int(added), int(removed))
    found = []
    fields = iter(_fields(names))
    for status in fields:
        change: dict[str, Any] = {"status": status[0]}
        if status[0] in "RC":
            change["old_path"] = next(fields)
        change["path"] = next(fields)
        change["added"], change["removed"] = counts.get(change["path"], (None, None))
        found.append(change)
    return found


def _fields(data: bytes) -> list[str]:
    return data.decode("utf-8", "surrogateescape").encode("utf-8", "replace").decode().split("\0")[:-1]


def _why(what: str, done: Command) -> str:
    return f"{what} failed with code {done.code}: {done.stderr.decode('utf-8', 'replace').strip()[-500:]}"
