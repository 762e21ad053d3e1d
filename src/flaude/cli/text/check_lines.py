"""How a check of `doctor` is printed."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from flaude.cli.checks.this_computer import Check, Verdict
from flaude.cli.text.printable import printable

_MARKS = {Verdict.RIGHT: ("ok", "green"), Verdict.WRONG: ("wrong", "bold red"), Verdict.NOTE: ("note", "yellow")}


def print_check(console: Console, check: Check) -> None:
    """One line, and what to do in the next."""
    mark, style = _MARKS[check.verdict]
    console.print(Text.assemble((f"{mark:<7}", style), (f"{check.name:<20}", "bold"), printable(check.found)))
    if check.fix:
        console.print(Text(f"{'':<27}{printable(check.fix)}", "dim"))
