"""The command `flaude`."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection

from cyclopts import App, Group, Parameter

from flaude._model.errors import FlaudeError
from flaude._version import __version__

_RUNNING = Group("Run", sort_key=1)
_READING = Group("Look", sort_key=2)
_FILES = Group("Batch files", sort_key=3)
_MACHINES = Group("Machines and this computer", sort_key=4)

# By path: a command's module is imported when the command is called, and not before.
_COMMANDS = {
    "run": (_RUNNING, "Run a batch, from a file or from a prompt, and bring its work home."),
    "resume": (_RUNNING, "Go on with a batch whose command was killed or detached."),
    "retry": (_RUNNING, "Run the requests of a batch once more, as a new batch."),
    "cancel": (_RUNNING, "Stop a batch, or one run of it, and bring home what was done."),
    "demo": (_RUNNING, "Run four prompts on four local machines: no token, no node and no network needed."),
    "ps": (_READING, "List the batches of the journal."),
    "status": (_READING, "Show how far a batch is, run by run."),
    "logs": (_READING, "Print what the agent of a run has printed; -f goes on until it is over."),
    "results": (_READING, "Show what the runs of a batch have brought."),
    "patch": (_READING, "Print the patch of a run, for `git apply`."),
    "report": (_READING, "Write a batch as one HTML page that needs no other file."),
    "check": (_FILES, "Check a batch file, and print what it would run and what that could cost; nothing is made."),
    "schema": (_FILES, "Print the JSON Schema of batch files, for editors."),
    "reap": (_MACHINES, "Destroy machines of flaude that no living controller owns."),
    "doctor": (_MACHINES, "Look whether everything is there that flaude needs, and say what to do."),
    "completion": (_MACHINES, "Print the completion script of a shell."),
}
_FAMILIES = {
    "app": (
        "The Fly app that the machines live in.",
        {
            "create": "Make a Fly app; one that is there already is fine.",
            "remove-shards": "Remove the apps beside it that batches were spread over.",
        },
    ),
    "local": (
        "The embedded stand-in of Fly's Machines API.",
        {"serve": "Serve the Machines API on 127.0.0.1; machines are local processes that outlive their client."},
    ),
}


def application(called: Collection[str] = ()) -> App:
    """The command line as a cyclopts `App`.

    Args:
        called: Commands whose own help is wanted: it is in their modules, which are only imported then. Of the others
            there is a line.
    """
    app = App(
        name="flaude",
        help="Run many Claude Code prompts at once, each alone in its own throw-away Fly.io machine.\n\n"
        "Begin with `flaude demo`, then `flaude doctor`. Commands have examples in their own --help.",
        version=__version__,
        version_flags=["--version"],
        default_parameter=Parameter(negative=(), show_default=_default),
        suppress_keyboard_interrupt=False,  # `main` says it
        help_format="plaintext",  # what reads Markdown would be a third of the time that this help takes
    )
    for order, (name, (group, line)) in enumerate(_COMMANDS.items()):
        help_ = None if name in called else line
        path = f"flaude.cli.commands.{name}:{name}"
        app.command(path, help=help_, help_format="markdown", group=group, sort_key=order)
    for name, (line, members) in _FAMILIES.items():
        family = App(name=name, help=line, group=_MACHINES)
        for member, what in members.items():
            module, help_ = member.replace("-", "_"), None if member in called else what
            path = f"flaude.cli.commands.{module}:{module}"
            family.command(path, name=member, help=help_, help_format="markdown")
        app.command(family)
    return app


def _default(value: object) -> str | None:
    return None if value in (None, (), False) else str(value)


def main() -> None:
    """Run the command line.

    Exit code: 0 all succeeded, 1 something failed, 2 bad input, 3 leftovers (machines whose end Fly has not confirmed),
    130 interrupted (Ctrl-C), 143 terminated (SIGTERM).
    """
    try:
        application(sys.argv[1:3])()
    except BrokenPipeError:
        # Who read our output has gone, and Python would still write the rest of it when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        print("flaude: interrupted", file=sys.stderr)
        sys.exit(130)
    except FlaudeError as error:
        # The problems of a file are lines of their own, which editors can follow.
        print(error if hasattr(error, "problems") else f"flaude: {error}", file=sys.stderr)
        sys.exit(2)
