from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

SAMPLES = Path(__file__).parent.parent / "claude-samples"
STREAM = ("-p", "--dangerously-skip-permissions", "--output-format", "stream-json", "--verbose")

Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A home of its own and credentials."""
    return {"PATH": os.defpath, "HOME": str(tmp_path / "home"), "CLAUDE_CODE_OAUTH_TOKEN": "x", "IS_SANDBOX": "1"}


@pytest.fixture
def command() -> list[str]:
    """The stand-in as a command."""
    return [sys.executable, "-I", "-S", str(files("flaude.local") / "scripted_claude.py")]


@pytest.fixture
def claude(command: list[str], environment: dict[str, str], tmp_path: Path) -> Run:
    """Runs the stand-in with a prompt in a folder of its own."""

    def run(prompt: str, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*command, *(arguments or STREAM)],
            input=prompt.encode(),
            capture_output=True,
            check=False,
            cwd=tmp_path,
            env={**environment, **(env or {})},
            timeout=30,
        )

    return run


def lines(output: bytes) -> list[dict[str, Any]]:
    """The JSON lines of an output."""
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize(
    ("sample", "prompt", "arguments", "code"),
    [
        ("write-file-success", "::shell echo 'hello-world now' > out.txt\n::say All done: file written", (), 0),
        ("auth-401", "::api-error 401 scripted 401", (), 1),
        ("rate-limit-429", "::api-error 429 scripted 429", (), 1),
        ("max-turns", "::shell true\n::say more", ("--max-turns=1",), 1),
        ("max-budget", "::shell true\n::say more", ("--max-budget-usd=0.0001",), 1),
    ],
)
def test_its_lines_are_those_of_claude_code(
    claude: Run, sample: str, prompt: str, arguments: tuple[str, ...], code: int
) -> None:
    """The types of lines, the fields of the result and the exit code are those of the real one's sample."""
    done = claude(prompt, *STREAM, *arguments)
    said, real = lines(done.stdout), lines((SAMPLES / f"{sample}.ndjson").read_bytes())
    assert done.returncode == code and done.stderr == b""
    kinds = [(line["type"], line.get("subtype")) for line in said]
    expected = [(line["type"], line.get("subtype")) for line in real]
    if sample == "max-budget":  # the real one stops before the tool has answered
        kinds = [kind for kind in kinds if kind[0] in ("system", "assistant", "result")]
    assert kinds == expected
    result, real_result = said[-1], real[-1]
    for name in ("is_error", "subtype", "num_turns", "terminal_reason", "stop_reason", "result"):
        if sample != "max-budget" or name not in ("num_turns", "terminal_reason"):
            assert result.get(name) == real_result.get(name), name
    timing = {"ttft_ms", "ttft_stream_ms", "time_to_request_ms", "fast_mode_state", "api_error_status"}
    assert real_result.keys() - timing <= result.keys() | {"terminal_reason"}
    assert real_result["usage"].keys() - result["usage"].keys() <= {
        "server_tool_use",
        "cache_creation",
        "inference_geo",
        "iterations",
        "speed",
    }
    assert len({line["session_id"] for line in said}) == 1
    assert len({line["uuid"] for line in said}) == len(said)


def test_without_credentials(claude: Run) -> None:
    """Without a token it ends as the real one that is not logged in; an API key is good too."""
    done = claude("hello", env={"CLAUDE_CODE_OAUTH_TOKEN": ""})
    real = lines((SAMPLES / "not-logged-in.ndjson").read_bytes())
    assert done.returncode == 1
    assert [line["type"] for line in lines(done.stdout)] == [line["type"] for line in real]
    assert lines(done.stdout)[-1]["result"] == real[-1]["result"]
    assert claude("hello", env={"CLAUDE_CODE_OAUTH_TOKEN": "", "ANTHROPIC_API_KEY": "x"}).returncode == 0


