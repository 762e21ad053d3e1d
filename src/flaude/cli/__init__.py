"""The command `flaude`."""

from __future__ import annotations

import os
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
app.command("flaude.cli.run:run", help="Run a batch, from a file or from a prompt, and bring its work home.")
app.command("flaude.cli.resume:resume", help="Go on with a batch whose command was killed, interrupted or detached.")
app.command("flaude.cli.retry:retry", help="Run the requests of a batch once more, as a new batch.")
app.command("flaude.cli.cancel:cancel", help="Stop a batch, or one run of it, and bring home what was done.")
app.command("flaude.cli.ps:ps", help="List the batches of the journal.")
app.command("flaude.cli.status:status", help="Show how far a batch is, run by run.")
app.command("flaude.cli.logs:logs", help="Print what the agent of a run has printed; -f goes on until it is over.")
app.command("flaude.cli.results:results", help="Show what the runs of a batch have brought.")
app.command("flaude.cli.patch:patch", help="Print the patch of a run, for `git apply`.")
app.command("flaude.cli.doctor:doctor", help="Look whether everything is there that flaude needs, and say what to do.")
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
    except BrokenPipeError:
        # Who read our output has gone, and Python would still write the rest of it when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        print("flaude: interrupted", file=sys.stderr)
        sys.exit(130)
    except FlaudeError as error:
        print(f"flaude: {error}", file=sys.stderr)
        sys.exit(2)
