"""`flaude doctor --live` against local Fly servers that behave in different ways, with short times."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from tests.conftest import TOKEN, Machines
from tests.support.controller_process import ROOT

from flaude import ConcurrentExecutor, ConfigError, ExecutionRequest, MachineConfig, Timeouts
from flaude._guest.client import SupervisorClient
from flaude._guest.program import prepare
from flaude._model.errors import UnreachableError
from flaude._providers.fly import FlyClient
from flaude._providers.fly.connection import client_for
from flaude._providers.fly.probe import saved
from flaude._providers.fly.probe.asking import Asking
from flaude._providers.fly.probe.assumptions import ASSUMPTIONS, Row
from flaude._providers.fly.probe.execs import Execs
from flaude._providers.fly.probe.plan import Plan
from flaude._providers.fly.probe.saved import Saved
from flaude._providers.fly.probe.steps import Probe
from flaude._run.job import build_job_message
from flaude._run.machine import guest_file, machine_spec
from flaude._run.plan import new_pad
from flaude.cli.checks.live_probe import live_probe
from flaude.cli.commands.doctor import doctor
from flaude.local import Answer, Delay, DropAfter, Fault, Hook, ListLag, LocalFly, LocalImage, Quirks, SlowDelete

QUICK = Plan(
    longest=((2.0, 3), (1.0, 2)),
    stop_s=1.0,
    parallel_s=2.0,
    then_s=0.2,
    settle_s=0.0,
    disk_mb=1,
    deadline_s=60.0,
    egress=("127.0.0.1", 9),
)
"""Port 9 of this computer has no server: nothing is asked of the internet."""

Rows = dict[str, dict[str, Any]]
Measure = Callable[..., Any]


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Measure:
    """Runs the probe against a local Fly server; gives the exit code and what was told, by its name."""

    async def run(fly: LocalFly, *, plan: Plan = QUICK, save: bool = False) -> tuple[int, Rows]:
        monkeypatch.setenv("FLY_FLAPS_BASE_URL", fly.base_url)
        monkeypatch.setenv("FLY_API_TOKEN", fly.token)
        capsys.readouterr()
        with anyio.fail_after(50):
            code = await live_probe("my-app", image=None, save=save, json=True, plan=plan, rate_limits=None)
        captured = capsys.readouterr()
        assert fly.token not in captured.out and captured.err == ""
        told = [json.loads(line) for line in captured.out.splitlines()]
        names = [one["name"] for one in told if "measured" in one]
        if code == 0:
            assert sorted(names) == sorted(ASSUMPTIONS), "each point is told once"
        assert len(names) == len(set(names))
        return code, {one["name"]: one for one in told}

    return run


def seen(rows: Rows, name: str) -> Any:
    """What was measured of a point."""
    assert rows[name]["measured"], rows[name]
    return rows[name]["measured"]


async def keep(fly: LocalFly, kept: Saved) -> Path:
    """Keep measurements of a server."""
    return await anyio.to_thread.run_sync(saved.save, fly.base_url, kept)


async def kept_of(fly: LocalFly) -> Saved | None:
    """What is kept of a server."""
    return await anyio.to_thread.run_sync(saved.load, fly.base_url)


async def test_the_worst_reading(machines: Machines, measure: Measure) -> None:
    """Against the server's default flaude's assumptions hold, and nothing is left."""
    async with machines() as fly:
        code, rows = await measure(fly)
        assert code == 0 and rows["left"]["verdict"] == "right", rows["left"]
        assert len(fly.created) == 3
    differing = {name for name, told in rows.items() if told["verdict"] == "differs"}
    assert differing == {"burst", "egress", "stopping"}, rows  # the server has no rate limits here, nor a network
    assert rows["stopping"]["follows"] == "a run's work cannot be collected while its machine is being stopped"
    assert not [name for name, told in rows.items() if told["verdict"] == "not measured"]
    assert seen(rows, "exec_stdin") == {"sent": 11, "arrived": 0}
    body = seen(rows, "exec_body")
    assert (body["largest"], body["refused"], body["recognised"]) == (15_000, 17_000, True)
    assert body["refusal"]["stream"] == "stdout" and "PayloadTooLarge" in body["refusal"]["text"]
    assert seen(rows, "parallel_execs") == {"serial": True}
    assert seen(rows, "exec_output") == {"largest": 8 * 2**20}
    assert "ExecError" in seen(rows, "missing_program")["text"]
    assert (
        seen(rows, "exit_codes")["exit_75"]["exit_code"] == 75
        and seen(rows, "exit_codes")["kill_9"]["exit_signal"] == 9
    )
    assert seen(rows, "exec_timeout")["status"] == 400
    assert seen(rows, "longest_exec")["works_s"] == 2.0
    assert 40_000 < seen(rows, "create")["body_bytes"] < 70_000
    assert "ConnectionRefused" in seen(rows, "egress")["error"] and "dns_s" in seen(rows, "egress")
    assert 0.8 < seen(rows, "stopping")["ended_s"] < 8
    assert seen(rows, "exit_1")["destroyed_s"] < 10
    assert seen(rows, "duplicate_name")["recognised"] and not seen(rows, "duplicate_name")["made_another"]
    assert seen(rows, "machine")["uid"] == 0 and seen(rows, "machine")["python3"].endswith("python3")
    assert abs(seen(rows, "clock")["skew_s"]) < 5
    assert rows["cost"]["found"].endswith("by Fly's prices") and "$0.00000 " not in rows["cost"]["found"]


async def test_the_best_reading(machines: Machines, measure: Measure) -> None:
    """Against a kind server every kindness is found, and what follows from it is said."""
    async with machines(quirks=Quirks.kind()) as fly:
        code, rows = await measure(fly, save=True)
        kept = await kept_of(fly)
    assert code == 0
    assert seen(rows, "exec_stdin")["arrived"] == 11 and "--save" in rows["exec_stdin"]["follows"]
    assert seen(rows, "exec_body")["largest"] == 200_000 and seen(rows, "exec_body")["refused"] is None
    assert seen(rows, "parallel_execs") == {"serial": False}
    assert seen(rows, "missing_program")["exit_code"] == 127
    assert kept is not None and kept.stdin and kept.body_bytes == 200_000 and kept.exec_s is None


async def test_a_mixed_reading(machines: Machines, measure: Measure) -> None:
    """Standard input, bodies of 64 KB and outputs cut at 64 KB are found together, and kept for the next runs."""
    quirks = Quirks(exec_stdin=True, largest_exec_body=64 * 1024, largest_exec_output=64 * 1024, longest_exec_s=8)
    async with machines(quirks=quirks) as fly:
        code, rows = await measure(fly, plan=replace(QUICK, longest=((10.0, 12), (1.0, 2))), save=True)
        kept = await kept_of(fly)
    assert code == 0 and kept is not None
    assert (seen(rows, "exec_body")["largest"], seen(rows, "exec_body")["refused"]) == (64_000, 200_000)
    assert (seen(rows, "exec_output")["largest"], seen(rows, "exec_output")["cut_at"]) == (65_536, 65_536)
    longest = seen(rows, "longest_exec")
    assert longest["works_s"] == 1.0 and "must not exceed 8" in longest["refused"][0]
    assert rows["longest_exec"]["verdict"] == "differs"
    limits = kept.limits()
    assert (limits.body_bytes, limits.answer_bytes, limits.stdin, limits.longest_wait_s) == (63_488, 64_512, True, 2.0)


async def test_slow_young_things(machines: Machines, measure: Measure) -> None:
    """A young app, lists that lag, a slow boot and a machine that is not ready at once: each is found with its time."""
    faults = [
        Fault("create_machine", Answer(404, 'Could not find App "my-app"'), times=2),
        Fault("list_machines", ListLag(2.0)),
    ]
    async with machines(quirks=Quirks(exec_not_ready_s=1.5), boot_s=1.0, faults=faults) as fly:
        code, rows = await measure(fly)
    assert code == 0
    assert seen(rows, "create")["unknown_for_s"] > 0.2 and "unknown" in rows["create"]["found"]
    assert seen(rows, "visible")["get_s"] < 1.5 <= seen(rows, "visible")["list_s"]
    assert seen(rows, "started")["seconds"] >= 0.8
    first = seen(rows, "first_exec")
    assert first["seconds"] >= 1.0 and "Rejection" in first["refused"][0]


async def test_the_rate_limit(machines: Machines) -> None:
    """Of a burst of ten execs those over the limit are counted, with Fly's words."""
    async with machines(limits=True) as fly, FlyClient(base_url=fly.base_url, token=fly.token) as client:
        probe = Probe(client, "my-app", QUICK, lambda _: None, [guest_file()])
        async with probe.machines.open():
            machine, _ = await probe.machines.create("limited", probe.machines.config("sleep", "60"))
            assert await client.wait_machine("my-app", machine.id, state="started")
            found = await Execs(Asking(client, "my-app"), machine.id, QUICK).burst()
        assert found["sent"] == 10 and 3 <= found["ok"] <= 5 and found["ok"] + found["limited"] == 10
        assert "rate limit exceeded" in found["text"]


