"""Cloning and collecting, with real repositories and a real git server."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.guest.conftest import SECRET, Guest
from tests.guest.git_server import git_server

from flaude._guest.inside.git.changes import changes

Script = Callable[[str], list[str]]
Git = Callable[..., str]
TOKEN = "ghp_guest_canary_4711"


def one(url: str | Path, ref: str = "", target: str = "sample") -> dict[str, str]:
    """A repository as the job names it."""
    return {"url": f"file://{url}" if isinstance(url, Path) else url, "ref": ref, "target_dir": target}


def heads(result: dict[str, Any]) -> list[str]:
    """The commits that were checked out."""
    return [repo["head"] for repo in result["repos"]]


@pytest.fixture
def history(repo: Path, git: Git) -> dict[str, str]:
    """Commits of the sample repository by name; `side` is on no branch's tip and not an ancestor of main."""
    commits = {"first": git(repo, "rev-parse", "HEAD").strip()}
    git(repo, "checkout", "--quiet", "other")
    (repo / "side.txt").write_text("side\n")
    git(repo, "add", ".")
    git(repo, "commit", "--quiet", "--message=side")
    commits["side"] = git(repo, "rev-parse", "HEAD").strip()
    (repo / "side.txt").write_text("tip\n")
    git(repo, "commit", "--quiet", "--all", "--message=tip")
    commits["other"] = git(repo, "rev-parse", "HEAD").strip()
    git(repo, "checkout", "--quiet", "main")
    (repo / "second.txt").write_text("2\n")
    git(repo, "add", ".")
    git(repo, "commit", "--quiet", "--message=second")
    commits["main"] = git(repo, "rev-parse", "HEAD").strip()
    return commits


@pytest.mark.parametrize(
    ("ref", "commit"),
    [("", "main"), ("main", "main"), ("other", "other"), ("v1", "first"), ("@side", "side"), ("@first", "first")],
)
def test_clone_by_ref(
    guest: Guest, script: Script, repo: Path, history: dict[str, str], git: Git, ref: str, commit: str
) -> None:
    """Default branch, branch, tag and full commit id each check out their commit, with a history of depth 1."""
    ref = history[ref[1:]] if ref.startswith("@") else ref
    guest.start(script("print(os.getcwd()); result()"), repos=[one(repo, ref)])
    result, records = guest.finish()
    assert result["ended_by"] == "exit", result["message"]
    assert heads(result) == [history[commit]]
    assert {"type": "stdout", "line": str(guest.root / "workspace/sample")}.items() <= records[4].items()
    depth = git(guest.root / "workspace/sample", "rev-list", "--count", "HEAD").strip()
    assert depth == "1"
    assert result["repos"][0]["changes"] == [] and result["files"] == []


def test_private_repositories_leave_no_token(guest: Guest, script: Script, repo: Path) -> None:
    """The token opens a private repository, and is then nowhere: not on disk, nor in the agent, nor in the output."""
    with git_server(repo.parent, ("me", TOKEN)) as host:
        guest.start(
            script(
                """
                del os.environ["CLAUDE_CODE_OAUTH_TOKEN"]
                print(json.dumps(dict(os.environ)))
                print(subprocess.run(["git", "config", "-l"], capture_output=True, text=True).stdout)
                result()
                """
            ),
            repos=[one(f"http://{host}/sample/.git")],
            git={"username": "me", "token": TOKEN, "host": host},
        )
        result, records = guest.finish()
    assert result["ended_by"] == "exit", result["message"]
    assert len(heads(result)[0]) == 40
    assert TOKEN not in json.dumps([result, records])
    assert "[redacted]" not in json.dumps([result, records]), "the agent had the token"
    found = subprocess.run(["grep", "-rlF", TOKEN, str(guest.root)], capture_output=True, check=False, text=True)
    assert found.stdout == ""


def test_the_token_goes_to_its_own_host_alone(guest: Guest, script: Script, repo: Path) -> None:
    """Another host that asks for a password does not get the token; the clone fails and says so."""
    with git_server(repo.parent, ("me", TOKEN)) as host:
        guest.start(
            script("result()"),
            repos=[one(f"http://{host}/sample/.git")],
            git={"username": "me", "token": TOKEN, "host": "github.com"},
        )
        result, _ = guest.finish()
    assert result["ended_by"] == "clone" and host in result["message"]
    assert TOKEN not in json.dumps(result)


