"""Patches, commits and pushes of real repositories, by the collecting code itself."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.guest.git_server import git_server

from flaude._guest.inside.agent.user import User, agent_user
from flaude._guest.inside.git import agent_repo as theirs
from flaude._guest.inside.git import baseline, commits, git_errors
from flaude._guest.inside.git import worktree_index as tree
from flaude._guest.inside.git.changes import Change
from flaude._guest.inside.git.clone import clone_all
from flaude._guest.inside.git.collect import collect_all
from flaude._guest.inside.git.patch import Sections, choose
from flaude._guest.inside.job import Collect, Git, Job, Limits, Repo
from flaude._guest.inside.layout import Layout
from flaude._guest.inside.outgoing_files import OutgoingFiles

EXAMPLES = int(os.environ.get("FLAUDE_EXAMPLES", "12"))
TOKEN = "ghp_push_canary_0815"

GitIn = Callable[..., str]


class Bench:
    """A workspace with clones, and what collecting makes of it."""

    def __init__(
        self, root: Path, *urls: str | Path, git: Git | None = None, layout: Layout | None = None, **popen: Any
    ) -> None:
        self.layout = layout or Layout(root)
        self.layout.opt.mkdir(parents=True)
        self.layout.make()
        self.outbox = OutgoingFiles(self.layout.out)
        self._user = User("nobody", self.layout.home, popen) if popen else agent_user(self.layout)
        for folder in (self.layout.home, self.layout.workspace):
            self._user.owns(folder)
        home = self.layout.home
        self._environment = {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")}
        self.git = git
        self.repos = tuple(
            Repo(f"file://{url}" if isinstance(url, Path) else url, f'r:"é{number}') for number, url in enumerate(urls)
        )
        self.folders = [self.layout.workspace / repo.target_dir for repo in self.repos]
        clones = clone_all(self.repos, git, self.layout, self._user, self._environment, 60, lambda _: None)
        self.heads = asyncio.run(clones)

    @property
    def folder(self) -> Path:
        """The first repository's."""
        return self.folders[0]

    def collect_all(self, *, patches: bool = True, push: str = "", **limits: Any) -> list[dict[str, Any]]:
        """The result's part on all repositories."""
        collect = Collect(patches=patches, push_branch=push)
        job = Job("job", "p", (), {}, {}, self.repos, self.git, None, Limits(**limits), collect)
        work = collect_all(job, self.heads, self.layout, self._user, self._environment, self.outbox)
        return asyncio.run(work)

    def collect(self, **options: Any) -> dict[str, Any]:
        """The same on the only one."""
        (found,) = self.collect_all(**options)
        return found

    def as_agent(self, script: str) -> bytes:
        """What a shell script prints that the agent's user runs in the first repository."""
        return run(self.folder, "sh", "-c", script, check=False, stderr=subprocess.STDOUT, **self._user.popen)

    def content(self, name: str) -> bytes:
        """A file of the outbox."""
        assert name in [file["name"] for file in self.outbox.files]
        return self.outbox.path(name).read_bytes()


def run(folder: Path | bytes, *argv: str | bytes, check: bool = True, **options: Any) -> bytes:
    """A command with an identity for git; what it printed."""
    git = ("git", "-c", "user.name=A Gent", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    words = [*git, *argv[1:]] if argv[0] == "git" else argv
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    done = subprocess.run(words, cwd=folder, check=False, **options)
    assert not check or done.returncode == 0, done
    printed: bytes = done.stdout
    return printed


def tree_of(folder: Path, head: str = "HEAD") -> str:
    """The tree of all that is not ignored, as the repository's own git sees it; an empty index says nothing."""
    index = folder.parent / "index-of-the-test"
    environment = {**os.environ, "GIT_INDEX_FILE": str(index)}
    if run(folder, "git", "ls-files"):
        shutil.copy2(folder / ".git/index", index)
    else:
        run(folder, "git", "read-tree", head, env=environment)
    run(folder, "git", "add", "--all", env=environment)
    found = run(folder, "git", "write-tree", env=environment).decode()
    index.unlink()
    return found


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


class Owned(Layout):
    """A folder that is treated like a whole machine, with a user for the agent."""

    owns_machine = True


@pytest.fixture
def owned(repo: Path) -> Iterator[Bench]:
    """The sample repository, cloned for another user, where we are root; else for ourselves."""
    with tempfile.TemporaryDirectory() as name:  # where any user may go
        root = Path(name)
        root.chmod(0o755)
        shutil.copytree(repo, root / "origin")
        if os.geteuid():
            yield Bench(root / "guest", root / "origin")
        else:
            layout = Owned(root / "guest")
            yield Bench(root / "guest", root / "origin", layout=layout, user=65534, group=65534, extra_groups=[])


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
        st.tuples(st.just("ignore"), st.sampled_from([b"*.log\n", b"/app.py\n", b"d/\n", b"*.log\n!d/z.log\n"])),
        st.tuples(st.sampled_from(["delete", "mode", "track", "untrack", "force"]), _paths),
        st.tuples(st.sampled_from(["rename", "link"]), _paths, _paths),
        st.tuples(st.sampled_from(["add", "commit", "amend", "stash", "branch", "other", "back", "reset"])),
    ),
    min_size=1,
    max_size=14,
)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _make_way(top: Path, path: Path) -> Path:
    """Nothing is at the path, and folders are above it."""
    for parent in reversed(path.relative_to(top).parents[:-1]):
        if (top / parent).is_symlink() or not (top / parent).is_dir():
            _remove(top / parent)
            (top / parent).mkdir()
    _remove(path)
    return path


def _rename(top: Path, old: Path, new: Path) -> None:
    apart = old not in (new, *new.parents) and new not in old.parents
    if apart and old.parent.is_dir() and (old.exists() or old.is_symlink()):
        kept = old.rename(top.parent / "kept")  # `old` may be on the way that is made
        kept.rename(_make_way(top, new))


