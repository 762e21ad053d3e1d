"""What a journal has of a batch, as typed values: for the commands that read, and for the report."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import anyio

from flaude._model.errors import ConfigError, JournalError
from flaude._model.failures import Phase
from flaude._model.settings import ExecutorSettings
from flaude._recovery.file_names import run_folder
from flaude.journal.entries import BatchEntry, RunEntry
from flaude.journal.holder import is_dead
from flaude.journal.protocol import Journal

if TYPE_CHECKING:
    from flaude._model.results import ExecutionResult

_NEAREST = 3
_NAMED = 10


class BatchState(StrEnum):
    """Whether a process runs a batch, and whether all of its runs have ended."""

    RUNNING = "running"
    """A process runs it."""
    LEFT = "left"
    """It has pending runs, and no process runs it any more: `flaude resume` continues it."""
    DETACHED = "detached"
    """No process runs it, on purpose: its machines keep running, and `flaude resume` collects their results."""
    ENDED = "ended"
    """Every run has ended."""


def state_of(batch: BatchEntry, now: datetime) -> BatchState:
    """The state of a batch at a time, in UTC."""
    if batch.holder and batch.held_until and batch.held_until > now and not is_dead(batch.holder):
        return BatchState.RUNNING
    if not batch.counts.open:
        return BatchState.ENDED
    return BatchState.DETACHED if batch.settings.get("detached") else BatchState.LEFT


@dataclass(frozen=True)
class Outcome:
    """What a run came to, in short.

    Attributes:
        kind: Its failure's kind; `None` when it has none.
        message: What went wrong, for people; empty when nothing did.
        phase: Where in its life it was then; `None` when nothing went wrong.
        exit_code: The agent's exit code; `None` when it never ran.
        num_turns: Turns that the agent took, where it said so.
        seconds: How long there were machines for it.
        machine_id: Its machine, the last one; empty when it had none.
        app: The app of that one; empty when an older flaude has written this.
        changed: Number of changed files.
        cost_usd: What its agents have cost, in US dollars; `None` when that is not known.
    """

    kind: str | None = None
    message: str = ""
    phase: str | None = None
    exit_code: int | None = None
    num_turns: int | None = None
    seconds: float | None = None
    machine_id: str = ""
    app: str = ""
    changed: int = 0
    cost_usd: float | None = None


@dataclass(frozen=True)
class RunRecord:
    """A run of a recorded batch; `entry` is what the journal has of it."""

    entry: RunEntry

    @property
    def index(self) -> int:
        """Its place in the batch, from 0."""
        return self.entry.index

    @property
    def tag(self) -> str:
        """The request's tag: any text."""
        return self.entry.tag

    @property
    def is_over(self) -> bool:
        """Whether it has come to its end."""
        return self.entry.success is not None

    @property
    def success(self) -> bool:
        """Whether it has succeeded by now."""
        return bool(self.entry.success)

    @property
    def outcome(self) -> Outcome | None:
        """What it came to; `None` while it is not over. What the journal of another flaude has besides is left out."""
        kept = self.entry.outcome
        if kept is None:
            return None
        return Outcome(**{name: kept[name] for name in Outcome.__dataclass_fields__ if name in kept})

    @property
    def machine_id(self) -> str:
        """Fly's id of its machine, the last one; empty as long as there is none."""
        outcome = self.outcome
        return outcome.machine_id if outcome else str((self.entry.checkpoint or {}).get("machine_id", ""))

    @property
    def app(self) -> str:
        """The Fly app of that machine; empty without one, and where an older flaude has written this."""
        outcome = self.outcome
        return outcome.app if outcome else str((self.entry.checkpoint or {}).get("app", ""))

    def seconds(self, now: datetime) -> float | None:
        """How long there have been machines for it; of one that goes on, since its last attempt began."""
        if outcome := self.outcome:
            return outcome.seconds
        began = (self.entry.checkpoint or {}).get("began_at", {}).get(Phase.CREATE.value)
        return (now - datetime.fromisoformat(began)).total_seconds() if began else None


