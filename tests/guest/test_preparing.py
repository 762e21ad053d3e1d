"""What is needed before an agent can start: a real git server that fails, and an `npm` that does as npm was seen to."""

from __future__ import annotations

import shutil
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.guest.conftest import Guest
from tests.guest.git_server import git_server

Boot = Callable[..., Guest]
Script = Callable[[str], list[str]]

PROGRAM = "claude-of-npm"
TESTED, LATEST = "2.0.0", "2.9.9"

# What the package has in its program's place until its script has put the real one there: 500 bytes, and no program.
STUB = "echo 'Error: claude native binary not installed.' >&2\nexit 1\n".ljust(500, "#") + "\n"
GOOD = """
    [ "$1" = --version ] && echo "$version (Claude Code)" && exit
    echo '{"type":"result","is_error":false,"result":"of '"$version"'"}'
"""
NO_NAMES = """
    echo "npm error code EAI_AGAIN
    npm error syscall getaddrinfo
    npm error request to https://registry.npmjs.org/x failed, reason: getaddrinfo EAI_AGAIN registry.npmjs.org" >&2
    exit 1
"""


class Npm:
    """A folder of programs with an `npm` in it, and how often that was called with which package."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        self._calls = folder / "calls"

    def write(self, body: str, name: str = "npm") -> None:
        """Make a program of a shell script; `install SCRIPT` puts one where npm puts the package's."""
        program = self.bin / name
        program.write_text(
            f'#!/bin/sh\nfor package in "$@"; do :; done\nversion=${{package##*@}}\necho $package >>{self._calls}\n'
            f'number=$(wc -l <{self._calls})\nwhile [ "$1" != --prefix ]; do shift; done\nprefix=$2\n'
            "package=$prefix/node_modules/@anthropic-ai/claude-code\n"
            f"install() {{ mkdir -p $package $prefix/node_modules/.bin; printf '%s' \"$1\" >$package/program\n"
            f"chmod 755 $package/program; ln -sf $package/program $prefix/node_modules/.bin/{PROGRAM}; }}\n"
            f"good='#!/bin/sh\nversion='$version'\n'{_quoted(textwrap.dedent(GOOD))}\n"
            f"stub='#!/bin/sh\n'{_quoted(STUB)}\n" + textwrap.dedent(body)
        )
        program.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        """The packages that were to be installed."""
        return [line.rpartition("@")[2] for line in self._calls.read_text().splitlines()]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


@pytest.fixture
def npm(tmp_path: Path) -> Npm:
    """One that does nothing as yet."""
    return Npm(tmp_path)


@pytest.fixture
def run(boot: Boot, npm: Npm) -> Callable[..., tuple[dict[str, Any], list[str]]]:
    """Runs a job with that npm; the result, and what was logged."""

    def run(version: str = TESTED, **job: Any) -> tuple[dict[str, Any], list[str]]:
        guest = boot(env={"PATH": f"{npm.bin}:/usr/bin:/bin"})
        install = {"package": "@anthropic-ai/claude-code", "version": version, "fallback": TESTED}
        guest.start([PROGRAM, "-p"], install=install, **job)
        result, records = guest.finish()
        return result, [record["message"] for record in records if record["type"] == "log"]

    return run


Run = Callable[..., tuple[dict[str, Any], list[str]]]


def test_npm_that_finds_no_name_twice(npm: Npm, run: Run) -> None:
    """The first seconds of a machine may have no DNS: npm is tried again, twice, and the log says so."""
    npm.write(f'[ "$number" -gt 2 ] || {{ {NO_NAMES} }}\ninstall "$good"')
    result, log = run()
    assert (result["ended_by"], result["result_line"]["result"]) == ("exit", f"of {TESTED}")
    assert npm.calls == [TESTED] * 3
    assert ["EAI_AGAIN" in line and "trying again" in line for line in log] == [True, True, False]
    assert f"installed @anthropic-ai/claude-code@{TESTED} with npm" in log[2]


def test_npm_that_never_finds_a_name(npm: Npm, run: Run) -> None:
    """After the third time the image is not to blame: the failure says that it may be gone later."""
    npm.write(NO_NAMES)
    result, _ = run()
    assert (result["ended_by"], result["exit_code"], result["transient"]) == ("image", None, True)
    assert "3 times" in result["message"] and "EAI_AGAIN" in result["message"]
    assert npm.calls == [TESTED] * 3


