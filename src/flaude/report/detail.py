"""All that the page says of one run, as much of it as fits. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from flaude._model.results import ExecutionResult
from flaude._model.run_result import RunResult
from flaude.report.data import ReportData, ReportRun
from flaude.report.limits import Limits
from flaude.report.patch import Patch, patch_of
from flaude.report.summary import Row
from flaude.report.text import Cut, cut, plain, unix
from flaude.report.timeline import Span
from flaude.report.transcript import Transcript, transcript_of

_LONGEST_WORD = 200
_LEAST = 2_000
"""Characters that a prompt and an answer get even where a page has room for nothing."""


@dataclass(frozen=True)
class Commands:
    """What prints that which a page has left out; all empty when no command would find the run."""

    patch: str = ""
    logs: str = ""
    results: str = ""


@dataclass(frozen=True)
class Detail:
    """A run on the page.

    Attributes:
        run: All that is known of it.
        row: It in one line.
        spans: When it was in which phase.
        prompt: What its agent was asked.
        answer: What it answered.
        structured: Its answer as JSON, when it was to be that.
        failure: What went wrong, in a sentence.
        patches: What it left, by repository.
        transcript: What happened.
        tails: Last lines of its agent's output, with what each is.
        denials: Tools that it was not allowed, and what for.
        commands: What prints the rest.
        limits: What it was cut to.
    """

    run: ReportRun
    row: Row
    spans: tuple[Span, ...]
    prompt: Cut
    answer: Cut
    structured: Cut
    failure: Cut
    patches: tuple[Patch, ...]
    transcript: Transcript
    tails: tuple[tuple[str, Cut], ...]
    denials: tuple[tuple[str, Cut], ...]
    commands: Commands
    limits: Limits

    @property
    def result(self) -> ExecutionResult | None:
        """What it came to."""
        return self.run.result

    @property
    def brought(self) -> RunResult | None:
        """What came back from its last machine."""
        return self.run.result.run_result if self.run.result else None

    @property
    def size(self) -> int:
        """Characters of HTML that its texts take."""
        cuts = [
            self.failure,
            self.prompt,
            self.answer,
            self.structured,
            *(one for _, one in (*self.tails, *self.denials)),
        ]
        return sum(len(one.html) for one in cuts) + sum(patch.size for patch in self.patches) + self.transcript.size

    def few(self, values: Iterable[Any]) -> list[Any]:
        """As many of some values as are named on a page."""
        return list(values)[: self.limits.names]


def detail_of(run: ReportRun, row: Row, spans: Iterable[Span], data: ReportData, limits: Limits, most: int) -> Detail:
    """A run for the page.

    Args:
        run: The run.
        row: It in one line.
        spans: When it was in which phase.
        data: Its batch.
        limits: What each part may take.
        most: What all parts may take together, in characters of HTML.
    """
    brought = run.result.run_result if run.result else None
    prose = min(limits.prose, max(most // 4, _LEAST))
    prompt = cut(unix(run.prompt), prose)
    answer = cut(unix(brought.text if brought else ""), prose)
    structured = brought.structured_output if brought else None
    json_ = cut("" if structured is None else _json(structured), prose)
    left = most - sum(len(one.html) for one in (prompt, answer, json_))
    patches = tuple(_patches(brought, limits, min(limits.patch, left // 2)))
    left -= sum(patch.size for patch in patches)
    return Detail(
        run=run,
        row=row,
        spans=tuple(spans),
        prompt=prompt,
        answer=answer,
        structured=json_,
        failure=cut(unix(_failure(run.result)), prose),
        patches=patches,
        transcript=transcript_of(run.events, limits, max(0, min(limits.transcript, left))),
        tails=tuple(_tails(brought, limits)) if row.state == "failed" else (),
        denials=_denials(brought, limits),
        commands=_commands(data, run),
        limits=limits,
    )


def _failure(result: ExecutionResult | None) -> str:
    if result is None:
        return ""
    return result.failure.message if result.failure else str(result.error or "")


def _patches(brought: RunResult | None, limits: Limits, most: int) -> Iterator[Patch]:
    for repo in brought.patches if brought else ():
        patch = patch_of(repo, limits, most)
        most -= patch.size
        yield patch


def _tails(brought: RunResult | None, limits: Limits) -> Iterator[tuple[str, Cut]]:
    if brought is not None:
        for name, lines in (("stderr", brought.stderr_tail), ("stdout", brought.stdout_tail)):
            if lines:
                yield name, cut("\n".join(lines), limits.words)


def _denials(brought: RunResult | None, limits: Limits) -> tuple[tuple[str, Cut], ...]:
    denials = brought.permission_denials[: limits.names] if brought else ()
    return tuple(
        (denial.tool_name, cut(_json(denial.tool_input), limits.words // max(len(denials), 1))) for denial in denials
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)


def _commands(data: ReportData, run: ReportRun) -> Commands:
    if not (data.in_journal and _can_be_pasted(data.id)):
        return Commands()
    which = f"{shlex.quote(data.id)} {shlex.quote(run.tag if _can_be_pasted(run.tag) else f'#{run.index}')}"
    return Commands(*(f"flaude {verb} {which}" for verb in ("patch", "logs", "results")))


def _can_be_pasted(word: str) -> bool:
    return 0 < len(word) <= _LONGEST_WORD and plain(word) == word
