"""The agent's commits: what they are called, and as mail that `git am` takes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..agent.file_up_to import FileUpTo
from .agent_repo import AgentRepo
from .changes import text
from .scratch_repo import ScratchRepo, why

_MOST_COMMITS = 1000
_MOST_BRANCHES = 100
_MOST_LETTERS = 1000
_MOST_BYTES = 1 << 20
_HEADS = "refs/heads/"
_MAIL = (
    "format-patch", "--stdout", "--full-index", "--find-renames", "--no-ext-diff", "--no-textconv",
    "--no-color", "--no-relative", "--src-prefix=a/", "--dst-prefix=b/", "--subject-prefix=PATCH", "--no-signature",
    "--ignore-submodules=none", "--no-attach", "--no-thread", "--no-cover-letter",
)  # fmt: skip


class NoCommits(Exception):
    """The commits cannot be read; the message says why."""


@dataclass
class Line:
    """A line of work.

    Attributes:
        name: The branch's; the line that is checked out has none.
        commits: Those that are on no other line, the oldest first.
        revisions: What names all commits that lead to its end.
        mail: The file that has all those as mail.
        problem: Why there is no such file.
    """

    name: str
    commits: list[dict[str, Any]]
    revisions: list[str]
    mail: str | None = None
    problem: str = ""


@dataclass
class Lines:
    """The agent's lines of work: the one that is checked out, and the others."""

    checked_out: Line
    others: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What is not among them."""


async def find_lines(scratch: ScratchRepo, theirs: AgentRepo, head: str) -> Lines:
    """The agent's commits, from the commit that was checked out at the start.

    Raises:
        NoCommits: They cannot be read.
    """
    scratch.agents_objects = theirs.objects
    # Where the history is cut off is the agent's to say, if it still is the history that was cloned.
    shallow = scratch.folder / "shallow"
    ours = shallow.read_bytes() if shallow.exists() else b""
    shallow.write_bytes(theirs.shallow if theirs.same else ours + theirs.shallow)
    if not shallow.stat().st_size:
        shallow.unlink()
    room = _Room()
    lines = Lines(Line("", [], [theirs.tip, f"^{head}"]))
    if theirs.tip:
        lines.checked_out.commits = await _commits(scratch, lines.checked_out.revisions, room)
        if len(lines.checked_out.commits) > _MOST_COMMITS:
            lines.notes.append(f"only the last {_MOST_COMMITS} commits are listed")
            del lines.checked_out.commits[0]
    if "refs/stash" in theirs.branches:
        lines.notes.append("what the agent has stashed away and not taken back did not come back")
    branches = [(name, tip) for name, tip in theirs.branches.items() if name.startswith(_HEADS) and tip != theirs.tip]
    for name, tip in branches[:_MOST_BRANCHES]:
        begin = [tip, f"^{head}", "--not", "--remotes"]
        commits = await _commits(scratch, [*begin, *([theirs.tip] if theirs.tip else [])], room)
        if commits:
            lines.others.append(Line(name[len(_HEADS) :], commits[-_MOST_COMMITS:], begin))
    if len(branches) > _MOST_BRANCHES:
        lines.notes.append(f"only {_MOST_BRANCHES} of {len(branches)} branches were looked at")
    if room.left_out:
        lines.notes.append(f"{room.left_out} commits are listed without author and subject: all have too much of those")
    return lines


async def write_mail(scratch: ScratchRepo, revisions: Sequence[str], path: Path, limit: int | None) -> int | None:
    """Write commits to a file as mail, the oldest first.

    Returns:
        The bytes that it has; `None` when it would be more than the limit, and nothing was kept.

    Raises:
        NoCommits: git failed.
        OSError: There is no room for it.
    """
    with contextlib.closing(FileUpTo(path, limit)) as file:
        done = await scratch.git(*_MAIL, *revisions, "--", take=file.write)
    if file.error is None and not file.full and done.code == 0:
        return file.size
    path.unlink()
    if file.error is not None:
        raise file.error
    if not file.full:
        raise NoCommits(why("git format-patch", done))
    return None


async def _commits(scratch: ScratchRepo, revisions: Sequence[str], room: _Room) -> list[dict[str, Any]]:
    """The last of the commits, the oldest first; one more than are told when there are more."""
    form = "--format=%H%n%an <%ae>%n%aI%n%s"
    listing = ("log", "-z", "--reverse", f"--max-count={_MOST_COMMITS + 1}", form)
    records = _Records(room)
    done = await scratch.git(*listing, *revisions, "--", take=records.feed)
    if done.code:
        raise NoCommits(why("git log", done))
    records.end()
    return records.found


@dataclass
class _Room:
    """What the commits of one repository may take in the result."""

    left: int = field(default_factory=lambda: _MOST_BYTES)
    left_out: int = 0


class _Records:
    """The commits of a listing, whose fields are cut: a subject may have any length."""

    def __init__(self, room: _Room) -> None:
        self.found: list[dict[str, Any]] = []
        self._room = room
        self._fields = [bytearray()]

    def feed(self, piece: bytes) -> bool:
        """The next bytes of it."""
        for number, part in enumerate(piece.split(b"\0")):
            if number:
                self.end()
            for line_number, line in enumerate(part.split(b"\n")):
                if line_number and len(self._fields) < len(("id", "author", "authored_at", "subject")):
                    self._fields.append(bytearray())
                field = self._fields[-1]
                field += line[: max(0, _MOST_LETTERS * 4 - len(field))]
        return True

    def end(self) -> None:
        """A commit is whole."""
        identity, author, authored_at, subject = [
            *(text(bytes(field))[:_MOST_LETTERS] for field in self._fields), "", "", "", "",
        ][:4]  # fmt: skip
        self._fields = [bytearray()]
        if not identity:
            return
        self._room.left -= len(author) + len(subject)
        if self._room.left < 0:
            self._room.left_out += 1
            author = subject = ""
        self.found.append({"id": identity, "author": author, "authored_at": authored_at, "subject": subject})
