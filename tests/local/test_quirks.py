"""Each point on which sources disagree about Fly, in both readings; the worst one is the default."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from tests.local.conftest import Api, error, opened

from flaude.local import Quirks

BIG = "x" * 17_000


async def test_the_default_is_the_worst_reading() -> None:
    """Nobody has to ask for the worst: what runs on the default runs in every reading."""
    worst, kind = Quirks(), Quirks.kind()
    assert not worst.exec_stdin and kind.exec_stdin
    assert worst.largest_exec_body == 16 * 1024 and kind.largest_exec_body is None
    assert worst.serial_execs and worst.reject_missing_program and not kind.serial_execs


async def test_stdin_is_dropped(plain: Api) -> None:
    """An exec's standard input does not reach the command; in the other reading it does, however long."""
    machine = await plain.started()
    assert (await plain.exec(machine, "wc", "-c", stdin="eleven char"))["stdout"].strip() == "0"
    async with opened(quirks=Quirks.kind()) as kind:
        machine, text = await kind.started(), "x" * 3_000_000
        assert (await kind.exec(machine, "cat", stdin=text))["stdout"] == text
        assert (await kind.exec(machine, "true", stdin=text))["exit_code"] == 0
        assert (await kind.exec(machine, "cat", stdin="håndtag\n"))["stdout"] == "håndtag\n"


async def test_a_large_body_is_thrown_away(plain: Api) -> None:
    """An exec over 16 KiB is answered 200 with exit code 0 and a rejection, and its command is not run."""
    machine = await plain.started()
    done = await plain.exec(machine, "sh", "-c", f"echo > run/ran; : {BIG}")
    assert done["exit_code"] == 0 and done["stdout"].startswith("Unhandled rejection: Rejection([PayloadTooLarge")
    assert not (plain.fly.machine_folder(machine) / "run/ran").exists()
    assert (await plain.exec(machine, "echo", BIG[:15_500]))["stdout"].strip() == BIG[:15_500]
    async with opened(quirks=Quirks.kind()) as kind:
        assert (await kind.exec(await kind.started(), "echo", BIG))["stdout"].strip() == BIG


async def test_an_exec_may_not_ask_for_more_than_a_minute(plain: Api) -> None:
    """A timeout above 60 s is refused and not shortened."""
    machine = await plain.started()
    reply = await plain.call("POST", f"/machines/{machine}/exec", {"command": ["true"], "timeout": 61})
    assert error(reply) == (400, "timeout must not exceed 60 seconds")
    assert (await plain.exec(machine, "true", timeout=60))["exit_code"] == 0


@pytest.mark.parametrize("serial", [True, False])
async def test_one_exec_at_a_time(serial: bool) -> None:
    """While a command runs, another one of the same machine waits, and its waiting counts as its time."""
    async with opened(quirks=Quirks(serial_execs=serial)) as api:
        machine, other = await api.started(), await api.started()
        replies: list[Any] = []

        async def hold() -> None:
            script = "mkfifo run/go; echo > run/entered; read -r go < run/go"
            replies.append(await api.exec(machine, "sh", "-c", script))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hold)
            await api.appears(machine, "run/entered")
            assert (await api.exec(other, "true"))["exit_code"] == 0, "of another machine"
            reply = await api.call("POST", f"/machines/{machine}/exec", {"command": ["true"], "timeout": 1})
            assert reply.status_code == (408 if serial else 200)
            await anyio.Path(api.fly.machine_folder(machine) / "run/go").write_text("go\n")
        assert replies[0]["exit_code"] == 0


@pytest.mark.parametrize("rejected", [True, False])
async def test_a_program_that_is_missing(rejected: bool) -> None:
    """It is a rejection with exit code 0, or 127; a machine whose own program is missing ends with 1, or 127."""
    async with opened(quirks=Quirks(reject_missing_program=rejected)) as api:
        machine = await api.started()
        done = await api.exec(machine, "no-such-program", "x")
        assert done["exit_code"] == (0 if rejected else 127)
        assert done["stdout"].startswith("Unhandled rejection: Rejection([ExecError(Io(Os { code: 2") is rejected
        assert (await api.exec(machine, "sh", "-c", "no-such-program"))["exit_code"] == 127, "a shell says it itself"
        assert (await api.exec(machine, "sh", "-c", "exit 127"))["exit_code"] == 127
        dead = await api.create("no-such-program")
        await api.reach(dead, "stopped")
        assert (await api.exit_event(dead))["exit_code"] == (1 if rejected else 127)


async def test_outputs_are_cut_where_asked() -> None:
    """Stdout and stderr each end after so many bytes, with exit code 0 as ever."""
    async with opened(quirks=Quirks(largest_exec_output=1000)) as api:
        done = await api.exec(await api.started(), "sh", "-c", "head -c 5000 /dev/zero; head -c 5000 /dev/zero >&2")
        assert (done["exit_code"], len(done["stdout"]), len(done["stderr"])) == (0, 1000, 1000)


async def test_a_machine_that_is_not_ready_rejects_execs() -> None:
    """For a while after `started` nothing can be run in it, where asked."""
    async with opened(quirks=Quirks(exec_not_ready_s=2.0)) as api:
        machine, rejections = await api.started(), 0
        with anyio.fail_after(20):
            while "Rejection(" in (await api.exec(machine, "true"))["stdout"]:
                rejections += 1
        assert rejections


async def test_a_create_may_be_too_large() -> None:
    """A create over the limit is refused and makes nothing, where asked."""
    async with opened(quirks=Quirks(largest_create_body=1000)) as api:
        reply = await api.call("POST", "/machines", {"config": {"image": "x", "env": {"A": "x" * 1000}}})
        assert error(reply) == (400, "invalid_argument: machine config exceeds the size limit of 1000 bytes")
        assert api.fly.created == []
        await api.started()
