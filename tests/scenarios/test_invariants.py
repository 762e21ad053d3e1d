"""Batches of 1 to 30 runs through random faults: what must always be true is true in every one.

Each seed is one world of faults, the same each time. `FLAUDE_SEEDS=100 pytest tests/test_invariants.py` tries more.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import SecretStr
from tests.conftest import TOKEN, Machines

from flaude import (
    BatchResult,
    ConcurrentExecutor,
    ExecutionRequest,
    ExecutionResult,
    FailureKind,
    MachineConfig,
    Timeouts,
)
from flaude._providers.fly import FlyClient, Machine
from flaude.events import Event, Finished
from flaude.local import (
    Answer,
    Delay,
    Dies,
    DropAfter,
    DropBefore,
    Effect,
    Fault,
    Hook,
    HostGone,
    ListLag,
    LocalFly,
    SlowDelete,
    Truncate,
)

SECRET = "canary-of-the-env-5f4e3d"
FLY_TOKEN = "fm2_canary-of-fly-2b1a"
SEEDS = range(int(os.environ.get("FLAUDE_SEEDS", "3")))

BLIPS: list[Effect] = [
    Answer(500, "internal: something broke"),
    Answer(502, body="<html>Bad Gateway</html>"),
    Answer(503, body=""),
    Answer(504, "deadline_exceeded: timeout"),
    Answer(408, "deadline_exceeded: request timeout"),
    Answer(429, "resource_exhausted: rate limit exceeded"),
    Answer(429, "resource_exhausted: rate limit exceeded", retry_after=1),
    Answer(200, body=""),
    Answer(200, body='{"id": "half'),
    DropBefore(),
    DropAfter(),
    Truncate(),
    Delay(0.4),
]

ACTIONS = ["create_machine", "get_machine", "wait_machine", "exec_machine", "delete_machine", "list_machines", "*"]


@dataclass(frozen=True)
class Prompt:
    """What an agent is told, and how that ends when nothing goes wrong."""

    lines: str
    exit_code: int
    kind: FailureKind | None


PROMPTS = [
    Prompt("::say all done", 0, None),
    Prompt("::say all done", 0, None),
    Prompt("::sleep 0.5\n::say all done", 0, None),
    Prompt("::fail no bug found", 1, FailureKind.AGENT_ERROR),
    Prompt("::exit 3", 3, FailureKind.AGENT_ERROR),
]


def blips(chance: random.Random) -> list[Fault]:
    """Trouble of the network and of the API, which harms no machine; at most one call in eight."""
    return [
        Fault(chance.choice(ACTIONS), chance.choice(BLIPS), chance=chance.uniform(0.01, 0.06)) for _ in range(6)
    ] + [Fault("list_machines", ListLag(2.0), chance=0.3)]


def deaths(chance: random.Random) -> list[Fault]:
    """Machines that die at any time, and hosts that go."""
    return [
        Fault("create_machine", Dies(chance.uniform(0, 4)), chance=0.2),
        Fault("create_machine", Dies(chance.uniform(0, 4), oom=True), chance=0.1),
        Fault("create_machine", HostGone(chance.uniform(0, 3), back_s=chance.choice([2.0, None])), chance=0.1),
        Fault("create_machine", Answer(409, "aborted: could not reserve resource for machine"), chance=0.1),
        Fault("delete_machine", SlowDelete(chance.uniform(0.1, 3)), chance=0.2),
    ]


class World:
    """A stand-in, a batch that was run on it, and all that was to be seen of it."""

    def __init__(self, fly: LocalFly, folder: Path, seed: int) -> None:
        self.fly = fly
        self.folder = folder
        self.chance = random.Random(seed)  # noqa: S311  # to be repeatable is its purpose
        self.events: list[Event] = []
        self._task: asyncio.Future[BatchResult]
        size = self.chance.choice([1, 2, 3, 5, 8]) if seed % 6 else 30
        self.prompts = [self.chance.choice(PROMPTS) for _ in range(size)]

    async def run(self, faults: list[Fault], timeouts: Timeouts) -> BatchResult:
        """Run the batch with these faults."""
        self.fly.faults.add(*faults)
        executor = ConcurrentExecutor(
            "my-app",
            fly=self.fly,
            on_event=self.events.append,
            timeouts=timeouts,
            max_concurrency=self.chance.choice([None, 2, 10]),
        )
        requests = [self.request(index, prompt) for index, prompt in enumerate(self.prompts)]
        self._task = asyncio.ensure_future(executor.run_batch(requests))
        try:
            return await self._task
        except asyncio.CancelledError:
            finished = {event.index: event.result for event in self.events if isinstance(event, Finished)}
            return BatchResult([finished[index] for index in range(len(requests))])
        finally:
            self.fly.faults.clear()

    def stops(self) -> list[Fault]:
        """The batch is cancelled at some call, and maybe once more at a later one."""
        first = self.chance.randint(0, 12 * len(self.prompts))
        moments = [first] if self.chance.random() < 0.5 else [first, first + self.chance.randint(0, 20)]
        return [Fault("*", Hook(before=self._cancel), after=at, times=1) for at in moments]

    def _cancel(self, _path: str) -> None:
        self._task.cancel()

    def request(self, index: int, prompt: Prompt) -> ExecutionRequest:
        """An agent that notes its start where the machine's end does not erase it, and tells what it should not."""
        notes = f"::shell echo x >> {self.folder}/starts-{index}; echo $CLAUDE_CODE_OAUTH_TOKEN $HIDDEN >&2\n"
        tell = f"::stderr {SECRET} {TOKEN}\n"
        config = MachineConfig(
            claude_code_oauth_token=TOKEN, prompt=notes + tell + prompt.lines, env={"HIDDEN": SecretStr(SECRET)}
        )
        return ExecutionRequest(config, tag=f"run-{index}")

    def starts(self, index: int) -> int:
        """How often this request's agent was started."""
        path = self.folder / f"starts-{index}"
        return len(path.read_text().split()) if path.exists() else 0

    async def machines(self) -> list[Machine]:
        """Every machine that ever was."""
        async with FlyClient(base_url=self.fly.base_url, token=self.fly.token) as fly:
            return await fly.list_machines("my-app", include_deleted=True)

    async def check(self, batch: BatchResult, logged: str) -> None:
        """The invariants."""
        assert [result.tag for result in batch.results] == [f"run-{index}" for index in range(len(self.prompts))]
        assert batch.total == len(self.prompts) == batch.succeeded + batch.failed
        machines = await self.machines()
        named = {leftover.machine_id for leftover in batch.leftovers}
        alive = {machine.id for machine in machines if machine.state != "destroyed"}
        assert alive <= named, "a machine is neither gone nor named"
        names = Counter(machine.name for machine in machines)
        assert not [name for name, count in names.items() if count > 1], "two machines for one attempt"
        attempts = [attempt for result in batch.results for attempt in result.attempts]
        assert names.keys() <= {attempt.name for attempt in attempts}, "a machine of no attempt"
        assert {attempt.machine_id for attempt in attempts} - {""} <= {machine.id for machine in machines}
        for index in range(len(self.prompts)):
            assert self.starts(index) <= 1, "an agent was started twice"
        self.check_secrets(batch, machines, logged)

    def check_secrets(self, batch: BatchResult, machines: list[Machine], logged: str) -> None:
        """No canary anywhere but in the machine."""
        dumped = "".join(result.run_result.model_dump_json() for result in batch.results if result.run_result)
        places = {
            "results": repr(batch) + dumped,
            "events": repr(self.events),
            "configs": "".join(machine.model_dump_json() for machine in machines),
            "log": logged,
        }
        for canary in (TOKEN, SECRET, self.fly.token):
            for place, text in places.items():
                assert canary not in text, f"a secret is in the {place}"