_COMMANDS = {
    "track": "--literal-pathspecs add --",
    "force": "--literal-pathspecs add --force --",
    "untrack": "--literal-pathspecs rm -r --quiet --cached --",
    "add": "add --all",
    "commit": "commit --quiet --all --message=work",
    "amend": "commit --quiet --all --amend --message=amended",
    "stash": "stash --include-untracked",
    "branch": "checkout --quiet -B agents",
    "other": "checkout --quiet --orphan empty",
    "back": "checkout --quiet --force main",
    "reset": "reset --quiet HEAD",
}


def edit(top: Path, step: tuple[Any, ...]) -> None:
    """One edit; those that are not possible now do nothing."""
    match step:
        case ("write", name, content):
            _make_way(top, top / os.fsdecode(name)).write_bytes(content)
        case ("ignore", line):
            with _make_way(top, top / ".gitignore").open("wb") as file:
                file.write(line)
        case ("delete", name):
            if (top / os.fsdecode(name)).parent.is_dir():
                _remove(top / os.fsdecode(name))
        case ("mode", name):
            path = top / os.fsdecode(name)
            if path.is_file() and not path.is_symlink():
                path.chmod(path.stat().st_mode ^ 0o111)
        case ("link", target, name):
            _make_way(top, top / os.fsdecode(name)).symlink_to(os.fsdecode(target))
        case ("rename", old, new):
            _rename(top, top / os.fsdecode(old), top / os.fsdecode(new))
        case (command, *names):
            run(top, "git", *_COMMANDS[command].split(), *names, check=False)


def _is_loop(path: Path) -> bool:
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(before=_edits, after=_edits)
@example(
    before=[("write", b"a", b"1\n"), ("write", b"d/x", b"1\n"), ("link", b"a", b"link")],
    after=[("link", b"b", b"a"), ("write", b"d", b"2\n"), ("write", b"link", b"3\n"), ("mode", b"app.py")],
)
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
    for path in list(origin.rglob("*")):
        if path.is_symlink() and _is_loop(path):
            path.unlink()  # where such a link becomes a folder, `git apply` itself cannot do it
    run(origin, "git", "add", "--all")
    run(origin, "git", "commit", "--quiet", "--message=first")
    bench = Bench(root / "guest", origin)
    for step in after:
        edit(bench.folder, step)
    found = bench.collect()
    assert found["patch_error"] == ""
    patch = bench.content(found["patch"]) if found["patch"] else b""
    assert applied(origin, found["head"], patch, root / "fresh") == tree_of(bench.folder, found["head"])
    assert bool(patch) == bool(found["changes"])


# --- what the agent does to its repository ---


def _commit(folder: Path, name: str, content: str = "1\n") -> str:
    (folder / name).write_text(content)
    run(folder, "git", "add", "--force", "--", name)
    run(folder, "git", "commit", "--quiet", f"--message=made {name}")
    return run(folder, "git", "rev-parse", "HEAD").decode().strip()


def _git_gone(folder: Path) -> None:
    shutil.rmtree(folder / ".git")


def _git_made_anew(folder: Path) -> None:
    _git_gone(folder)
    run(folder, "git", "init", "--quiet")
    _commit(folder, "own.txt")


def _git_damaged(folder: Path) -> None:
    for path in (folder / ".git").rglob("*"):
        if path.is_file():
            path.unlink()
            path.write_bytes(b"damaged")


def _git_of_somebody(folder: Path) -> None:
    _git_gone(folder)
    (folder / ".git").write_text("gitdir: /nowhere\n")


def _git_waits(folder: Path) -> None:
    os.mkfifo(folder / ".git/fifo")
    run(folder, "git", "config", "include.path", "fifo")


def _git_hides(folder: Path) -> None:
    (folder / ".git/info/exclude").write_text("*\n")
    (folder / ".git/info/attributes").write_text("* -text filter=x diff=x\n")
    run(folder, "git", "config", "filter.x.clean", "echo filtered")
    run(folder, "git", "config", "core.worktree", "/")
    run(folder, "git", "--work-tree=.", "update-index", "--assume-unchanged", "README.md")


def _home_hides(folder: Path) -> None:
    config = folder.parent.parent / "home/claude/.config/git"
    config.mkdir(parents=True)
    (config / "ignore").write_text("*\n")
    (config / "attributes").write_text("* filter=x\n")
    (config / "config").write_text('[filter "x"]\nclean = echo filtered\nrequired = true\n')


@pytest.mark.parametrize(
    "do", [_git_gone, _git_made_anew, _git_damaged, _git_of_somebody, _git_waits, _git_hides, _home_hides]
)
def test_nothing_done_to_the_repository_costs_the_patch(bench: Bench, repo: Path, tmp_path: Path, do: Any) -> None:
    """A `.git` that is gone, new, damaged, waiting or hostile: the patch has all changes, and deletes nothing."""
    (bench.folder / "README.md").write_text("changed\n")
    (bench.folder / "new.txt").write_text("new\n")
    do(bench.folder)
    found = bench.collect(collect_s=20)
    assert found["patch_error"] == ""
    assert {*paths(found)} - {"own.txt"} == {"README.md", "new.txt"}
    applied(repo, found["head"], bench.content(found["patch"]), tmp_path / "fresh")
    assert (tmp_path / "fresh/README.md").read_text() == "changed\n"
    if do in (_git_gone, _git_damaged, _git_of_somebody, _git_waits):
        assert [(file["path"], "cannot be read" in file["reason"]) for file in found["omitted"]] == [
            ("(commits)", True)
        ]


def test_a_repository_above_is_not_the_agents(bench: Bench) -> None:
    """Where the agent's `.git` is gone, one in a folder above says nothing about its commits and files."""
    (bench.layout.workspace / "outside").write_text("1\n")
    run(bench.layout.workspace, "git", "init", "--quiet")
    _commit(bench.layout.workspace, "outside")
    _git_gone(bench.folder)
    (bench.folder / "new").write_text("1\n")
    found = bench.collect()
    assert (paths(found), found["commits"], found["patch_error"]) == (["new"], [], "")
    assert [file["path"] for file in found["omitted"]] == ["(commits)"]