async def test_the_machine_limit(machines: Machines, measure: Measure) -> None:
    """Where Fly has room for one machine only, that is told; what needs another one is not measured, the rest is."""
    refusal = Answer(422, "Your organization has reached its machine limit. Please contact billing@fly.io")
    async with machines(faults=[Fault("create_machine", refusal, after=1)]) as fly:
        code, rows = await measure(fly)
    assert code == 0
    assert (
        rows["machine_limit"]["verdict"] == "differs" and "reached its machine limit" in rows["machine_limit"]["found"]
    )
    for name in ("exit_1", "delete", "duplicate_name"):
        assert rows[name]["verdict"] == "not measured", rows[name]
    assert seen(rows, "longest_exec")["works_s"] == 2.0 and rows["left"]["verdict"] == "right"


async def test_a_token_that_may_little(machines: Machines, measure: Measure) -> None:
    """What the token may not do is said in its row, and everything else is measured."""
    faults = [Fault("list_org_machines", Answer(403, "unauthorized")), Fault("current_token", Answer(404, "no"))]
    async with machines(faults=faults) as fly:
        code, rows = await measure(fly)
    assert code == 0
    assert rows["org_machines"]["verdict"] == rows["token"]["verdict"] == "not measured"
    assert "unauthorized" in rows["org_machines"]["found"] and "403" in rows["org_machines"]["found"]
    assert seen(rows, "exec_body")["largest"] == 15_000


