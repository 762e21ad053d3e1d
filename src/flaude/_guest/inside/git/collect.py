"""Collecting: what the agent left in each repository, as a patch against the commit it began with.

It comes after all of the agent's processes are gone. First the patches of all repositories, then their commits, then
the pushes: a step that fails, or takes too long, costs neither the others of its repository nor other repositories.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import time
from collections.abc import Awaitable, Mapping
from typing import Any

from ..agent.user import User
from ..job import Job, Repo
from ..layout import Layout
from ..outgoing_files import OutgoingFiles
from . import baseline
from .agent_repo import AgentRepo, look
from .budget import Budget
from .commits import Line, Lines, NoCommits, find_lines, write_mail
from .omissions import Omissions
from .patch import changed, write_patch
from .permissions import make_ready
from .push import NotPushed, commit_to_push, push
from .raw_tree import collect_plain
from .scratch_repo import NotCollected, ScratchRepo, git_settings, scratch
from .worktree_index import collect_tree

_TOLD = (NotCollected, NoCommits, NotPushed)


async def collect_all(
    job: Job,
    heads: Mapping[str, str],
    layout: Layout,
    user: User,
    environment: Mapping[str, str],
    outbox: OutgoingFiles,
) -> list[dict[str, Any]]:
    """The result's part on each repository; patches and mail go into the outbox.

    Args:
        job: What was to be done.
        heads: The commits that were checked out, by target folder.
        layout: Where everything is.
        user: The agent's user.
        environment: The agent's environment, without its secrets.
        outbox: Takes the patches and the mail.
    """
    if not job.collect.patches and not job.collect.push_branch:
        return []
    budget = Budget(job.limits.max_patch_bytes)
    end = time.monotonic() + job.limits.collect_s if job.limits.collect_s else None

    def seconds(share: float = 1.0) -> float | None:
        return None if end is None else max(0.1, (end - time.monotonic()) * share)

    works = [
        _Repository(job, number, repo, heads.get(repo.target_dir, ""), layout) for number, repo in enumerate(job.repos)
    ]
    begun = [work for work in works if work.head]
    with contextlib.ExitStack() as stack:
        for number, work in enumerate(begun):
            # One that hangs leaves half of the time to those that follow, and all leave some to what comes then.
            share = 0.5 if number + 1 < len(begun) else 0.8
            await work.collect(stack, layout, user, environment, outbox, budget, seconds(share))
        for work in begun:
            await work.collect_commits(outbox, budget, seconds())
        if job.collect.push_branch:
            for work in begun:
                await work.push(layout, seconds())
    return [work.json() for work in works]


class _Repository:
    """What is found in one repository, step by step; each step keeps what the others have found."""

    def __init__(self, job: Job, number: int, repo: Repo, head: str, layout: Layout) -> None:
        self.head = head
        self._job = job
        self._number = number
        self._repo = repo
        self._scratch: ScratchRepo | None = None
        self._theirs = AgentRepo()
        self._omissions = Omissions()
        self._excluded: set[bytes] | None = None
        self._lines = Lines(Line("", [], []))
        self._errors: list[str] = [] if head else ["not cloned"]
        self._folder = layout.workspace / repo.target_dir
        self._told: dict[str, Any] = {"url": repo.url, "path": str(self._folder), "head": head}
        self._told |= {"changes": [], "patch": None}
        self._pushed = {"pushed_branch": "", "push_error": ""}

    async def collect(
        self,
        stack: contextlib.ExitStack,
        layout: Layout,
        user: User,
        environment: Mapping[str, str],
        outbox: OutgoingFiles,
        budget: Budget,
        seconds: float | None,
    ) -> None:
        """The patch. What the other steps need of git stays until the stack is closed."""
        folder = self._folder
        end = None if seconds is None else time.monotonic() + seconds

        async def work() -> None:
            if not folder.is_dir():
                raise NotCollected("its folder is not there any more")
            await make_ready(folder, layout.workspace, user, self._omissions, seconds and seconds / 8)
            settings = {**environment, **git_settings(layout)}
            self._theirs = await look(folder, self.head, user, settings, seconds and seconds / 4)
            place = baseline.place(layout, self._number)
            made = self._scratch = stack.enter_context(scratch(place, folder, layout, user, environment))
            # What git does with the repository's rules is tried first, and leaves as much time to do without.
            half = None if end is None else max(0.1, (end - time.monotonic()) / 2)
            before = copy.deepcopy(self._omissions)
            failed = await _within("collecting", half, self._collect_tree(made, outbox, budget))
            if failed:
                self._omissions = before
                self._excluded = None
                made.forget_rules()
                self._note(failed)
                await self._collect_tree(made, outbox, budget)
                self._note("so the patch was made without the repository's ignore rules and attributes")

        self._note(await _within("collecting", seconds, work()))

    async def _collect_tree(self, made: ScratchRepo, outbox: OutgoingFiles, budget: Budget) -> None:
        if made.has_rules:
            self._excluded = await collect_tree(made, self._theirs, self.head, budget, self._omissions)
        else:
            await collect_plain(made, self._theirs, self.head, budget, self._omissions)
        found = await changed(made, self.head)
        if found and self._job.collect.patches:
            name = f"patch/{self._number}.diff"
            found = await write_patch(made, self.head, found, outbox.path(name), budget, self._omissions)
            if found:
                self._told["patch"] = outbox.announce(name, outbox.path(name))["name"]
        self._told["changes"] = [change.json() for change in found]

    async def collect_commits(self, outbox: OutgoingFiles, budget: Budget, seconds: float | None) -> None:
        """The commits, each line of work with its mail."""
        made = self._scratch
        if made is None:
            return
        if self._theirs.problem:
            reason = f"the agent's repository cannot be read, its commits are not known: {self._theirs.problem}"
            self._omissions.add("(commits)", reason)
            return

        async def work() -> None:
            self._lines = lines = await find_lines(made, self._theirs, self.head)
            for number, line in enumerate([lines.checked_out, *lines.others] if self._job.collect.patches else []):
                if line.commits:
                    line.problem = "it was not reached"
                    await self._write_mail(made, number, line, outbox, budget)

        failed = await _within("reading the commits", seconds, work())
        for note in [*self._lines.notes, *([failed] if failed else [])]:
            self._omissions.add("(commits)", note)
        for line in self._lines.others:
            if line.problem:
                self._note(f"the commits of the branch {line.name} did not come back: {failed or line.problem}")
        if self._lines.checked_out.problem and not failed:
            self._omissions.add("(commits)", f"as mail, {self._lines.checked_out.problem}")

    async def _write_mail(
        self, made: ScratchRepo, number: int, line: Line, outbox: OutgoingFiles, budget: Budget
    ) -> None:
        name = f"mail/{self._number}-{number}.mbox"
        size = await write_mail(made, line.revisions, outbox.path(name), budget.left)
        if size is None:
            line.problem = f"they are more than what is left of {budget}"
            return
        line.problem = ""
        budget.use(size)
        if size:  # merges alone are no mail
            line.mail = outbox.announce(name, outbox.path(name))["name"]

    async def push(self, layout: Layout, seconds: float | None) -> None:
        """The branch, when there is something for it."""
        made, excluded = self._scratch, self._excluded
        branch = self._job.collect.push_branch

        async def work() -> None:
            if made is not None and not made.has_rules:
                # What is ignored, and may be secret, could not be told from the rest.
                raise NotPushed("not pushed, as its work was collected without the repository's ignore rules")
            if made is None or excluded is None:
                raise NotPushed("not pushed, as its work could not be collected")
            commit = await commit_to_push(made, self._theirs, self.head, excluded)
            if commit is not None:
                await push(made, commit, self.head, self._repo.url, branch, self._job.git, layout)
                self._pushed["pushed_branch"] = branch

        self._pushed["push_error"] = await _within("pushing", seconds, work())

    def json(self) -> dict[str, Any]:
        """As the result tells it."""
        return {
            **self._told,
            "omitted": self._omissions.json(),
            "patch_error": "; ".join([*self._errors, *filter(None, [self._omissions.sentence])]),
            "commits": self._lines.checked_out.commits,
            "mail": self._lines.checked_out.mail,
            "branches": [
                {"name": line.name, "commits": line.commits, "mail": line.mail} for line in self._lines.others
            ],
            **self._pushed,
        }

    def _note(self, error: str) -> None:
        self._errors += [error] if error else []


async def _within(what: str, seconds: float | None, work: Awaitable[None]) -> str:
    """Do it; what went wrong, or nothing. It is this step's alone, whatever it is."""
    try:
        await asyncio.wait_for(work, seconds)
    except asyncio.TimeoutError:
        return f"{what} took longer than {seconds:.3g} s"
    except _TOLD as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  # a full disk, a defect of ours
        return f"{what} failed: {error!r}"
    return ""