def test_tracked_files_that_are_ignored_outlive_a_new_repository(tmp_path: Path, repo: Path, git: GitIn) -> None:
    """A file that the origin tracks although it ignores it is not deleted because the agent made `.git` anew."""
    (repo / ".gitignore").write_text("*.log\n")
    (repo / "kept.log").write_text("kept\n")
    git(repo, "add", "--force", ".gitignore", "kept.log")
    git(repo, "commit", "--quiet", "--message=log")
    bench = Bench(tmp_path / "root", repo)
    _git_made_anew(bench.folder)
    assert paths(bench.collect()) == ["own.txt"]


@pytest.mark.parametrize("do", ["rm .git/index", "git rm --quiet --cached -r .", "git read-tree --empty"])
def test_an_index_with_nothing_in_it_deletes_nothing(tmp_path: Path, repo: Path, git: GitIn, do: str) -> None:
    """A file that the origin tracks although it ignores it stays as it is where the index is gone or empty."""
    (repo / ".gitignore").write_text("*.log\n")
    (repo / "kept.log").write_text("kept\n")
    git(repo, "add", "--force", ".gitignore", "kept.log")
    git(repo, "commit", "--quiet", "--message=log")
    bench = Bench(tmp_path / "root", repo)
    (bench.folder / "new").write_text("1\n")
    run(bench.folder, "sh", "-c", do)
    found = bench.collect()
    assert (paths(found), found["patch_error"]) == (["new"], "")


def test_a_mark_in_the_index_does_not_hide_a_deletion(bench: Bench) -> None:
    """Without a sparse checkout a file that is not there is deleted, whatever the agent's index says of it."""
    (bench.folder / "app.py").unlink()
    run(bench.folder, "git", "update-index", "--skip-worktree", "app.py")
    found = bench.collect()
    assert [(change["status"], change["path"]) for change in found["changes"]] == [("D", "app.py")]


def test_a_file_too_deep_for_git_is_told(bench: Bench) -> None:
    """What is below a path that is longer than the system takes is not silently missing."""
    name, top = "d" * 200, os.open(bench.folder, os.O_RDONLY)
    folder = top
    for _ in range(30):
        os.mkdir(name, dir_fd=folder)
        folder = os.open(name, os.O_RDONLY, dir_fd=folder)
    os.close(os.open("lost", os.O_WRONLY | os.O_CREAT, dir_fd=folder))
    (bench.folder / "new").write_text("1\n")
    found = bench.collect()
    assert paths(found) == ["new"]
    assert "1 file is unreadable for git and not in the patch: ddd" in found["patch_error"]
    assert len(found["patch_error"]) < 500 and len(found["omitted"]) == 1


@pytest.mark.parametrize("by", ["extensions.partialClone=origin", "remote.origin.promisor=true"])
def test_what_is_missing_is_not_fetched(bench: Bench, tmp_path: Path, by: str) -> None:
    """Objects that the agent's repository has promised do not run its remote's command, and the patch is there."""
    (bench.folder / "new").write_text("1\n")
    _commit(bench.folder, "committed")
    mark, command = tmp_path / "ran", tmp_path / "up.sh"
    command.write_text(f'#!/bin/sh\ntouch {mark}\nexec git-upload-pack "$@"\n')
    command.chmod(0o755)
    for setting in ("core.repositoryformatversion=1", "extensions.partialClone=origin", by):
        run(bench.folder, "git", "config", *setting.split("="))
    run(bench.folder, "git", "config", "remote.origin.uploadpack", str(command))
    for path in [*(bench.folder / ".git/objects").glob("??"), bench.folder / ".git/objects/pack"]:
        shutil.rmtree(path)
    found = bench.collect(push="x")
    assert paths(found) == ["committed", "new"] and found["patch_error"] == ""
    assert not mark.exists()
    run(bench.folder, "git", "cat-file", "-e", found["head"], check=False)
    assert mark.exists(), "git would have"


@pytest.mark.parametrize("kind", ["large", "link", "pipe"])
def test_the_end_of_the_history_is_read_from_a_small_plain_file_alone(bench: Bench, tmp_path: Path, kind: str) -> None:
    """What the agent puts where git notes that is neither followed nor waited for nor read without end."""
    shallow, large = bench.folder / ".git/shallow", tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(1 << 30)
    shallow.unlink(missing_ok=True)
    if kind == "large":
        large.rename(shallow)
    elif kind == "link":
        shallow.symlink_to(large)
    else:
        os.mkfifo(shallow)
    assert theirs.read_shallow(shallow, os.geteuid()) == b""
    (bench.folder / "new").write_text("1\n")
    found = bench.collect(collect_s=4)
    assert (paths(found), found["patch_error"]) == (["new"], "")


