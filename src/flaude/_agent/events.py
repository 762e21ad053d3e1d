"""From a line of the agent's output to the events that tell of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeAlias

from flaude._agent import output
from flaude._agent.limits import resets_at
from flaude._model.json_values import as_object
from flaude.events import AssistantText, Event, OtherOutput, RateLimited, ToolResult, ToolUse

Where: TypeAlias = tuple[str, int, str, datetime, str]
"""The fields of every `Event`: batch, index, tag, time and machine."""


def output_events(where: Where, text: str, clean: Callable[[Any], Any]) -> Iterator[Event]:
    """The events of one line of stdout: one for each block of a message, one for any other line.

    Args:
        where: Of which run.
        text: The line.
        clean: Takes secrets out of what the line says: it may have been written in another way than it is read.
    """
    value = clean(as_object(text))
    if value is None:
        yield OtherOutput(*where, text)
        return
    match output.typed(value):
        case output.MessageLine(blocks=blocks):
            for block in blocks:
                yield _of_block(where, block)
        case output.RateLimitLine(info=info) if (status := str(info.get("status", ""))) != "allowed":
            resets = resets_at(info)
            yield RateLimited(*where, status, None if resets is None else datetime.fromtimestamp(resets, UTC))
        case _:
            yield OtherOutput(*where, value)


def _of_block(where: Where, block: output.Block) -> Event:
    match block:
        case output.TextBlock(text=text):
            return AssistantText(*where, text)
        case output.ToolUseBlock(id=id_, name=name, input=used):
            return ToolUse(*where, id_, name, used)
        case output.ToolResultBlock(tool_use_id=id_, text=text, is_error=failed):
            return ToolResult(*where, id_, text, failed)
