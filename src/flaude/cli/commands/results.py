"""`flaude results`: what the runs of a batch have brought."""

from __future__ import annotations

import json as json_
from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.text import Text

from flaude._model.run_result import FileChange, RunResult
from flaude._recovery.records import BatchRecord, Outcome, RunRecord
from flaude.cli.journals import recorded
from flaude.cli.text.amounts import clock, count, dollars
from flaude.cli.text.one_line import one_line
from flaude.cli.text.printable import printable
from flaude.cli.view import consoles


async def results(
    batch: str, tag: str | None = None, /, *, json: Annotated[bool, Parameter(negative="")] = False
) -> int:
    """Show what the runs of a batch have brought: outcome, answer, cost and changed files.

        flaude results last
        flaude results last --json > results.jsonl

    Parameters
    ----------
    batch
        The batch's id, how it alone begins, or `last`.
    tag
        Only this run: its tag, or its number from 0.
    json
        Print the whole results, one JSON object a run, and nothing else.
    """
    console = consoles.for_results()
    async with recorded(batch) as found:
        runs = found.runs if tag is None else [found.run(tag)]
        for number, run in enumerate(runs):
            if json:
                await _print_json(found, run)
            else:
                if number:
                    console.print()
                await _print(console, found, run)
    _tell_open(runs)
    return 0


def _tell_open(runs: Sequence[RunRecord]) -> None:
    if open_ := sum(not run.is_over for run in runs):
        consoles.for_talk().print(f"{count(open_, 'run')} of {len(runs)} not over yet.")


async def _print_json(found: BatchRecord, run: RunRecord) -> None:
    kept = await found.result_json(run.index)
    if kept is not None:
        print(json_.dumps({"batch": found.id, "index": run.index, **kept}))


async def _print(console: Console, found: BatchRecord, run: RunRecord) -> None:
    console.print(_headline(run))
    result = await found.result(run.index)
    brought = result.run_result if result else None
    if brought is None:
        return
    if answer := printable(brought.text).strip("\n"):
        for line in answer.splitlines():
            console.print(Text(f"  {line}".rstrip()))
    _print_files(console, brought)


def _headline(run: RunRecord) -> Text:
    name = one_line(run.tag, 80)
    text = Text.assemble((f"#{run.index}" + (f" {name}" if name else ""), "bold"), "  ")
    outcome = run.outcome
    if not run.is_over or outcome is None:
        return text.append(f"not over: {run.entry.phase}", "cyan")
    if run.success:
        text.append("succeeded", "green")
    else:
        why = ": ".join(filter(None, (outcome.kind, one_line(outcome.message, 500))))
        text.append("failed", "red").append(f": {why}" if why else "")
    return text.append(f"  ({_facts(outcome)})" if _facts(outcome) else "", "dim")


def _facts(outcome: Outcome) -> str:
    facts = [
        "" if outcome.cost_usd is None else dollars(outcome.cost_usd),
        clock(outcome.seconds) if outcome.seconds else "",
        "" if outcome.num_turns is None else count(outcome.num_turns, "turn"),
    ]
    return ", ".join(filter(None, facts))


def _print_files(console: Console, brought: RunResult) -> None:
    several = len(brought.patches) > 1
    for patch in brought.patches:
        if several and (patch.changes or patch.error):
            console.print(f"  in {one_line(patch.path)}:")
        for change in patch.changes:
            console.print(Text(f"  {_change(change)}"))
        if patch.error:
            console.print(Text(f"  not whole: {one_line(patch.error, 500)}", "red"))
        if patch.pushed_branch:
            console.print(Text(f"  pushed to {one_line(patch.pushed_branch)}"))
    for artifact in brought.artifacts:
        console.print(Text(f"  collected {one_line(artifact.path)}: {printable(str(artifact.file))}"))


def _change(change: FileChange) -> str:
    lines = "" if change.added is None or change.removed is None else f" +{change.added} -{change.removed}"
    was = f"{one_line(change.old_path)} → " if change.old_path else ""
    return f"{change.status} {was}{one_line(change.path)}{lines}"