def test_a_failed_clone_says_which_and_why_before_any_paid_work(guest: Guest, script: Script, repo: Path) -> None:
    """Of several repositories, each that fails is named with git's reason, and the agent is never started."""
    bad = [one(repo, "no-such-branch", "a"), one(repo, "", "b"), one(Path("/does/not/exist"), "", "c")]
    guest.start(script("print('never'); result()"), repos=bad)
    result, records = guest.finish()
    assert (result["ended_by"], result["exit_code"]) == ("clone", None)
    assert "no branch, tag or commit no-such-branch" in result["message"]
    assert "file:///does/not/exist" in result["message"] and "does not appear to be a git repo" in result["message"]
    assert not any(record["type"] == "stdout" for record in records)
    guest.call("ack")
    assert guest.wait() == 66


def test_several_repositories_side_by_side(guest: Guest, script: Script, repo: Path, history: dict[str, str]) -> None:
    """Several repositories are cloned side by side, and the workspace is the working folder."""
    guest.start(
        script("print(os.getcwd()); open('a/new', 'w').write('1'); result()"),
        repos=[one(repo, "main", "a"), one(repo, "other", "deep/er/b")],
    )
    result, records = guest.finish()
    assert heads(result) == [history["main"], history["other"]]
    assert {"type": "stdout", "line": str(guest.root / "workspace")}.items() <= records[4].items()
    assert [[change["path"] for change in found["changes"]] for found in result["repos"]] == [["new"], []]


def test_cancel_while_cloning(guest: Guest, script: Script) -> None:
    """A clone that hangs is ended by cancel."""
    guest.start(script("result()"), repos=[one("git://127.0.0.1:9/x"), one("ext::sh -c 'cat'", "", "y")])
    guest.call("cancel", reason="enough")
    result, _ = guest.finish()
    assert result["ended_by"] in ("cancelled", "clone") and result["exit_code"] is None


def test_the_patch_gives_the_same_tree(guest: Guest, script: Script, repo: Path, tmp_path: Path, git: Git) -> None:
    """Commits, index, working tree, untracked, binary, deleted, renamed and mode changes are in it; ignored is not."""
    body = """
        def git(*words):
            subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True)
        open(".gitignore", "w").write("*.log\\n")
        git("add", ".gitignore"); git("commit", "-qm", "one")
        git("mv", "app.py", "moved.py")
        open("staged.txt", "w").write("s\\n"); git("add", "staged.txt")
        open("README.md", "a").write("unstaged\\n")
        git("update-index", "--assume-unchanged", "README.md")
        open("bin", "wb").write(bytes(range(256)) * 10)
        open("run.sh", "w").write("#!/bin/sh\\n"); os.chmod("run.sh", 0o755)
        os.symlink("bin", "link"); os.makedirs("d é\\n/x"); open("d é\\n/x/f", "w").write("odd name")
        open("ignored.log", "w").write("no")
        result()
    """
    guest.start(script(body), repos=[one(repo)])
    result, _ = guest.finish()
    (found,) = result["repos"]
    assert found["patch_error"] == ""
    assert "ignored.log" not in [change["path"] for change in found["changes"]]
    renamed = next(change for change in found["changes"] if change["status"] == "R")
    assert (renamed["old_path"], renamed["path"]) == ("app.py", "moved.py")
    (tmp_path / "work.patch").write_bytes(guest.fetch(found["patch"], piece=1000))
    fresh = tmp_path / "fresh"
    git(tmp_path, "clone", "--quiet", str(repo), str(fresh))
    git(fresh, "apply", "--index", str(tmp_path / "work.patch"))
    worked = guest.root / "workspace/sample"
    git(worked, "update-index", "--no-assume-unchanged", "README.md")
    git(worked, "add", "--all")
    assert git(fresh, "write-tree") == git(worked, "write-tree")


def test_a_hostile_repository_runs_nothing_while_collecting(
    guest: Guest, script: Script, repo: Path, tmp_path: Path
) -> None:
    """External diffs, text conversions, hooks and fsmonitor that the agent configured are not run for the patch."""
    mark = tmp_path / "ran"
    body = f"""
        run = "sh -c 'echo ran >> {mark}; cat /dev/null'"
        for key in ("diff.external", "core.fsmonitor", "diff.x.textconv", "diff.x.command"):
            subprocess.run(["git", "config", key, run], check=True)
        open(".git/info/attributes", "w").write("* diff=x\\n")
        for hook in ("post-index-change", "reference-transaction"):
            path = ".git/hooks/" + hook
            open(path, "w").write("#!/bin/sh\\necho ran >> {mark}\\n"); os.chmod(path, 0o755)
        open("new", "w").write("1\\n")
        result()
    """
    guest.start(script(body), repos=[one(repo)])
    result, _ = guest.finish()
    assert [change["path"] for change in result["repos"][0]["changes"]] == ["new"]
    assert not mark.exists()


