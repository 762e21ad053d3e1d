"""Events as lines of text for people."""

from __future__ import annotations

from flaude.events import (
    AssistantText,
    Event,
    Notice,
    OtherOutput,
    RateLimited,
    Skipped,
    StderrOutput,
    ToolResult,
    ToolUse,
)

_LONGEST_LINE = 200


def lines_of(event: Event, *, include_stderr: bool) -> list[str]:
    """An event as lines for people; none for most."""
    match event:
        case AssistantText(text=text):
            return text.splitlines()
        case ToolUse(name=name, input=used):
            return [f"[{name}] {_first_line(str(next(iter(used.values()), '')))}"]
        case ToolResult(text=text, is_error=True):
            return [f"[error] {_first_line(text)}"]
        case OtherOutput(line=str() as line):
            return [line]
        case StderrOutput(text=text) if include_stderr:
            return [text]
        case Notice(text=text):
            return [f"[flaude] {text}"]
        case RateLimited(status=status):
            return [f"[flaude] Claude's API limits the account: {status}"]
        case Skipped(count=count):
            return [f"[flaude] {count} events left out: they came faster than they were read"]
        case _:
            return []


def _first_line(text: str) -> str:
    first, *more = text.splitlines() or [""]
    return first[:_LONGEST_LINE] + ("…" if more or len(first) > _LONGEST_LINE else "")
