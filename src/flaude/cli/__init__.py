"""The command `flaude`."""

from __future__ import annotations

import sys

from cyclopts import App

from flaude._version import __version__
from flaude.errors import FlaudeError

app = App(
    name="flaude",
    help="Run many Claude Code prompts at once, each alone in its own throw-away Fly.io machine.",
    version=__version__,
)
local = App(name="local", help="The embedded stand-in of Fly's Machines API.")
app.command(local)
# By path: a command's module is imported when the command is called, and not before.
app.command(
    "flaude.cli.demo:demo",
    help="Run four prompts on four local machines, three at a time; no token, no node and no network needed.",
)
app.command(
    "flaude.cli.reap:reap",
    help="Destroy machines of flaude that no living controller owns.",
)
app.command(
    "flaude.cli.report:report",
    help="Write one HTML file that shows a batch: its sums, its timeline, and all of each run.",
)
local.command(
    "flaude.cli.serve:serve",
    help="Serve the Machines API on 127.0.0.1; machines are local processes that outlive their client.",
)


def main() -> None:
    """Run the command line.

    Exit code 0 is success, 1 that something failed, 2 wrong input, 130 SIGINT and 143 SIGTERM.
    """
    try:
        app()
    except KeyboardInterrupt:
        print("flaude: interrupted", file=sys.stderr)
        sys.exit(130)
    except FlaudeError as error:
        print(f"flaude: {error}", file=sys.stderr)
        sys.exit(2)
