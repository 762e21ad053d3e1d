"""From a line of the agent's output to the events that tell of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flaude._agent import output
from flaude._agent.limits import resets_at
from flaude._model.json_values import as_object
from flaude.events import AssistantText, Event, OtherOutput, RateLimited, ToolResult, ToolUse


@dataclass(frozen=True)
class EventContext:
    """What every `Event` says of its run."""

    batch: str
    index: int
    tag: str
    at: datetime
    machine_id: str

    @property
    def header(self) -> tuple[str, int, str, datetime, str]:
        """The first arguments of every kind of `Event`."""
        return self.batch, self.index, self.tag, self.at, self.machine_id


def output_events(context: EventContext, text: str, clean: Callable[[Any], Any]) -> Iterator[Event]:
    """The events of one line of stdout: one for each block of a message, one for any other line.

    Args:
        context: Of which run.
        text: The line.
        clean: Takes secrets out of what the line says: it may have been written in another way than it is read.
    """
    value = clean(as_object(text))
    if value is None:
        yield OtherOutput(*context.header, text)
        return
    match output.typed(value):
        case output.MessageLine(blocks=blocks):
            for block in blocks:
                yield _of_block(context, block)
        case output.RateLimitLine(info=info) if (status := str(info.get("status", ""))) != "allowed":
            resets = resets_at(info)
            yield RateLimited(*context.header, status, None if resets is None else datetime.fromtimestamp(resets, UTC))
        case _:
            yield OtherOutput(*context.header, value)


def _of_block(context: EventContext, block: output.Block) -> Event:
    match block:
        case output.TextBlock(text=text):
            return AssistantText(*context.header, text)
        case output.ToolUseBlock(id=id_, name=name, input=used):
            return ToolUse(*context.header, id_, name, used)
        case output.ToolResultBlock(tool_use_id=id_, text=text, is_error=failed):
            return ToolResult(*context.header, id_, text, failed)
