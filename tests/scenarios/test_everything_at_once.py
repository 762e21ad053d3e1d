"""All that is believed of Fly at its worst, at the same time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from pydoc_data.topics import topics

import pytest
from tests.conftest import TOKEN, Machines

from flaude import (
    ConcurrentExecutor,
    ExecutionRequest,
    ExecutionResult,
    FailureKind,
    MachineConfig,
    Timeouts,
    ensure_app,
)
from flaude._providers.fly import FlyClient
from flaude.events import Event, Started
from flaude.journal import SqliteJournal
from flaude.local import Answer, Fault, FlyStops, NoCapacity, Quirks

RUNS = 20
PROSE = "\n".join(topics[name] for name in sorted(topics))[:60_000]
WORST = Quirks(machine_limit=5, young_app_s=3, largest_exec_output=64 * 1024)
FAULTS = [
    Fault("create_machine", FlyStops(5), times=1, after=7),
    Fault("create_machine", NoCapacity(), chance=1 / 3),
    Fault("*", Answer(401, "Authenticate: token validation error"), chance=1 / 50),
]


def request(index: int, repo: Path) -> ExecutionRequest:
    """A run that reads 60 KB, changes a file, makes one that is collected, and answers."""
    script = f"::append app.py # {index}\n::shell seq {index} 20000 > numbers.txt\n"
    config = MachineConfig(
        claude_code_oauth_token=TOKEN,
        prompt=f"{PROSE}\n{script}::sleep 1\n::say run {index}",
        repos=[f"file://{repo}"],
        collect=["numbers.txt"],
    )
    return ExecutionRequest(config, tag=str(index))


@pytest.mark.timeout(240)
async def test_everything_at_once(machines: Machines, repo: Path, tmp_path: Path) -> None:
    """Twenty runs with git and files end right, or as what they met, on a Fly that does everything that is feared."""
    began = Counter[str]()

    def watch(event: Event) -> None:
        if isinstance(event, Started):
            began[event.tag] += 1

    async with machines(apps=[], quirks=WORST, faults=FAULTS, seed=3) as fly:
        await ensure_app("young", fly=fly)
        executor = ConcurrentExecutor(
            "young",
            fly=fly,
            rate_limits=None,
            on_event=watch,
            timeouts=Timeouts(grace=1),
            output_dir=tmp_path / "out",
            journal=SqliteJournal(tmp_path / "journal"),
        )
        batch = await executor.run_batch([request(index, repo) for index in range(RUNS)])
        fly.faults.clear()
        async with FlyClient(base_url=fly.base_url, token=fly.token) as client:
            assert await client.list_machines("young") == []
        assert batch.leftovers == [] and fly.peak_alive <= 5
        struck = {effect for _, effect in fly.faults.struck}
    assert struck == {"FlyStops", "NoCapacity", "Answer"}, "not all of it has happened"
    kinds = Counter(result.failure.kind for result in batch.results if result.failure)
    assert not kinds.keys() - {FailureKind.MACHINE_STOPPED} and kinds.total() <= 1, batch
    for index, result in enumerate(batch.results):
        assert began[str(index)] == 1, "every agent starts once"
        if result.success:
            await check(index, result)


async def check(index: int, result: ExecutionResult) -> None:
    """Everything of a run is here."""
    run = result.run_result
    assert run is not None and run.text == f"run {index}"
    assert f"+# {index}".encode() in run.patches[0].diff
    (numbers,) = run.artifacts
    assert numbers.file.read_text().split() == [str(number) for number in range(index, 20_001)]
