"""A batch whose controller was killed at any moment is taken up by another: nothing is lost, nothing paid twice."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Literal

import anyio
import pytest
from tests.conftest import TOKEN, Machines
from tests.support.controller_process import controller
from tests.support.gate import Gate

from flaude import BatchResult, ConcurrentExecutor
from flaude.journal import SqliteJournal
from flaude.local import Fault, Hook, LocalFly

POINTS = [
    *(("create_machine", moment, number) for number in (1, 2) for moment in ("before", "after")),
    # The first ones wait for the boot of each machine, the third for the end of one.
    *(("wait_machine", moment, number) for number in (1, 3) for moment in ("before", "after")),
    *(("exec_machine", "before", number) for number in (1, 3, 5, 7)),
    *(("exec_machine", "after", number) for number in range(1, 9)),
    *(("delete_machine", moment, 1) for moment in ("before", "after")),
]


def counting(starts: Path, name: str) -> str:
    """A prompt whose agent counts its starts, says two things and writes a file."""
    return f"::shell echo started >> {starts / name}\n::say one\n::sleep 1\n::write {name}.txt work\n::say two"


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("action", "moment", "number"), POINTS)
async def test_nothing_is_paid_twice(
    machines: Machines,
    tmp_path: Path,
    repo: Path,
    monkeypatch: pytest.MonkeyPatch,
    action: str,
    moment: Literal["before", "after"],
    number: int,
) -> None:
    """Killed before or after any call, and resumed: every agent has started once, and all of its work is there."""
    monkeypatch.setenv("CLAUDE_CODE_OAUTH_TOKEN", TOKEN)
    home, starts, names = tmp_path / "home", tmp_path / "starts", ("a", "b")
    starts.mkdir()
    async with machines(box="plain") as fly:
        async with controller(
            fly,
            prompts=[counting(starts, name) for name in names],
            repos=[f"file://{repo}"],
            config={"collect": ["*.txt"], "transcript": True},
            journal=str(home),
            output_dir=str(tmp_path / "out"),
        ) as killed:

            def kill(_path: str) -> None:
                if killed.process.returncode is None:
                    killed.process.send_signal(signal.SIGKILL)

            hook = Hook(before=kill) if moment == "before" else Hook(after=kill)
            fly.faults.add(Fault(action, hook, after=number - 1, times=1))
            with anyio.fail_after(60):
                assert await killed.process.wait() == -signal.SIGKILL
        batch = await resumed(fly, home, tmp_path / "out")
        if batch is None:
            assert not fly.created, "a machine that nobody has noted"
            return
        assert batch.all_succeeded, [result.failure for result in batch.results]
        for name, result in zip(names, batch.results, strict=True):
            assert (starts / name).read_text() == "started\n"
            assert result.run_result is not None and result.run_result.text == "two"
            assert [change.path for change in result.run_result.patches[0].changes] == [f"{name}.txt"]
            assert [one.file.read_text() for one in result.run_result.artifacts] == ["work\n"]
            assert len(result.attempts) == 1
        await check_journal(home, batch)


async def test_output_is_told_once(
    machines: Machines, gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the journal has when the controller is killed is not pulled again, and what it has not is."""
    monkeypatch.setenv("CLAUDE_CODE_OAUTH_TOKEN", TOKEN)
    home = tmp_path / "home"
    async with machines(box="plain") as fly, SqliteJournal(home) as journal:
        prompts = [f"::say one\n{gate.waits}\n::say two"]
        async with controller(fly, prompts=prompts, journal=str(home), output_dir=str(tmp_path)) as killed:
            with anyio.fail_after(30):
                await until_said(journal, "one")
            killed.process.send_signal(signal.SIGKILL)
            await killed.process.wait()
        gate.open()
        batch = await resumed(fly, home, tmp_path)
        assert batch is not None and batch.all_succeeded
        await check_journal(home, batch)


async def until_said(journal: SqliteJournal, text: str) -> None:
    """Return when the journal has this text of the only run of its only batch."""
    while True:
        for batch in await journal.batches():
            events = await journal.events(batch.id)
            if any(event.data.get("text") == text for event in events):
                return


async def resumed(fly: LocalFly, home: Path, output: Path) -> BatchResult | None:
    """What the only batch of a journal comes to when it is resumed; None when there is none."""
    async with SqliteJournal(home) as journal:
        batches = await journal.batches()
        if not batches:
            return None
        executor = ConcurrentExecutor("my-app", fly=fly, journal=journal, output_dir=output)
        return await executor.resume(batches[0].id)


async def check_journal(home: Path, batch: BatchResult) -> None:
    """It has every output once and in its order, the intents, the outcomes, and not the token."""
    async with SqliteJournal(home) as journal:
        for run in await journal.runs(batch.id):
            assert run.success
            events = await journal.events(batch.id, index=run.index)
            assert [event.data["text"] for event in events if event.kind == "assistant_text"] == ["one", "two"]
            kinds = [event.kind for event in events]
            assert kinds.index("creating") < kinds.index("created") < kinds.index("destroying")
            assert kinds[-1] == "finished"
    async for path in anyio.Path(home).rglob("*"):
        assert await path.is_dir() or TOKEN.encode() not in await path.read_bytes(), path
