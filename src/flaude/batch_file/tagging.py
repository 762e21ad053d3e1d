"""Tags for tasks that have none: readable, and no two the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flaude._model.repos import RepoSpec
from flaude._model.tags import slug
from flaude.batch_file.shapes import Section

_LONGEST_PROMPT = 40


def prompt_slug(prompt: str) -> str:
    """The first words of a prompt, as a part of a tag; may be empty."""
    words = slug(next((line for line in prompt.splitlines() if line.strip()), "")[:200])
    if len(words) <= _LONGEST_PROMPT:
        return words
    cut, dash, _ = words[: _LONGEST_PROMPT + 1].rpartition("-")
    return (cut if dash else words[:_LONGEST_PROMPT]).strip("-.")


def task_tag(task: Section) -> str:
    """A tag of what a task says itself: its prompt, its repository, its model."""
    made = ""
    if isinstance(prompt := task.values.get("prompt"), str):
        made = prompt_slug(prompt)
    if not made and task.values.get("repos"):
        made = repo_slug(task.values["repos"][0])
    if not made and isinstance(model := task.values.get("model"), str):
        made = slug(model)
    return made or "task"


def repo_slug(repo: Any) -> str:
    """A repository as a part of a tag: the last part of its address."""
    return slug(repo.url) if isinstance(repo, RepoSpec) else slug(str(repo))


def repo_slugs(repos: Sequence[Any]) -> list[str]:
    """Repositories as parts of tags, with the branch where the same one is there more than once."""
    slugs = [repo_slug(repo) for repo in repos]
    return [
        f"{name}-{slug(repo.branch)}" if slugs.count(name) > 1 and isinstance(repo, RepoSpec) and repo.branch else name
        for name, repo in zip(slugs, repos, strict=True)
    ]