async def test_an_image_without_python(machines: Machines, measure: Measure) -> None:
    """A machine whose program does not start is told as such at once; what needs none is measured."""
    async with machines(image=LocalImage(path=(Path("/nonexistent"),))) as fly:
        code, rows = await measure(fly)
    assert code == 0
    first = next(rows[name] for name in ("started", "first_exec") if rows[name]["verdict"] == "not measured")
    assert "has the image python3?" in first["found"]
    assert rows["exec_body"]["verdict"] == "not measured"
    assert seen(rows, "exit_1") and rows["left"]["verdict"] == "right"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Answer(422, "We need your payment information to continue! Add a credit card"), "payment method"),
        (Answer(422, "Your organization has reached its machine limit."), "machines that are not needed"),
        (Answer(403, "unauthorized"), "Fly's words"),
    ],
)
async def test_a_create_that_is_refused(machines: Machines, measure: Measure, answer: Answer, told: str) -> None:
    """When Fly makes no machine, that is the end: its words, what to do, exit code 1, and nothing left."""
    async with machines(faults=[Fault("create_machine", answer)]) as fly:
        code, rows = await measure(fly, save=True)
        assert fly.created == [] and await kept_of(fly) is None
    assert code == 1
    assert answer.error in rows["create"]["found"] and told in rows["create"]["fix"]
    assert "saved" not in rows


async def test_no_such_app(machines: Machines, measure: Measure) -> None:
    """An app that is not there is told with the command that makes it."""
    async with machines(apps=["other"]) as fly:
        code, rows = await measure(fly)
    assert code == 1 and "flaude app create my-app" in rows["create"]["fix"]
    for app in (None, "", "No App"):
        with pytest.raises(ConfigError, match="app"):
            await live_probe(app, image=None, save=False, json=True)


async def test_machines_are_counted_on_all_pages(machines: Machines) -> None:
    """The organisation's machines are counted in as many calls as Fly has pages."""
    pages = [
        {"machines": [{"id": f"a{n}", "state": "stopped"} for n in range(15)], "next_cursor": "more"},
        {"machines": [{"id": f"b{n}", "state": "started"} for n in range(15)]},
    ]
    faults = [Fault("list_org_machines", Answer(200, body=json.dumps(page)), times=1) for page in pages]
    told: list[Row] = []
    async with machines(faults=faults) as fly, FlyClient(base_url=fly.base_url, token=fly.token) as client:
        with anyio.fail_after(20), anyio.CancelScope() as scope:

            def tell(row: Row) -> None:
                told.append(row)
                scope.cancel()

            await Probe(client, "my-app", QUICK, tell, [guest_file()]).run()
    assert (told[0].name, told[0].measured) == ("org_machines", {"count": 30})


