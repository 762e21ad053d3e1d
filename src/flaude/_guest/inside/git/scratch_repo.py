"""A throw-away repository for one collecting: the baseline's commits, an index of its own, the agent's working tree.

Nothing in it is the agent's: neither its config and hooks, nor its index, which may hide files, nor its objects, which
may be damaged. git runs in it as the agent's user, since git must not read the agent's files as root.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..agent.command import Command, run
from ..agent.user import User
from ..layout import Layout

QUIET = (
    "-c", "core.fsmonitor=false",
    "-c", "core.untrackedCache=false",
    "-c", "core.splitIndex=false",
    "-c", "core.sparseCheckout=false",
    "-c", "core.hooksPath=/dev/null",
    "-c", "core.safecrlf=false",
    "-c", "core.quotePath=true",
    "-c", "log.mailmap=false",
    "-c", "advice.addEmbeddedRepo=false",
    "-c", "gc.auto=0",
)  # fmt: skip
# For every git that reads the agent's repository or objects: what is missing there is not fetched. Before git 2.45,
# which knows the first, it is the second that ends a fetch before it runs anything that the agent's config names.
OFFLINE = {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none"}
# With these, and in a repository that is bare, git reads no attributes.
_NO_RULES = ("-c", "core.attributesFile=/dev/null", "-c", "core.excludesFile=/dev/null")
_NO_RULES_ENVIRONMENT = {
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_ATTR_SOURCE": "4b825dc642cb6eb9a060e54bf8d69288fbee4904",  # the empty tree: git 2.43 would take `HEAD`
}
# A message is cut before secrets are taken out of it: there is room for all that git says of one thing.
_MOST_TOLD = 4000
_COPIED = ("config", "HEAD", "packed-refs", "shallow", "index")


def git_settings(layout: Layout) -> dict[str, str]:
    """The environment of every git that collects: it asks nobody, and says in English what it cannot do."""
    return {
        "GIT_CONFIG_GLOBAL": str(layout.opt / "gitconfig"),
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "LANGUAGE": "en",
    }


class NotCollected(Exception):
    """What the agent left could not be collected; the message says why."""


class ScratchRepo:
    """The repository, in a folder that is there and empty.

    Args:
        home: The folder.
        baseline: The baseline that it stands on.
        worktree: The agent's working tree.
        layout: Where everything is.
        user: The agent's user.
        environment: The agent's environment, without its secrets.
    """

    def __init__(
        self, home: Path, baseline: Path, worktree: Path, layout: Layout, user: User, environment: Mapping[str, str]
    ) -> None:
        self.baseline = baseline
        self.worktree = worktree
        self.user = user
        self.agents_objects: Path | None = None
        """The agent's own objects, for commands that are about its commits."""
        self.folder = home / "git"
        self.has_rules = True
        """Whether git heeds the attributes and ignore rules in the working tree."""
        self._home = home
        self._environment = {
            **environment,
            **git_settings(layout),
            **OFFLINE,
            "GIT_DIR": str(self.folder),
            "GIT_WORK_TREE": str(worktree),
            # An empty home, as the clone had: the agent's may say what git ignores, and how it reads files.
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home),
        }

    def make(self) -> None:
        """Make what git needs.

        Raises:
            OSError: There is no room for it.
        """
        for folder in ("refs", "objects/info"):
            (self.folder / folder).mkdir(parents=True)
        for name in _COPIED:
            if (self.baseline / name).exists():  # the index with its times, as in the baseline
                shutil.copy2(self.baseline / name, self.folder / name)
        (self.folder / "objects/info/alternates").write_bytes(quoted(self.baseline / "objects") + b"\n")
        self._give((self._home, *self._home.rglob("*")))

    def forget_rules(self) -> None:
        """From now on git reads no attributes and no ignore rules; its index is the baseline's again."""
        self.has_rules = False
        (self.folder / "index.lock").unlink(missing_ok=True)  # of one that was killed
        (self.folder / "index").unlink(missing_ok=True)
        if (self.baseline / "index").exists():
            shutil.copy2(self.baseline / "index", self.folder / "index")
            self._give([self.folder / "index"])
        with (self.folder / "config").open("ab") as config:
            config.write(b"\n[core]\n\tbare = true\n")

    def _give(self, paths: Iterable[Path]) -> None:
        if self.user.popen:
            for path in paths:
                os.chown(path, self.user.popen["user"], self.user.popen["group"])

    async def git(
        self,
        *arguments: str,
        stdin: bytes = b"",
        take: Callable[[bytes], bool] | None = None,
        environment: Mapping[str, str] | None = None,
        machine_config: bool = False,
    ) -> Command:
        """Run git in it.

        Args:
            arguments: What follows `git`.
            stdin: What git reads.
            take: Gets what git prints, as in `run`.
            environment: More of it.
            machine_config: Whether the image's own settings count, as they did for the clone: where git reads files
                of the working tree, the image may have filters for them.
        """
        more = {} if machine_config else {"GIT_CONFIG_NOSYSTEM": "1"}
        all_of_it = {**self._environment, **(environment or {})}
        rules: tuple[str, ...] = ()
        if not self.has_rules:
            rules = _NO_RULES
            more.update(_NO_RULES_ENVIRONMENT)
            del all_of_it["GIT_WORK_TREE"]
        if self.agents_objects is not None:
            more["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = os.fsdecode(quoted(self.agents_objects))
        return await run(
            ["git", *QUIET, *rules, "-C", str(self.worktree), *arguments],
            user=self.user,
            environment={**all_of_it, **more},
            take=take,
            stdin=stdin,
        )


@contextmanager
def scratch(
    baseline: Path, worktree: Path, layout: Layout, user: User, environment: Mapping[str, str]
) -> Iterator[ScratchRepo]:
    """A scratch repository for the time of a `with` block."""
    home = Path(tempfile.mkdtemp(prefix="flaude-collect-"))
    try:
        made = ScratchRepo(home, baseline, worktree, layout, user, environment)
        made.make()
        yield made
    finally:
        shutil.rmtree(home, ignore_errors=True)


def quoted(path: Path) -> bytes:
    """The path as git wants it among object directories: their list is separated by colons, or lines."""
    return escaped(os.fsencode(path))


def escaped(path: bytes) -> bytes:
    """The path in quotes, as git reads it where a line is a path."""
    told = "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\{byte:03o}"  # noqa: PLR2004  # printable
        for byte in path
    )
    return f'"{told}"'.encode()


def why(what: str, done: Command) -> str:
    """A sentence about a command that failed, with the last of what it said."""
    return f"{what} failed with code {done.code}: {done.stderr.decode('utf-8', 'replace').strip()[-_MOST_TOLD:]}"