def test_npm_that_has_no_time_left(npm: Npm, run: Run) -> None:
    """Trying again takes no more time than there was; the last trouble is told."""
    npm.write(NO_NAMES)
    began = time.monotonic()
    result, _ = run(limits={"install_s": 4})
    assert result["transient"] and "not done after 4 s" in result["message"] and "EAI_AGAIN" in result["message"]
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("code", ["ETARGET", "E404", "E401", "ENOSPC"])
def test_npm_that_will_fail_again(npm: Npm, run: Run, code: str) -> None:
    """A version that does not exist, a token that is refused or a full disk is told at once."""
    npm.write(f'echo "npm error code {code}" >&2; exit 1')
    result, _ = run("9.9.9")
    assert (result["ended_by"], result["transient"], npm.calls) == ("image", False, ["9.9.9"])
    assert code in result["message"]


def test_a_tag_that_names_a_stub(npm: Npm, run: Run) -> None:
    """Where npm exits 0 and leaves a stub of 500 bytes, the tested version is installed in its place, loudly."""
    npm.write(f'[ "$version" = {TESTED} ] && install "$good" || install "$stub"')
    result, log = run("latest")
    assert (result["ended_by"], result["result_line"]["result"]) == ("exit", f"of {TESTED}")
    assert npm.calls == ["latest", "latest", TESTED]
    (loud,) = [line for line in log if line.startswith("warning: ")]
    assert "@latest was installed and does not run" in loud and "native binary not installed" in loud and TESTED in loud


def test_a_version_that_is_a_stub(npm: Npm, run: Run) -> None:
    """Who names a version gets no other one: the run fails, and says what to do."""
    npm.write('install "$stub"')
    result, _ = run(LATEST)
    assert (result["ended_by"], result["exit_code"], result["transient"]) == ("image", None, False)
    assert "does not answer" in result["message"] and "native binary not installed" in result["message"]
    assert "claude_code_version" in result["message"] and npm.calls == [LATEST] * 2


def test_a_download_that_npm_bears_to_lack(npm: Npm, run: Run) -> None:
    """What the platform needs is optional for npm: where that was lost on the way, it is all installed once more."""
    npm.write('[ "$number" = 1 ] && install "$stub" || install "$good"')
    result, log = run()
    assert (result["ended_by"], npm.calls) == ("exit", [TESTED] * 2)
    assert "installing it again" in log[0]


def test_npm_that_allows_no_scripts(npm: Npm, run: Run) -> None:
    """The package's own script is run where npm did not: it puts the program in the stub's place."""
    if shutil.which("node") is None:
        pytest.skip("node is not there")
    npm.write(
        """
        install "$stub"
        echo "$good" >$package/real
        chmod 755 $package/real
        echo 'require("fs").renameSync(__dirname + "/real", __dirname + "/program")' >$package/install.cjs
        """
    )
    result, _ = run()
    assert (result["ended_by"], result["result_line"]["result"]) == ("exit", f"of {TESTED}")
    assert npm.calls == [TESTED]


@pytest.mark.parametrize(
    ("content", "words"),
    [(f"#!/bin/sh\n{STUB}", "native binary not installed"), ("\x7fELF of another processor", "Exec format error")],
)
def test_an_image_whose_claude_does_not_run(npm: Npm, run: Run, content: str, words: str) -> None:
    """It is the image's fault, said before anything is paid for; npm is not asked."""
    program = npm.bin / PROGRAM
    program.write_text(content)
    program.chmod(0o755)
    npm.write("exit 1")
    result, _ = run()
    assert (result["ended_by"], result["exit_code"], result["transient"]) == ("image", None, False)
    assert f"the image has {program}" in result["message"] and words in result["message"]


def test_a_program_that_never_says_its_version(npm: Npm, run: Run) -> None:
    """It has the time of an install, and is ended then."""
    program = npm.bin / PROGRAM
    program.write_text("#!/bin/sh\nexec sleep 300\n")
    program.chmod(0o755)
    result, _ = run(limits={"install_s": 4})
    assert result["ended_by"] == "image" and "--version was not done after 4 s" in result["message"]


def test_an_image_without_git(boot: Boot, tmp_path: Path) -> None:
    """It is told before anything is installed or cloned; without repositories git is not needed."""
    (tmp_path / "bin").mkdir()
    for name in ("sh", "echo"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or "")
    environment = {"PATH": str(tmp_path / "bin")}
    guest = boot(env=environment)
    install = {"package": "@anthropic-ai/claude-code", "version": "1.0"}
    repos = [{"url": "https://github.com/your-org/api", "target_dir": "api"}]
    guest.start(["claude", "-p"], install=install, repos=repos)
    result, records = guest.finish()
    assert (result["ended_by"], result["exit_code"], result["transient"]) == ("image", None, False)
    assert "the image needs git" in result["message"]
    assert "cloning" not in [record.get("state") for record in records]
    other = boot(env=environment)
    other.start(["sh", "-c", """echo '{"type":"result","is_error":false}'"""])
    assert other.finish()[0]["exit_code"] == 0