@dataclass(frozen=True)
class BatchRecord:
    """A batch as it was when it was read.

    Attributes:
        journal: Where it was read from; open as long as more is to be read.
        entry: What the journal has of the whole.
        runs: All of its runs, by their index.
    """

    journal: Journal
    entry: BatchEntry
    runs: tuple[RunRecord, ...]

    @property
    def id(self) -> str:
        """The batch's id."""
        return self.entry.id

    @property
    def settings(self) -> ExecutorSettings:
        """What it keeps to.

        Raises:
            ConfigError: This flaude has no use for a value.
        """
        return ExecutorSettings.load(self.entry.settings)

    @property
    def shards(self) -> int:
        """Over how many apps its machines are spread."""
        return int(self.entry.settings.get("shards", 1))

    @property
    def detached(self) -> bool:
        """Whether it was begun to be left alone."""
        return bool(self.entry.settings.get("detached"))

    @property
    def source(self) -> str:
        """What it was begun from: a batch file's name, or `-p`; empty when a program has."""
        return str(self.entry.settings.get("source", ""))

    def run(self, word: str) -> RunRecord:
        """The run that a person means: by its tag, or by its index as `3` or `#3`.

        Raises:
            ConfigError: There is none, or several have this tag: the message says which there are.
        """
        tagged = [run for run in self.runs if run.tag == word]
        if len(tagged) == 1:
            return tagged[0]
        if tagged:
            raise ConfigError(f"tag {word!r}: runs {_indexes(tagged)} have it; name one by its number")
        if number := re.fullmatch("#?([0-9]{1,9})", word):
            index = int(number[1])
            if index < len(self.runs):
                return self.runs[index]
            raise ConfigError(f"run {word}: batch {self.id} has {len(self.runs)} runs, numbered from 0")
        raise ConfigError(f"tag {word!r}: batch {self.id} has no such run{self._nearest(word)}")

    def _nearest(self, word: str) -> str:
        tags = list(dict.fromkeys(run.tag for run in self.runs if run.tag))
        if near := difflib.get_close_matches(word, tags, _NEAREST):
            return f"; the nearest: {', '.join(map(repr, near))}"
        if tags:
            return f"; there is {', '.join(map(repr, tags[:_NAMED]))}{', …' if len(tags) > _NAMED else ''}"
        return "; its runs have no tags: name one by its number, from 0"

    async def result_json(self, index: int) -> dict[str, Any] | None:
        """The whole result of a run as `flaude._model.codec` has written it; `None` while it is not over.

        Raises:
            JournalError: Its file is missing, or damaged.
        """
        if not self.runs[index].is_over:
            return None
        name = f"{run_folder(index)}/result.json"
        content = await self.journal.get(self.id, name)
        if content is None:
            raise JournalError(f"batch {self.id}: {name} is missing, which had the result of run #{index}")
        try:
            # In a thread, as below: with its patches it may be large.
            text = content.decode("utf-8", "surrogatepass")
            kept = await anyio.to_thread.run_sync(json.loads, text)
        except (ValueError, RecursionError) as error:
            raise JournalError(f"batch {self.id}: {name} is damaged: {error}") from error
        return dict(kept)

    async def result(self, index: int) -> ExecutionResult | None:
        """The whole result of a run; `None` while it is not over.

        Raises:
            JournalError: Its file is missing, or damaged.
        """
        from flaude._model.codec import load_result  # noqa: PLC0415  # with pydantic, which a list of runs does without

        kept = await self.result_json(index)
        try:
            return None if kept is None else await anyio.to_thread.run_sync(load_result, kept)
        except (KeyError, TypeError, ValueError) as error:
            raise JournalError(f"batch {self.id}: the result of run #{index} is damaged: {error}") from error


async def read_batch(journal: Journal, id_: str) -> BatchRecord:
    """A batch with all of its runs.

    Args:
        journal: An open journal.
        id_: The batch's id, how it alone begins, or `last`.

    Raises:
        NoSuchBatchError: There is none, or several begin like that.
        JournalError: It cannot be read.
    """
    entry = await journal.batch(id_)
    return BatchRecord(journal, entry, tuple(RunRecord(run) for run in await journal.runs(entry.id)))


def _indexes(runs: Sequence[RunRecord]) -> str:
    more = f" and {len(runs) - _NAMED} more" if len(runs) > _NAMED else ""
    return ", ".join(str(run.index) for run in runs[:_NAMED]) + more
