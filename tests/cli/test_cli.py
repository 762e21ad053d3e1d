from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.controller_process import COMMAND

from flaude import ConcurrentExecutor, MachineConfig
from flaude._providers.fly import FlyClient
from flaude.cli import main


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """What a user's shell has, without any of this machine's settings but where the tested flaude is."""
    own = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return {**own, "HOME": str(tmp_path), "COLUMNS": "120"}


def flaude(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, COMMAND, *arguments],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=55,
    )


def test_demo(environment: dict[str, str]) -> None:
    """The demo runs four prompts, one failing on purpose, tells what happens, shows a table and a patch."""
    done = flaude(environment, "demo")
    assert done.returncode == 0, done.stdout + done.stderr
    for words in (
        "at most 3 machines",
        "agent_error",
        "3/4 succeeded",
        "diff --git a/README.md",
        "All 4 machines are gone.",
    ):
        assert words in done.stdout, done.stdout
    assert "Scripted: the agent" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr, "there is no terminal"
    first, *lines = done.stderr.splitlines()
    assert re.fullmatch(r"batch [0-9a-f]{10} on flaude-demo: 4 runs", first)
    assert all(re.match(r"\d\d:\d\d:\d\d  (docs|feature|tests|doomed) +\S", line) for line in lines), done.stderr
    for words in (
        "docs     agent started on ",
        "docs     done  ",
        "doomed   failed  agent_error: Claude Code: I looked",
    ):
        assert sum(words in line for line in lines) == 1, done.stderr


@contextmanager
def served(environment: dict[str, str]) -> Iterator[tuple[str, str]]:
    """`flaude local serve` as a process; yields base URL and token, and ends it with SIGTERM."""
    argv = [sys.executable, COMMAND, "local", "serve", "--port", "0", "--app", "my-app"]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            lines = [server.stdout.readline() for _ in range(3)]
            base_url = lines[0].removeprefix("export FLY_FLAPS_BASE_URL=").strip()
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+", base_url)
            yield base_url, lines[1].removeprefix("export FLY_API_TOKEN=").strip()
        finally:
            server.send_signal(signal.SIGTERM)
            assert server.wait(timeout=20) == 0


async def test_machines_outlive_their_client(environment: dict[str, str]) -> None:
    """With the stand-in as a process of its own, a machine goes on when its client is gone; the next one finds it."""
    spec = {"image": "x", "init": {"exec": ["sleep", "600"]}, "restart": {"policy": "no"}, "metadata": {"mine": "1"}}
    with served(environment) as (base_url, token):
        async with FlyClient(base_url=base_url, token=token) as first:
            machine = await first.create_machine("my-app", name="stays", config=spec)
            assert await first.wait_machine("my-app", machine.id, state="started")
        async with FlyClient(base_url=base_url, token=token) as second:
            (found,) = await second.list_machines("my-app", metadata={"mine": "1"})
            assert (found.id, found.state) == (machine.id, "started")
            assert (await second.exec_machine("my-app", found.id, ["echo", "hi"])).stdout == "hi\n"
        result = await ConcurrentExecutor("my-app", base_url=base_url, token=token).run_one(
            MachineConfig(claude_code_oauth_token="any", prompt="::say beside it")
        )
        assert result.success


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--port", "99999"], "flaude: port: "), (["--box", "bubblewrap"], "flaude: box: ")],
)
def test_bad_input_is_one_line_and_exit_code_2(
    environment: dict[str, str], tmp_path: Path, arguments: list[str], words: str
) -> None:
    """What cannot be had is told in a line that names the option, with exit code 2 and without a traceback."""
    done = flaude({**environment, "PATH": str(tmp_path)}, "local", "serve", *arguments)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(words) and "Traceback" not in done.stderr


def test_a_fraction_is_no_whole_number(environment: dict[str, str]) -> None:
    """It is refused, and not cut off."""
    done = flaude(environment, "run", "-p", "x", "--local", "--shards", "1.5")
    assert done.returncode == 2
    assert "Invalid value for --shards: '1.5' is no whole number" in done.stdout + done.stderr


@pytest.mark.filterwarnings("ignore:Cyclopts application")  # it reads what this process was started with
def test_an_interrupt_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C in a command that has no batch to stop: a line, and exit code 130."""

    def interrupted() -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("flaude.cli.commands.schema.schema", interrupted)
    monkeypatch.setattr(sys, "argv", ["flaude", "schema"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, capsys.readouterr().err) == (130, "flaude: interrupted\n")


def test_help_names_every_command(environment: dict[str, str]) -> None:
    """`flaude --help` lists the commands."""
    done = flaude(environment, "--help")
    assert done.returncode == 0
    assert "demo" in done.stdout and "four prompts" in done.stdout and "local" in done.stdout