@pytest.mark.parametrize(
    ("holds", "collect_s", "error"),
    [
        (">/dev/null", 20, ""),
        ("", 3, "without the repository's ignore rules and attributes"),
    ],
    ids=["git ends", "git waits for it"],
)
def test_what_git_leaves_behind_does_not_hold_the_run(
    boot: Callable[..., Guest],
    script: Script,
    repo: Path,
    tmp_path: Path,
    holds: str,
    collect_s: float,
    error: str,
) -> None:
    """A process that a filter of the image's leaves behind, with git's own pipes in its hands, is not waited for."""
    filter_, config = tmp_path / "filter", tmp_path / "gitconfig"
    filter_.write_text(f"#!/bin/sh\nsetsid sleep 600 {holds} </dev/null &\ncat\n")
    filter_.chmod(0o755)
    config.write_text(f'[filter "leaves"]\n\tclean = {filter_}\n')
    guest = boot(env={"GIT_CONFIG_SYSTEM": str(config)})
    body = """
        open(".gitattributes", "w").write("*.md filter=leaves\\n")
        open("README.md", "a").write("more\\n"); open("new.py", "w").write("paid work\\n")
        result()
    """
    guest.start(script(body), repos=[one(repo)], limits={"collect_s": collect_s})
    result, _ = guest.finish()
    (found,) = result["repos"]
    assert found["patch_error"].endswith(error) and bool(found["patch_error"]) == bool(error)
    assert [change["path"] for change in found["changes"]] == [".gitattributes", "README.md", "new.py"]
    assert result["times"]["done"] - result["times"]["collecting"] < 15
    guest.call("ack")
    assert guest.wait() == 0


def test_filters_of_the_agents_config_are_not_run(guest: Guest, script: Script, repo: Path, tmp_path: Path) -> None:
    """What the agent's config makes of files counts for the agent alone: it costs nothing, however it fails."""
    mark = tmp_path / "ran"
    body = f"""
        subprocess.run(["git", "config", "filter.fails.clean", "touch {mark}; sleep 600; false"], check=True)
        subprocess.run(["git", "config", "filter.fails.required", "true"], check=True)
        open(".gitattributes", "w").write("*.md filter=fails\\n")
        open("README.md", "a").write("more\\n")
        result()
    """
    guest.start(script(body), repos=[one(repo)])
    (found,) = guest.finish()[0]["repos"]
    assert found["patch_error"] == "" and b"+more\n" in guest.fetch(found["patch"])
    assert not mark.exists()


def test_secrets_are_not_in_what_is_said_of_a_repository(
    boot: Callable[..., Guest], script: Script, repo: Path, tmp_path: Path
) -> None:
    """What git says, and the names of files, are filtered; a filter of git's that fails costs its file alone."""
    filter_, config = tmp_path / "filter", tmp_path / "gitconfig"
    config.write_text(f'[filter "fails"]\n\tclean = {filter_} %f\n\trequired = true\n')
    body = f"""
        secret = os.environ["CLAUDE_CODE_OAUTH_TOKEN"]
        open({str(filter_)!r}, "w").write(f"#!/bin/sh\\necho $1: {{secret}} >&2; exit 1\\n")
        os.chmod({str(filter_)!r}, 0o755)
        open("one/.gitattributes", "w").write("*.md filter=fails\\n")
        open("one/README.md", "a").write("more\\n"); open(f"two/{{secret}}.py", "w").write("1\\n")
        result()
    """
    guest = boot(env={"GIT_CONFIG_SYSTEM": str(config)})
    guest.start(script(body), repos=[one(repo, "", "one"), one(repo, "", "two")])
    result, _ = guest.finish()
    assert SECRET not in json.dumps(result)
    first, second = result["repos"]
    assert [(file["path"], "[redacted]" in file["reason"]) for file in first["omitted"]] == [("README.md", True)]
    assert first["patch_error"] == "1 file is unreadable for git and not in the patch: README.md (14 bytes)"
    assert [change["path"] for change in first["changes"]] == [".gitattributes"]
    assert [change["path"] for change in second["changes"]] == ["[redacted].py"]


