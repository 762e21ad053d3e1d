"""What an agent did, in a few words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flaude.cli.text.one_line import one_line
from flaude.events import AssistantText, Event, Notice, OtherOutput, RateLimited, ToolResult, ToolUse

_ENOUGH = 2000  # characters of a text that may be megabytes long
_TELLING = ("command", "file_path", "notebook_path", "pattern", "path", "url", "query", "description", "prompt")


def action_of(event: Event) -> str:
    """The event as a short line for people; empty for those that say nothing of what is done."""
    match event:
        case AssistantText(text=text) | Notice(text=text) | OtherOutput(line=str() as text):
            return one_line(text)
        case ToolUse(name=name, input=used):
            what = _what_for(used)
            return one_line(f"{name[:_ENOUGH]}: {what[:_ENOUGH]}" if what else name)
        case ToolResult(text=text, is_error=True):
            return one_line(f"error: {text[:_ENOUGH]}")
        case RateLimited(status=status, resets_at=resets_at):
            until = f" until {resets_at.astimezone():%H:%M}" if resets_at else ""
            return one_line(f"Claude's API limits the account: {status}{until}")
        case OtherOutput(line={"type": "system", "subtype": "api_retry", "attempt": int() as attempt}):
            return f"Claude's API does not answer: attempt {attempt}"
        case _:
            return ""


def _what_for(used: Mapping[str, Any]) -> str:
    texts = (used.get(name) for name in (*_TELLING, *used))
    return next((text for text in texts if isinstance(text, str) and text.strip()), "")
