"""The baseline: each repository as it was cloned, kept where the agent can read it and not change it.

Collecting compares with it, so that nothing that happens to the clone's own `.git` costs the agent's work. It shares
the clone's objects by hard links, and so costs no copying; where folders are no places on one file system, it copies.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..agent.command import Command, run
from ..agent.user import User
from ..layout import Layout

_SMALL_FILES = ("config", "shallow", "index")


def place(layout: Layout, number: int) -> Path:
    """Where the baseline of the job's repository of that number is."""
    return layout.opt / "repos" / f"{number}.git"


async def keep(clone: Path, head: str, path: Path, layout: Layout, user: User, environment: Mapping[str, str]) -> None:
    """Make the baseline of a fresh clone, before anything else can have touched that.

    Args:
        clone: The working tree; its `.git` is a folder.
        head: The commit that is checked out.
        path: Where the baseline is to be.
        layout: Where everything is.
        user: The agent's user, who owns the clone.
        environment: For git.

    Raises:
        OSError: There is no room for it, or the clone is not what git makes.
    """
    source = clone / ".git"
    path.mkdir(parents=True)
    (path / "refs").mkdir()
    for name in _SMALL_FILES:
        # With its times: git takes a file for unchanged by comparing them with the index's own.
        if (source / name).exists():
            shutil.copy2(source / name, path / name)
    if any(source.glob("sharedindex.*")):  # half of the index is in there: git makes a new one
        (path / "index").unlink()
    (path / "HEAD").write_text(head + "\n")
    git = ("git", "-C", str(clone))
    refs = await run([*git, "for-each-ref", "--format=%(objectname) %(refname)"], user=user, environment=environment)
    _check(refs)
    (path / "packed-refs").write_bytes(refs.stdout)
    # Whatever format the clone keeps its refs in, ours is the file above.
    argv = ["git", "config", "--file", str(path / "config"), "--unset-all", "extensions.refStorage"]
    await run(argv, environment=environment)
    for file in _objects(source / "objects"):
        await _share(file, path / "objects" / file.relative_to(source / "objects"), layout, environment)
    for file in (*path.iterdir(), path):
        if layout.owns_machine:
            os.chown(file, 0, 0)
        file.chmod(0o755 if file.is_dir() else 0o644)


def _objects(folder: Path) -> Iterator[Path]:
    """Packs and single objects; not what is derived from them and may change."""
    for part in sorted(folder.iterdir()):
        if part.name == "pack" or len(part.name) == len("00"):
            yield from (file for file in sorted(part.iterdir()) if file.is_file() and not file.name.startswith("tmp_"))


async def _share(file: Path, target: Path, layout: Layout, environment: Mapping[str, str]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, target)
    except OSError:
        # As a process: a pack may have gigabytes, and nobody else would be served meanwhile.
        _check(await run(["cp", str(file), str(target)], environment=environment))
    if layout.owns_machine:  # from now on the agent can remove its own name of it, and change nothing in it
        os.chown(target, 0, 0)
        target.chmod(0o444)


def _check(done: Command) -> None:
    if done.code:
        raise OSError(done.stderr.decode("utf-8", "replace").strip()[-4000:])