def as_expected(result: ExecutionResult, prompt: Prompt) -> bool:
    """Whether a run ended as its agent wanted."""
    kind = result.failure.kind if result.failure else None
    return (
        result.run_result is not None
        and result.error is None
        and (result.run_result.exit_code, kind) == (prompt.exit_code, prompt.kind)
    )


ORPHAN_S, START_S = 15.0, 20.0
QUICK: dict[str, Any] = {"grace": 1.0, "destroy": 60.0, "patience": 12.0, "orphan": ORPHAN_S, "start_deadline": START_S}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", SEEDS)
async def test_blips_end_no_run(machines: Machines, tmp_path: Path, caplog: Any, seed: int) -> None:
    """Whatever the network does, every run ends as its agent wanted, and every machine is gone."""
    caplog.set_level(logging.DEBUG)
    async with machines(box="plain", remember_s=3600, token=FLY_TOKEN, seed=seed) as fly:
        world = World(fly, tmp_path, seed)
        batch = await world.run(blips(world.chance), Timeouts(**QUICK))
        await world.check(batch, caplog.text)
        for result, prompt in zip(batch.results, world.prompts, strict=True):
            assert as_expected(result, prompt), result
        assert batch.leftovers == []
        assert [world.starts(index) for index in range(batch.total)] == [1] * batch.total


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", SEEDS)
async def test_deaths_leave_nothing_behind(machines: Machines, tmp_path: Path, caplog: Any, seed: int) -> None:
    """Whatever machines and hosts do besides, each is accounted for, and no prompt is given to two agents."""
    caplog.set_level(logging.DEBUG)
    async with machines(box="plain", remember_s=3600, token=FLY_TOKEN, seed=seed) as fly:
        world = World(fly, tmp_path, seed)
        faults = [*deaths(world.chance), *blips(world.chance)]
        batch = await world.run(faults, Timeouts(**QUICK | {"destroy": 6.0, "patience": 8.0, "retry": 4.0, "boot": 20}))
        await world.check(batch, caplog.text)
        infrastructure = {FailureKind.MACHINE_LOST, FailureKind.OOM, FailureKind.API, FailureKind.BOOT_TIMEOUT}
        for result, prompt in zip(batch.results, world.prompts, strict=True):
            kind = result.failure.kind if result.failure else None
            assert as_expected(result, prompt) or kind in infrastructure | {FailureKind.CAPACITY}, result
        # What even a delete could not reach ends by its own clocks.
        with anyio.fail_after(max(ORPHAN_S, START_S) + 60):
            while fly.alive:
                await world.machines()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_stop_at_any_call_leaves_nothing_behind(
    machines: Machines, tmp_path: Path, caplog: Any, seed: int
) -> None:
    """A batch that is cancelled at any call, once or twice, while everything goes wrong: all of that holds too."""
    caplog.set_level(logging.DEBUG)
    async with machines(box="plain", remember_s=3600, token=FLY_TOKEN, seed=seed) as fly:
        world = World(fly, tmp_path, seed)
        faults = [*world.stops(), *deaths(world.chance), *blips(world.chance)]
        batch = await world.run(faults, Timeouts(**QUICK | {"destroy": 6.0, "patience": 8.0, "retry": 4.0, "boot": 20}))
        await world.check(batch, caplog.text)
        with anyio.fail_after(max(ORPHAN_S, START_S) + 60):
            while fly.alive:
                await world.machines()
