"""A process that writes to a journal until it is killed; each line on stdin begins one, which is told by its number.

Started once for a test: each writer is a fork of it, which costs a hundredth of a new Python.
"""

from __future__ import annotations

import os
import sys
from itertools import count
from pathlib import Path

import anyio
from tests.support.journal_helpers import BEGAN, batch_entry, run_entries

from flaude.journal import CheckpointNote, EventNote, Note, SqliteJournal
from flaude.journal.holder import is_dead, this_process

EVENTS_OF_A_WRITE = 3


async def write(folder: Path) -> None:
    """Write for ever; a line for what is surely kept, each after `write` has returned."""
    async with SqliteJournal(folder) as journal:
        me = this_process()
        if await journal.batches():
            await journal.hold("b1", me, 3600, is_dead=is_dead)
        else:
            await journal.add(batch_entry(), run_entries(1), me, 3600)
        for number in count():
            data = {"pid": os.getpid(), "number": number, "text": "x" * (number * 997 % 6000)}
            notes: list[Note] = [EventNote(0, BEGAN, "notice", data)] * EVENTS_OF_A_WRITE
            await journal.write("b1", me.owner, [*notes, CheckpointNote(0, "agent", {"number": number})])
            _say(number)


def _say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def main() -> None:
    """Fork a writer for each line."""
    for _ in sys.stdin:
        pid = os.fork()
        if not pid:
            anyio.run(write, Path(sys.argv[1]))
        _say(pid)
        os.waitpid(pid, 0)
        _say("ended")


if __name__ == "__main__":
    main()
