from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import httpx2
from tests.local.conftest import Api, error, file

from flaude.local import Fault, SlowDelete


async def test_exec_answers_200_whatever_the_command_says(api: Api) -> None:
    """Exit code, stdout and stderr come back with 200, also for a command that fails."""
    machine = await api.started()
    done = await api.exec(machine, "sh", "-c", "echo håndtag; echo oops >&2; exit 3")
    assert done == {"exit_code": 3, "exit_signal": 0, "stdout": "håndtag\n", "stderr": "oops\n"}
    reply = await api.call("POST", f"/machines/{machine}/exec", {"cmd": "echo 'two words'"})
    assert reply.json() == {"stdout": "two words\n"}
    killed = await api.exec(machine, "sh", "-c", "kill -KILL $$")
    assert (killed["exit_code"], killed["exit_signal"]) == (0, 9)


async def test_exec_gives_large_output(api: Api) -> None:
    """Megabytes come out; bytes that are not UTF-8 are replaced."""
    machine = await api.started()
    done = await api.exec(machine, "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x")
    assert done["stdout"] == "x" * 3_000_000
    assert (await api.exec(machine, "printf", "a\\377b"))["stdout"] == "a\ufffdb"


async def test_exec_sees_the_machine(api: Api) -> None:
    """A command has the machine's environment and its files, and nothing of the host's environment."""
    machine = await api.started(env={"JOB": "1"}, files=[file("/opt/flaude/in.txt", "hello", mode=0o600)])
    lines = (await api.exec(machine, "env"))["stdout"].splitlines()
    env = dict(line.split("=", 1) for line in lines)
    assert (env["JOB"], env["FLY_MACHINE_ID"], env["FLY_APP_NAME"]) == ("1", machine, "my-app")
    assert (env["FLY_REGION"], env["HOME"]) == ("iad", "/root")
    assert not env.keys() & {"VIRTUAL_ENV", "PYTEST_CURRENT_TEST", "USER"}
    assert (await api.exec(machine, "cat", "/opt/flaude/in.txt"))["stdout"] == "hello"


async def test_exec_that_takes_too_long(api: Api) -> None:
    """After its timeout an exec is a 408 with Fly's words; the command and its children are killed, not the machine."""
    machine = await api.started()
    reply = await api.call(
        "POST", f"/machines/{machine}/exec", {"command": ["sh", "-c", "sleep 611 & sleep 611"], "timeout": 1}
    )
    status, text = error(reply)
    assert status == 408 and text.startswith('deadline_exceeded: Post "http://unix/v1/exec"')
    left = await api.exec(machine, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert "sleep 611" not in left["stdout"]


async def test_a_child_that_holds_the_output_open_does_not_hold_up_the_answer(api: Api) -> None:
    """An exec answers when its command ends, though what it left behind has its output open; that lives on."""
    machine = await api.started()
    with anyio.fail_after(10):
        done = await api.exec(machine, "sh", "-c", "setsid sleep 612 & echo started", timeout=30)
    assert done["stdout"] == "started\n"
    left = await api.exec(machine, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert "sleep 612" in left["stdout"]


async def deleted_under(
    api: Api, script: str, then: Callable[[str], Awaitable[object]] | None = None
) -> httpx2.Response:
    """What an exec answers whose machine is deleted while it runs, and `then` is called with the machine."""
    machine = await api.started()
    replies: list[httpx2.Response] = []

    async def run() -> None:
        command = ["sh", "-c", script]
        replies.append(await api.call("POST", f"/machines/{machine}/exec", {"command": command}))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await api.appears(machine, "run/entered")
        await api.call("DELETE", f"/machines/{machine}", force="true")
        if then is not None:
            await then(machine)
    return replies[0]


async def test_a_machine_that_dies_under_an_exec(api: Api) -> None:
    """When the machine is destroyed under an exec, that is a 412 with Fly's words."""
    reply = await deleted_under(api, "echo > run/entered; sleep 600")
    assert error(reply) == (412, "failed_precondition: exec request failed: EOF")


async def test_a_command_that_reports_a_kill_in_a_machine_that_is_going(api: Api) -> None:
    """What a dying machine's command says of its killed child is no answer either: the machine's end was the cause."""
    api.fly.faults.add(Fault("delete_machine", SlowDelete(60)))

    async def go(machine: str) -> None:
        await anyio.Path(api.fly.machine_folder(machine) / "run/go").write_text("go\n")

    script = "mkfifo run/go; echo > run/entered; read -r go < run/go; exit 137"
    reply = await deleted_under(api, script, go)
    assert error(reply) == (412, "failed_precondition: exec request failed: EOF")


async def test_refused_execs(plain: Api) -> None:
    """An exec without a command, or with one that cannot be, is a 400; in a machine that is not there a 404."""
    machine = await plain.started()
    bodies: list[Any] = [{}, {"command": []}, {"command": "ls"}, {"cmd": "echo 'open"}, {"command": ["a\0b"]}]
    for body in bodies:
        reply = await plain.call("POST", f"/machines/{machine}/exec", body)
        assert reply.status_code == 400, body
    assert (await plain.call("POST", "/machines/nope/exec", {"command": ["true"]})).status_code == 404
