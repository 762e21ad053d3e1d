"""Descriptions of fields, from where they are written: the `Attributes` of their class."""

from __future__ import annotations

import inspect
import re


def attributes(of: type) -> dict[str, str]:
    """What the docstring of a class says about each of its attributes, on one line; nothing under `python -OO`."""
    _, _, section = inspect.cleandoc(of.__doc__ or "").partition("\nAttributes:\n")
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if not line.startswith("    "):
            break
        if begins := re.match(r"    (\w+): (.*)", line):
            name = begins[1]
            found[name] = begins[2]
        elif name:
            found[name] += f" {line.strip()}"
    return found
