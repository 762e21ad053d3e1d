"""What happened in a run, step by step, and no more of it than fits. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, TypeAlias

from flaude.events import (
    AssistantText,
    Booted,
    Collecting,
    Created,
    Creating,
    Destroyed,
    Destroying,
    Detached,
    Event,
    Notice,
    OtherOutput,
    Queued,
    RateLimited,
    Resumed,
    Retried,
    Skipped,
    Started,
    StderrOutput,
    StopRequested,
    ToolResult,
    ToolUse,
)
from flaude.report.limits import Limits
from flaude.report.text import Cut, cut, unix
from flaude.report.units import duration, moment

Kind = Literal["said", "tool", "output", "stderr", "note", "trouble", "phase"]

_OVERHEAD = 250
"""Characters of HTML around a step."""

_FROM_THE_BEGINNING = 0.6
_ONE_LINE = 120
_FIELDS = 50
"""Fields of a tool's input; no tool of Claude Code's has a third of that."""


@dataclass(frozen=True)
class Raw:
    """A step as it is.

    Attributes:
        kind: What it is.
        at: When.
        text: What is said, printed or told; for a tool its name.
        input: What a tool takes.
        answer: What it answers; `None` when it did not.
        failed: Whether its answer is an error.
    """

    kind: Kind
    at: datetime
    text: str
    input: Mapping[str, Any] | None = None
    answer: str | None = None
    failed: bool = False


@dataclass(frozen=True)
class Step:
    """A step as it is shown.

    Attributes:
        kind: What it is.
        after: How long after the beginning of the run.
        text: See `Raw`.
        brief: What a tool is used for, in a line.
        fields: All that it takes, by name.
        answer: See `Raw`.
        failed: See `Raw`.
    """

    kind: Kind
    after: str
    text: Cut
    brief: str = ""
    fields: tuple[tuple[str, Cut], ...] = ()
    answer: Cut | None = None
    failed: bool = False

    @property
    def size(self) -> int:
        """Characters of HTML that it takes."""
        cuts = [self.text, *(value for _, value in self.fields), *([self.answer] if self.answer is not None else [])]
        return _OVERHEAD + sum(len(one.html) for one in cuts) + len(self.brief)


@dataclass(frozen=True)
class Transcript:
    """The steps of a run, as far as they are shown.

    Attributes:
        beginning: The first ones.
        left_out: How many after these are not shown.
        end: The last ones.
        total: How many there are.
    """

    beginning: tuple[Step, ...]
    left_out: int
    end: tuple[Step, ...]
    total: int

    @property
    def size(self) -> int:
        """Characters of HTML that it takes."""
        return sum(step.size for step in (*self.beginning, *self.end))


def transcript_of(events: Sequence[Event], limits: Limits, most: int) -> Transcript:
    """The transcript for the page.

    Args:
        events: The run's events.
        limits: What one text may take.
        most: What all may take, in characters of HTML: the first steps and the last ones.
    """
    raw = steps_of(events)
    beginning, used = list[Step](), 0
    for one in raw:
        step = _shown(one, raw[0].at, limits.words)
        if used + step.size > most * _FROM_THE_BEGINNING:
            break
        used += step.size
        beginning.append(step)
    end = list[Step]()
    for one in reversed(raw[len(beginning) :]):
        step = _shown(one, raw[0].at, limits.words)
        if used + step.size > most:
            break
        used += step.size
        end.append(step)
    left_out = len(raw) - len(beginning) - len(end)
    return Transcript(tuple(beginning), left_out, tuple(reversed(end)), len(raw))


def steps_of(events: Sequence[Event]) -> list[Raw]:
    """The steps of a run: a tool's answer belongs to its use, and lines of output that follow each other are one."""
    steps, lines, uses = list[Raw](), list[list[str]](), dict[str, int]()
    for event in events:
        if isinstance(event, ToolUse):
            uses[event.id] = len(steps)
        elif isinstance(event, ToolResult) and (place := uses.pop(event.tool_use_id, None)) is not None:
            steps[place] = replace(steps[place], answer=event.text, failed=event.is_error)
            continue
        step = _raw(event)
        if step is None:
            continue
        if steps and step.kind in ("output", "stderr") and steps[-1].kind == step.kind:
            lines[-1].append(step.text)
        else:
            steps.append(step)
            lines.append([step.text])
    return [
        step if len(texts) == 1 else replace(step, text="\n".join(texts))
        for step, texts in zip(steps, lines, strict=True)
    ]


