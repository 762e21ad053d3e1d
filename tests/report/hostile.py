"""Texts that want to be more than text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flaude import (
    Artifact,
    Attempt,
    Branch,
    Commit,
    ExecutionResult,
    Failure,
    FailureKind,
    FileChange,
    ModelUsage,
    Omitted,
    PermissionDenial,
    Phase,
    RepoResult,
    RunResult,
    Times,
)
from flaude.events import (
    AssistantText,
    Created,
    Event,
    Notice,
    OtherOutput,
    Queued,
    RateLimited,
    Retried,
    Skipped,
    Started,
    StderrOutput,
    StopRequested,
    ToolResult,
    ToolUse,
)
from flaude.report import ReportData, ReportRun

NOW = datetime(2026, 11, 26, 9, 30, tzinfo=UTC)

PAYLOADS = (
    "<script>window.__pwned = 1</script>",
    "</script><script>window.__pwned = 2</script>",
    "</style><script>window.__pwned = 3</script>",
    "</pre></code></title></svg></template></textarea><img src=x onerror='window.__pwned = 4'>",
    '" onmouseover="window.__pwned = 5" autofocus onfocus=\'window.__pwned = 6\' x=',
    "<svg onload=window.__pwned=7><a href=javascript:window.__pwned=8>x</a></svg>",
    "javascript:window.__pwned=9",
    "]]><!--<script>window.__pwned=10</script>--><![CDATA[<script>window.__pwned=11</script>",
    "{{ 7 * 7 }}{% for x in y %}${window.__pwned = 12}",
    "&lt;script&gt;window.__pwned=13&lt;/script&gt; &#60;b&#62;",
    "<style>* { display: none }</style><link rel=stylesheet href=https://example.com/x.css>",
    "<meta http-equiv=refresh content='0;url=https://example.com/'><base href=https://example.com/>",
    "<iframe srcdoc='<script>parent.__pwned=14</script>'></iframe><object data=https://example.com/x></object>",
    "line\u2028separator\u2029paragraph",
    "\u202egnp.exe\u202c \u2066isolate\u2069 \u200bzero\ufeffwidth \U000e0041\U000e0042tags",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x00nul \x85nel \x7fdel \r\x0b\x0c",
    "\ud800 half a character \udcff",
)


def batch_of(text: str) -> ReportData:
    """A batch in which everything that is text is that one."""
    word = text.replace("\n", " ") or "x"
    failure = Failure(kind=FailureKind.AGENT_ERROR, phase=Phase.AGENT, message=text)
    times = Times(**{phase: NOW + timedelta(seconds=number) for number, phase in enumerate(Phase)})
    attempt = Attempt(
        number=1, name=word, machine_id=word, region=word, state=word, gone=False, failure=failure,
        agent_started=True, machine_seconds=7, times=times,
    )  # fmt: skip
    artifact = Artifact(path=word, size=1, sha256=word, file=Path(word.replace("\0", "")))
    omitted = (Omitted(path=word, size=1, reason=text),)
    added = "".join(f"+{line}\n" for line in text.split("\n"))
    diff = f"diff --git a/{word} b/{word}\n--- a/{word}\n+++ b/{word}\n@@ -0,0 +1 @@ {word}\n{added}"
    repo = RepoResult(
        url=word, path=word, head=word, diff=diff.encode("utf-8", "surrogatepass"), omitted=omitted, error=text,
        changes=(FileChange(path=word, old_path=word, status="M", added=1, removed=0),),
        commits=(Commit(id=word, author=word, authored_at=word, subject=text),),
        branches=(Branch(name=word),), pushed_branch=word, push_error=text,
    )  # fmt: skip
    run = RunResult(
        machine_id=word, exit_code=1, state=word, destroyed=False, region=word, failure=failure, text=text,
        structured_output={text: [text]}, session_id=word, num_turns=1, model_usage={word: ModelUsage()},
        permission_denials=(PermissionDenial(tool_name=word, tool_input={text: text}),), patches=(repo,),
        artifacts=(artifact,), artifacts_omitted=omitted, transcript=artifact, stdout_tail=(text,),
        stderr_tail=(text,), attempts=(attempt,),
    )  # fmt: skip
    result = ExecutionResult(tag=text, run_result=run, attempts=(attempt,))
    odd = ExecutionResult(tag=text, error=RuntimeError(text))
    asked = ReportRun(0, text, prompt=text, repos=(word,), model=word, machine=word)
    runs = (
        replace(asked, result=result, events=_events(text)),
        replace(asked, index=1, result=odd),
        replace(asked, index=2, phase=word, events=_events(text)),
    )
    return ReportData(
        runs=runs, id=word, app=word, began=NOW, settings={text: text, "list": [text], "deep": {text: text}},
        stopped_by=text, in_journal=True, made=NOW + timedelta(seconds=60),
    )  # fmt: skip


def _events(text: str) -> tuple[Event, ...]:
    def event(kind: Callable[..., Event], *rest: object) -> Event:
        return kind(text, 0, text, NOW, text, *rest)

    return (
        event(Queued),
        event(Created, text),
        event(Started),
        event(AssistantText, text),
        event(ToolUse, text, text, {text: text, "list": [text], "deep": {text: text}}),
        event(ToolResult, text, text, True),
        event(ToolResult, "of none", text, False),
        event(OtherOutput, text),
        event(StderrOutput, text),
        event(Notice, text),
        event(Skipped, 3),
        event(RateLimited, text, NOW),
        event(StopRequested, text, False),
        event(Retried, 1, Failure(kind=FailureKind.API, phase=Phase.AGENT, message=text), 1.0),
    )
