"""A batch that is spread over apps: which attempt is where, what is made, what stays, and who finds it."""

from __future__ import annotations

import json
import logging
import signal
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import TOKEN, Machines
from tests.support.controller_process import controller
from tests.support.gate import Gate
from tests.support.journal_helpers import OTHER

from flaude import (
    Attempt,
    BatchHeldError,
    BatchResult,
    ConcurrentExecutor,
    ConfigError,
    ExecutionRequest,
    Interrupted,
    LeaseLostError,
    Leftover,
    MachineConfig,
    NameTakenError,
    NotAllowedError,
    NotFoundError,
    Retries,
    Terminated,
    Timeouts,
    UnreachableError,
    ensure_app,
    reap,
    remove_shards,
)
from flaude._executor.event_delivery import EventHandler
from flaude._model.placement import MOST_SHARDS, Shards, is_shard_name, own_network, shard_network
from flaude._model.settings import ExecutorSettings
from flaude._providers.fly import App, FlyClient
from flaude._providers.fly.app_pool import AppPool, HeldApps
from flaude._providers.fly.destroy import destroy
from flaude._providers.fly.diagnosis import GONE
from flaude._providers.fly.shard_admin import make_shard, remove_shard
from flaude._providers.fly.state_watcher import MachineStates
from flaude._run.checkpoint import dump_checkpoint, load_checkpoint
from flaude._run.plan import AttemptPlan
from flaude._run.state import AttemptState
from flaude.cli.commands.create import create
from flaude.cli.commands.remove_shards import remove_shards as remove_command
from flaude.events import Event
from flaude.journal import MemoryJournal, SqliteJournal
from flaude.local import Answer, DropAfter, Fault, Hang, Hook, LocalFly

NO_ROW = "internal: failed to get app: sql: no rows in result set"
COUNTS = st.integers(1, MOST_SHARDS)


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_CODE_OAUTH_TOKEN", TOKEN)


@pytest.fixture
async def local(machines: Machines) -> AsyncIterator[LocalFly]:
    """A stand-in whose machines are simulated: here it does not matter what is in them."""
    async with machines(box="simulated") as fly:
        yield fly


@pytest.fixture
async def client(local: LocalFly) -> AsyncIterator[FlyClient]:
    """A client of the stand-in."""
    async with FlyClient(base_url=local.base_url, token=local.token) as fly:
        yield fly


def requests(count: int, prompt: str = "::say done") -> list[ExecutionRequest]:
    """So many requests."""
    return [ExecutionRequest(MachineConfig(prompt=prompt), tag=str(index)) for index in range(count)]


def tells(begun: anyio.Event) -> EventHandler:
    """Sets it when there is a machine."""

    def take(event: Event) -> None:
        if event.machine_id:
            begun.set()

    return take


async def apps(fly: LocalFly) -> dict[str, str]:
    """The apps that there are, with their networks."""
    async with FlyClient(base_url=fly.base_url, token=fly.token) as client:
        return {app.name: app.network for app in await client.list_apps("personal")}


async def end(client: FlyClient, app: str, machine_id: str) -> None:
    """Destroy a machine that a test has made."""
    states = MachineStates(client, app, {})
    gone = await destroy(client, app, machine_id, states=states, within_s=20, known_from=0, notice=lambda _: None)
    assert gone == GONE


def apps_of(batch: BatchResult) -> list[list[str]]:
    """The apps of each run's attempts."""
    return [[attempt.app for attempt in result.attempts] for result in batch.results]


# --- names and places ---


@given(st.text(), COUNTS, st.integers(0, 10_000), st.integers(1, 20))
def test_every_attempt_has_its_app(batch: str, count: int, index: int, attempt: int) -> None:
    """It is one of the shards, the same for whoever asks; neighbours are spread, another attempt is in the next."""
    shards = Shards("my-app", count)
    app = shards.of(batch, index, attempt)
    assert app in shards.names and app == Shards("my-app", count).of(batch, index, attempt)
    assert {shards.of(batch, index + one, attempt) for one in range(count)} == set(shards.names)
    after = shards.names[(shards.names.index(app) + 1) % count]
    assert shards.of(batch, index, attempt + 1) == after


def test_small_batches_do_not_all_begin_in_the_first_app() -> None:
    """Of a hundred batches of one run, every one of four apps has some."""
    begun = Counter(Shards("my-app", 4).of(f"batch-{number}", 0, 1) for number in range(100))
    assert len(begun) == 4 and min(begun.values()) > 10


@given(st.from_regex(r"[a-z0-9][a-z0-9-]{0,59}", fullmatch=True), COUNTS)
def test_names_and_networks(app: str, count: int) -> None:
    """All names differ and are told from others; each has a network of its own that Fly takes."""
    shards = Shards(app, count)
    assert len(set(shards.names)) == count and shards.names[0] == app
    assert all(is_shard_name(app, name) for name in shards.others)
    networks = {shard_network(name) for name in shards.others} | {own_network(app)}
    assert len(networks) == count
    assert all(network[0].isalpha() and network.isascii() and len(network) <= 64 for network in networks)


