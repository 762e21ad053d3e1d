"""`flaude demo`: the main job, small, on this computer."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import anyio
from rich.console import Console
from rich.markup import escape
from rich.syntax import Syntax
from rich.table import Table

from flaude.config import MachineConfig
from flaude.events import AssistantText, Event, Finished, Notice, PhaseBegan, ToolUse
from flaude.executor import ConcurrentExecutor
from flaude.failure import Phase
from flaude.local import LocalFly
from flaude.request import ExecutionRequest
from flaude.results import BatchResult, ExecutionResult

_APP = "flaude-demo"
_CAP = 3

# Lines that begin with `::` are for the scripted agent; a real one would work from the first line.
_PROMPTS = {
    "docs": "Write a usage section for the README.\n"
    "::append README.md \\n## Usage\\n\\n    python greet.py NAME\\n\n"
    "::cost 0.0123\n"
    "::say The README now says how to use greet.py.",
    "feature": "Let greet.py greet by name.\n"
    "::write greet.py import sys\\n\\nprint(f'hello, {sys.argv[1]}')\\n\n"
    "::shell python3 greet.py demo\n"
    "::cost 0.0456\n"
    "::say greet.py takes the name from its first argument.",
    "tests": "Write a test for greet.py.\n"
    "::write test_greet.py import greet\\n\\n\\ndef test_it_greets() -> None:\\n    assert greet\\n\n"
    "::cost 0.0234\n"
    "::say One test, and it passes.",
    "doomed": "Fix a bug that nobody can find (this one fails on purpose).\n"
    "::cost 0.0042\n"
    "::fail I looked everywhere and found no bug.",
}


_STEPS = {
    Phase.CREATE: "creating a machine",
    Phase.CLONE: "machine {machine} is up, cloning",
    Phase.AGENT: "the agent works",
    Phase.DESTROY: "destroying machine {machine}",
}


async def demo() -> int:
    """Run four prompts on four local machines, three at a time; no token, no node and no network needed."""
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="flaude-demo-") as folder:
        repo = await anyio.to_thread.run_sync(_make_repo, Path(folder))
        async with LocalFly(apps=[_APP], share=[repo]) as fly:
            console.print(f"[bold]{len(_PROMPTS)} prompts, at most {_CAP} machines at a time[/] ({fly.box} boxes)\n")
            executor = ConcurrentExecutor(
                _APP, max_concurrency=_CAP, fly=fly, on_event=lambda event: _show(console, event)
            )
            batch = await executor.run_batch(
                ExecutionRequest(
                    config=MachineConfig(
                        claude_code_oauth_token="a-scripted-agent-needs-none",  # noqa: S106  # goes nowhere
                        prompt=prompt,
                        repos=[f"file://{repo}"],
                    ),
                    tag=tag,
                )
                for tag, prompt in _PROMPTS.items()
            )
            alive = fly.alive
    _report(console, batch)
    gone = alive == 0 and not batch.leftovers
    leftovers = ", ".join(map(str, batch.leftovers))
    console.print(
        f"All {batch.total} machines are gone." if gone else f"[red]Alive: {alive}; not confirmed: {leftovers}[/]"
    )
    console.print(
        "\nReal here: git, the machines (local processes), the API over HTTP, the patches. Scripted: the agent. On "
        "Fly: set FLY_API_TOKEN and CLAUDE_CODE_OAUTH_TOKEN, and see the README.",
        style="dim",
    )
    expected = [result.tag for result in batch.results if not result.success] == ["doomed"]
    return 0 if gone and expected else 1


def _make_repo(parent: Path) -> Path:
    folder = parent.resolve() / "greeter"
    folder.mkdir()
    (folder / "README.md").write_text("# greeter\n\nSays hello.\n")
    (folder / "greet.py").write_text("print('hello')\n")
    environment = {"PATH": os.environ.get("PATH", os.defpath), "GIT_CONFIG_GLOBAL": os.devnull, "HOME": str(folder)}
    identity = ["-c", "user.name=flaude demo", "-c", "user.email=demo@example.com"]
    for arguments in (["init", "--quiet", "--initial-branch=main"], ["add", "."], ["commit", "--quiet", "-m", "first"]):
        subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, env=environment)
    return folder


def _show(console: Console, event: Event) -> None:
    match event:
        case PhaseBegan(phase=phase) if phase in _STEPS:
            text = _STEPS[phase].format(machine=event.machine_id)
        case AssistantText(text=said):
            text = f"[italic]{escape(_first_line(said))}[/]"
        case ToolUse(name=name, input=used):
            what = next(iter(used.values()), "")
            text = f"[italic]{escape(_first_line(f'{name}: {what}'))}[/]"
        case Notice(text=notice):
            text = escape(notice)
        case Finished(result=result):
            text = "[green]done[/]" if result.success else f"[red]failed[/]: {_why(result)}"
        case _:
            return
    console.print(f"{event.at:%H:%M:%S}  {event.tag:<8} {text}")


def _first_line(text: str) -> str:
    return next(iter(text.splitlines()), "")[:90]


def _why(result: ExecutionResult) -> str:
    return escape(result.failure.message) if result.failure else ""


def _report(console: Console, batch: BatchResult) -> None:
    table = Table("tag", "outcome", "exit code", "seconds", "cost", "changed files")
    for result in batch.results:
        table.add_row(*_row(result))
    console.print()
    console.print(table)
    machines = "unknown" if batch.machine_cost_usd is None else f"${batch.machine_cost_usd:.4f} on Fly"
    console.print(
        f"{batch.succeeded}/{batch.total} succeeded in {batch.seconds:.0f} s; agents ${batch.cost_usd:.4f}, "
        f"{batch.machine_seconds:.0f} machine seconds {machines}\n"
    )
    for result in batch.results:
        patches = result.run_result.patches if result.run_result else ()
        if patches and patches[0].diff:
            console.print(f"The patch of [bold]{result.tag}[/], as `git apply` takes it:")
            console.print(Syntax(patches[0].text, "diff", background_color="default"))
            break


def _row(result: ExecutionResult) -> tuple[str, ...]:
    run = result.run_result
    outcome = "[green]ok[/]" if result.success else f"[red]{result.failure.kind if result.failure else 'failed'}[/]"
    if run is None:
        return result.tag, outcome, "", "", "", ""
    changed = ", ".join(change.path for patch in run.patches for change in patch.changes)
    return (
        result.tag,
        outcome,
        str(run.exit_code),
        f"{run.times.seconds:.1f}" if run.times.seconds is not None else "",
        f"${run.cost_usd:.4f}" if run.cost_usd is not None else "",
        changed,
    )
