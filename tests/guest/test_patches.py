"""Patches, commits and pushes of real repositories, by the collecting code itself."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.guest.git_server import git_server

from flaude.guest import baseline
from flaude.guest.changes import Change
from flaude.guest.clone import clone_all
from flaude.guest.collect import collect_all
from flaude.guest.job import Collect, Git, Job, Limits, Repo
from flaude.guest.layout import Layout
from flaude.guest.outbox import Outbox
from flaude.guest.patch import Sections, choose
from flaude.guest.user import agent_user

EXAMPLES = int(os.environ.get("FLAUDE_EXAMPLES", "12"))
TOKEN = "ghp_push_canary_0815"
MB = 1024 * 1024

GitIn = Callable[..., str]


class Bench:
    """A workspace with clones, and what collecting makes of it."""

    def __init__(self, root: Path, *urls: str | Path, git: Git | None = None) -> None:
        self.layout = Layout(root)
        self.layout.opt.mkdir(parents=True)
        self.layout.make()
        self.layout.home.mkdir(parents=True)
        self.outbox = Outbox(self.layout.out)
        self._user = agent_user(self.layout)
        self._environment = {**os.environ, "HOME": str(self.layout.home)}
        self._git = git
        self.repos = tuple(
            Repo(f"file://{url}" if isinstance(url, Path) else url, f"r{number}") for number, url in enumerate(urls)
        )
        self.folders = [self.layout.workspace / repo.target_dir for repo in self.repos]
        clones = clone_all(self.repos, git, self.layout, self._user, self._environment, 30)
        self.heads = asyncio.run(clones)

    @property
    def folder(self) -> Path:
        """The first repository's."""
        return self.folders[0]

    def collect_all(self, *, patches: bool = True, push: str = "", **limits: Any) -> list[dict[str, Any]]:
        """The result's part on all repositories."""
        collect = Collect(patches=patches, push_branch=push)
        job = Job("job", "p", (), {}, {}, self.repos, self._git, None, Limits(**limits), collect)
        work = collect_all(job, self.heads, self.layout, self._user, self._environment, self.outbox)
        return asyncio.run(work)

    def collect(self, **options: Any) -> dict[str, Any]:
        """The same on the only one."""
        (found,) = self.collect_all(**options)
        return found

    def content(self, name: str) -> bytes:
        """A file of the outbox."""
        assert name in [file["name"] for file in self.outbox.files]
        return self.outbox.path(name).read_bytes()


