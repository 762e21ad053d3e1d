"""The image that is offered: nobody here builds it, so what it must say is looked at."""

from __future__ import annotations

import re
import subprocess

import pytest
from tests.support.snippets import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
LINES = [line for line in DOCKERFILE.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]


def test_its_claude_code_is_the_tested_one() -> None:
    """The pinned version is the one that the tests run."""
    tools = (ROOT / "scripts" / "install-test-tools").read_text()
    (line,) = re.findall(r"^claude_version=.*$", tools, re.MULTILINE)
    # It may be computed there.
    script = f'{line}; printf %s "$claude_version"'
    tested = subprocess.run(["bash", "-c", script], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert re.fullmatch(r"\d+\.\d+\.\d+", tested)
    assert re.findall(r"^ARG CLAUDE_CODE_VERSION=(\S+)$", DOCKERFILE, re.MULTILINE) == [tested]


def test_it_is_for_flys_machines() -> None:
    """It is built for linux/amd64 on any computer, as root, and on nothing else."""
    assert [line for line in LINES if line.startswith("FROM")] == ["FROM --platform=linux/amd64 node:22-bookworm-slim"]
    assert not re.search(r"^\s*USER\b", DOCKERFILE, re.MULTILINE | re.IGNORECASE)


@pytest.mark.parametrize("checked", ["claude --version", "git --version", "sys.version_info < (3, 9)"])
def test_what_must_answer_in_the_build(checked: str) -> None:
    """Where a program is missing or is a stub, the build fails, and not the machines."""
    assert any(checked in line and line.startswith("RUN ") for line in LINES)


def test_the_image_is_built_and_pushed_as_the_docs_say() -> None:
    """Where an image is built the platform is named, and the login comes right before the push."""
    for name in ("Dockerfile", "docs/fly.md"):
        text = (ROOT / name).read_text()
        builds = re.findall(r"^[# ]*(docker build .*)$", text, re.MULTILINE)
        assert builds and all("--platform linux/amd64" in line for line in builds), name
        assert re.search(r"fly auth docker( && |\n)docker push registry\.fly\.io/my-app:claude", text), name
        assert re.search(r"image: registry\.fly\.io/my-app@sha256:", text), name
