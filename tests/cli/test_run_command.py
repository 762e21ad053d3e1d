"""`flaude run` and what is done with its batches, as real processes against the stand-in."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from tests.conftest import TOKEN, Machines
from tests.support.controller_process import COMMAND
from tests.support.gate import Gate

from flaude import ConcurrentExecutor, ConfigError
from flaude._model.settings import ExecutorSettings
from flaude.cli.clocks import orphaned_after, usual_timeouts
from flaude.cli.commands.create import create
from flaude.cli.commands.resume import resume
from flaude.cli.commands.retry import retry
from flaude.cli.commands.run import run
from flaude.journal import SqliteJournal
from flaude.local import Answer, Fault, LocalFly

SECRET = "canary-5d1c7a-of-the-agent"


@pytest.fixture
def environment(local: LocalFly, tmp_path: Path) -> dict[str, str]:
    """What a user's shell has who works with the stand-in."""
    own = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return {
        **own,
        "HOME": str(tmp_path / "home"),
        "FLAUDE_HOME": str(tmp_path / "state"),
        "FLY_FLAPS_BASE_URL": local.base_url,
        "FLY_API_TOKEN": local.token,
        "FLY_APP": "my-app",
        "CLAUDE_CODE_OAUTH_TOKEN": TOKEN,
        "COLUMNS": "120",
    }


class Command:
    """A `flaude` process whose `--json` lines are read while it goes on."""

    def __init__(self, process: anyio.abc.Process) -> None:
        assert process.stdout is not None
        self.process = process
        self.told: list[dict[str, Any]] = []
        self._lines = BufferedByteReceiveStream(process.stdout)

    async def until(self, event: str, count: int = 1) -> None:
        """Return when it has told so many of these."""
        with anyio.fail_after(30):
            while sum(told["event"] == event for told in self.told) < count:
                self.told.append(json.loads(await self._lines.receive_until(b"\n", 1 << 20)))

    async def end(self) -> int:
        """Its exit code, once it has ended and all is read."""
        with anyio.fail_after(40):
            try:
                while True:
                    self.told.append(json.loads(await self._lines.receive_until(b"\n", 1 << 20)))
            except (anyio.IncompleteRead, anyio.EndOfStream):
                return await self.process.wait()


@asynccontextmanager
async def going_on(environment: Mapping[str, str], *arguments: str) -> AsyncIterator[Command]:
    """A command that goes on; what is left of it is killed."""
    argv = [sys.executable, COMMAND, *arguments, "--json"]
    async with await anyio.open_process(argv, env=environment, cwd=environment["HOME"]) as process:
        try:
            yield Command(process)
        finally:
            if process.returncode is None:
                process.kill()