QUICKEST = replace(QUICK, first_exec_s=0.0, exit_s=5.0, cleanup_s=1.0)
"""What is in the machine is not measured."""


async def test_what_cannot_be_deleted_is_named(measure: Measure) -> None:
    """A machine whose end Fly does not confirm in time is named, with a command that destroys it; exit code 3."""
    slow = Fault("delete_machine", SlowDelete(300), after=1)  # one is deleted to see how that goes
    async with LocalFly(apps=["my-app"], faults=[slow]) as fly:
        code, rows = await measure(fly, plan=QUICKEST)
    assert code == 3 and rows["left"]["verdict"] == "wrong"
    assert "machine flaude-probe-" in rows["left"]["found"] and f"-1 ({fly.created[0]})" in rows["left"]["found"]
    assert f"fly machine destroy --force {fly.created[0]}" in rows["left"]["fix"]


async def test_a_create_that_no_list_shows_is_named(measure: Measure) -> None:
    """A machine that may have been made, and that no list shows, is named with where to look for it; exit code 3."""
    faults = [
        Fault("create_machine", DropAfter(), times=1),
        Fault("create_machine", Answer(403, "unauthorized")),
        Fault("list_machines", ListLag(300)),
    ]
    async with LocalFly(apps=["my-app"], faults=faults) as fly:
        code, rows = await measure(fly, plan=QUICKEST)
        assert len(fly.created) == fly.alive == 1
    assert code == 3 and rows["left"]["verdict"] == "wrong"
    assert "a create of flaude-probe-" in rows["left"]["found"] and "-1 was not answered" in rows["left"]["found"]
    assert "fly machine list -a my-app" in rows["left"]["fix"] and "ends by itself" in rows["left"]["fix"]


async def test_a_second_create_that_is_not_answered_is_named(measure: Measure) -> None:
    """What may have come of a create with a taken name is named too, when its answer is lost."""
    async with LocalFly(apps=["my-app"], faults=[Fault("create_machine", DropAfter(), after=1, times=1)]) as fly:
        code, rows = await measure(fly, plan=QUICKEST)
    assert code == 3 and "-1 was not answered" in rows["left"]["found"]


async def test_a_create_that_is_known_to_be_refused_is_not_named(machines: Machines) -> None:
    """Whoever gives up while the app is not known yet has left nothing."""
    refused = anyio.Event()
    unknown = Fault("create_machine", Answer(404, 'Could not find App "my-app"'))
    asked = Fault("get_app", Hook(before=lambda _: refused.set()))  # what the client does then
    async with machines(faults=[unknown, asked]) as fly:
        async with FlyClient(base_url=fly.base_url, token=fly.token, rate_limits=None) as client:
            probe = Probe(client, "my-app", QUICK, lambda _: None, [guest_file()])
            with anyio.fail_after(20):
                async with probe.machines.open(), anyio.create_task_group() as tasks:
                    config = probe.machines.config("true")
                    tasks.start_soon(probe.machines.create, probe.machines.name(1), config)
                    await refused.wait()
                    tasks.cancel_scope.cancel()
        assert fly.faults.struck["create_machine", "Answer"] and probe.machines.unsure == set()


async def test_machines_are_deleted_though_they_cannot_be_listed(machines: Machines) -> None:
    """What the probe knows of is deleted at once, whatever becomes of the list."""
    async with machines(faults=[Fault("list_machines", Answer(500, "oh no"))]) as fly:
        async with FlyClient(base_url=fly.base_url, token=fly.token, rate_limits=None) as client:
            probe = Probe(client, "my-app", replace(QUICK, cleanup_s=2.0), lambda _: None)
            with anyio.fail_after(20):
                async with probe.machines.open():
                    await probe.machines.create("known", probe.machines.config("sleep", "60"))
        assert fly.faults.struck["list_machines", "Answer"] and fly.alive == 0
    assert [made.gone_at is not None for made in probe.machines.made.values()] == [True]
    assert probe.machines.left == [] and probe.machines.unsure == set()


async def test_a_machine_whose_create_was_not_answered(machines: Machines) -> None:
    """A create whose answer is lost has made a machine: it is found by its metadata, and deleted."""
    told: list[Row] = []
    async with machines(faults=[Fault("create_machine", DropAfter()), Fault("list_machines", ListLag(1.5))]) as fly:
        async with FlyClient(base_url=fly.base_url, token=fly.token, retry_for_s=0, rate_limits=None) as client:
            probe = Probe(client, "my-app", QUICK, told.append)
            with pytest.raises(UnreachableError):
                await probe.run()
            assert [made.gone_at is not None for made in probe.machines.made.values()] == [True]
        assert len(fly.created) == 1 and probe.machines.left == [] and probe.machines.unsure == set()