@pytest.mark.parametrize("failures", [(503, 503), (0, 429)], ids=["5xx", "closed, too many"])
@pytest.mark.parametrize("by", ["branch", "commit"])
def test_a_git_server_that_fails_twice(
    guest: Guest, script: Script, repo: Path, git: Callable[..., str], by: str, failures: tuple[int, ...]
) -> None:
    """A clone that the server, or the way to it, has made fail is tried again, twice."""
    ref = "main" if by == "branch" else git(repo, "rev-parse", "HEAD").strip()
    with git_server(repo.parent, failures=failures) as host:
        url = f"http://{host}/sample/.git"
        guest.start(script("result()"), repos=[{"url": url, "target_dir": "a", "ref": ref}])
        result, records = guest.finish()
    assert result["ended_by"] == "exit", result["message"]
    assert (guest.root / "workspace/a/README.md").read_text() == "# sample\n"
    log = [record["message"] for record in records if record["type"] == "log"]
    assert len(log) == 2 and all(url in line and "trying again" in line for line in log)


def test_a_commit_that_a_failing_server_may_have(
    guest: Guest, script: Script, repo: Path, git: Callable[..., str]
) -> None:
    """A server in trouble is no server that does not serve commits: no whole history is fetched for it."""
    asked: list[str] = []
    commit = git(repo, "rev-parse", "HEAD").strip()
    clone_asks = 3
    with git_server(repo.parent, failures=[200] * clone_asks + [503] * 9, asked=asked) as host:
        repos = [{"url": f"http://{host}/sample/.git", "target_dir": "a", "ref": commit}]
        guest.start(script("result()"), repos=repos)
        result, _ = guest.finish()
    assert (result["ended_by"], result["transient"], len(asked)) == ("clone", True, clone_asks + 3)


def test_a_git_server_that_goes_on_failing(guest: Guest, script: Script, repo: Path) -> None:
    """After the third time the failure says that it may be gone later, where all that failed may be."""
    asked: list[str] = []
    with git_server(repo.parent, failures=[503] * 9, asked=asked) as host:
        guest.start(script("result()"), repos=[{"url": f"http://{host}/sample/.git", "target_dir": "a"}])
        result, _ = guest.finish()
    assert (result["ended_by"], result["transient"], len(asked)) == ("clone", True, 3)
    assert "returned error: 503" in result["message"]


@pytest.mark.parametrize("failures", [[404] * 9, [403] * 9], ids=["404", "403"])
def test_a_clone_that_will_fail_again(guest: Guest, script: Script, repo: Path, failures: list[int]) -> None:
    """A repository that is not there, or not for this token, is told at once."""
    asked: list[str] = []
    with git_server(repo.parent, failures=failures, asked=asked) as host:
        guest.start(script("result()"), repos=[{"url": f"http://{host}/sample/.git", "target_dir": "a"}])
        result, _ = guest.finish()
    assert (result["ended_by"], result["transient"], len(asked)) == ("clone", False, 1)


def test_one_clone_that_will_fail_again_is_enough(guest: Guest, script: Script, repo: Path) -> None:
    """Another machine would not help: beside a repository that is not there, a server that fails counts for nothing."""
    with git_server(repo.parent, failures=[503] * 9) as host:
        repos = [{"url": f"http://{host}/sample/.git", "target_dir": "a"}, {"url": "file:///none", "target_dir": "b"}]
        guest.start(script("result()"), repos=repos)
        result, _ = guest.finish()
    assert (result["ended_by"], result["transient"]) == ("clone", False)
    assert "503" in result["message"] and "file:///none" in result["message"]


def test_a_clone_without_time_for_another_try(guest: Guest, script: Script, repo: Path) -> None:
    """Trying again takes no more time than there was; what failed is told."""
    with git_server(repo.parent, failures=[503] * 9) as host:
        repos = [{"url": f"http://{host}/sample/.git", "target_dir": "a"}]
        guest.start(script("result()"), repos=repos, limits={"clone_s": 4})
        result, _ = guest.finish()
    assert (result["ended_by"], result["transient"]) == ("clone", True)
    assert "not done after 4 s" in result["message"] and "503" in result["message"]