def test_a_folder_that_is_gone_costs_its_own_patch(guest: Guest, script: Script, repo: Path) -> None:
    """A repository that is removed whole is named, and costs neither the answer nor the other repository's patch."""
    guest.start(
        script("import shutil; shutil.rmtree('a'); open('b/new', 'w').write('1'); result('answer')"),
        repos=[one(repo, "", "a"), one(repo, "", "b"), one(repo, "", "c")],
    )
    result, _ = guest.finish()
    assert result["exit_code"] == 0 and result["result_line"]["result"] == "answer"
    first, second, _ = result["repos"]
    assert first["patch_error"] == "its folder is not there any more" and first["patch"] is None
    assert [change["path"] for change in second["changes"]] == ["new"]


names = st.text(st.characters(blacklist_characters="\0/", blacklist_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda name: (
        name not in (".", "..", ".git") and len(name.encode()) < 200 and not name.lower().startswith((".git", "git~"))
    )
)
edits = st.dictionaries(names, st.none() | st.binary(max_size=30) | st.sampled_from([b"a\nb\n", b"a\r\n"]), max_size=5)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=edits, after=edits)
def test_changes_are_gits_own(
    tmp_path_factory: pytest.TempPathFactory, git: Git, before: dict[str, bytes | None], after: dict[str, bytes | None]
) -> None:
    """The list of changes has each changed path once, whatever its name."""
    folder = tmp_path_factory.mktemp("edits")
    git(folder, "init", "--quiet")
    for contents in (before, after):
        for name, content in contents.items():
            if content is None:
                (folder / name).unlink(missing_ok=True)
            else:
                (folder / name).write_bytes(content)
        git(folder, "add", "--all", "--force")
        git(folder, "commit", "--quiet", "--allow-empty", "--message=x")

    argv = ["git", "-C", str(folder), "diff", "--find-renames", "--raw", "--numstat", "-z", "HEAD~", "HEAD"]
    found = changes(subprocess.run(argv, check=True, capture_output=True).stdout)
    paths = [os.fsdecode(path) for change in found for path in change.paths]
    assert len(paths) == len(set(paths))
    plain = subprocess.run(
        ["git", "-C", str(folder), "diff", "--no-renames", "--name-only", "-z", "HEAD~", "HEAD"],
        check=True,
        capture_output=True,
    )
    assert sorted(paths) == sorted(plain.stdout.decode().split("\0")[:-1])


def test_what_git_tracks_decides_not_what_it_ignores(
    guest: Guest, script: Script, repo: Path, tmp_path: Path, git: Git
) -> None:
    """Ignored files that the agent committed by force are in the patch, and files that it untracked are removed."""
    body = """
        def git(*words):
            subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True)
        open(".gitignore", "w").write("*.log\\napp.py\\n")
        open("kept.log", "w").write("forced\\n"); open("other.log", "w").write("no\\n")
        git("add", "-f", "kept.log", ".gitignore"); git("rm", "-q", "--cached", "app.py"); git("commit", "-qm", "x")
        result()
    """
    guest.start(script(body), repos=[one(repo)])
    (found,) = guest.finish()[0]["repos"]
    assert found["patch_error"] == ""
    assert sorted((change["status"], change["path"]) for change in found["changes"]) == [
        ("A", ".gitignore"),
        ("A", "kept.log"),
        ("D", "app.py"),
    ]


def test_one_unreadable_thing_does_not_cost_the_patch(guest: Guest, script: Script, repo: Path) -> None:
    """A repository without a commit inside the repository is named, and the rest is in the patch."""
    guest.start(
        script("subprocess.run(['git', 'init', '-q', 'inner'], check=True); open('new', 'w').write('1'); result()"),
        repos=[one(repo)],
    )
    (found,) = guest.finish()[0]["repos"]
    assert "inner" in found["patch_error"] and found["patch"]
    assert "new" in [change["path"] for change in found["changes"]]


def test_the_images_credential_store_gets_nothing(
    boot: Callable[..., Guest], script: Script, repo: Path, tmp_path: Path
) -> None:
    """A credential helper that the image has configured is not given the token to keep."""
    store, config = tmp_path / "store", tmp_path / "gitconfig"
    config.write_text(f"[credential]\n\thelper = store --file={store}\n")
    guest = boot(env={"GIT_CONFIG_SYSTEM": str(config)})
    with git_server(repo.parent, ("me", TOKEN)) as host:
        guest.start(
            script("result()"),
            repos=[one(f"http://{host}/sample/.git")],
            git={"username": "me", "token": TOKEN, "host": host},
        )
        result, _ = guest.finish()
    assert result["ended_by"] == "exit", result["message"]
    assert not store.exists()
