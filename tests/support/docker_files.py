"""Where `scripts/install-test-tools` has put a Docker daemon and the image for it."""

from __future__ import annotations

import os
from pathlib import Path

_CACHE = Path(__file__).parents[2] / ".cache"
_HOME = _CACHE / "dockerd"

IMAGE = "flaude-test:base"
CLAUDE_IMAGE = "flaude-test:claude"


def search_path() -> str:
    """PATH of the daemon: what was unpacked, then what is installed."""
    own = [str(_HOME / "usr/sbin"), str(_HOME / "usr/bin"), str(_HOME / "sbin")]
    return ":".join([*own, os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def shared_libraries() -> str:
    """Where the unpacked packages have the libraries that are not installed."""
    return ":".join(str(folder) for folder in (*_HOME.glob("lib/*-linux-*"), *_HOME.glob("usr/lib/*-linux-*")))


def image_tar() -> Path | None:
    """The root file system of the image."""
    return next(_CACHE.glob("docker-image-*.tar"), None)


def claude_program(version: str) -> Path | None:
    """The one file that the Claude Code CLI is on this platform."""
    packages = _CACHE / f"claude-code-{version}/node_modules/@anthropic-ai"
    return next(packages.glob("claude-code-linux-*/claude"), None)