def test_it_works_in_its_folder(claude: Run, tmp_path: Path) -> None:
    """write, append and shell work where it was started, and each is a tool use with a result."""
    done = claude("::write a/b.txt one\\ntwo\n::append a/b.txt three\\\\n\n::shell cat a/b.txt; exit 3\n::cost 0.25")
    assert (tmp_path / "a/b.txt").read_text() == "one\ntwo\nthree\\n\n"
    said = lines(done.stdout)
    uses = [line["message"]["content"][0] for line in said if line["type"] == "assistant"]
    assert [use["name"] for use in uses] == ["Write", "Edit", "Bash"]
    results = [line["message"]["content"][0] for line in said if line["type"] == "user"]
    assert [result["tool_use_id"] for result in results] == [use["id"] for use in uses]
    assert results[-1]["is_error"] and results[-1]["content"] == "Exit code 3\none\ntwo\nthree\\n"
    assert (said[-1]["total_cost_usd"], said[-1]["num_turns"]) == (0.25, 3)


@pytest.mark.parametrize(
    ("prompt", "arguments", "env", "code", "stderr"),
    [
        ("", STREAM, {}, 0, ""),
        ("x", (*STREAM, "--no-such-flag"), {}, 1, "error: unknown option '--no-such-flag'\n"),
        ("x", ("-p", "--output-format", "stream-json"), {}, 1, "requires --verbose\n"),
        ("x", (*STREAM, "--resume", "6c8a0de4-7599-4197-b079-60753b54d2fd"), {}, 1, "No conversation found"),
        pytest.param(
            "x",
            STREAM,
            {"IS_SANDBOX": ""},
            1,
            "cannot be used with root",
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only for root"),
        ),
    ],
)
def test_no_json_at_all(
    claude: Run, prompt: str, arguments: tuple[str, ...], env: dict[str, str], code: int, stderr: str
) -> None:
    """An empty prompt, an unknown flag and the like end without a line of JSON, as the real one does."""
    done = claude(prompt, *arguments, env=env)
    assert (done.returncode, done.stdout) == (code, b"")
    assert stderr in done.stderr.decode()


def test_flags_of_the_real_one_are_taken(claude: Run) -> None:
    """Flags are taken as `--flag value` and `--flag=value`; model, session and schema come back in the lines."""
    session = "6c8a0de4-7599-4197-b079-60753b54d2fd"
    flags = ("--model=claude-opus-5", "--session-id", session, "--append-system-prompt", "be brief")
    more = ("--allowedTools", "Bash", "Edit", "--mcp-config={}", '--json-schema={"type": "object"}')
    done = claude('::say {"n": 1}', *STREAM, *flags, *more)
    init, *_, result = lines(done.stdout)
    assert (init["model"], init["session_id"]) == ("claude-opus-5", session)
    assert result["structured_output"] == {"n": 1}
    assert claude("::say again", *STREAM, "--resume", session).returncode == 0


def test_strange_output(claude: Run) -> None:
    """Lines of any size and bytes of any kind come out as they were asked for, and stderr too."""
    done = claude("::line 100000\n::raw fffe0a\n::stderr oops\n::no-result")
    assert done.stdout.splitlines()[1:3] == [b"x" * 100_000, b"\xff\xfe"]
    assert b'"type":"result"' not in done.stdout
    assert (done.stderr, done.returncode) == (b"oops\n", 0)
    assert claude("::exit 9").returncode == 9
    assert claude("::bogus").returncode == 1


def test_env_never_says_the_value(claude: Run) -> None:
    """`::env` says a hash and not the value."""
    done = claude("::env SECRET\n::env NONE", env={"SECRET": "canary"})
    assert b"canary" not in done.stdout
    assert b"SECRET sha256 " in done.stdout and b"NONE is not set" in done.stdout


@pytest.mark.parametrize(
    ("prompt", "number", "code"),
    [
        ("::silent", signal.SIGINT, 0),
        ("::silent", signal.SIGTERM, 143),
        ("::ignore-signals\n::say deaf\n::silent", signal.SIGTERM, -9),
        ("::say over\n::stay", signal.SIGTERM, 143),
    ],
)
def test_signals(command: list[str], environment: dict[str, str], prompt: str, number: int, code: int) -> None:
    """SIGINT ends it with 0 and SIGTERM with 143; told so, it ignores them, or stays after its result."""
    with subprocess.Popen(
        [*command, *STREAM],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=environment["HOME"][:-5],
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(prompt.encode())
        process.stdin.close()
        wanted = {"::stay": "result", "deaf": "assistant"}
        last = next((kind for word, kind in wanted.items() if word in prompt), "system")
        while json.loads(process.stdout.readline())["type"] != last:
            pass
        process.send_signal(number)
        if code == -9:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=0.2)
            process.kill()
        assert process.wait(timeout=10) == code