@pytest.mark.parametrize("name", ["my-app", "my-app-1", "my-app-02", "my-app-65", "my-app-2-2", "my-app-x", "other-2"])
def test_what_is_no_shards_name(name: str) -> None:
    """An app that is only called alike is none of ours."""
    assert not is_shard_name("my-app", name)


@pytest.mark.parametrize(
    ("app", "options", "message"),
    [
        ("my-app", {"shards": 0}, "shards: give a number from 1 to 64, not 0"),
        ("my-app", {"shards": 65}, "shards: give a number from 1 to 64, not 65"),
        ("my-app", {"shards": True}, "shards: give a number from 1 to 64, not True"),
        ("my-app", {"shards": 2.0}, "shards: give a number from 1 to 64, not 2.0"),
        ("my-app", {"keep_shards": "no"}, "keep_shards: give True or False, not 'no'"),
        ("a" * 61, {"shards": 10}, "shards: the last one would be a{61}-10, which is longer than Fly's 63 characters"),
    ],
)
def test_what_cannot_be_spread(app: str, options: dict[str, Any], message: str) -> None:
    """Each is a sentence that names the argument, before anything is made."""
    with pytest.raises(ConfigError, match=message):
        ConcurrentExecutor(app, **options)
    ConcurrentExecutor("a" * 63)
    ConcurrentExecutor("a" * 61, shards=9)


def test_what_an_older_flaude_has_written() -> None:
    """Settings without shards are of one app; attempts, leftovers and checkpoints without an app are read."""
    kept = ExecutorSettings("my-app", shards=3, keep_shards=False).dump()
    assert ExecutorSettings.load(kept).apps == Shards("my-app", 3) and not ExecutorSettings.load(kept).keep_shards
    old = {name: value for name, value in kept.items() if name not in ("shards", "keep_shards")}
    assert ExecutorSettings.load(old) == ExecutorSettings("my-app", output_dir=Path("flaude-output").absolute())
    assert Attempt.model_validate({"number": 1, "name": "m", "gone": True}).app == ""
    assert str(Leftover.model_validate({"name": "m", "machine_id": ""})) == "m (id unknown)"
    point = dump_checkpoint(1, AttemptState(), 0, {}, ())
    del point["app"]
    assert load_checkpoint(point, None).app == ""


def test_a_machine_is_where_it_was_left() -> None:
    """The checkpoint's word goes before the rule by which a machine gets its app: that may be another one some day."""
    kept = json.loads(json.dumps(dump_checkpoint(1, AttemptState(), 0, {}, (), "my-app-7")))
    plan = AttemptPlan(
        shards=Shards("my-app", 3),
        config=MachineConfig(prompt="x"),
        batch="b",
        index=0,
        attempt=1,
        name="m",
        tag="",
        run_s=60,
        timeouts=Timeouts(),
        credentials={},
        queued=datetime.now(UTC),
        output_dir=Path("unused"),
        left_in=load_checkpoint(kept, None).app,
    )
    assert plan.app == "my-app-7"


# --- a batch ---


async def test_a_batch_keeps_to_the_pace_of_all_its_apps(machines: Machines) -> None:
    """Nine runs over three apps, made when missing: three in each, none beyond Fly's limits; the apps stay."""
    async with machines(limits=True, box="simulated") as fly:
        batch = await ConcurrentExecutor("my-app", shards=3, fly=fly).run_batch(requests(9))
        assert batch.all_succeeded and batch.shards_left == ()
        names = ("my-app", "my-app-2", "my-app-3")
        assert Counter(app for run in apps_of(batch) for app in run) == dict.fromkeys(names, 3)
        assert [result.run_result.app for result in batch.results if result.run_result] == [
            app for (app,) in apps_of(batch)
        ]
        refused = {action: count for (action, status), count in fly.requests.items() if status == 429}
        assert refused == {}
        assert await apps(fly) == {
            "my-app": "default",
            "my-app-2": "flaude-shard-my-app-2",
            "my-app-3": "flaude-shard-my-app-3",
        }
        async with FlyClient(base_url=fly.base_url, token=fly.token) as client:
            for name in names:
                found = await client.list_machines(name, include_deleted=True)
                mine = {
                    result.run_result.machine_id
                    for result in batch.results
                    if result.run_result and result.run_result.app == name
                }
                assert {machine.id for machine in found} == mine


async def test_apps_are_made_at_a_pace_of_their_own(machines: Machines) -> None:
    """Fly has no app yet to count them for: they count together."""
    async with machines(limits=True, box="simulated") as fly:
        await ensure_app("my-app", shards=5, fly=fly)
        assert len(await apps(fly)) == 5 and fly.requests["create_app", 429] == 0


