"""`flaude patch`: the work of a run, as `git apply` takes it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from flaude._model.errors import ConfigError
from flaude._model.run_result import RepoResult
from flaude._model.tags import slug
from flaude.cli.journals import recorded
from flaude.cli.text.amounts import count
from flaude.cli.text.one_line import one_line
from flaude.cli.view import consoles


async def patch(batch: str, tag: str, /, *, repo: str | None = None) -> int:
    """Print the patch of a run as it stands, for `git apply`; exit code 1 when there is none.

        flaude patch last auth-review | git apply --3way
        flaude patch 3f2a 0 --repo api > api.patch

    Parameters
    ----------
    batch
        The batch's id, how it alone begins, or `last`.
    tag
        The run's tag, or its number from 0.
    repo
        Which repository's, where there are several: its name, or its number from 0.
    """
    talk = consoles.for_talk()
    async with recorded(batch) as found:
        run = found.run(tag)
        result = await found.result(run.index)
    name = f"run #{run.index}" + (f" ({one_line(run.tag, 80)})" if run.tag else "")
    if result is None:
        talk.print(f"flaude: {name} is not over yet; its patch comes with its end")
        return 1
    patches = result.run_result.patches if result.run_result else ()
    chosen = choose(patches, repo)
    if chosen is not None and chosen.error:
        talk.print(f"flaude: {name}: the patch is not whole: {one_line(chosen.error, 500)}")
    if chosen is not None and chosen.omitted:
        paths = ", ".join(f"{one_line(one.path)} ({one_line(one.reason)})" for one in chosen.omitted)
        talk.print(f"flaude: {name}: {count(len(chosen.omitted), 'file')} not in the patch: {paths}")
    if chosen is None or not chosen.diff:
        talk.print(f"flaude: {name} has changed nothing{f' in {_name(chosen)}' if chosen and repo else ''}")
        return 1
    sys.stdout.buffer.write(chosen.diff)
    sys.stdout.buffer.flush()
    return 0


def choose(patches: Sequence[RepoResult], word: str | None) -> RepoResult | None:
    """The repository that is meant: by its name or number, or as the only one, or the only one that has changed.

    Raises:
        ConfigError: There is no such repository, or several have changed and none is named.
    """
    if word is None:
        changed = [patch for patch in patches if patch.diff or patch.error]
        if len(changed) > 1:
            raise ConfigError(f"--repo: several repositories have changed, give one: {_listed(patches, changed)}")
        return changed[0] if changed else next(iter(patches), None)
    named = [patch for patch in patches if word in (_name(patch), patch.path, patch.url, slug(patch.url))]
    if not named and word.isascii() and word.isdecimal() and int(word) < len(patches):
        named = [patches[int(word)]]
    if len(named) != 1:
        problem = "several repositories have that name" if named else "no such repository"
        raise ConfigError(f"--repo {word!r}: {problem}; there is {_listed(patches, named or patches) or 'none'}")
    return named[0]


def _name(patch: RepoResult) -> str:
    return patch.path.rstrip("/").rpartition("/")[2]


def _listed(patches: Sequence[RepoResult], some: Sequence[RepoResult]) -> str:
    return ", ".join(
        f"{number} ({one_line(_name(patch))})"
        for number, patch in enumerate(patches)
        if any(patch is one for one in some)
    )
