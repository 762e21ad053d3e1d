"""`RepoSpec`: which repository to clone, at which commit, into which folder of the workspace."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from flaude._model.errors import ConfigError

_SCP_LIKE = re.compile(r"^[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:(?P<path>[^\s]+)$")
_SCHEMES = ("https", "http", "ssh", "git", "file")


@dataclass(frozen=True)
class RepoSpec:
    """A repository to clone into the machine's workspace.

    Args:
        url: `https://`, `http://`, `ssh://`, `git://` or `file://`, or git's `user@host:path`. No password in it: that
            is what `MachineConfig.github_token` is for.
        branch: Branch, tag or full commit id; empty for the remote's default branch.
        target_dir: Folder below the workspace; empty for the repository's own name.

    Raises:
        ConfigError: One of the fields is not usable; the message names it.
    """

    url: str
    branch: str = ""
    target_dir: str = ""

    def __post_init__(self) -> None:
        """Check every field."""
        if not isinstance(self.url, str) or not self.url.strip():
            raise ConfigError("repos.url: empty; give the repository's address")
        _check_url(self.url)
        if not is_ref(self.branch):
            raise ConfigError(f"repos.branch: {self.branch!r} is not a branch, tag or commit id")
        path = PurePosixPath(self.folder)
        if path.is_absolute() or ".." in path.parts or "\\" in self.folder or "\0" in self.folder:
            raise ConfigError(f"repos.target_dir: {self.folder!r} lies outside the workspace; give a relative folder")
        if str(path) in {".", ".git"} or self.folder.startswith("-"):
            raise ConfigError(f"repos.target_dir: {self.folder!r} is not a folder's name; give another target_dir")

    @property
    def folder(self) -> str:
        """The folder below the workspace, which is `target_dir` or the last part of the URL without `.git`."""
        if self.target_dir:
            return self.target_dir.rstrip("/") or self.target_dir
        path = self.url.rstrip("/").removesuffix("/.git").removesuffix(".git")
        return re.split(r"[/:]", path)[-1]


def is_ref(name: str) -> bool:
    """Whether git could take it for a branch, a tag or a commit id."""
    # git would read a leading dash as an option; the rest are git's own rules for a reference.
    return not name.startswith("-") and not re.search(r"[\s~^:?*\[\\\x00-\x1f\x7f]|\.\.|@\{|//|/\.", name)


def is_branch(name: str) -> bool:
    """Whether git takes it for the name of a branch (git-check-ref-format), and nobody for anything else."""
    parts = name.split("/")
    odd = any(part.startswith(".") or part.endswith((".lock", ".")) or not part for part in parts)
    return is_ref(name) and not odd and name not in ("@", "HEAD") and parts[0] != "refs" and not re.search("[{}]", name)


def _check_url(url: str) -> None:
    if _SCP_LIKE.match(url):
        return
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigError("repos.url: not a valid address") from None
    # The password must not be shown, so neither is the URL.
    if parts.password or (parts.username and parts.scheme in {"http", "https"}):
        raise ConfigError("repos.url: holds credentials; remove them and use github_token")
    if parts.scheme not in _SCHEMES or not (parts.netloc or parts.scheme == "file") or not parts.path.strip("/"):
        raise ConfigError(f"repos.url: {url!r} is not a repository's address such as https://github.com/org/repo")
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ConfigError(f"repos.url: {url!r} has white space in it")


def as_repo_specs(repos: Iterable[object] | str) -> tuple[RepoSpec, ...]:
    """Strings become `RepoSpec`s, and no two may meet in one folder.

    Raises:
        ConfigError: An entry is neither, or two would land in one folder or one inside the other.
    """
    if isinstance(repos, str):
        raise ConfigError("repos: give a list of repositories, not a single string")
    specs: list[RepoSpec] = []
    for index, repo in enumerate(repos):
        if isinstance(repo, RepoSpec):
            specs.append(repo)
        elif isinstance(repo, str):
            specs.append(RepoSpec(repo))
        elif isinstance(repo, dict):
            try:
                specs.append(RepoSpec(**repo))
            except TypeError:
                raise ConfigError(f"repos[{index}]: only url, branch and target_dir may be given") from None
        else:
            raise ConfigError(f"repos[{index}]: give a URL or a RepoSpec, not {type(repo).__name__}")
    _check_folders(specs)
    return tuple(specs)


def _check_folders(specs: Sequence[RepoSpec]) -> None:
    for index, spec in enumerate(specs):
        ours = PurePosixPath(spec.folder)
        for other in specs[:index]:
            theirs = PurePosixPath(other.folder)
            if ours.is_relative_to(theirs) or theirs.is_relative_to(ours):
                raise ConfigError(
                    f"repos[{index}].target_dir: {spec.url} and {other.url} would both land in "
                    f"{theirs if ours.is_relative_to(theirs) else ours}; give one of them another target_dir"
                )