_Told: TypeAlias = tuple[Kind, str]


def _raw(event: Event) -> Raw | None:
    match event:
        case ToolUse(name=name, input=used):
            return Raw("tool", event.at, name, input=used)
        case ToolResult(text=text, is_error=failed):
            return Raw("tool", event.at, "answer of a tool", answer=text, failed=failed)
        case _ if told := _told(event):
            return Raw(told[0], event.at, told[1])
    return None


def _told(event: Event) -> _Told | None:
    match event:
        case AssistantText(text=text):
            return "said", text
        case OtherOutput(line=str() as line):
            return "output", line
        case StderrOutput(text=text):
            return "stderr", text
        case Notice(text=text):
            return "note", text
        case Skipped(count=count):
            return "trouble", f"{count:,} events are missing here: they came faster than they were read"
        case RateLimited(status=status, resets_at=resets_at):
            until = f", until {moment(resets_at)}" if resets_at else ""
            return "trouble", f"Claude's API limits the account: {status}{until}"
        case StopRequested(reason=reason, at_once=at_once):
            return "trouble", f"the run is to stop{' at once' if at_once else ''}: {reason}"
        case Retried(attempt=attempt, failure=failure, pause_s=pause_s):
            told = f"attempt {attempt} has failed ({failure.kind}): {failure.message}"
            return "trouble", f"{told}; another one begins after {duration(pause_s)}"
    return _phase(event)


def _phase(event: Event) -> _Told | None:
    machine = event.machine_id or "the machine"
    match event:
        case Queued():
            return "phase", "waits for its turn"
        case Creating():
            return "phase", "asks Fly for a machine"
        case Created(region=region):
            return "phase", f"machine {machine} boots in {region}"
        case Booted():
            return "phase", "the machine runs: installs and clones"
        case Started():
            return "phase", "the agent begins"
        case Collecting():
            return "phase", "the agent has ended: its work is collected"
        case Destroying():
            return "phase", f"{machine} is destroyed"
        case Destroyed(confirmed=confirmed):
            return ("phase", "gone") if confirmed else ("trouble", f"Fly has not confirmed that {machine} is gone")
        case Detached():
            return "phase", "the controller leaves, the machine works on"
        case Resumed(phase=phase):
            return "phase", f"another controller has taken it up in phase {phase}"
    return None


def _shown(raw: Raw, began: datetime, most: int) -> Step:
    used = list((raw.input or {}).items())
    share = most // max(min(len(used), _FIELDS), 1)
    brief = _brief(used[0][1]) if used else ""
    if [value for _, value in used] == [brief]:
        used = []  # all of it is in that line
    return Step(
        kind=raw.kind,
        after=duration(max((raw.at - began).total_seconds(), 0)),
        text=cut(unix(raw.text), most),
        brief=brief,
        fields=tuple((str(name)[:_ONE_LINE], cut(unix(_text(value)), share)) for name, value in used[:_FIELDS]),
        answer=None if raw.answer is None else cut(unix(raw.answer), most),
        failed=raw.failed,
    )


def _text(value: Any, indent: int | None = 2) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=indent, default=str)


def _brief(value: Any) -> str:
    first = _text(value, indent=None).strip().split("\n", 1)[0]
    return first if len(first) <= _ONE_LINE else first[: _ONE_LINE - 1] + "…"