def run(folder: Path | bytes, *argv: str | bytes, check: bool = True, **options: Any) -> bytes:
    """A command with an identity for git; what it printed."""
    git = ("git", "-c", "user.name=A Gent", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    words = [*git, *argv[1:]] if argv[0] == "git" else argv
    done = subprocess.run(words, cwd=folder, check=False, capture_output=True, **options)
    assert not check or done.returncode == 0, done
    return done.stdout


def tree_of(folder: Path) -> str:
    """The tree of all that is not ignored, as the repository's own git sees it."""
    index = folder.parent / "index-of-the-test"
    if (folder / ".git/index").exists():
        shutil.copy2(folder / ".git/index", index)
    environment = {**os.environ, "GIT_INDEX_FILE": str(index)}
    run(folder, "git", "add", "--all", env=environment)
    tree = run(folder, "git", "write-tree", env=environment).decode()
    index.unlink()
    return tree


def applied(origin: Path, head: str, patch: bytes, folder: Path) -> str:
    """The tree that the patch gives on a fresh clone."""
    run(folder.parent, "git", "clone", "--quiet", f"file://{origin}", str(folder))
    run(folder, "git", "checkout", "--quiet", "--detach", head)
    if patch:
        run(folder, "git", "apply", "--index", "-", input=patch)
    return run(folder, "git", "write-tree").decode()


def paths(found: dict[str, Any]) -> list[str]:
    """The changed ones."""
    return sorted(change["path"] for change in found["changes"])


@pytest.fixture
def bench(tmp_path: Path, repo: Path) -> Bench:
    """The sample repository, cloned."""
    return Bench(tmp_path / "root", repo)


# --- any edits ---

_NAMES = [b"a", b"b", b"d", b"d/x", b"d/y", b"e/f/g", b"README.md", b"app.py", b"x.log", b"d/z.log", b"link"]
_ODD = [
    b"sp ace",
    b"new\nline",
    b'quo"te',
    b"tab\t",
    b"back\\slash",
    b"\xff\xfe",
    "é".encode(),
    b":(glob)*",
    b"-n",
    b"*",
]
_paths = st.sampled_from(_NAMES + _ODD) | st.sampled_from(_ODD).map(lambda name: b"d/" + name)
_contents = st.sampled_from([b"", b"one\ntwo\nthree\n", b"one\nTWO\nthree", b"a\r\nb\r\n", bytes(range(256)) * 4]) | (
    st.binary(max_size=40)
)
_edits = st.lists(
    st.one_of(
        st.tuples(st.just("write"), _paths, _contents),
        st.tuples(st.just("write"), _paths, _contents),
        st.tuples(st.just("ignore"), st.sampled_from([b"*.log\n", b"/app.py\n", b"d/\n", b"!d/z.log\n"])),
        st.tuples(st.sampled_from(["delete", "mode", "track", "untrack", "force", "open"]), _paths),
        st.tuples(st.sampled_from(["rename", "link"]), _paths, _paths),
        st.tuples(st.sampled_from(["add", "commit", "amend", "stash", "branch", "other", "back", "reset"])),
    ),
    min_size=1,
    max_size=14,
)


def _remove(path: bytes) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def _make_way(top: bytes, path: bytes) -> bytes:
    """Nothing is at the path, and folders are above it."""
    at = top
    for part in path.split(b"/")[:-1]:
        at += b"/" + part
        if os.path.islink(at) or not os.path.isdir(at):
            _remove(at)
            os.mkdir(at)
    _remove(top + b"/" + path)
    return top + b"/" + path


def edit(folder: Path, step: tuple[Any, ...]) -> None:
    """One edit; those that are not possible now do nothing."""
    top = os.fsencode(folder)
    what, *given_ = step

    def git(*words: str | bytes) -> None:
        run(folder, "git", *words, check=False)

    match what:
        case "write":
            path, content = given_
            with open(_make_way(top, path), "wb") as file:
                file.write(content)
        case "ignore":
            with open(top + b"/.gitignore", "ab") as file:
                file.write(given_[0])
        case "delete":
            _remove(top + b"/" + given_[0])
        case "mode":
            path = top + b"/" + given_[0]
            if os.path.isfile(path) and not os.path.islink(path):
                os.chmod(path, os.stat(path).st_mode ^ 0o111)
        case "link":
            os.symlink(given_[0], _make_way(top, given_[1]))
        case "rename":
            old, new = given_
            if os.path.lexists(top + b"/" + old) and not (new + b"/").startswith(old + b"/"):
                if not (old + b"/").startswith(new + b"/"):
                    os.rename(top + b"/" + old, _make_way(top, new))
        case "open":
            with open(_make_way(top, given_[0]), "wb") as file:
                file.write(b"line\n" * 1000)
        case "track":
            git("--literal-pathspecs", "add", "--", given_[0])
        case "force":
            git("--literal-pathspecs", "add", "--force", "--", given_[0])
        case "untrack":
            git("--literal-pathspecs", "rm", "-r", "--quiet", "--cached", "--", given_[0])
        case "add":
            git("add", "--all")
        case "commit":
            git("commit", "--quiet", "--all", "--message=work")
        case "amend":
            git("commit", "--quiet", "--all", "--amend", "--message=amended")
        case "stash":
            git("stash", "--include-untracked")
        case "branch":
            git("checkout", "--quiet", "-B", "agents")
        case "other":
            git("checkout", "--quiet", "--orphan", "empty")
        case "back":
            git("checkout", "--quiet", "--force", "main")
        case "reset":
            git("reset", "--quiet", "HEAD")


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(before=_edits, after=_edits)
def test_any_edits_come_back(
    tmp_path_factory: pytest.TempPathFactory, before: list[tuple[Any, ...]], after: list[tuple[Any, ...]]
) -> None:
    """Whatever an agent does to files and to git, the patch gives its tree on a fresh clone."""
    root = tmp_path_factory.mktemp("any")
    origin = root / "origin"
    origin.mkdir()
    run(origin, "git", "init", "--quiet", "--initial-branch=main")
    (origin / "README.md").write_text("# sample\n" * 5)
    (origin / "app.py").write_text("print('hello')\n" * 5)
    for step in before:
        if step[0] in ("write", "ignore", "link", "mode", "force"):
            edit(origin, step)
    run(origin, "git", "add", "--all")
    run(origin, "git", "commit", "--quiet", "--message=first")
    bench = Bench(root / "guest", origin)
    for step in after:
        edit(bench.folder, step)
    found = bench.collect()
    assert found["patch_error"] == ""
    patch = bench.content(found["patch"]) if found["patch"] else b""
    assert applied(origin, found["head"], patch, root / "fresh") == tree_of(bench.folder)
    assert bool(patch) == bool(found["changes"])
