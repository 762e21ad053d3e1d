"""`flaude demo`: the main job, small, on this computer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import anyio

from flaude._executor.executor import ConcurrentExecutor
from flaude._model.config import MachineConfig
from flaude._model.errors import Interrupted
from flaude._model.request import ExecutionRequest
from flaude._model.results import BatchResult
from flaude.cli.view.choosing import choose_view
from flaude.cli.view.terminal_style import Style, look_of
from flaude.events import Event
from flaude.local import LocalFly, Quirks

_APP = "flaude-demo"
_CAP = 3

# Lines that begin with `::` are for the scripted agent; a real one would work from the first line. Each takes a second,
# so that one sees them at work.
_PROMPTS = {
    "docs": "Write a usage section for the README.\n"
    "::append README.md \\n## Usage\\n\\n    python greet.py NAME\\n\n"
    "::sleep 1\n"
    "::cost 0.0123\n"
    "::say The README now says how to use greet.py.",
    "feature": "Let greet.py greet by name.\n"
    "::write greet.py import sys\\n\\nprint(f'hello, {sys.argv[1]}')\\n\n"
    "::shell python3 greet.py demo\n"
    "::sleep 1\n"
    "::cost 0.0456\n"
    "::say greet.py takes the name from its first argument.",
    "tests": "Write a test for greet.py.\n"
    "::write test_greet.py import greet\\n\\n\\ndef test_it_greets() -> None:\\n    assert greet\\n\n"
    "::sleep 1\n"
    "::cost 0.0234\n"
    "::say One test, and it passes.",
    "doomed": "Fix a bug that nobody can find (this one fails on purpose).\n"
    "::sleep 1\n"
    "::cost 0.0042\n"
    "::fail I looked everywhere and found no bug.",
}

_PATCH = {"+": Style.GOOD, "-": Style.BAD, "@": Style.ACTIVE}


async def demo() -> int:
    """Run four prompts on four local machines, three at a time; no token, no node and no network needed."""
    print(f"{len(_PROMPTS)} prompts, at most {_CAP} machines at a time", flush=True)
    async with anyio.TemporaryDirectory(prefix="flaude-demo-") as folder:
        repo = await anyio.to_thread.run_sync(_make_repo, Path(folder))
        async with LocalFly(apps=[_APP], share=[repo], quirks=Quirks(machine_limit=None)) as fly:
            batch = await _run(fly, repo)
            alive = fly.alive
    gone = alive == 0 and not batch.leftovers
    _last_words(batch, alive, gone=gone)
    return 0 if gone and _as_expected(batch) else 1


async def _run(fly: LocalFly, repo: Path) -> BatchResult:
    view = choose_view(json=False, plain=False, stdout=sys.stdout, stderr=sys.stderr, environ=os.environ)
    known: set[str] = set()

    def take(event: Event) -> None:
        if event.batch not in known:
            known.add(event.batch)
            view.launched(event.batch, _APP, len(_PROMPTS))
        view.take(event)

    async with view:
        executor = ConcurrentExecutor(_APP, max_concurrency=_CAP, fly=fly, on_event=take)
        try:
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
        except Interrupted as stopped:
            view.ended(stopped.batch, 130)
            raise
        view.ended(batch, 0 if _as_expected(batch) else 1)
    return batch


def _as_expected(batch: BatchResult) -> bool:
    return [result.tag for result in batch.results if not result.success] == ["doomed"]


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


def _last_words(batch: BatchResult, alive: int, *, gone: bool) -> None:
    look = look_of(sys.stdout, os.environ)
    for result in batch.results:
        patches = result.run_result.patches if result.run_result else ()
        if patches and patches[0].diff:
            print(f"\nThe patch of {result.tag}, as `git apply` takes it:")
            for line in patches[0].text.splitlines():
                print(look.paint(line, _PATCH.get(line[:1], Style.PLAIN)))
            break
    leftovers = ", ".join(map(str, batch.leftovers))
    print(f"\nAll {batch.total} machines are gone." if gone else f"\nAlive: {alive}; not confirmed: {leftovers}")
    print(
        "Real here: git, the machines (local processes), the API over HTTP, the patches. Scripted: the agent.\n"
        "On Fly: set FLY_API_TOKEN and CLAUDE_CODE_OAUTH_TOKEN, and see the README."
    )