def test_what_commits_are_called_has_a_limit(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long subjects and authors are cut, and together they are not more than the result can have; that is said."""
    message = tmp_path / "message"
    message.write_text("é" * 2_000_000)
    run(bench.folder, "git", "commit", "--quiet", "--allow-empty", "--file", str(message))
    commit = _commit(bench.folder, "more")
    monkeypatch.setattr(commits, "_MOST_BYTES", 1015)
    found = bench.collect()
    assert [len(told["subject"]) for told in found["commits"]] == [1000, 0]
    assert found["commits"][1]["id"] == commit and found["mail"]
    assert [file["reason"][:52] for file in found["omitted"]] == [
        "1 commits are listed without author and subject: all"
    ]


def test_a_sparse_checkout_deletes_nothing(tmp_path: Path, repo: Path, git: GitIn) -> None:
    """Files that are not there because the agent looks at a part only are unchanged, or as its merge left them."""
    for folder in ("one", "two"):
        (repo / folder).mkdir()
        (repo / folder / "file").write_text("1\n")
    git(repo, "add", ".")
    git(repo, "commit", "--quiet", "--message=folders")
    bench = Bench(tmp_path / "root", repo)
    run(bench.folder, "git", "checkout", "--quiet", "-b", "side")
    _commit(bench.folder, "two/file", "2\n")
    run(bench.folder, "git", "checkout", "--quiet", "main")
    run(bench.folder, "git", "sparse-checkout", "set", "--cone", "one")
    assert not (bench.folder / "two").exists()
    (bench.folder / "one/new").write_text("new\n")
    assert paths(bench.collect()) == ["one/new"]
    run(bench.folder, "git", "merge", "--quiet", "side")
    assert not (bench.folder / "two").exists()
    found = bench.collect()
    assert found["patch_error"] == "" and paths(found) == ["one/new", "two/file"]
    assert applied(repo, found["head"], bench.content(found["patch"]), tmp_path / "fresh")
    assert (tmp_path / "fresh/two/file").read_text() == "2\n"


def test_repositories_inside(bench: Bench, tmp_path: Path, repo: Path) -> None:
    """One with commits is named as one of its own, one without as unreadable; neither costs the rest."""
    for name in ("whole", "empty"):
        (bench.folder / name).mkdir()
        run(bench.folder / name, "git", "init", "--quiet")
    inner = _commit(bench.folder / "whole", "file")
    (bench.folder / "new").write_text("1\n")
    found = bench.collect()
    assert paths(found) == ["new", "whole"]
    assert f"+Subproject commit {inner}".encode() in bench.content(found["patch"])
    assert [file["path"] for file in found["omitted"]] == ["empty/", "whole"]
    assert found["patch_error"] == "1 file is unreadable for git and not in the patch: empty/"
    shutil.rmtree(bench.folder / "empty")
    assert bench.collect()["patch_error"] == ""


def test_git_is_not_run_inside_of_repositories_inside(repo: Path, tmp_path: Path, git: GitIn) -> None:
    """What a submodule's own config names is not run, and its new commit is in the patch."""
    for name in ("same", "moved"):
        (repo / name).mkdir()
        git(repo / name, "init", "--quiet")
        _commit(repo / name, "file")
    (repo / ".gitmodules").write_text('[submodule "moved"]\npath = moved\nurl = ./moved\nignore = all\n')
    git(repo, "add", ".")
    git(repo, "commit", "--quiet", "--message=with submodules")
    bench = Bench(tmp_path / "with-submodules", repo)
    mark = tmp_path / "ran"
    for name in ("same", "moved"):
        run(bench.folder, "git", "clone", "--quiet", str(repo / name), name)
        run(bench.folder / name, "git", "config", "filter.x.clean", f"touch {mark}; cat")
        (bench.folder / name / ".git/info/attributes").write_text("* filter=x\n")
        (bench.folder / name / "file").write_text("2\n")
    run(bench.folder / "moved", "git", "commit", "--quiet", "--all", "--message=more")
    mark.unlink(missing_ok=True)
    found = bench.collect()
    assert (found["patch_error"], paths(found)) == ("", ["moved"])
    assert [file["path"] for file in found["omitted"]] == ["moved", "same"]
    assert not mark.exists()


def test_unreadable_files_cost_themselves_alone(owned: Bench) -> None:
    """Files that cannot be read are named, and the rest is in the patch."""
    owned.as_agent("mkdir closed; for name in new secret closed/file; do echo 1 > $name; done; chmod 0 secret closed")
    found = owned.collect()
    assert paths(found) == ["closed/file", "new"]
    assert [file["path"] for file in found["omitted"]] == ["secret"]
    assert "1 file is unreadable for git and not in the patch: secret (2 bytes)" in found["patch_error"]


@pytest.mark.parametrize("closed", [".", "d"])
def test_folders_that_the_agent_has_closed(owned: Bench, closed: str) -> None:
    """Its own folders are opened again, whatever mode they have: what is in them is in the patch."""
    owned.as_agent(f"mkdir -p d/e; echo 1 > d/e/f; echo 1 > new; chmod 600 d/e; chmod 0 {closed}")
    found = owned.collect()
    assert (paths(found), found["patch_error"], found["omitted"]) == (["d/e/f", "new"], "", [])


def test_folders_of_somebody_else_stay_as_they_are(owned: Bench, tmp_path: Path) -> None:
    """Only the agent's own folders are opened, and no link is followed."""
    other = tmp_path / "other"
    other.mkdir(mode=0o500)
    (owned.folder / "link").symlink_to(other)
    owned.collect()
    assert other.stat().st_mode & 0o777 == 0o500


def test_a_pipe_where_git_expects_a_file(bench: Bench) -> None:
    """Git does not wait for it: it is named, and patch and commits are whole."""
    commit = _commit(bench.folder, "important")
    (bench.folder / "n").mkdir()
    for name in (".mailmap", ".gitmodules", "n/.gitignore", "n/.gitattributes"):
        os.mkfifo(bench.folder / name)
    found = bench.collect(collect_s=20)
    assert (paths(found), found["patch_error"]) == (["important"], "")
    assert [line["id"] for line in found["commits"]] == [commit] and found["mail"]
    assert sorted(file["path"] for file in found["omitted"]) == [
        ".gitmodules",
        ".mailmap",
        "n/.gitattributes",
        "n/.gitignore",
    ]


def test_a_file_that_is_not_in_its_encoding_costs_itself_alone(bench: Bench) -> None:
    """Where an attribute does not fit a file, that file is named and the rest is in the patch."""
    (bench.folder / ".gitattributes").write_text("*.utf16 working-tree-encoding=UTF-16\n")
    for name in ("b'ad'.utf16", "worse.utf16", "important"):
        (bench.folder / name).write_text("hello\n")
    found = bench.collect()
    assert paths(found) == [".gitattributes", "important"]
    assert sorted(file["path"] for file in found["omitted"]) == ["b'ad'.utf16", "worse.utf16"]
    assert "2 files are unreadable for git and not in the patch" in found["patch_error"]


def _never_ends(folder: Path) -> None:
    (folder / ".gitignore").write_text("**/a/" * 13 + "**/b\n")
    (folder / ("a/" * 60)).mkdir(parents=True)
    (folder / ("a/" * 60) / "c").write_text("1\n")


def _attributes_never_end(folder: Path) -> None:
    _never_ends(folder)
    (folder / ".gitignore").rename(folder / ".gitattributes")
    with (folder / ".gitattributes").open("a") as file:
        file.write("**/a/" * 13 + "**/b text\n")


@pytest.mark.parametrize("do", [_never_ends, _attributes_never_end])
def test_rules_that_git_cannot_take_do_not_cost_the_patch(
    tmp_path: Path, repo: Path, git: GitIn, do: Callable[[Path], None]
) -> None:
    """Ignore rules or attributes that git never gets through: the patch is made without, and that is said."""
    for name in ("gone", "mode", "was", "same"):
        (repo / name).write_text("1\n")
    git(repo, "add", ".")
    git(repo, "commit", "--quiet", "--message=more")
    bench = Bench(tmp_path / "root", repo)
    do(bench.folder)
    for name in ("gone", "was"):
        (bench.folder / name).unlink()
    (bench.folder / "mode").chmod(0o755)
    (bench.folder / "was").mkdir()
    for name in ("README.md", "new\nline", "was/file", 'quo"te'):
        (bench.folder / name).write_text("2\r\n")
    (bench.folder / "link").symlink_to("nowhere")
    os.mkfifo(bench.folder / "pipe")
    (bench.folder / "node_modules").mkdir()
    (bench.folder / "node_modules/large").write_bytes(bytes(2 << 20))
    (bench.folder / "inner").mkdir()
    run(bench.folder / "inner", "git", "init", "--quiet")
    found = bench.collect(collect_s=8, push="x")
    assert "without the repository's ignore rules and attributes" in found["patch_error"]
    assert sorted(file["path"] for file in found["omitted"]) == ["inner/", "node_modules/"]
    assert "without the repository's ignore rules" in found["push_error"]
    run(tmp_path, "git", "clone", "--quiet", f"file://{repo}", "fresh")
    # Applying would not end either.
    run(tmp_path / "fresh", "git", "apply", "--exclude=.gitattributes", input=bench.content(found["patch"]))
    (bench.folder / ".gitattributes").unlink(missing_ok=True)
    for name in ("node_modules", "inner"):
        shutil.rmtree(bench.folder / name)
    (bench.folder / "pipe").unlink()
    different = run(
        tmp_path, "diff", "-r", "--no-dereference", "--exclude=.git", str(bench.folder), "fresh", check=False
    )
    assert different == b""
    assert (tmp_path / "fresh/mode").stat().st_mode & 0o100


@pytest.mark.parametrize(
    ("told", "named"),
    [
        (b"fatal: BOM is required in 'a.utf16' if encoded as UTF-16\n", b"a.utf16"),
        (b"fatal: BOM is required in 'it's a.utf16' if encoded as UTF-16\n", b"it's a.utf16"),
        (b"fatal: unable to stat 'new\nline': Permission denied\n", b"new\nline"),
        (b'error: open("x"): Permission denied\nfatal: adding files failed\n', b"x"),
        (b"fatal: a b: clean filter 'x' failed\n", b"a b"),
        (b"error: external filter 'x y' failed\nfatal: a b: clean filter 'x y' failed\n", b"a b"),
        (b"error: Invalid path 'git~1/f'\nfatal: git update-index: unable to update git~1/f\n", b"git~1/f"),
        (b"hint: 'x'\nfatal: out of memory\n", None),
    ],
)
def test_the_file_that_git_means(told: bytes, named: bytes | None) -> None:
    """An error's path is found wherever it stands and whatever is in it; other words are none."""
    there = {b"a.utf16", b"it's a.utf16", b"new\nline", b"x", b"a b", b"git~1/f"}
    assert git_errors.path(told, there.__contains__) == named


# --- limits ---


def test_a_file_of_gigabytes_costs_itself_alone(bench: Bench) -> None:
    """An untracked file over the limit is named with its size, in no time, and the small files are in the patch."""
    (bench.folder / "small.txt").write_text("paid work\n")
    with (bench.folder / "big.bin").open("wb") as file:
        file.truncate(2 << 30)
    before = time.monotonic()
    found = bench.collect()
    assert time.monotonic() - before < 10
    assert paths(found) == ["small.txt"]
    assert found["patch_error"] == "1 file is not in the patch, whose limit is 50 MB a run: big.bin (2 GB)"
    assert found["omitted"] == [
        {"path": "big.bin", "size": 2 << 30, "reason": "the patch is limited to 50 MB a run"},
    ]


def test_a_tracked_file_that_grew_to_gigabytes(bench: Bench) -> None:
    """A tracked file of more than git can compare is left as it was, and that is said."""
    (bench.folder / "small.txt").write_text("paid work\n")
    with (bench.folder / "app.py").open("r+b") as file:
        file.truncate(2 << 30)
    found = bench.collect()
    assert paths(found) == ["small.txt"]
    assert found["patch_error"] == "1 file is not in the patch, whose limit is 50 MB a run: app.py (2 GB)"


def test_a_large_tracked_file_that_is_removed(
    tmp_path: Path, repo: Path, git: GitIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A patch has what it removes: where that is more than git holds in memory, the file stays, and that is said."""
    monkeypatch.setattr(tree, "_BIG_FILE_BYTES", 2000)  # half a gigabyte would take a minute
    (repo / "big.bin").write_bytes(bytes(3000))
    git(repo, "add", "big.bin")
    git(repo, "commit", "--quiet", "--message=big")
    bench = Bench(tmp_path / "root", repo)
    (bench.folder / "big.bin").unlink()
    (bench.folder / "small.txt").write_text("paid work\n")
    found = bench.collect(max_patch_bytes=1000)
    assert paths(found) == ["small.txt"]
    assert found["patch_error"] == "1 file is not in the patch, whose limit is 1000 bytes a run: big.bin"


def test_the_smallest_files_come_first(bench: Bench, tmp_path: Path, repo: Path) -> None:
    """Where not all fits, the smallest do, up to the limit; the others are named; what is there applies."""
    names = [f"f{number:02}" for number in range(30)]
    for number, name in enumerate(names):
        (bench.folder / name).write_text(f"{number}\n" * 100 * (30 - number))
    found = bench.collect(max_patch_bytes=20_000)
    patch = bench.content(found["patch"])
    kept = paths(found)
    left_out = names[: -len(kept)]
    assert kept == names[-len(kept) :] and 5 < len(kept) < 20
    assert 15_000 < len(patch) <= 20_000
    assert sorted(file["path"] for file in found["omitted"]) == left_out
    assert f"{len(left_out)} files are not in the patch, whose limit is 19.5 KB a run: f" in found["patch_error"]
    assert f"and {len(left_out) - 3} more" in found["patch_error"]
    applied(repo, found["head"], patch, tmp_path / "fresh")
    assert sorted(path.name for path in (tmp_path / "fresh").glob("f*")) == kept


def test_what_only_applies_together_is_kept_together(tmp_path: Path, repo: Path, git: GitIn) -> None:
    """A large file that becomes a folder: the small files in that folder do not come without its removal."""
    (repo / "data").write_text("x" * 99 + "\n" * 1000)
    git(repo, "add", ".")
    git(repo, "commit", "--quiet", "--message=data")
    bench = Bench(tmp_path / "with-data", repo)
    (bench.folder / "data").unlink()
    (bench.folder / "data").mkdir()
    (bench.folder / "data/small").write_text("1\n")
    (bench.folder / "other").write_text("1\n")
    found = bench.collect(max_patch_bytes=900)
    assert paths(found) == ["other"]
    assert [file["path"] for file in found["omitted"]] == ["data", "data/small"]
    applied(repo, found["head"], bench.content(found["patch"]), tmp_path / "fresh")


def test_a_chain_of_renames_is_kept_together() -> None:
    """Where one file moves to another's place, neither comes without the other."""
    found = [Change("R", b"b", b"a"), Change("R", b"c", b"b"), Change("T", b"t"), Change("A", b"x")]
    assert choose(found, [10, 500, 20, 30], 100) == [False, False, True, True]
    assert choose(found, [10, 50, 20, 30], 110) == [True, True, True, True]
    assert choose(found, [10, 50, 20, 30], 50) == [False, False, True, True]


def test_repositories_share_the_limit(tmp_path: Path, repo: Path) -> None:
    """The limit is the run's: what the first repository takes, the second does not have."""
    bench = Bench(tmp_path / "root", repo, repo)
    for folder in bench.folders:
        (folder / "large").write_text("x\n" * 2000)
        (folder / "small").write_text("x\n")
    first, second = bench.collect_all(max_patch_bytes=7000)
    assert (paths(first), first["patch_error"]) == (["large", "small"], "")
    assert paths(second) == ["small"] and "large (3.9 KB)" in second["patch_error"]
    assert sum(file["size"] for file in bench.outbox.files) <= 7000


@given(
    data=st.lists(st.sampled_from([b"\n", b"diff --git ", b"diff", b"+", b" --git "]), max_size=20), at=st.integers()
)
def test_sections_are_the_same_however_they_are_cut(data: list[bytes], at: int) -> None:
    """A diff is taken apart at the lines that only heads have, in whatever pieces it comes."""
    whole = b"diff --git a b\n" + b"".join(data)
    at %= len(whole)
    sections = Sections()
    found: dict[int, bytes] = {}
    for part in (sections.feed(whole[:at]), sections.feed(whole[at:]), sections.finish()):
        for number, piece in part:
            found[number] = found.get(number, b"") + piece
    expected = [line + b"\n" for line in whole.split(b"\n")]
    expected[-1] = expected[-1][:-1]
    heads = [number for number, line in enumerate(expected) if line.startswith(b"diff --git ")]
    assert list(found.values()) == [
        b"".join(expected[begin:end]) for begin, end in zip(heads, [*heads[1:], None], strict=True)
    ]


# --- commits ---


def test_commits_come_as_mail_that_git_takes(bench: Bench, tmp_path: Path, repo: Path) -> None:
    """The agent's commits are told, the oldest first, and `git am` makes them again: binary files, modes, renames."""
    (bench.folder / "bin").write_bytes(bytes(range(256)))
    first = _commit(bench.folder, "é.txt")
    run(bench.folder, "git", "mv", "app.py", "moved.py")
    (bench.folder / "moved.py").chmod(0o755)
    run(bench.folder, "git", "add", "--all")
    run(bench.folder, "git", "commit", "--quiet", "--message=moved\n\nwith a body")
    second = run(bench.folder, "git", "rev-parse", "HEAD").decode().strip()
    (bench.folder / "later").write_text("not committed\n")
    found = bench.collect()
    assert [(commit["id"], commit["subject"], commit["author"]) for commit in found["commits"]] == [
        (first, "made é.txt", "A Gent <a@b>"),
        (second, "moved", "A Gent <a@b>"),
    ]
    assert found["commits"][0]["authored_at"][:2] == "20"
    fresh = tmp_path / "fresh"
    run(tmp_path, "git", "clone", "--quiet", str(repo), str(fresh))
    run(fresh, "git", "am", "--quiet", input=bench.content(found["mail"]))
    assert run(fresh, "git", "rev-parse", "HEAD^{tree}") == run(bench.folder, "git", "rev-parse", f"{second}^{{tree}}")
    assert run(fresh, "git", "log", "--format=%s %b", "--reverse") == (
        b"first \nmade \xc3\xa9.txt \nmoved with a body\n\n"
    )


def test_work_on_another_branch_comes_back(bench: Bench, tmp_path: Path, repo: Path) -> None:
    """Commits of a branch that is not checked out come as that branch's mail, which applies at the start."""
    shared = _commit(bench.folder, "shared")
    run(bench.folder, "git", "checkout", "--quiet", "-b", "side/one")
    side = _commit(bench.folder, "side")
    run(bench.folder, "git", "checkout", "--quiet", "main")
    run(bench.folder, "git", "branch", "nothing-new")
    found = bench.collect()
    assert [commit["id"] for commit in found["commits"]] == [shared]
    (branch,) = found["branches"]
    assert (branch["name"], [commit["id"] for commit in branch["commits"]]) == ("side/one", [side])
    fresh = tmp_path / "fresh"
    run(tmp_path, "git", "clone", "--quiet", str(repo), str(fresh))
    run(fresh, "git", "am", "--quiet", input=bench.content(branch["mail"]))
    assert run(fresh, "git", "rev-parse", "HEAD^{tree}") == run(bench.folder, "git", "rev-parse", f"{side}^{{tree}}")


def test_commits_that_do_not_begin_at_the_start(bench: Bench, tmp_path: Path, repo: Path) -> None:
    """An amended first commit is the agent's, and the patch is against the start all the same."""
    (bench.folder / "new").write_text("1\n")
    run(bench.folder, "git", "add", ".")
    run(bench.folder, "git", "commit", "--quiet", "--amend", "--message=amended")
    found = bench.collect()
    assert [commit["subject"] for commit in found["commits"]] == ["amended"]
    assert paths(found) == ["new"]


def test_what_was_there_at_the_start_is_not_the_agents(tmp_path: Path, repo: Path, git: GitIn) -> None:
    """A history that the agent has fetched in full, and its branches, are nobody's new commits."""
    git(repo, "commit", "--quiet", "--allow-empty", "--message=second")
    bench = Bench(tmp_path / "root", repo)
    run(bench.folder, "git", "fetch", "--quiet", "--unshallow")
    run(bench.folder, "git", "checkout", "--quiet", "-b", "back", "HEAD~")
    _commit(bench.folder, "new")
    found = bench.collect()
    assert [commit["subject"] for commit in found["commits"]] == ["made new"]
    assert found["branches"] == [] and found["omitted"] == []


def test_what_is_stashed_away_is_said(bench: Bench) -> None:
    """A stash that was not taken back does not come back; it is not silent."""
    (bench.folder / "README.md").write_text("stashed\n")
    run(bench.folder, "git", "stash")
    found = bench.collect()
    assert (paths(found), found["patch_error"]) == ([], "")
    assert "stashed" in found["omitted"][0]["reason"]


def test_mail_over_the_limit(bench: Bench) -> None:
    """Mail that does not fit is among the omitted; a branch's is an error, since its content is nowhere else."""
    _commit(bench.folder, "data", "x\n" * 100)
    found = bench.collect(max_patch_bytes=500)
    assert paths(found) == ["data"] and len(found["commits"]) == 1 and found["mail"] is None
    assert [file["path"] for file in found["omitted"]] == ["(commits)"] and found["patch_error"] == ""
    run(bench.folder, "git", "checkout", "--quiet", "-b", "side")
    _commit(bench.folder, "side", "x\n" * 1000)
    run(bench.folder, "git", "checkout", "--quiet", "main")
    found = bench.collect(max_patch_bytes=2000)
    assert found["patch"] and found["mail"] and found["branches"][0]["mail"] is None
    assert "the commits of the branch side did not come back" in found["patch_error"]


# --- pushing ---


@pytest.fixture
def pushing(tmp_path: Path, repo: Path) -> Any:
    """The sample repository on a server that wants a token, with a history, and cloned from there with depth 1."""
    run(repo, "git", "commit", "--quiet", "--allow-empty", "--message=second")
    with git_server(repo.parent, ("me", TOKEN)) as host:
        yield Bench(tmp_path / "root", f"http://{host}/sample/.git", git=Git("me", TOKEN, host))


def _tip(repo: Path, branch: str) -> str:
    return run(repo, "git", "rev-parse", "--verify", "--quiet", branch, check=False).decode().strip()


def test_work_is_pushed_to_a_branch(pushing: Bench, repo: Path, tmp_path: Path) -> None:
    """Commits and what is not committed arrive on the branch; the token is on no disk and in no result."""
    commit = _commit(pushing.folder, "committed")
    (pushing.folder / "loose").write_text("1\n")
    found = pushing.collect(push="flaude/x")
    assert (found["pushed_branch"], found["push_error"]) == ("flaude/x", "")
    assert run(repo, "git", "log", "--format=%an: %s", "flaude/x").decode().splitlines() == [
        "flaude: Changes by Claude Code",
        "A Gent: made committed",
        "A Gent: second",
        "Test: first",
    ]
    assert _tip(repo, "flaude/x~") == commit
    assert _tip(repo, "flaude/x^{tree}") == tree_of(pushing.folder).strip()
    assert TOKEN not in repr(found)
    assert run(tmp_path, "grep", "-rlF", TOKEN, str(pushing.layout.root), check=False) == b""


def test_commits_that_hold_all_are_pushed_as_they_are(pushing: Bench, repo: Path) -> None:
    """When nothing but commits is there, the agent's own commit is the branch's; with nothing there is no push."""
    found = pushing.collect(push="x")
    assert (found["pushed_branch"], found["push_error"], _tip(repo, "x")) == ("", "", "")
    commit = _commit(pushing.folder, "committed")
    assert pushing.collect(push="x")["pushed_branch"] == "x"
    assert _tip(repo, "x") == commit
    more = _commit(pushing.folder, "more")
    assert pushing.collect(push="x")["pushed_branch"] == "x", "it goes on from what is there"
    assert _tip(repo, "x") == more


@pytest.mark.parametrize("do", [_git_gone, _git_made_anew, _git_damaged])
def test_work_is_pushed_whatever_became_of_the_repository(pushing: Bench, repo: Path, do: Any) -> None:
    """Without the agent's commits its files are pushed, as one commit on top of the start."""
    (pushing.folder / "new").write_text("1\n")
    do(pushing.folder)
    found = pushing.collect(push="x")
    assert (found["pushed_branch"], found["push_error"]) == ("x", "")
    assert _tip(repo, "x~") == found["head"]
    assert "new" in run(repo, "git", "ls-tree", "--name-only", "x").decode().split()


def test_a_push_never_forces(pushing: Bench, repo: Path) -> None:
    """A branch with another history is left alone; that is an error of the push, and the patch is there."""
    run(repo, "git", "branch", "taken", "main~")
    run(repo, "git", "checkout", "--quiet", "taken")
    run(repo, "git", "commit", "--quiet", "--allow-empty", "--message=theirs")
    run(repo, "git", "checkout", "--quiet", "main")
    before = _tip(repo, "taken")
    (pushing.folder / "new").write_text("1\n")
    found = pushing.collect(push="taken")
    assert found["pushed_branch"] == "" and "[rejected] (fetch first)" in found["push_error"]
    assert _tip(repo, "taken") == before
    assert paths(found) == ["new"] and found["patch"] and found["patch_error"] == ""


def test_a_refusal_is_told_in_the_servers_words(pushing: Bench, repo: Path) -> None:
    """What the other side says (a protected branch) is in the error."""
    hook = repo / ".git/hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'GH006: Protected branch update failed' >&2\nexit 1\n")
    hook.chmod(0o755)
    (pushing.folder / "new").write_text("1\n")
    found = pushing.collect(push="x")
    assert "pre-receive hook declined" in found["push_error"] and "GH006: Protected branch" in found["push_error"]
    assert found["patch"] and _tip(repo, "x") == ""


def test_a_token_that_is_refused(pushing: Bench, repo: Path) -> None:
    """A token that may not push is an error of the push alone, and is not told."""
    (pushing.folder / "new").write_text("1\n")
    assert pushing.git is not None
    pushing.git = Git("me", "ghp_wrong_4711", pushing.git.host)
    found = pushing.collect(push="x")
    assert "Authentication failed" in found["push_error"] and found["patch"]
    assert "ghp_wrong" not in repr(found)


def test_what_does_not_fit_into_the_patch_is_pushed_as_far_as_it_was_read(pushing: Bench, repo: Path) -> None:
    """The limit is the patch's; a file that was too large to be read is as the agent committed it, or left out."""
    _commit(pushing.folder, "large", "x\n" * 5000)
    (pushing.folder / "loose").write_text("x\n" * 5000)
    (pushing.folder / "small").write_text("x\n")
    found = pushing.collect(push="x", max_patch_bytes=1000)
    assert paths(found) == ["small"] and found["pushed_branch"] == "x"
    assert sorted(run(repo, "git", "ls-tree", "--name-only", "x").decode().split()) == [
        "README.md",
        "app.py",
        "large",
        "small",
    ]


def test_any_number_of_files_may_be_left_out_of_a_push(pushing: Bench, repo: Path) -> None:
    """Paths that take more room than a command line has: what the agent has committed of them stays."""
    folder = pushing.folder.joinpath(*["p" * 250] * 14)
    folder.mkdir(parents=True)
    for number in range(650):
        (folder / str(number)).write_text("x\n" * 10)
    run(pushing.folder, "git", "add", ".")
    run(pushing.folder, "git", "commit", "--quiet", "--message=many")
    found = pushing.collect(push="x", max_patch_bytes=10)
    assert (found["pushed_branch"], found["push_error"]) == ("x", "")
    assert _tip(repo, "x") == _tip(pushing.folder, "HEAD")


def test_a_push_without_patches(pushing: Bench, repo: Path) -> None:
    """Who wants a branch alone gets that alone, and the list of what is in it."""
    (pushing.folder / "new").write_text("1\n")
    found = pushing.collect(push="x", patches=False)
    assert (paths(found), found["patch"], found["pushed_branch"]) == (["new"], None, "x")


# --- the baseline ---


def test_a_baseline_costs_no_copy(bench: Bench) -> None:
    """It has the clone's objects themselves, under names of its own."""
    kept = baseline.place(bench.layout, 0) / "objects"
    theirs = {file.stat().st_ino for file in (bench.folder / ".git/objects").rglob("*") if file.is_file()}
    ours = {file.stat().st_ino for file in kept.rglob("*") if file.is_file()}
    assert ours and ours <= theirs


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a user for the agent")
def test_the_agent_cannot_change_the_baseline(owned: Bench) -> None:
    """Its user can neither write there nor in the objects that the clone shares with it; the work comes back."""
    kept = baseline.place(owned.layout, 0)

    def state() -> list[tuple[Path, int, int, bytes]]:
        files = [path for path in sorted(kept.rglob("*")) if path.is_file()]
        return [(path, path.stat().st_uid, path.stat().st_mode, path.read_bytes()) for path in files]

    before = state()
    told = owned.as_agent(
        f"""
        rm -rf {kept}; for file in $(find {kept}); do echo bad >> $file; chmod u+w $file; mv $file {kept}/x; done
        for file in .git/objects/*/*; do chmod u+w $file; echo bad >> $file; done
        git config gc.auto 1; git -c user.name=a -c user.email=b commit -q --allow-empty -m x; git gc -q --prune=now
        rm -rf .git; git init -q; echo new > new
        """
    )
    assert state() == before, told
    assert {uid for _, uid, _, _ in before} == {0}
    assert paths(owned.collect()) == ["new"]


def test_a_clone_of_a_path_shares_nothing_with_it(tmp_path: Path, repo: Path) -> None:
    """A repository that is named by its path is cloned like any other: the original's files stay its own."""
    bench = Bench(tmp_path / "root", str(repo))
    theirs = {file.stat().st_ino for file in (repo / ".git/objects").rglob("*") if file.is_file()}
    assert not theirs & {file.stat().st_ino for file in (bench.folder / ".git/objects").rglob("*")}
    assert run(bench.folder, "git", "rev-list", "--count", "HEAD") == b"1\n"
