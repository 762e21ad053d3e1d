"""The reference of the command line, made of the command itself when the site is built.

A line `<!-- commands -->` of a page stands for it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from datetime import timedelta
from inspect import Parameter
from typing import Any

from cyclopts import App
from cyclopts.argument import Argument
from sphinx.application import Sphinx

from flaude.cli import application

MARK = "<!-- commands -->"


def commands(app: App | None = None, path: tuple[str, ...] = ("flaude",)) -> Iterator[tuple[tuple[str, ...], App]]:
    """Every command that does something, with the words that call it, in the order of `flaude --help`."""
    app = app or application()
    for name in app:
        command = app[name]
        if name.startswith("-"):
            continue
        if command.default_command is not None:
            yield (*path, name), command
        yield from commands(command, (*path, name))


def arguments(command: App) -> list[Argument]:
    """What a command takes, as its `--help` shows it."""
    found = command.assemble_argument_collection(
        default_parameter=application().default_parameter, parse_docstring=True
    )
    return [one for one in found if one.show]


def markdown() -> str:
    """A section for each command."""
    return "\n".join(_section(path, command) for path, command in commands())


def _section(path: tuple[str, ...], command: App) -> str:
    taken = arguments(command)
    positional = [one for one in taken if one.index is not None]
    words = " ".join((*path, *(_metavar(one) if one.required else f"[{_metavar(one)}]" for one in positional)))
    lines = [f"## {' '.join(path)}", "", "```text", f"{words}{' [OPTIONS]' if len(positional) < len(taken) else ''}"]
    lines += ["```", "", _description(command), ""]
    for one in taken:
        lines += [_names(one), f": {_help(one)}", ""]
    return "\n".join(lines)


def _description(command: App) -> str:
    """What stands in the docstring above the parameters; it is Markdown already."""
    told = inspect.getdoc(command.default_command) or command.help
    return re.split(r"\n(?=Parameters\n-+\n)", told)[0].strip()


def _names(argument: Argument) -> str:
    if argument.index is not None:
        return f"`{_metavar(argument)}`"
    flags = [name for name in argument.names if name not in argument.negatives]
    spelled = ", ".join(f"`{name}`" for name in flags)
    value = "" if argument.hint is bool else f" `{_metavar(argument)}`"
    off = "".join(f", `{name}`" for name in argument.negatives if name.startswith("--no-"))
    return spelled + value + off


def _metavar(argument: Argument) -> str:
    if choices := argument.get_choices():
        return "|".join(choices)
    words = argument.names[0].lstrip("-").upper()
    return f"{words}…" if argument.field_info.kind is Parameter.VAR_POSITIONAL else words


def _help(argument: Argument) -> str:
    told = " ".join((argument.parameter.help or "").split())
    default = argument.field_info.default
    if argument.index is None and not argument.required and default not in (None, False, (), Parameter.empty):
        told += f" Default: {_shown(default)}."
    return told


def _shown(default: Any) -> str:
    if isinstance(default, tuple):
        return ", ".join(map(_shown, default))
    if isinstance(default, timedelta):
        return f"`{default.total_seconds() / 60:g}m`"
    return f"`{default}`"


def _put(app: Sphinx, docname: str, content: list[str]) -> None:  # noqa: ARG001
    if MARK in content[0]:
        content[0] = content[0].replace(MARK, markdown())


def setup(app: Sphinx) -> dict[str, bool]:
    """Register it."""
    app.connect("source-read", _put)
    return {"parallel_read_safe": True}