@asynccontextmanager
async def command(fly: LocalFly, home: Path, *arguments: str) -> AsyncIterator[anyio.abc.Process]:
    """`flaude doctor --live` as a process; what is left of it is killed."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "HOME": str(home),
        "FLAUDE_HOME": str(home / "state"),
        "FLY_FLAPS_BASE_URL": fly.base_url,
        "FLY_API_TOKEN": fly.token,
    }
    argv = [
        sys.executable,
        str(ROOT / "tests" / "support" / "probe_program.py"),
        "doctor",
        "--live",
        "--app",
        "my-app",
        *arguments,
    ]
    async with await anyio.open_process(argv, env=environment, cwd=home) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()


@pytest.mark.parametrize(
    ("point", "number"),
    [
        ("token", signal.SIGINT),
        ("create", signal.SIGINT),
        ("first_exec", signal.SIGTERM),
        ("exec_body", signal.SIGINT),
        ("exec_timeout", signal.SIGTERM),
        ("disk", signal.SIGINT),
        ("delete", signal.SIGINT),
    ],
)
async def test_an_interrupt_leaves_nothing(
    machines: Machines, tmp_path: Path, point: str, number: signal.Signals
) -> None:
    """Whenever Ctrl-C or SIGTERM comes, also while a create is under way, no machine is left, and that is said."""
    faults = [Fault("create_machine", Delay(0.5))]
    async with machines(faults=faults) as fly, command(fly, tmp_path, "--json") as process:
        assert process.stdout is not None
        lines, told = BufferedByteReceiveStream(process.stdout), list[dict[str, Any]]()
        code = 0
        with anyio.fail_after(50):
            try:
                while True:
                    told.append(json.loads(await lines.receive_until(b"\n", 1 << 20)))
                    if told[-1]["name"] == point:
                        process.send_signal(number)
            except (anyio.IncompleteRead, anyio.EndOfStream):
                code = await process.wait()
        assert code == 128 + number, told[-1]
        assert fly.alive == 0 and "interrupted" in [one["name"] for one in told]
        if fly.created:
            assert told[-1]["name"] == "left" and told[-1]["verdict"] == "right", told[-1]
        assert "stopping" not in [one["name"] for one in told]


async def test_the_command(machines: Machines, tmp_path: Path) -> None:
    """For people each point is told with what flaude assumes and what follows, and the cost before and after."""
    async with machines() as fly, command(fly, tmp_path, "--save", "--image", "x@sha256:1") as process:
        assert process.stdout is not None
        with anyio.fail_after(55):
            text = b"".join([piece async for piece in process.stdout]).decode()
            assert await process.wait() == 0, text
    lines = text.splitlines()
    assert lines[0].startswith("note   cost ") and "shared-cpu-1x with 256 MB" in lines[0]
    (stdin,) = [number for number, line in enumerate(lines) if "exec_stdin" in line]
    assert lines[stdin].split(maxsplit=2) == ["agrees", "exec_stdin", "0 of 11 bytes arrived"]
    assert "assumed" in lines[stdin + 1] and "dropped (users of the live API)" in lines[stdin + 1]
    assert sum(" cost " in line for line in lines) == 2
    assert (tmp_path / "state" / "measured.json").exists() and "measured.json" in text


async def test_options_that_go_with_live() -> None:
    """`--save` without `--live` is a mistake, and so is an image that is none."""
    with pytest.raises(ConfigError, match="--live"):
        await doctor(app="my-app", save=True)
    with pytest.raises(ConfigError, match="--image"):
        await doctor(app="my-app", live=True, image="two words")


async def test_doctor_tells_of_measurements(
    local: LocalFly, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`flaude doctor` says that measurements are used, how old they are, and which file to delete; or why not."""
    monkeypatch.setenv("FLY_FLAPS_BASE_URL", local.base_url)
    monkeypatch.setenv("FLY_API_TOKEN", local.token)
    kept = Saved(at=datetime.now(UTC) - timedelta(days=3, hours=1), body_bytes=64_000, stdin=True)
    file = await keep(local, kept)

    async def told() -> dict[str, Any]:
        await doctor(app="my-app", json=True)
        found = map(json.loads, capsys.readouterr().out.splitlines())
        return next(one for one in found if one["name"] == "measurements")

    right = await told()
    assert right["verdict"] == "right" and "(3 days ago)" in right["found"] and "63488 bytes" in right["found"]
    assert str(file) in right["fix"]
    file.write_text('{"version": 9}')
    note = await told()
    assert note["verdict"] == "note" and "newer flaude" in note["found"]


