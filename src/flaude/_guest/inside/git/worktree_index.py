"""The agent's tree: everything that it left in the working tree, brought into the index of a throw-away repository."""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Iterable, Mapping

from ..agent.command import Command
from . import git_errors
from .agent_repo import AgentRepo, Entry
from .budget import Budget
from .changes import links, names, text
from .omissions import Omissions
from .scratch_repo import NotCollected, ScratchRepo, why

# git holds smaller files in memory and finds out what has changed in them; larger ones it only ever copies whole.
_BIG_FILE_BYTES = 512 * 1024 * 1024
# What is packed may have more bytes than its patch.
_PACKED = 2
_MOST_FAILING = 50
_PIECE = 2000
_NOT_SEEN = re.compile(
    # What is said of a very long path ends somewhere in it.
    rb"^(?:warning: could not open directory '(.+?)(?:/?': .+)?|(?!fatal|error|warning)(.+): Permission denied)$",
    re.MULTILINE,
)


async def collect_tree(
    scratch: ScratchRepo, theirs: AgentRepo, head: str, budget: Budget, omissions: Omissions
) -> set[bytes]:
    """Bring all that is not ignored into the scratch repository's index, beside what the agent tracks all the same.

    One file that cannot be read does not cost the others: it is among the omissions.

    Args:
        scratch: The repository.
        theirs: The agent's, which says what it tracks.
        head: The commit to begin with.
        budget: What the patch may have.
        omissions: Takes what is not in the index.

    Returns:
        The paths that are not in the index as the agent left them.

    Raises:
        NotCollected: git could do nothing.
    """
    done = await scratch.git("read-tree", "--reset", head)
    if done.code:  # the index was of no use
        (scratch.folder / "index").unlink(missing_ok=True)
        _check("git read-tree", await scratch.git("read-tree", "--reset", head))
    tree = _Tree(scratch, omissions)
    await tree.follow(theirs)
    await tree.set_links()
    others = await tree.others()
    forced = tree.forced(theirs, set(others))
    await tree.set_limits([*others, *forced], budget)
    await tree.add(["."])
    if forced := [path for path in forced if path not in tree.excluded]:
        await tree.add([f":(top,literal){os.fsdecode(path)}" for path in forced], "--force")
    await tree.tell_links()
    return tree.excluded