async def test_many_small_batches_ask_once_for_the_app(machines: Machines) -> None:
    """Batches of one run do not wait for each other because each looks whether the app is there."""
    async with (
        machines(limits=True, box="simulated") as fly,
        ConcurrentExecutor("my-app", shards=2, fly=fly) as executor,
    ):
        async with anyio.create_task_group() as tasks:
            for one in requests(4):
                tasks.start_soon(executor.run_batch, [one])
        assert len(fly.created) == 4
        # The first app once; the other one before it is made, and until it is there.
        assert sum(count for (action, _), count in fly.requests.items() if action == "get_app") == 3


async def test_shards_are_removed_when_they_are_not_to_be_kept(local: LocalFly) -> None:
    """Made for the batch, gone after it; the first app stays."""
    executor = ConcurrentExecutor("my-app", shards=3, keep_shards=False, fly=local)
    batch = await executor.run_batch(requests(3))
    assert batch.all_succeeded and batch.shards_left == ()
    assert sorted(app for (app,) in apps_of(batch)) == ["my-app", "my-app-2", "my-app-3"]
    assert await apps(local) == {"my-app": "default"}


async def test_shards_of_a_batch_that_is_cancelled_are_removed(local: LocalFly) -> None:
    """What was made for it goes with it, after its machines."""
    begun = anyio.Event()
    executor = ConcurrentExecutor("my-app", shards=2, keep_shards=False, fly=local, on_event=tells(begun))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(executor.run_batch, requests(2, "::silent"))
        await begun.wait()
        tasks.cancel_scope.cancel()
    assert await apps(local) == {"my-app": "default"} and local.alive == 0


async def test_the_last_batch_removes_the_shards(machines: Machines, gate: Gate) -> None:
    """While another batch of the executor uses them, they stay."""
    begun = anyio.Event()
    async with machines(box="plain") as fly:
        executor = ConcurrentExecutor("my-app", shards=2, keep_shards=False, fly=fly, on_event=tells(begun))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(executor.run_batch, requests(1, f"{gate.waits}\n::say done"))
            await begun.wait()
            assert (await executor.run_batch(requests(2))).all_succeeded
            assert set(await apps(fly)) == {"my-app", "my-app-2"}
            gate.open()
        assert set(await apps(fly)) == {"my-app"}


