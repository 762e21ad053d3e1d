"""The job as it arrives with `start`, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

PROTOCOL = 2


class BadJob(ValueError):
    """The job cannot be run; the message names the field."""


@dataclass(frozen=True)
class Repo:
    """A repository to clone: `ref` is a branch, a tag, a full commit id or empty."""

    url: str
    target_dir: str
    ref: str = ""


@dataclass(frozen=True)
class Git:
    """Credentials for one git host."""

    username: str
    token: str
    host: str


@dataclass(frozen=True)
class Install:
    """What to install with npm when the agent is not in the image.

    `fallback` is a version to install when `version` is a tag such as `latest`, and what it names does not run.
    """

    package: str
    version: str
    fallback: str = ""


@dataclass(frozen=True)
class Limits:
    """Seconds and bytes; 0 switches a clock off.

    `stop_hold_s` counts from the first signal of a machine that is being stopped: by then it ends by itself. Fly kills
    it after the 300 s of its `stop_config`, the most that there is (Fly docs, `kill_timeout`).
    """

    run_s: float = 3600
    idle_s: float = 1800
    orphan_s: float = 600
    orphan_end_s: float = 50
    linger_s: float = 600
    stop_hold_s: float = 240
    grace_s: float = 10
    clone_s: float = 600
    install_s: float = 300
    exit_grace_s: float = 60
    collect_s: float = 120
    max_line_bytes: int = 16 * 1024 * 1024
    max_spool_bytes: int = 512 * 1024 * 1024
    max_patch_bytes: int = 50 * 1024 * 1024
    max_artifact_bytes: int = 200 * 1024 * 1024
    reserve_bytes: int = 0


@dataclass(frozen=True)
class Collect:
    """What is to come back beside the result.

    `artifacts` are globs relative to the working folder; `push_branch` is the branch to push the work to, or empty.
    """

    patches: bool = True
    artifacts: tuple[str, ...] = ()
    transcript: bool = False
    push_branch: str = ""


@dataclass(frozen=True)
class Job:
    """Everything that the controller wants done."""

    job_id: str
    prompt: str = field(repr=False)
    argv: tuple[str, ...] = field(repr=False)
    env: dict[str, str] = field(repr=False)
    secrets: dict[str, str] = field(repr=False)
    repos: tuple[Repo, ...]
    git: Git | None = field(repr=False)
    install: Install | None
    limits: Limits
    collect: Collect

    @property
    def secret_values(self) -> list[str]:
        """What must not leave the machine."""
        return [*self.secrets.values(), *([self.git.token] if self.git else [])]


def parse(value: dict[str, Any]) -> Job:
    """The job that a `start` message holds.

    Raises:
        BadJob: A field is missing or wrong.
    """
    if value.get("protocol") != PROTOCOL:
        raise BadJob(f"protocol: this guest speaks {PROTOCOL}, not {value.get('protocol')!r}")
    argv = value.get("argv")
    if not isinstance(argv, list) or not argv or not all(isinstance(word, str) for word in argv):
        raise BadJob("argv: give a list of words")
    git, install = value.get("git"), value.get("install")
    return Job(
        job_id=_text(value, "job_id"),
        prompt=_text(value, "prompt"),
        argv=tuple(argv),
        env=_texts(value, "env"),
        secrets=_texts(value, "secrets"),
        repos=tuple(_repo(item) for item in value.get("repos") or []),
        git=Git(_text(git, "username"), _text(git, "token"), _text(git, "host")) if git else None,
        install=_install(install) if install else None,
        limits=_limits(value.get("limits") or {}),
        collect=_collect(value.get("collect") or {}),
    )


def _text(value: dict[str, Any], name: str) -> str:
    found = value.get(name)
    if not isinstance(found, str) or not found:
        raise BadJob(f"{name}: missing, or not text")
    return found


def _texts(value: dict[str, Any], name: str) -> dict[str, str]:
    found = value.get(name) or {}
    if not isinstance(found, dict) or not all(isinstance(item, str) for pair in found.items() for item in pair):
        raise BadJob(f"{name}: give names and texts")
    return found


def _install(value: dict[str, Any]) -> Install:
    return Install(_text(value, "package"), _text(value, "version"), value.get("fallback") or "")


def _repo(value: dict[str, Any]) -> Repo:
    repo = Repo(_text(value, "url"), _text(value, "target_dir"), value.get("ref") or "")
    if repo.target_dir.startswith("/") or ".." in repo.target_dir.split("/"):
        raise BadJob("repos.target_dir: lies outside the workspace")
    if repo.url.startswith("-") or repo.ref.startswith("-"):
        raise BadJob("repos: no URL or ref begins with a dash")
    return repo


def _collect(value: dict[str, Any]) -> Collect:
    globs = value.get("artifacts") or []
    if not isinstance(globs, list) or not all(isinstance(glob, str) and glob for glob in globs):
        raise BadJob("collect.artifacts: give a list of globs")
    for glob in globs:
        if glob.startswith("/") or ".." in glob.split("/"):
            raise BadJob("collect.artifacts: a glob leads out of the working folder")
    branch = value.get("push_branch") or ""
    if not isinstance(branch, str) or branch.startswith("-"):
        raise BadJob("collect.push_branch: no branch's name")
    return Collect(bool(value.get("patches", True)), tuple(globs), bool(value.get("transcript")), branch)


def _limits(value: dict[str, Any]) -> Limits:
    known = {item.name for item in fields(Limits)}
    given = {name: number or 0 for name, number in value.items() if name in known}
    for name, number in given.items():
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number < math.inf:
            raise BadJob(f"limits.{name}: give a number from 0")
    return Limits(**given)
