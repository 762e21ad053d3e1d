"""Which files of a tree some globs name, decided folder by folder. Pure.

A glob is a path whose parts are patterns as `fnmatch` has them; `**` is any number of folders. What is below a folder
that matches is named too. Wildcards do not match `.git`, nor does what is named with its folder include one.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable

Glob = tuple[str, ...]
State = frozenset[Glob]
"""What the path from here on must match: the rests of the globs whose beginning has matched."""

_ANY = "**"
EVERYTHING: State = frozenset({(_ANY,)})
_GIT = ".git"


def parse(globs: Iterable[str]) -> State:
    """The state at the top of the tree."""
    found = (tuple(part for part in glob.split("/") if part not in ("", ".")) for glob in globs)
    return frozenset(glob or (_ANY,) for glob in found)


def step(state: State, name: str) -> tuple[bool, State]:
    """Whether what has this name matches, and, if it is a folder, the state inside; an empty one when nothing there is.

    Args:
        state: The state of the folder that it is in.
        name: Its name there.
    """
    matches, inside = False, set()
    for head, *rest in _with_no_folder(state):
        if head == _ANY:
            if name != _GIT:
                inside.add((_ANY, *rest))
                matches = matches or not rest
        elif _fits(head, name):
            if rest:
                inside.add(tuple(rest))
            else:
                matches = True
                inside |= EVERYTHING
    return matches, frozenset(inside)


def _with_no_folder(state: State) -> set[Glob]:
    """The same, and with each `**` that a glob begins with left out."""
    found = set(state)
    for glob in state:
        rest = glob
        while len(rest) > 1 and rest[0] == _ANY:
            rest = rest[1:]
            found.add(rest)
    return found


def _fits(pattern: str, name: str) -> bool:
    if not any(letter in pattern for letter in "*?["):
        return pattern == name
    return name != _GIT and fnmatch.fnmatchcase(name, pattern)
