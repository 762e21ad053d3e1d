"""`scripts/install-test-tools`, with programs that only look as if they were there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.support.snippets import ROOT

from flaude._model.config import TESTED_CLAUDE_CODE

CLI = Path(f".cache/claude-code-{TESTED_CLAUDE_CODE}")
PROGRAM = CLI / "node_modules/.bin/claude"
RIGHT = f"echo '{TESTED_CLAUDE_CODE} (Claude Code)'"
STUB = "echo 'claude native binary not installed.' >&2; exit 1"


def program(path: Path, *lines: str) -> None:
    """Write a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)


def install(root: Path, made_by_npm: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of the script where every other tool is there, with an npm that makes such a CLI and ends with 0."""
    for file in ("scripts/install-test-tools", "src/flaude/_model/config.py"):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, root / file)
    tools = root / "bin"
    for name in ("bwrap", "openssl", "chromium", "docker-registry", "dockerd"):
        program(tools / name, "exit 0")
    for name in ("bash", "sh", "env", "sed", "dirname", "mkdir", "rm", "tail", "cat", "chmod", "mv"):
        found = shutil.which(name)
        assert found
        if not (tools / name).exists():
            (tools / name).symlink_to(found)
    program(tools / "id", "echo 0")
    program(tools / "mmdebstrap", f"echo run >>{root}/mmdebstrap.log", 'for last; do :; done; echo image >"$last"')
    program(
        tools / "npm",
        f"echo run >>{root}/npm.log",
        f"mkdir -p {root / PROGRAM.parent}",
        f"cat >{root / PROGRAM} <<'END'\n#!/bin/sh\n{made_by_npm}\nEND",
        f"chmod +x {root / PROGRAM}",
    )
    script = root / "scripts/install-test-tools"
    return subprocess.run(
        [shutil.which("bash") or "bash", str(script)],
        env={"PATH": str(tools)},
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_a_stub_is_not_taken_for_the_cli(tmp_path: Path) -> None:
    """What npm leaves and does not answer is said, and taken away, so that no test runs with it."""
    done = install(tmp_path, STUB)
    assert "no Claude Code CLI" in done.stderr and not (tmp_path / CLI).exists()


@pytest.mark.parametrize("before", [STUB, "echo '0.0.1 (Claude Code)'"])
def test_what_does_not_answer_is_installed_again(tmp_path: Path, before: str) -> None:
    """A CLI that does not answer with its version is removed with all that lies around it, and installed again."""
    program(tmp_path / PROGRAM, before)
    (tmp_path / CLI / "rest").write_text("")
    assert install(tmp_path, RIGHT).stderr == ""
    assert (tmp_path / PROGRAM).exists() and not (tmp_path / CLI / "rest").exists()


def test_what_answers_is_left_as_it_is(tmp_path: Path) -> None:
    """A CLI that answers is not installed twice."""
    program(tmp_path / PROGRAM, RIGHT)
    assert install(tmp_path, STUB).stderr == "" and not (tmp_path / "npm.log").exists()


def test_the_image_for_containers_is_made_once(tmp_path: Path) -> None:
    """An image that is there is used again; one that is made of something else is removed."""
    old = tmp_path / ".cache/docker-image-older.tar"
    program(old, "")
    assert install(tmp_path, RIGHT).stderr == "" and install(tmp_path, RIGHT).stderr == ""
    (image,) = (tmp_path / ".cache").glob("docker-image-*")
    assert image != old and image.read_text() == "image\n"
    assert (tmp_path / "mmdebstrap.log").read_text() == "run\n"
