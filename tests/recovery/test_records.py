from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from tests.support.journal_helpers import Recorded, execution_result

from flaude import ConfigError, Failure, FailureKind, JournalError, MachineExitError, Phase, RunFailedError
from flaude._model.codec import dump_result
from flaude._model.results import ExecutionResult
from flaude._recovery.records import BatchState, read_batch, state_of
from flaude.journal import CheckpointNote, LeaseOwner, MemoryJournal


@pytest.fixture
async def journal() -> AsyncIterator[MemoryJournal]:
    """An empty journal."""
    async with MemoryJournal() as opened:
        yield opened


async def test_the_state_of_a_batch(journal: MemoryJournal) -> None:
    """It goes on as long as a living process holds it; then its open runs and how it was begun tell."""
    now = datetime.now(UTC)
    plain, alone = await Recorded(journal).begin(["a"]), await Recorded(journal, "b2").begin(["a"], detached=True)
    for batch in (plain, alone):
        assert state_of(await journal.batch(batch.id), now) is BatchState.RUNNING
        assert state_of(await journal.batch(batch.id), now + timedelta(hours=2)) is not BatchState.RUNNING
        await batch.left()
    assert state_of(await journal.batch("b1"), now) is BatchState.LEFT
    assert state_of(await journal.batch("b2"), now) is BatchState.DETACHED
    dead = LeaseOwner("dead", plain.holder.host, 2**22 + 1, plain.holder.process_began)
    for id_, state in (("b1", BatchState.LEFT), ("b2", BatchState.DETACHED)):
        await journal.hold(id_, dead, 3600, is_dead=lambda _: False)
        assert state_of(await journal.batch(id_), now) is state
    await Recorded(journal, "b1", dead).over(0, execution_result("a"))
    assert state_of(await journal.batch("b1"), now) is BatchState.ENDED
    nothing = await Recorded(journal, "b3").begin([])
    await nothing.left()
    assert state_of(await journal.batch("b3"), now) is BatchState.ENDED


async def test_what_is_read(journal: MemoryJournal) -> None:
    """A batch comes with its settings and all of its runs, each with its machine, its time, its outcome and result."""
    batch = await Recorded(journal).begin(["done", "goes on", "waits"], max_concurrency=7)
    result = execution_result("done", cost_usd=0.5, num_turns=3, text="all \ud83d well", structured_output={"x": 1.5})
    await batch.over(0, result)
    began = datetime.now(UTC) - timedelta(seconds=30)
    point = {"machine_id": "m2", "attempt": 1, "began_at": {"create": began.isoformat()}}
    await journal.write("b1", batch.holder.owner, [CheckpointNote(1, "agent", point)])
    found = await read_batch(journal, "last")
    assert (found.id, found.source, found.detached) == ("b1", "batch.yaml", False)
    assert (found.settings.app, found.settings.max_concurrency) == ("my-app", 7)
    done, goes_on, waits = found.runs
    now = began + timedelta(seconds=60)
    assert [run.machine_id for run in found.runs] == ["m1", "m2", ""]
    assert [run.seconds(now) for run in found.runs] == [75.0, 60.0, None]
    assert [(run.is_over, run.success) for run in found.runs] == [(True, True), (False, False), (False, False)]
    assert done.outcome is not None and (done.outcome.num_turns, done.outcome.cost_usd) == (3, 0.5)
    assert goes_on.outcome is None and waits.outcome is None
    assert await found.result(0) == result
    assert await found.result_json(0) == dump_result(result)
    assert await found.result(1) is None and await found.result_json(2) is None


@pytest.mark.parametrize("kind", [FailureKind.DEADLINE, None])
async def test_why_a_run_failed(journal: MemoryJournal, kind: FailureKind | None) -> None:
    """The failure of a run is in its outcome, and its whole result is as a caller had it."""
    failure = Failure(kind=kind, phase=Phase.AGENT, message="too late") if kind else None
    result = execution_result("a", exit_code=124, failure=failure)
    error = RunFailedError(failure) if failure else MachineExitError("m1", 124, "destroyed")
    failed = ExecutionResult("a", result.run_result, error, result.attempts)
    batch = await Recorded(journal).begin(["a"])
    await batch.over(0, failed)
    found = await read_batch(journal, "b1")
    (run,) = found.runs
    assert run.is_over and not run.success and run.outcome is not None and run.outcome.exit_code == 124
    assert (run.outcome.kind, run.outcome.phase) == ((kind, "agent") if kind else (None, None))
    assert run.outcome.message
    loaded = await found.result(0)
    assert loaded is not None and not loaded.success and loaded.failure == failure


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{}", b'{"tag": 1, "run_result": 2}', b"\xff"])
async def test_a_result_that_is_not_whole(journal: MemoryJournal, content: bytes | None) -> None:
    """A result whose file is missing or damaged is told as a fault of the journal, by the run's number."""
    batch = await Recorded(journal).begin(["a"])
    await batch.over(0, execution_result("a"))
    await journal.drop("b1", "runs/000/result.json")
    if content is not None:
        await journal.put("b1", "runs/000/result.json", content)
    found = await read_batch(journal, "b1")
    with pytest.raises(JournalError, match=r"result\.json is|result of run #0"):
        await found.result(0)


async def test_a_run_by_its_tag_or_its_number(journal: MemoryJournal) -> None:
    """A tag that is one run's alone names it, also one that looks like a number; else a number does."""
    tags = ["alpha", "twice", "2", "twice", "", *(f"beta-{number}" for number in range(12))]
    await Recorded(journal).begin(tags)
    found = await read_batch(journal, "b1")
    for word, index in (("alpha", 0), ("2", 2), ("0", 0), ("#0", 0), ("#2", 2), ("3", 3), ("16", 16), ("", 4)):
        assert found.run(word).index == index
    for word, told in (
        ("twice", "tag 'twice': runs 1, 3 have it; name one by its number"),
        ("alhpa", "tag 'alhpa': batch b1 has no such run; the nearest: 'alpha'"),
        ("zz\x1b", r"tag 'zz\\x1b': batch b1 has no such run; there is 'alpha', 'twice', '2', 'beta-0', .*, …$"),
        ("17", "run 17: batch b1 has 17 runs, numbered from 0"),
        ("#99999999999", "no such run"),
        ("²", "no such run"),
    ):
        with pytest.raises(ConfigError, match=told):
            found.run(word)
    await Recorded(journal, "b2").begin(["", ""])
    with pytest.raises(ConfigError, match="its runs have no tags"):
        (await read_batch(journal, "b2")).run("x")
    with pytest.raises(ConfigError, match="tag '': runs 0, 1 have it"):
        (await read_batch(journal, "b2")).run("")
