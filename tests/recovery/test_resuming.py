"""What stands in the way of a resume, or must not: another app, no credentials, files that are gone or not ours."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, cast

import anyio
import anyio.to_thread
import pytest
from pydantic import SecretStr
from tests.conftest import TOKEN
from tests.support.journal_helpers import BEGAN, ME, OTHER, batch_entry, nobody_is_dead, run_entries
from tests.support.simulated_world import SimulatedFly, VirtualTime, World, run

from flaude import (
    BatchResult,
    ConcurrentExecutor,
    ConfigError,
    ExecutionRequest,
    FailureKind,
    MachineConfig,
    NoCredentialsError,
    Retries,
    Timeouts,
)
from flaude._model.errors import JournalError
from flaude._model.run_result import Attempt
from flaude._recovery.records import read_batch
from flaude._recovery.resume import load_progress
from flaude._run.checkpoint import dump_checkpoint
from flaude._run.state import AttemptState
from flaude.cli.commands.cancel import ask
from flaude.journal import Journal, MemoryJournal
from flaude.journal.entries import CANCEL, CheckpointNote, ControlRequest, EventNote, Note, OutcomeNote

Change = Callable[[dict[str, Any]], None]


async def quietly(_what: str) -> None:
    """For a controller to whom nothing happens."""


AT_ONCE = Timeouts(capacity=0)  # nobody waits for room


def executor(world: World, journal: Journal, app: str = "my-app", **options: Any) -> ConcurrentExecutor:
    """One in this world."""
    fly: Any = SimulatedFly(world, quietly)
    return ConcurrentExecutor(app, fly=fly, journal=journal, handle_signals=False, **options)


def request(tag: str, **fields: Any) -> ExecutionRequest:
    """A request that leaves a patch."""
    name = fields.pop("name", None)
    repos = ["https://github.com/your-org/api"]
    return ExecutionRequest(MachineConfig(prompt=f"do {tag}", repos=repos, **fields), name=name, tag=tag)


async def launched(world: World, journal: Journal, requests: list[ExecutionRequest]) -> str:
    """The id of a batch whose agents work alone."""
    world.at_work = True
    batch = await executor(world, journal).launch(requests)
    world.at_work = False
    return batch.id


def kinds(batch: BatchResult) -> list[FailureKind | None]:
    """Why its runs failed, in their order."""
    return [result.failure.kind if result.failure else None for result in batch.results]


def test_another_app() -> None:
    """In another app no machine would be found, and all be taken for lost."""

    async def test(_loop: VirtualTime, world: World, journal: Journal) -> None:
        id_ = await launched(world, journal, [request("a")])
        with pytest.raises(ConfigError, match=f"app_name: the machines of batch {id_} are in my-app, not in other-app"):
            await executor(world, journal, "other-app").resume(id_)
        assert kinds(await executor(world, journal).resume(id_)) == [None]

    run(test)


def test_no_credentials() -> None:
    """It says so before anything is done: no machine is left behind by a run that is called failed."""

    async def test(_loop: VirtualTime, world: World, journal: Journal) -> None:
        id_ = await launched(world, journal, [request("a")])
        with pytest.MonkeyPatch.context() as patched:
            patched.delenv("CLAUDE_CODE_OAUTH_TOKEN")
            with pytest.raises(NoCredentialsError):
                await executor(world, journal).resume(id_)
        assert kinds(await executor(world, journal).resume(id_)) == [None]

    run(test)


def test_other_requests() -> None:
    """Another number, name or tag is not what the batch was begun with: it would make other machines."""

    async def test(_loop: VirtualTime, world: World, journal: Journal) -> None:
        mine = [request("a"), request("b")]
        id_ = await launched(world, journal, mine)
        for others, told in (
            ((mine[0],), "requests: are 1, and the batch was begun with 2"),
            ((mine[1], mine[0]), r"requests\[0\]: is not what"),
            ((mine[0], replace(mine[1], name="other")), r"requests\[1\]: is not what"),
            ((mine[0], replace(mine[1], tag="other")), r"requests\[1\]: is not what"),
        ):
            with pytest.raises(ConfigError, match=told):
                await executor(world, journal).resume(id_, others)
        assert kinds(await executor(world, journal).resume(id_, mine)) == [None, None]

    run(test)


def test_cancel_with_secrets_that_were_values() -> None:
    """They are given once more, as for `resume`."""

    async def test(_loop: VirtualTime, world: World, journal: Journal) -> None:
        mine = [request("a", claude_code_oauth_token=SecretStr(TOKEN))]
        id_ = await launched(world, journal, mine)
        with pytest.raises(ConfigError, match="was given as a value"):
            await executor(world, journal).cancel(id_)
        batch = await executor(world, journal).cancel(id_, mine)
        assert batch.total == 1 and world.alive == []

    run(test)


def test_the_result_of_one_run_is_gone() -> None:
    """The others have machines that wait: they come home, and this one says what is missing."""

    async def test(_loop: VirtualTime, world: World, journal: Journal) -> None:
        first = await executor(world, journal, max_concurrency=1).run_batch([request("a"), request("b")])
        await journal.drop(first.id, "runs/000/result.json")
        batch = await executor(world, journal).resume(first.id)
        assert isinstance(batch.results[0].error, JournalError) and "runs/000/result.json is missing" in str(
            batch.results[0].error
        )
        assert batch.results[1] == first.results[1]

    run(test)


def test_a_damaged_harvest_is_collected_again() -> None:
    """As long as the machine is there, it has it all."""

    async def test(_loop: VirtualTime, world: World, journal: Journal) -> None:
        id_ = await launched(world, journal, [request("a")])
        await journal.put(id_, "runs/000/harvest-1.json", b'{"result": {"job')
        assert kinds(await executor(world, journal).resume(id_)) == [None]

    run(test)


def _unknown_step(point: dict[str, Any]) -> None:
    point["step"] = "hibernate"


def _unknown_field(point: dict[str, Any]) -> None:
    point["failure"] = {"kind": "api", "phase": "boot", "message": "", "mood": "sad"}


def _missing_field(point: dict[str, Any]) -> None:
    del point["offset"]


@pytest.mark.parametrize("change", [_unknown_step, _unknown_field, _missing_field])
def test_what_another_flaude_has_written(change: Change) -> None:
    """It names the run and says so, and does nothing."""

    async def test(_loop: VirtualTime, world: World, journal: Journal) -> None:
        id_ = await launched(world, journal, [request("a")])
        (entry,) = await journal.runs(id_)
        point = json.loads(json.dumps(entry.checkpoint))
        change(point)
        await journal.hold(id_, ME, 60, is_dead=nobody_is_dead)
        await journal.write(id_, ME.owner, [CheckpointNote(0, "agent", point)])
        await journal.release(id_, ME.owner)
        with pytest.raises(JournalError, match="run a: what is kept of it cannot be read; was it written by another"):
            await executor(world, journal).resume(id_)
        assert len(world.alive) == 1

    run(test)


def test_the_wall_clock_has_gone_back() -> None:
    """A machine that was made in the future, by the clock of today, is believed to be gone all the same."""

    async def test(loop: VirtualTime, world: World, journal: Journal) -> None:
        id_ = await launched(world, journal, [request("a")])
        (entry,) = await journal.runs(id_)
        later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        point = {**(entry.checkpoint or {}), "began_at": {"create": later}}
        await journal.hold(id_, ME, 60, is_dead=nobody_is_dead)
        await journal.write(id_, ME.owner, [CheckpointNote(0, "agent", point)])
        await journal.release(id_, ME.owner)
        world.gone |= set(world.guests)
        began = loop.time()
        batch = await executor(world, journal).resume(id_)
        assert kinds(batch) == [FailureKind.MACHINE_LOST] and batch.leftovers == []
        assert loop.time() - began < 60

    run(test)


def test_launch_does_not_wait_for_money() -> None:
    """It leaves when every agent works that the budget has room for."""

    async def test(loop: VirtualTime, world: World, journal: Journal) -> None:
        world.at_work = True
        requests = [request(tag, max_budget_usd=1.0) for tag in "ab"]
        with anyio.fail_after(60):
            batch = await executor(world, journal, budget_usd=1.5).launch(requests)
        assert batch.results == [] and len(world.starts) == 1
        world.at_work = False
        # It has cost half a dollar.
        assert kinds(await executor(world, journal, budget_usd=1.5).resume(batch.id)) == [None, None]

    run(test)


def test_no_time_passes_while_a_thread_works() -> None:
    """In a world whose clock does not wait, a slow computer makes nothing late."""

    async def test(loop: VirtualTime, _world: World, _journal: Journal) -> None:
        with anyio.CancelScope(deadline=loop.time() + 60) as scope:
            await anyio.to_thread.run_sync(lambda: sha256(bytes(1 << 26)).digest())
        assert not scope.cancel_called

    run(test)


def test_launch_waits_for_another_attempt() -> None:
    """A run between two attempts is not over, and has no agent that works."""

    async def test(_loop: VirtualTime, world: World, journal: Journal) -> None:
        world.at_work, world.full = True, 1
        batch = await executor(world, journal, retries=Retries(wait=20), timeouts=AT_ONCE).launch([request("a")])
        assert batch.results == [] and len(world.starts) == 1
        world.at_work = False
        batch = await executor(world, journal).resume(batch.id)
        assert kinds(batch) == [None] and len(batch.results[0].attempts) == 2

    run(test)


def test_a_run_and_its_last_event_are_over_together() -> None:
    """No journal has a run that is over and whose last event is missing: nobody would tell it any more."""

    async def test(_loop: VirtualTime, world: World, journal: Journal) -> None:
        whole = list[tuple[int, int]]()
        write = journal.write

        async def watched(batch: str, owner: str, notes: Sequence[Note]) -> None:
            over = sum(isinstance(note, OutcomeNote) for note in notes)
            last = sum(isinstance(note, EventNote) and note.kind == "finished" for note in notes)
            whole.append((over, last))
            await write(batch, owner, notes)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(journal, "write", watched)
            batch = await executor(world, journal).run_batch([request("a"), request("b")])
        assert batch.all_succeeded
        assert sum(over for over, _ in whole) == 2 and all(over == last for over, last in whole)

    run(test)


def test_a_request_that_is_refused_stays_refused() -> None:
    """Its machine's name is another's: a resume does not launch it when that one is over."""

    async def test(_loop: VirtualTime, world: World, journal: Journal) -> None:
        first = await executor(world, journal).run_batch([request("a", name="same"), request("b", name="same")])
        assert isinstance(first.results[1].error, ConfigError)
        assert (await journal.batch(first.id)).counts.open == 0
        again = await executor(world, journal).resume(first.id)
        assert [str(result.error) for result in again.results] == [str(result.error) for result in first.results]
        assert len(world.guests) == 1

    run(test)


async def test_what_was_spent_before() -> None:
    """Costs that nobody knows count with all that they may have been; no machine second counts twice."""
    earlier = Attempt(number=1, name="x", gone=True, agent_started=True, machine_seconds=10.0)
    point = dump_checkpoint(2, AttemptState(), 0, {}, (earlier,))
    config = {"config": {"prompt": "x", "max_budget_usd": 1.0}, "secrets": {}, "name": None, "tag": ""}
    runs = [replace(one, request=config, checkpoint=point) for one in run_entries(2)]
    async with MemoryJournal() as journal:
        await journal.add(batch_entry(), runs, ME, 60)
        prior, requests = await load_progress(journal, "b1", os.environ)
        assert (prior.spent_usd, prior.machine_seconds, sorted(requests)) == (2.0, 0.0, [0, 1])
        # A run that is not taken up may be at work, and cost as much once more.
        prior, requests = await load_progress(journal, "b1", os.environ, only=[0])
        assert (prior.spent_usd, prior.machine_seconds, sorted(requests)) == (3.0, 10.0, [0])
        for wrong in (2, -1, "a"):
            with pytest.raises(ConfigError, match=f"only: batch b1 has runs 0 to 1, not {wrong!r}"):
                await load_progress(journal, "b1", os.environ, only=[0, cast("int", wrong)])


async def test_who_takes_a_batch_up_is_asked_again() -> None:
    """A wish ends with the holder that it was for: `flaude cancel` wants it of the next one too."""
    asked = list[str]()

    class Heard(MemoryJournal):
        async def ask(self, batch: str, wish: ControlRequest) -> None:
            assert wish == ControlRequest(CANCEL)
            asked.append((await self.batch(batch)).holder.owner)  # type: ignore[union-attr]
            if len(asked) == 1:
                await self.hold(batch, OTHER, 60, is_dead=lambda _: True)
            else:
                await self.release(batch, OTHER.owner)

    async with Heard(clock=lambda: datetime.now(UTC)) as journal:
        await journal.add(replace(batch_entry(), began=BEGAN), run_entries(1), ME, 60)
        recorded = await read_batch(journal, "b1")
        assert not await ask(journal, recorded, None)
    assert asked == [ME.owner, OTHER.owner]


def test_a_secret_where_the_journal_would_keep_it() -> None:
    """It is refused before anything is written or made, and the error does not show it."""

    async def test(_loop: VirtualTime, world: World, journal: Journal) -> None:
        servers = {"mcpServers": {"x": {"command": "x", "env": {"TOKEN": f"Bearer {TOKEN}"}}}}
        bad = request("a", github_token=TOKEN, mcp_config=servers)
        with pytest.raises(ConfigError, match="mcp_config: the value of github_token stands in it") as refused:
            await executor(world, journal).run_batch([bad])
        assert TOKEN not in str(refused.value)
        assert await journal.batches() == [] and world.guests == {}

    run(test)