async def flaude(environment: Mapping[str, str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    argv = [sys.executable, COMMAND, *arguments]
    with anyio.fail_after(50):
        done = await anyio.run_process(argv, env=environment, cwd=environment["HOME"], check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture(autouse=True)
def _home(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()


async def test_killed_and_resumed(
    local: LocalFly, environment: dict[str, str], repo: Path, gate: Gate, tmp_path: Path
) -> None:
    """After SIGKILL the work of a batch is brought home by one word; nothing that is kept has a secret in it."""
    environment |= {"SECRET": SECRET}
    prompt = f"::shell echo $SECRET\n{gate.waits}\n::write a.txt work\n::say done"
    arguments = [
        "-p",
        prompt,
        "-p",
        "::say two",
        "--repo",
        f"file://{repo}",
        "--env",
        "SECRET",
        "--max-concurrency",
        "1",
    ]
    async with going_on(environment, "run", *arguments) as killed:
        await killed.until("started")
        killed.process.send_signal(signal.SIGKILL)
        await killed.process.wait()
        batch = killed.told[0]["batch"]
    assert killed.told[0]["event"] == "launch" and local.alive == 1
    assert f"left: flaude resume {batch}" in (await flaude(environment, "ps"))[1]
    gate.open()
    code, stdout, stderr = await flaude(environment, "resume", batch[:4])
    assert code == 0 and "2/2 succeeded" in stdout, stdout + stderr
    assert local.alive == 0 and len(local.created) == 2
    code, patch, _ = await flaude(environment, "patch", "last", "p1")
    assert code == 0 and "+work" in patch
    told = [json.dumps(killed.told), stdout, stderr, patch]
    kept = [path async for path in anyio.Path(tmp_path).rglob("*") if not path.is_relative_to(repo.parent)]
    told += [(await path.read_bytes()).decode("latin-1") for path in kept if await path.is_file()]
    assert not any(secret in text for text in told for secret in (SECRET, TOKEN))


async def test_detached(local: LocalFly, environment: dict[str, str], gate: Gate) -> None:
    """The command leaves when the agents work, and says how to bring their work home."""
    code, _, stderr = await flaude(environment, "run", "-p", f"{gate.waits}\n::say done", "--detach", "--plain")
    assert code == 0 and local.alive == 1
    gate.open()
    assert stderr.splitlines()[-1].startswith("flaude resume "), stderr
    async with going_on(environment, "resume") as resumed:
        assert await resumed.end() == 0
    assert [told["event"] for told in resumed.told][:2] == ["launch", "resumed"]
    assert resumed.told[-1]["succeeded"] == 1 and local.alive == 0


async def test_cancelled_and_retried(local: LocalFly, environment: dict[str, str]) -> None:
    """Another command stops one run, which is collected; retry runs what failed once more, in a batch of its own."""
    async with going_on(environment, "run", "-p", "::say begun\n::silent", "-p", "::say two") as command:
        await command.until("assistant_text", 2)
        code, _, stderr = await flaude(environment, "cancel", "last", "p1")
        assert code == 0 and "asked the process that carries it out" in stderr
        assert await command.end() == 1
    finished = {told["tag"]: told["result"] for told in command.told if told["event"] == "finished"}
    assert finished["p2"]["success"] and finished["p1"]["error"]["failure"]["kind"] == "cancelled"
    async with going_on(environment, "retry", "last", "--failed") as again:
        await again.until("assistant_text")
        again.process.send_signal(signal.SIGINT)
        assert await again.end() == 130
    assert (again.told[0]["total"], again.told[-1]["exit_code"], local.alive) == (1, 130, 0)
    assert again.told[0]["batch"] != command.told[0]["batch"]


async def test_spread_over_apps(local: LocalFly, environment: dict[str, str], tmp_path: Path) -> None:
    """By the file, and to be removed by an option; what has to stay is said, and no other command needs to be told."""
    file = tmp_path / "batch.yaml"
    file.write_text(
        "app: my-app\nshards: 2\ntasks:\n  - {tag: one, prompt: '::say 1'}\n  - {tag: two, prompt: '::say 2'}\n"
    )
    local.faults.add(Fault("delete_app", Answer(403, "unauthorized"), times=1))
    code, stdout, stderr = await flaude(environment, "run", str(file), "--remove-shards")
    assert code == 0, stderr
    begun = stderr.splitlines()[:2]
    assert begun[0] == "flaude: making the app my-app-2, about one a second" and " on my-app and 1 shard: " in begun[1]
    assert (
        "These apps were to be removed:\n  my-app-2 stays: " in stdout
        and "\nflaude app remove-shards my-app\n" in stdout
    )
    code, stdout, _ = await flaude(environment, "status", "last", "--json")
    head, *runs = map(json.loads, stdout.splitlines())
    assert (code, head["shards"], sorted(run["app"] for run in runs)) == (0, 2, ["my-app", "my-app-2"])
    code, stdout, _ = await flaude(environment, "reap", "--all")
    assert (code, stdout) == (0, "No machine of flaude in my-app and its 1 shard.\n")
    async with going_on(environment, "retry", "last") as again:
        assert await again.end() == 0
    assert again.told[0]["shards"] == 2
    assert again.told[-1]["shards_left"] == [] and local.requests["delete_app", 202] == 1
    assert {told["app"] for told in again.told if told["event"] == "created"} == {"my-app", "my-app-2"}


async def test_leftovers(local: LocalFly, environment: dict[str, str], tmp_path: Path) -> None:
    """A machine whose end Fly does not confirm is named, and the exit code is 3."""
    local.faults.add(Fault("delete_machine", Answer(500)))
    file = tmp_path / "batch.yaml"
    file.write_text("app: my-app\ntimeouts: {destroy: 1, retry: 1}\ntasks:\n  - {tag: one, prompt: '::say done'}\n")
    code, stdout, _ = await flaude(environment, "run", str(file))
    assert code == 3
    assert "These machines may be alive:" in stdout and "flaude reap --app my-app --batch" in stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "FILE: give a batch file, or a prompt with -p"),
        ({"prompt": ("a",)}, "--app: give the Fly app"),
        ({"prompt": ("a",), "local": True, "detach": True}, "--detach: the machines of --local end with this command"),
        ({"prompt": ("a",), "local": True, "claude": "none"}, "--claude: give scripted or installed"),
        ({"prompt": ("a",), "app": "my-app", "env": ("NOT_SET_4711",)}, "--env: environment variable NOT_SET_4711"),
        ({"prompt": ("a",), "app": "my-app"}, "no Claude Code credentials"),
        ({"prompt": ("a",), "app": "my-app", "github_token_env": "NOT_SET_4711"}, "--github-token-env: environment"),
        ({"file": "batch.yaml", "model": "opus"}, "--model: goes with -p alone"),
        ({"prompt": ("a",), "local": True, "shards": 65}, "shards: give a number from 1 to 64, not 65"),
        ({"prompt": (" ",), "app": "my-app"}, "prompt: empty"),
    ],
)
async def test_bad_input(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    """Each is said in a sentence that names the option and the fix, before anything is made."""
    monkeypatch.setenv("FLAUDE_HOME", str(tmp_path))
    file = arguments.pop("file", None)
    with pytest.raises(ConfigError, match=message):
        await run(file, **arguments)
    assert not (tmp_path / "journal.sqlite3").exists() or arguments.get("local")


async def test_the_app_is_made(
    machines: Machines, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once, with a network of its own; asking again is fine."""
    async with machines() as fly:
        monkeypatch.setenv("FLY_FLAPS_BASE_URL", fly.base_url)
        monkeypatch.setenv("FLY_API_TOKEN", fly.token)
        assert await create("new-app", org="my-company") == 0
        assert await create("new-app") == 0
        await ConcurrentExecutor("new-app", fly=fly).check()
    assert capsys.readouterr().out == "new-app is there; its machines have the network new-app\n" * 2


async def test_a_batch_that_is_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run here and now, with a word on the agent that does not think; then there is nothing to resume."""
    monkeypatch.setenv("FLAUDE_HOME", str(tmp_path))
    monkeypatch.setenv("CLAUDE_CODE_OAUTH_TOKEN", "set again by the command")
    assert await run(prompt=("Think hard",), local=True, plain=True) == 0
    told = capsys.readouterr()
    assert "with --local the agent is a stand-in" in told.err and "All of it: flaude results" in told.err
    assert "1/1 succeeded" in told.out
    assert await resume() == 0
    assert "is over: flaude results" in capsys.readouterr().err
    assert await retry("last", local=True, plain=True) == 0
    async with SqliteJournal() as journal:
        for batch in await journal.batches():
            assert batch.settings["timeouts"]["orphan"] == 60, "nobody could come back to these machines"


def test_clocks() -> None:
    """Machines of a command wait for an hour, of a detached one for a day, and for as long as somebody has said."""
    assert usual_timeouts().orphan == 3600
    assert usual_timeouts(detach=True).linger == 24 * 3600
    settings = ExecutorSettings("my-app", timeouts=usual_timeouts(detach=True))
    said = orphaned_after(settings, timedelta(minutes=2)).timeouts
    assert (said.orphan, said.linger, said.patience) == (120, 120, 60)
    assert orphaned_after(settings, None) == settings