def long_prompt() -> str:
    """150 KB for the scripted agent that hardly any compression makes shorter: too long for one word."""
    noise = b"".join(hashlib.sha512(b"%d" % number).digest() for number in range(1750))
    return "::say done\n" + base64.b64encode(noise).decode()


async def calls_of_a_run(fly: LocalFly) -> int:
    """How many execs a run with a long prompt takes, as the environment's settings have it."""
    before = sum(times for (action, _), times in fly.requests.items() if action == "exec_machine")
    config = MachineConfig(claude_code_oauth_token=TOKEN, prompt=long_prompt())
    batch = await ConcurrentExecutor("my-app", rate_limits=None).run_batch([ExecutionRequest(config)])
    assert batch.all_succeeded, batch.results
    return sum(times for (action, _), times in fly.requests.items() if action == "exec_machine") - before


@pytest.mark.parametrize("box", ["auto", "simulated"])
async def test_runs_go_by_what_was_kept(machines: Machines, monkeypatch: pytest.MonkeyPatch, box: str) -> None:
    """With larger bodies a long prompt takes fewer calls, with standard input one; `fly=` knows of no measurement."""
    quirks = Quirks(exec_stdin=True, largest_exec_body=200_000)
    async with machines(quirks=quirks, box=box) as fly:
        monkeypatch.setenv("FLY_FLAPS_BASE_URL", fly.base_url)
        monkeypatch.setenv("FLY_API_TOKEN", fly.token)
        usual = await calls_of_a_run(fly)
        at = datetime.now(UTC)
        await keep(fly, Saved(at=at, body_bytes=64_000))
        larger = await calls_of_a_run(fly)
        await keep(fly, Saved(at=at, body_bytes=200_000, stdin=True))
        by_stdin = await calls_of_a_run(fly)
        assert usual - larger >= 8 and larger > by_stdin, (usual, larger, by_stdin)
        async with client_for(fly, token=None, base_url=None) as client:
            assert client.exec_limits.body_bytes == 12_000


@pytest.mark.parametrize("box", ["auto", "simulated"])
async def test_a_measurement_that_no_longer_holds(
    machines: Machines, monkeypatch: pytest.MonkeyPatch, box: str
) -> None:
    """Where standard input and large bodies were measured and do not work any more, the run succeeds all the same."""
    async with machines(box=box) as fly:
        monkeypatch.setenv("FLY_FLAPS_BASE_URL", fly.base_url)
        monkeypatch.setenv("FLY_API_TOKEN", fly.token)
        usual = await calls_of_a_run(fly)
        await keep(fly, Saved(at=datetime.now(UTC), body_bytes=200_000, stdin=True))
        assert await calls_of_a_run(fly) <= 2 * usual


async def test_what_arrives_by_standard_input(machines: Machines) -> None:
    """A job that is too long for a word arrives whole by standard input; where that is empty parts are sent."""
    config = MachineConfig(claude_code_oauth_token=TOKEN, prompt=long_prompt())
    for arrives in (True, False):
        quirks = Quirks(exec_stdin=arrives, largest_exec_body=None)
        async with machines(quirks=quirks) as fly, FlyClient(base_url=fly.base_url, token=fly.token) as client:
            await prepare()
            client.exec_limits.body_bytes, client.exec_limits.stdin = 200_000, True
            pad = new_pad()
            spec = machine_spec(config, metadata={}, start_deadline_s=60, pad=pad)
            machine = await client.create_machine("my-app", name="by-stdin", config=spec)
            await client.wait_machine("my-app", machine.id, state="started")
            link, reply, steps = SupervisorClient(client, "my-app", machine.id, [TOKEN]), None, 0
            described = build_job_message(config, job_id="j", run_s=60, timeouts=Timeouts(), credentials={})
            with anyio.fail_after(40):
                while reply is None:
                    steps += 1
                    reply = await link.start(described, pad)
            assert client.exec_limits.stdin is arrives and (steps == 1) is arrives
            await client.delete_machine("my-app", machine.id)
            await client.wait_machine("my-app", machine.id, state="destroyed")