class _Tree:
    """The steps.

    `excluded` are the paths that are left as they were at the start.
    """

    def __init__(self, scratch: ScratchRepo, omissions: Omissions) -> None:
        self._git = scratch.git
        self._folder = os.fsencode(scratch.worktree)
        self._scratch = scratch
        self._omissions = omissions
        self._known: dict[bytes, Entry] = {}
        self.excluded: set[bytes] = set()

    async def follow(self, theirs: AgentRepo) -> None:
        """Take over what the working tree alone does not tell.

        Which ignored files are no longer tracked, and which files are not there because the agent looks at a part of
        the repository only.
        """
        known = await self._entries()
        self._known = known
        if theirs.index is None or not theirs.same:
            return
        gone = known.keys() - theirs.index.keys()
        if gone:
            ignored = await self._git(
                "ls-files", "-z", "--cached", "--ignored", "--exclude-standard", machine_config=True
            )
            gone &= set(names(ignored.stdout)) | {path for path in gone if known[path].mode == b"160000"}
            await self._update("--force-remove", gone)
        sparse = {path: entry for path, entry in theirs.index.items() if entry.sparse and self._lstat(path) is None}
        moved = {path: entry for path, entry in sparse.items() if path not in known or known[path].id != entry.id}
        if moved and theirs.objects:
            await self._take_over(moved, theirs)
        await self._update("--skip-worktree", sparse)

    async def _take_over(self, entries: Mapping[bytes, Entry], theirs: AgentRepo) -> None:
        """Files that are in the agent's index alone, as a merge leaves them outside of the part it looks at."""
        wanted = b"".join(entry.id + b"\n" for entry in entries.values() if entry.mode != b"160000")
        self._scratch.agents_objects = theirs.objects
        try:
            pack = str(self._scratch.folder / "objects/pack/pack")
            _check("git pack-objects", await self._git("pack-objects", "--quiet", pack, stdin=wanted))
        finally:
            self._scratch.agents_objects = None
        lines = (b"%s %s 0\t%s\0" % (entry.mode, entry.id, path) for path, entry in entries.items())
        _check("git update-index", await self._git("update-index", "-z", "--index-info", stdin=b"".join(lines)))

    async def set_links(self) -> None:
        """Repositories inside: their commits alone are noted. `git add` would run git in them, with their config."""
        found = {path for path, entry in self._known.items() if entry.mode == b"160000"}
        found &= (await self._entries()).keys() if found else set()
        await self._update("--remove", found)
        if found:
            await self._update("--skip-worktree", found & set(links((await self._git("ls-files", "-sz")).stdout)))

    async def others(self) -> list[bytes]:
        """What is neither tracked nor ignored."""
        done = await self._git("ls-files", "-z", "--others", "--exclude-standard", machine_config=True)
        _check("git ls-files", done)
        return names(done.stdout)

    def forced(self, theirs: AgentRepo, others: set[bytes]) -> list[bytes]:
        """What is ignored, and yet the agent tracks it."""
        found = []
        for path, entry in (theirs.index or {}).items():
            if path in self._known or path in others or path + b"/" in others:
                continue
            status = self._lstat(path)
            if status and (not stat.S_ISDIR(status.st_mode) or entry.mode == b"160000"):
                found.append(path)
        return found

    async def set_limits(self, others: Iterable[bytes], budget: Budget) -> None:
        """Exclude what cannot fit: git is not even to read a file of gigabytes, nor many that have as much."""
        left = budget.left
        if left is None:
            return
        dirty = await self._git("diff-files", "-z", "--name-only", "--ignore-submodules=all")
        # It fails where a file cannot be converted: then any may have changed.
        changed = [path for path in (self._known if dirty.code else names(dirty.stdout)) if path in self._known]
        ids = b"".join(self._known[path].id + b"\n" for path in changed)
        before = (await self._git("cat-file", "--batch-check=%(objectsize)", stdin=ids)).stdout.split(b"\n")
        for path, told in zip(changed, before):
            size = self._size(path)
            # A patch has what it removes as well.
            if max(size, int(told) if told.isdigit() else 0) > max(_BIG_FILE_BYTES, left):
                self._exclude(path, size or None, budget)
        sizes: dict[bytes, int] = {}
        for number, path in enumerate(others):
            sizes[path] = self._size(path)
            if number % _PIECE == 0:
                await asyncio.sleep(0)
        total = 0
        for path, size in sorted(sizes.items(), key=lambda item: item[1]):
            total += size
            if size > left or total > _PACKED * left:
                self._exclude(path, size, budget)

    def _exclude(self, path: bytes, size: int | None, budget: Budget) -> None:
        self.excluded.add(path)
        self._omissions.add(
            path, f"the patch is limited to {budget}", size=size, loud=f"not in the patch, whose limit is {budget}"
        )

    async def add(self, pathspecs: list[str], *options: str) -> None:
        """Add what they name, but for what is excluded, and tell what git could not read."""
        done = await self._add(pathspecs, options)
        for _ in range(_MOST_FAILING):
            if done.code <= 1:
                break
            # A filter that fails, or a file that is not in its encoding, ends git and is only one file's.
            failing = git_errors.path(done.stderr, self._can_be_left)
            if failing is None:
                break
            self._omit(failing, done.stderr)
            done = await self._add(pathspecs, options)
        if done.code > 1:
            raise NotCollected(why("git add", done))
        for directory, file in _NOT_SEEN.findall(done.stderr):
            self._omit(directory or file, done.stderr)
        if done.code:
            dirty = await self._git("diff-files", "-z", "--name-only", "--ignore-submodules=all")
            _check("git diff-files", dirty)
            for path in [*await self.others(), *names(dirty.stdout)]:
                if path not in self.excluded:
                    self._omit(path, done.stderr)

    async def _add(self, pathspecs: list[str], options: tuple[str, ...]) -> Command:
        but = [b":(top,exclude,literal)" + path for path in sorted(self.excluded)]
        return await self._git(
            "add", "--all", "--ignore-errors", *options, "--pathspec-from-file=-", "--pathspec-file-nul",
            stdin=b"\0".join([*map(os.fsencode, pathspecs), *but]), machine_config=True,
        )  # fmt: skip

    def _can_be_left(self, path: bytes) -> bool:
        return path not in self.excluded and (path in self._known or self._lstat(path) is not None)

    def _omit(self, path: bytes, told: bytes) -> None:
        if path in self.excluded:
            return
        self.excluded.add(path)
        lines = [line for line in told.splitlines() if path.rstrip(b"/") in line and not line.startswith(b"hint:")]
        reason = text(lines[0]).strip()[-4000:] if lines else "git could not read it"
        self._omissions.add(path, reason, size=self._size(path) or None, loud="unreadable for git and not in the patch")

    async def tell_links(self) -> None:
        """Repositories inside, with what is in them, are no part of a patch."""
        for path in links((await self._git("ls-files", "-z", "--stage")).stdout):
            if self._lstat(path + b"/.git"):
                self._omissions.add(path, "a repository of its own: the patch has its commit's id, not its files")

    async def _entries(self) -> dict[bytes, Entry]:
        done = await self._git("ls-files", "-z", "--stage")
        _check("git ls-files", done)
        found = {}
        for record in names(done.stdout):
            told, _, path = record.partition(b"\t")
            mode, identity, _ = told.split(b" ")
            found[path] = Entry(mode, identity, sparse=False)
        return found

    async def _update(self, option: str, paths: Iterable[bytes]) -> None:
        if paths := sorted(paths):
            done = await self._git("update-index", option, "-z", "--stdin", stdin=b"\0".join(paths))
            _check(f"git update-index {option}", done)

    def _lstat(self, path: bytes) -> os.stat_result | None:
        try:
            return os.lstat(self._folder + b"/" + path)
        except OSError:
            return None

    def _size(self, path: bytes) -> int:
        status = self._lstat(path)
        return status.st_size if status and stat.S_ISREG(status.st_mode) else 0


def _check(what: str, done: Command) -> None:
    if done.code:
        raise NotCollected(why(what, done))