async def test_a_shard_that_was_removed_meanwhile_is_made_again(
    local: LocalFly, client: FlyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen within the last minute, but Fly refuses a machine in it for as long: the next batch looks again."""
    monkeypatch.setattr("flaude._providers.fly.young_apps.YOUNG_S", 4)
    async with ConcurrentExecutor("my-app", shards=2, fly=local) as executor:
        assert (await executor.run_batch(requests(2))).all_succeeded
        await client.delete_app("my-app-2")
        failed = [result for result in (await executor.run_batch(requests(2))).results if not result.success]
        assert [result.failure and result.failure.kind for result in failed] == ["create_refused"]
        assert "the app my-app-2 is gone" in str(failed[0].failure)
        assert (await executor.run_batch(requests(2))).all_succeeded


async def test_shards_that_were_removed_are_made_again(local: LocalFly) -> None:
    """The next batch of the same executor does not take for there what the last one has removed."""
    async with ConcurrentExecutor("my-app", shards=2, keep_shards=False, fly=local) as executor:
        for _ in range(2):
            assert (await executor.run_batch(requests(2))).all_succeeded
            assert await apps(local) == {"my-app": "default"}


async def test_each_shard_that_stays_is_named(local: LocalFly, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that Fly does not delete in time is the only one that is told of; the others are gone."""
    monkeypatch.setattr("flaude._providers.fly.app_pool._REMOVED_WITHIN_S", 6)
    local.faults.add(Fault("delete_app", Hang(), times=1))
    batch = await ConcurrentExecutor("my-app", shards=4, keep_shards=False, fly=local).run_batch(requests(1))
    (stays,) = set(await apps(local)) - {"my-app"}
    assert batch.shards_left == (f"{stays} stays: it was not removed within 6 s",)


async def test_a_batch_that_others_outlive_waits_for_nobody(local: LocalFly, client: FlyClient) -> None:
    """Where all its shards are in use, it ends at once, though apps are being made meanwhile."""
    pool, shards = AppPool(client, 1), Shards("my-app", 2)
    async with pool.held(shards, keep=False):
        first = HeldApps(pool, shards, keep=False)
        async with pool._turn:  # noqa: SLF001  # held while apps are made
            with anyio.fail_after(10):
                assert await first.let_go(remove=True) == ()
    assert set(await apps(local)) == {"my-app"}


async def test_a_batch_that_comes_meanwhile_keeps_the_shards(local: LocalFly, client: FlyClient) -> None:
    """While one waits for its turn to remove them, another may begin to use them."""
    pool, shards = AppPool(client, 1), Shards("my-app", 2)
    await ensure_app("my-app", shards=2, fly=local)
    first = HeldApps(pool, shards, keep=False)
    async with anyio.create_task_group() as tasks, pool._turn:  # noqa: SLF001  # held while somebody asks for the app
        tasks.start_soon(lambda: first.let_go(remove=True))
        await anyio.wait_all_tasks_blocked()
        HeldApps(pool, shards, keep=False)
    assert set(await apps(local)) == {"my-app", "my-app-2"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_while_apps_are_made(local: LocalFly, number: signal.Signals) -> None:
    """Nothing is launched, what was made is removed, and it ends as a batch that a signal has ended."""

    def stop(_path: str) -> None:
        signal.raise_signal(number)

    local.faults.add(Fault("create_app", Hook(after=stop), after=1, times=1))
    local.faults.add(Fault("create_app", Hang(), after=1))  # the third one, should it come
    executor = ConcurrentExecutor("my-app", shards=4, keep_shards=False, fly=local)
    with anyio.move_on_after(20) as within, pytest.raises((Interrupted, Terminated)) as stopped:
        await executor.run_batch(requests(2))
    assert not within.cancel_called, "a call that hangs is left"
    ending = stopped.value
    assert isinstance(ending, Interrupted if number is signal.SIGINT else Terminated)
    told = f"not launched: stopped by {number.name}"
    assert [result.failure and result.failure.message for result in ending.batch.results] == [told] * 2
    assert set(await apps(local)) == {"my-app"} and not local.created


async def test_another_attempt_is_in_another_app(local: LocalFly) -> None:
    """Where one app got no machine, the next one may."""
    full = Answer(422, body='{"error": "could not find a candidate host", "status": "insufficient_capacity"}')
    local.faults.add(Fault("create_machine", full, times=1))
    timeouts = Timeouts(capacity=0)
    executor = ConcurrentExecutor("my-app", shards=2, fly=local, retries=Retries(wait=0), timeouts=timeouts)
    batch = await executor.run_batch(requests(1))
    assert batch.all_succeeded and sorted(*apps_of(batch)) == ["my-app", "my-app-2"]


async def test_a_shard_with_somebody_elses_machine_stays(
    local: LocalFly, client: FlyClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is forced: the app and the machine are still there, and that is said."""
    await ensure_app("my-app", shards=2, fly=local)
    spec = {"image": "x", "init": {"exec": ["sleep", "600"]}, "restart": {"policy": "no"}}
    machine = await client.create_machine("my-app-2", name="other", config=spec)
    executor = ConcurrentExecutor("my-app", shards=3, keep_shards=False, fly=local)
    with caplog.at_level(logging.WARNING):
        batch = await executor.run_batch(requests(1))
    assert batch.all_succeeded and batch.shards_left == ("my-app-2 stays: it has 1 machine",)
    assert local.requests["list_machines", 200] == 2, "one of each: that machine is not waited for"
    assert "my-app-2 stays: it has 1 machine" in caplog.text
    assert set(await apps(local)) == {"my-app", "my-app-2"}
    await end(client, "my-app-2", machine.id)


_STILL_LISTED = [{"id": "x", "name": "m", "state": "destroying", "config": {"metadata": {"flaude_batch": "b1"}}}]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("list_machines", Answer(200, body=json.dumps(_STILL_LISTED)), times=1),
        Fault("delete_app", Answer(412, "app has machines"), times=1),
    ],
    ids=["the list", "the app"],
)
async def test_what_is_behind_does_not_keep_a_shard(local: LocalFly, client: FlyClient, fault: Fault) -> None:
    """Its machines are known to be gone, and Fly does not know it everywhere yet: that is waited for."""
    await ensure_app("my-app", shards=2, fly=local)
    local.faults.add(fault)
    assert await remove_shard(client, "my-app-2", batch="b1") == ""
    assert set(await apps(local)) == {"my-app"}


async def test_a_shard_whose_machine_is_not_confirmed_gone_stays(local: LocalFly) -> None:
    """It is a leftover of the app that it is in, by name."""
    local.faults.add(Fault("delete_machine", Answer(500)))
    timeouts = Timeouts(destroy=0.5, retry=0.1)
    executor = ConcurrentExecutor("my-app", shards=2, keep_shards=False, fly=local, timeouts=timeouts)
    batch = await executor.run_batch(requests(2))
    assert sorted(leftover.app for leftover in batch.leftovers) == ["my-app", "my-app-2"]
    assert sorted(str(leftover).rpartition(" in ")[2] for leftover in batch.leftovers) == ["my-app", "my-app-2"]
    assert batch.shards_left == ("my-app-2 stays: a machine in it is not confirmed gone",)
    local.faults.clear()
    report = await reap("my-app", all=True, fly=local, settle=0.1)
    assert report.shards == ("my-app-2",) and not report.failed


# --- apps that are none of ours ---


@pytest.mark.parametrize("network", ["default", "my-app-2"])
async def test_an_app_that_is_no_shard_is_left_alone(local: LocalFly, client: FlyClient, network: str) -> None:
    """An agent in it would have its secrets: nothing is launched, it is said, and nothing is deleted."""
    await client.create_app("my-app-2", network=network)
    executor = ConcurrentExecutor("my-app", shards=3, keep_shards=False, fly=local)
    with pytest.raises(NameTakenError, match="there is an app my-app-2 that flaude did not make as a shard"):
        await executor.check()
    batch = await executor.run_batch(requests(2))
    assert [isinstance(result.error, NameTakenError) for result in batch.results] == [True, True]
    assert "my-app-2" in batch.stopped_by and not local.created
    assert await apps(local) == {"my-app": "default", "my-app-2": network}
    assert await remove_shards("my-app", fly=local) == {}


async def test_a_name_that_somebody_else_has(machines: Machines) -> None:
    """The error names the shard and what to do; the other shards that were made for the batch are gone again."""
    async with machines(taken=["my-app-2"], box="simulated") as fly:
        executor = ConcurrentExecutor("my-app", shards=3, keep_shards=False, fly=fly)
        (result,) = (await executor.run_batch(requests(1))).results
        assert isinstance(result.error, NotAllowedError)
        assert "the token may not see my-app-2: it is somebody else's" in str(result.error)
        assert "take another app_name" in str(result.error)
        # Where Fly does not tell whose it is before one wants it.
        fly.faults.add(Fault("get_app", Answer(404, "not found"), after=1))
        with pytest.raises(NameTakenError, match="shards: somebody else has an app my-app-2"):
            await ensure_app("my-app", shards=2, fly=fly)
        fly.faults.clear()
        assert set(await apps(fly)) == {"my-app"} and not fly.created


async def test_a_token_that_may_not_make_apps(local: LocalFly) -> None:
    """It is told from a name that is taken, with both ways out."""
    local.faults.add(Fault("create_app", Answer(403, "unauthorized")))
    (result,) = (await ConcurrentExecutor("my-app", shards=2, fly=local).run_batch(requests(1))).results
    assert isinstance(result.error, NotAllowedError)
    assert "shards: my-app-2 is not there, and the token may not make it" in str(result.error)


async def test_an_app_that_is_new_is_waited_for(local: LocalFly) -> None:
    """Just after it was made, Fly may not know it yet, or not let anybody in."""
    local.faults.add(Fault("get_app", Answer(404, "not found"), after=2, times=1))
    local.faults.add(Fault("get_app", Answer(401, "unauthorized"), after=2, times=1))
    assert (await ensure_app("my-app", shards=2, fly=local)).name == "my-app"
    assert local.requests["get_app", 401] == 1 and set(await apps(local)) == {"my-app", "my-app-2"}


async def test_an_app_that_may_not_be_read_is_not_waited_for(local: LocalFly) -> None:
    """A token that may not is no app that is new."""
    local.faults.add(Fault("get_app", Answer(403, "unauthorized"), after=2))
    with pytest.raises(NotAllowedError):
        await ensure_app("my-app", shards=2, fly=local)
    assert local.requests["get_app", 403] == 1


async def test_a_new_app_whose_answer_was_lost_is_waited_for(local: LocalFly, client: FlyClient) -> None:
    """Fly says that the name is taken, and does not know the app yet: it is ours all the same."""
    local.faults.add(Fault("create_app", DropAfter(), times=1))
    local.faults.add(Fault("get_app", Answer(404, "not found"), after=1, times=1))
    assert (await make_shard(client, "my-app-2", "personal")).name == "my-app-2"


async def test_an_app_that_never_appears(local: LocalFly, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fly has made the shard and does not show it: that is said, nothing is launched, and the shard is deleted."""
    monkeypatch.setattr("flaude._providers.fly.young_apps.YOUNG_S", 2)
    local.faults.add(Fault("get_app", Answer(404, "not found"), after=2))
    executor = ConcurrentExecutor("my-app", shards=2, keep_shards=False, fly=local)
    (result,) = (await executor.run_batch(requests(1))).results
    assert isinstance(result.error, NotFoundError | NotAllowedError)
    assert "Fly has made the app my-app-2, and does not show it within 2 s" in str(result.error)
    assert "ensure_app" not in str(result.error) and not local.created
    local.faults.clear()
    assert set(await apps(local)) == {"my-app"}


async def test_apps_in_which_no_machine_can_be_made(local: LocalFly, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run in one fails after a while and says why; no machine is left, and the shard is removed all the same."""
    monkeypatch.setattr("flaude._providers.fly.young_apps.YOUNG_S", 4)
    no_app = Answer(404, "app not found")
    async with ConcurrentExecutor("my-app", shards=2, keep_shards=False, fly=local) as executor:
        local.faults.add(Fault("create_machine", no_app))
        batch = await executor.run_batch(requests(1))
        (result,) = batch.results
        assert result.failure and result.failure.kind == "create_refused", result.failure
        assert "Fly shows the app my-app" in result.failure.message and not result.attempts[0].machine_id
        assert batch.shards_left == () and set(await apps(local)) == {"my-app"} and local.created == []


async def test_a_list_that_denies_the_app_is_no_word_on_its_machines(
    local: LocalFly, client: FlyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While Fly shows the shard it is not taken for gone: it is removed when it can be listed, and else named."""
    await ensure_app("my-app", shards=2, fly=local)
    local.faults.add(Fault("list_machines", Answer(500, NO_ROW), times=2))
    assert await remove_shard(client, "my-app-2") == ""
    assert set(await apps(local)) == {"my-app"} and local.requests["list_machines", 500] == 2
    monkeypatch.setattr("flaude._providers.fly.young_apps.YOUNG_S", 1)
    await ensure_app("my-app", shards=2, fly=local)
    local.faults.add(Fault("list_machines", Answer(404, "app not found")))
    told = await remove_shard(client, "my-app-2")
    assert told.startswith("my-app-2 stays: Fly shows the app my-app-2, and says for")
    assert set(await apps(local)) == {"my-app", "my-app-2"}


async def test_the_organisation_of_the_first_app(local: LocalFly, client: FlyClient) -> None:
    """Shards are made in it, found in it, and removed from it."""
    await client.create_app("team-app", org_slug="team", network="team-app")
    assert (await ConcurrentExecutor("team-app", shards=2, fly=local).run_batch(requests(2))).all_succeeded
    assert [app.name for app in await client.list_apps("team")] == ["team-app", "team-app-2"]
    assert (await reap("team-app", fly=local, settle=0)).shards == ("team-app-2",)
    assert await remove_shards("team-app", fly=local) == {"team-app-2": ""}


# --- a journal ---


async def test_killed_in_the_middle_of_all_apps(machines: Machines, gate: Gate, tmp_path: Path) -> None:
    """The next controller finds every machine in its app, by the journal alone, and removes the apps at the end."""
    home, starts = tmp_path / "home", tmp_path / "starts"
    starts.mkdir()
    prompts = [f"::shell echo started >> {starts / name}\n::say one\n{gate.waits}\n::say two" for name in "abc"]
    async with machines(box="plain") as fly:
        options = {"shards": 3, "keep_shards": False}
        async with controller(fly, prompts=prompts, journal=str(home), output_dir=str(tmp_path), **options) as killed:
            await killed.until(lambda told: "output" in told)
            killed.process.send_signal(signal.SIGKILL)
            await killed.process.wait()
        gate.open()
        assert set(await apps(fly)) == {"my-app", "my-app-2", "my-app-3"}
        async with SqliteJournal(home) as journal:
            (entry,) = await journal.batches()
            batch = await ConcurrentExecutor("my-app", fly=fly, journal=journal, output_dir=tmp_path).resume(entry.id)
        assert batch.all_succeeded, [result.failure for result in batch.results]
        assert sorted(app for (app,) in apps_of(batch)) == ["my-app", "my-app-2", "my-app-3"]
        assert [(starts / name).read_text() for name in "abc"] == ["started\n"] * 3
        assert set(await apps(fly)) == {"my-app"}


FOUR = {"my-app", "my-app-2", "my-app-3", "my-app-4"}
"""Two runs leave some of them empty."""


async def test_a_batch_that_is_left_keeps_its_shards(machines: Machines, gate: Gate, tmp_path: Path) -> None:
    """They are there for who comes back, whatever its executor says, and go when the batch has ended."""
    prompt = f"{gate.waits}\n::say done"
    async with machines(box="plain") as fly, MemoryJournal() as journal:
        options: dict[str, Any] = {"fly": fly, "journal": journal, "output_dir": tmp_path}
        left = await ConcurrentExecutor("my-app", shards=4, keep_shards=False, **options).launch(requests(2, prompt))
        assert left.results == [] and set(await apps(fly)) == FOUR
        gate.open()
        batch = await ConcurrentExecutor("my-app", shards=7, **options).resume(left.id)
        assert batch.all_succeeded and set(await apps(fly)) == {"my-app"}
        assert {app for (app,) in apps_of(batch)} < FOUR


async def test_resumed_with_a_token_that_makes_no_apps(machines: Machines, gate: Gate, tmp_path: Path) -> None:
    """What the machines have done comes home, though a shard is gone that none is in; no foreign app is taken."""
    async with (
        machines(box="plain") as fly,
        FlyClient(base_url=fly.base_url, token=fly.token) as client,
        MemoryJournal() as journal,
    ):
        options: dict[str, Any] = {"fly": fly, "journal": journal, "output_dir": tmp_path}
        left = await ConcurrentExecutor("my-app", shards=4, **options).launch(requests(2, f"{gate.waits}\n::say done"))
        there = {run.checkpoint["app"] for run in await journal.runs(left.id) if run.checkpoint}
        gone, *others = sorted(FOUR - there - {"my-app"})
        for name in (gone, *others):
            await client.delete_app(name)
        await client.create_app(gone, network="own")
        with pytest.raises(NameTakenError, match=gone):
            await ConcurrentExecutor("my-app", **options).resume(left.id)
        await client.delete_app(gone)
        fly.faults.add(Fault("create_app", Answer(403, "unauthorized")))
        gate.open()
        assert (await ConcurrentExecutor("my-app", **options).resume(left.id)).all_succeeded


async def test_cancelled_where_its_machines_were_left(
    local: LocalFly, client: FlyClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Machines are looked for in the apps that the journal has, by whatever rule they came there; no app is made."""
    async with MemoryJournal() as journal:
        options: dict[str, Any] = {"fly": local, "journal": journal, "output_dir": tmp_path}
        left = await ConcurrentExecutor("my-app", shards=4, **options).launch(requests(2, "::silent"))
        there = {run.checkpoint["app"] for run in await journal.runs(left.id) if run.checkpoint}
        for name in FOUR - there - {"my-app"}:
            await client.delete_app(name)
        monkeypatch.setattr(Shards, "of", lambda *_: "my-app-9")
        batch = await ConcurrentExecutor("my-app", **options).cancel(left.id)
    assert [result.failure and result.failure.kind for result in batch.results] == ["cancelled"] * 2
    assert all(result.run_result and result.run_result.destroyed for result in batch.results)
    assert {app for (app,) in apps_of(batch)} == there and len(there) == 2
    assert set(await apps(local)) == there | {"my-app"}


async def test_the_apps_of_what_is_not_taken_up_stay(local: LocalFly, tmp_path: Path) -> None:
    """Where one run of a batch is ended alone, the other one's machine is at work in a shard."""
    async with MemoryJournal() as journal:
        options: dict[str, Any] = {"fly": local, "journal": journal, "output_dir": tmp_path}
        executor = ConcurrentExecutor("my-app", shards=4, keep_shards=False, **options)
        left = await executor.launch(requests(2, "::silent"))
        await executor.cancel(left.id, only=[0])
        assert set(await apps(local)) == FOUR and (await journal.batch(left.id)).ended is None
        await executor.cancel(left.id, only=[1])
        assert set(await apps(local)) == {"my-app"} and (await journal.batch(left.id)).ended, "it was the last one"


@pytest.mark.parametrize("action", ["create_machine", "delete_machine"])
async def test_the_apps_of_a_batch_that_was_lost_stay(local: LocalFly, tmp_path: Path, action: str) -> None:
    """Whoever has taken it over meanwhile, be it at the very end, goes on in them."""
    async with MemoryJournal() as journal:
        options: dict[str, Any] = {"fly": local, "journal": journal, "output_dir": tmp_path}

        async def lose(_path: str) -> None:
            (entry,) = await journal.batches()
            await journal.hold(entry.id, OTHER, 60, is_dead=lambda _: True)

        local.faults.add(Fault(action, Hook(after=lose), times=1))
        executor = ConcurrentExecutor("my-app", shards=4, keep_shards=False, **options)
        with pytest.raises(LeaseLostError):
            await executor.run_batch(requests(1))
        assert set(await apps(local)) == FOUR
        (entry,) = await journal.batches()
        await journal.release(entry.id, OTHER.owner)
        assert (await ConcurrentExecutor("my-app", **options).resume(entry.id)).all_succeeded
        assert set(await apps(local)) == {"my-app"}


async def test_the_apps_of_a_batch_that_is_held_stay(local: LocalFly, tmp_path: Path) -> None:
    """Who is told that another process carries it out removes nothing under that one."""
    async with MemoryJournal() as journal:
        options: dict[str, Any] = {"fly": local, "journal": journal, "output_dir": tmp_path}
        begun = anyio.Event()
        executor = ConcurrentExecutor("my-app", shards=4, keep_shards=False, on_event=tells(begun), **options)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(executor.run_batch, requests(1, "::silent"))
            await begun.wait()
            (entry,) = await journal.batches()
            with pytest.raises(BatchHeldError):
                await ConcurrentExecutor("my-app", **options).resume(entry.id)
            assert set(await apps(local)) == FOUR
            tasks.cancel_scope.cancel()


# --- reaping, and apps by hand ---


async def test_orphans_of_all_shards_are_reaped(local: LocalFly, client: FlyClient) -> None:
    """Each is found in its app; what is in an app that is no shard is not touched."""
    await ensure_app("my-app", shards=2, fly=local)
    await client.create_app("my-app-3", network="own")
    spec = {"image": "x", "init": {"exec": ["sleep", "600"]}, "restart": {"policy": "no"}}
    spec["metadata"] = {"managed_by": "flaude", "flaude_batch": "b1"}
    made = {
        app: await client.create_machine(app, name=f"in-{app}", config=spec)
        for app in ("my-app", "my-app-2", "my-app-3")
    }
    report = await reap("my-app", batch="b1", all=True, fly=local, settle=0.1)
    assert {(one.app, one.name, one.action) for one in report.machines} == {
        ("my-app", "in-my-app", "destroyed"),
        ("my-app-2", "in-my-app-2", "destroyed"),
    }
    assert (report.shards, report.note, report.incomplete) == (("my-app-2",), "", "")
    await end(client, "my-app-3", made["my-app-3"].id)


async def test_a_shard_that_is_removed_while_reaping(local: LocalFly, client: FlyClient) -> None:
    """It has no machines any more: nothing is incomplete for that."""
    await ensure_app("my-app", shards=2, fly=local)

    async def goes(_path: str) -> None:
        await client.delete_app("my-app-2")

    local.faults.add(Fault("list_apps", Hook(after=goes)))
    report = await reap("my-app", fly=local, settle=0)
    assert (report.shards, report.incomplete) == (("my-app-2",), "")


async def test_a_shard_that_is_not_listed_again(local: LocalFly) -> None:
    """What may have been missed there is told with its name, as it is of the app itself."""
    await ensure_app("my-app", shards=2, fly=local)
    local.faults.add(Fault("list_machines", Answer(400, "no"), after=2))
    own, shard = (await reap("my-app", fly=local, settle=0)).incomplete.split("; ")
    assert "my-app-2" not in own and shard.startswith("my-app-2: ")


@pytest.mark.parametrize(("status", "note", "incomplete"), [(403, True, False), (404, True, False), (500, False, True)])
async def test_a_token_that_may_not_list(local: LocalFly, status: int, note: bool, incomplete: bool) -> None:
    """The app itself is reaped all the same; an API that fails is no token's fault, and may have hidden something."""
    local.faults.add(Fault("list_apps", Answer(status)))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("flaude._executor.reaper._RETRY_FOR_S", 0)
        report = await reap("my-app", fly=local, settle=0)
    assert (bool(report.note), bool(report.incomplete)) == (note, incomplete)


async def test_a_list_of_apps_that_has_pages(local: LocalFly, client: FlyClient) -> None:
    """All pages are read; a list that has no end is an error."""
    page = {"apps": [{"name": "a-first"}], "total_apps": 2, "next_cursor": "a-first"}
    local.faults.add(Fault("list_apps", Answer(200, body=json.dumps(page)), times=1))
    assert [app.name for app in await client.list_apps("personal")] == ["a-first", "my-app"]
    local.faults.add(Fault("list_apps", Answer(200, body=json.dumps(page))))
    with pytest.raises(UnreachableError, match="again and again"):
        await client.list_apps("personal")


async def test_shards_by_hand(
    local: LocalFly, client: FlyClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`flaude app create --shards` makes them, `flaude app remove-shards` removes those that are empty."""
    monkeypatch.setenv("FLY_FLAPS_BASE_URL", local.base_url)
    monkeypatch.setenv("FLY_API_TOKEN", local.token)
    assert await create("my-app", shards=3) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"my-app-{number} is there, as a shard of my-app with a network of its own" for number in (2, 3)
    ]
    spec = {"image": "x", "init": {"exec": ["sleep", "600"]}, "restart": {"policy": "no"}}
    machine = await client.create_machine("my-app-3", name="busy", config=spec)
    assert await remove_command("my-app") == 1
    told = capsys.readouterr()
    assert (told.out, told.err) == ("my-app-2 is removed\n", "my-app-3 stays: it has 1 machine\n")
    await end(client, "my-app-3", machine.id)
    assert await remove_command("my-app") == 0 and await remove_command("my-app") == 0
    assert capsys.readouterr().out == "my-app-3 is removed\nmy-app has no shards\n"
    assert set(await apps(local)) == {"my-app"}


def test_apps_that_begin_with_a_digit() -> None:
    """A network's name begins with a letter, whatever the app's does."""
    assert (own_network("my-app"), own_network("2fast")) == ("my-app", "app-2fast")
    assert App.model_validate({"name": "x", "organization": None}).organization.slug == ""
