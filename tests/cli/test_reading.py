"""The commands that read the journal."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from rich.cells import cell_len
from rich.console import Console
from tests.conftest import TOKEN
from tests.support.journal_helpers import Recorded, execution_result

from flaude import (
    ConcurrentExecutor,
    ConfigError,
    ExecutionRequest,
    Failure,
    FailureKind,
    MachineConfig,
    Phase,
    RepoResult,
    RunFailedError,
)
from flaude._model.codec import dump_result
from flaude._model.results import ExecutionResult
from flaude._model.run_result import FileChange
from flaude.cli.commands.logs import logs
from flaude.cli.commands.patch import patch
from flaude.cli.commands.ps import ps
from flaude.cli.commands.results import results
from flaude.cli.commands.status import status
from flaude.cli.text.batch_words import ago
from flaude.cli.text.printable import printable
from flaude.cli.text.table import print_table
from flaude.cli.view import consoles
from flaude.events import (
    AssistantText,
    Collecting,
    Created,
    Destroyed,
    Event,
    OtherOutput,
    Retried,
    Started,
    StderrOutput,
    StopRequested,
    ToolUse,
)
from flaude.journal import CheckpointNote, EventNote, SqliteJournal
from flaude.local import LocalFly

DIFF = b"diff --git a/a.txt b/a.txt\nnew file mode 100644\n--- /dev/null\n+++ b/a.txt\n@@ -0,0 +1 @@\n+caf\xe9\r\n"
FLY_LINE = "[fly] attempt 1: machine m1 in an unknown region"
HOSTILE = "\x1b]0;title\x07\x1b[31mred\x1b[0m [bold]x[/] \u202eevil\ud83d"
Output = Callable[[], tuple[list[str], list[str]]]


@pytest.fixture
async def journal() -> AsyncIterator[SqliteJournal]:
    """The journal that the commands open, in a folder of the test's."""
    async with SqliteJournal() as opened:
        yield opened


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Output:
    """The lines on stdout and on stderr since the last time."""

    def read() -> tuple[list[str], list[str]]:
        captured = capsys.readouterr()
        return captured.out.splitlines(), captured.err.splitlines()

    return read


def left_in(name: str, diff: bytes = DIFF, **fields: Any) -> RepoResult:
    """What a run left in a repository."""
    changes = (FileChange(path="a.txt", status="A", added=1, removed=0),) if diff else ()
    url = f"https://github.com/org/{name}"
    return RepoResult(url=url, path=f"/workspace/{name}", head="0" * 40, changes=changes, diff=diff, **fields)


def failed(tag: str, message: str, **fields: Any) -> ExecutionResult:
    """A run that ran too long."""
    failure = Failure(kind=FailureKind.DEADLINE, phase=Phase.AGENT, message=message)
    result = execution_result(tag, exit_code=124, failure=failure, **fields)
    return ExecutionResult(tag, result.run_result, RunFailedError(failure), result.attempts)


def of(kind: Callable[..., Event], *values: Any, index: int = 0) -> Event:
    """An event of a run of batch `b1`."""
    return kind("b1", index, "tag", datetime.now(UTC), "m1", *values)


# --- on a terminal, and elsewhere ---


def test_a_table_is_cut_by_a_terminal_alone() -> None:
    """On a terminal no line is longer than it is wide, in cells; anywhere else nothing is cut."""
    rows = [("1", "\u6f22\u5b57", "short"), ("10", "tag", "message " * 20)]
    for terminal in (True, False):
        out = io.StringIO()
        console = Console(file=out, force_terminal=terminal, width=40, soft_wrap=True, color_system=None)
        print_table(console, ("#", "tag", "what"), rows, right=("#",))
        lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in out.getvalue().splitlines()]
        assert lines[:2] == [" #  tag   what", " 1  \u6f22\u5b57  short"]
        assert lines[2].startswith("10  tag   message message")
        assert (cell_len(lines[2]) == 40 and lines[2][-1] == "\u2026") is terminal


def test_an_encoding_that_does_not_have_a_character(monkeypatch: pytest.MonkeyPatch) -> None:
    """A character that the output's encoding does not have is written by its number, and ends nothing."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    consoles.for_results().print("gr\u00f6\u00dfe")
    sys.stdout.flush()
    assert raw.getvalue() == b"gr\\xf6\\xdfe\n"


# --- ps ---


async def test_ps_without_batches(output: Output) -> None:
    """An empty journal is no error: nothing on stdout, and a word on stderr."""
    assert await ps() == 0
    assert output() == ([], ["The journal has no batches yet; `flaude run` begins one."])


async def test_ps_shows_those_that_go_on_first(journal: SqliteJournal, output: Output) -> None:
    """Batches that go on or were left come first, whatever their age; of the others the last ten."""
    began = datetime.now(UTC) - timedelta(days=3)
    left = await Recorded(journal, "left").begin(["a", "b"], began=began)
    await left.over(0, failed("a", "late", cost_usd=1.25))
    await left.left()
    running = await Recorded(journal, "running").begin(["a"], began=began - timedelta(days=1))
    detached = await Recorded(journal, "alone").begin(["a"], began=began, detached=True)
    await detached.left()
    for number in range(12):
        ended = await Recorded(journal, f"ended{number:02}").begin(["a"], began=began + timedelta(hours=number))
        await ended.over(0, execution_result("a"))
        await ended.end()
    assert await ps() == 0
    (heading, *lines), talk = output()
    assert heading.split() == ["batch", "app", "age", "over", "cost", "state"]
    assert [line.split()[0] for line in lines] == [
        *("running", "alone", "left"),
        *(f"ended{number:02}" for number in range(11, 1, -1)),
    ]
    assert f"running in process {running.holder.pid}" in lines[0]
    assert lines[1].endswith("detached: flaude resume alone")
    assert " ".join(lines[2].split()) == "left my-app 3 d 1/2, 1 failed $1.2500 left: flaude resume left"
    assert lines[3].endswith("$0.0000  ended") and talk == ["2 older: flaude ps --all"]
    assert await ps(all=True) == 0
    lines, talk = output()
    assert len(lines) == 16 and talk == []


async def test_ps_as_json(journal: SqliteJournal, output: Output) -> None:
    """`--json` prints one object a batch and nothing else."""
    batch = await Recorded(journal).begin(["a", "b"])
    await batch.over(0, execution_result("a", cost_usd=0.5))
    await batch.left()
    assert await ps(json=True) == 0
    (line,), talk = output()
    told = json.loads(line)
    assert datetime.fromisoformat(told.pop("began")).tzinfo is not None and talk == []
    assert told == {
        "batch": "b1",
        "app": "my-app",
        "shards": 1,
        "source": "batch.yaml",
        "ended": None,
        "state": "left",
        "stopped_by": "",
        "total": 2,
        "succeeded": 1,
        "failed": 0,
        "open": 1,
        "cost_usd": 0.5,
    }


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(-5, "0 s"), (7.9, "7 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172_800, "2 d")],
)
def test_ages(seconds: float, told: str) -> None:
    """An age is told in the largest unit that is there at least twice."""
    now = datetime.now(UTC)
    assert ago(now - timedelta(seconds=seconds), now) == told


# --- status ---


async def test_status(journal: SqliteJournal, output: Output) -> None:
    """The sums, and a line for each run: how far it is, or what it came to; no text of anybody's is obeyed."""
    batch = await Recorded(journal).begin(["docs", HOSTILE, "works", "waits"])
    await batch.over(0, execution_result("docs", cost_usd=0.0123, num_turns=3))
    await batch.over(1, failed(HOSTILE, f"first\n{HOSTILE}"))
    point = {"machine_id": "m3", "attempt": 1, "began_at": {"create": datetime.now(UTC).isoformat()}}
    await journal.write("b1", batch.holder.owner, [CheckpointNote(2, "agent", point)])
    await batch.end("budget_usd: $1 is used")
    assert await status("last") == 0
    lines, talk = output()
    assert lines[0] == "Batch b1 on my-app from batch.yaml, begun 0 s ago: left: flaude resume b1"
    assert lines[1] == "4 runs: 1 succeeded, 1 failed, 2 open; agents $0.0123"
    assert lines[2] == "Cut short: budget_usd: $1 is used"
    assert [line.split() for line in lines[3:]] == [
        ["#", "tag", "state", "machine", "time", "turns", "cost", "what", "went", "wrong"],
        ["0", "docs", "ok", "m1", "1:15", "3", "$0.0123"],
        ["1", "red", "[bold]x[/]", "evil", "deadline", "m1", "1:15", "first", "red", "[bold]x[/]", "evil"],
        ["2", "works", "agent", "m3", "0:00"],
        ["3", "waits", "queued"],
    ]
    assert talk == []


async def test_status_of_a_batch_that_is_spread(journal: SqliteJournal, output: Output) -> None:
    """Each run has the app that its machine is in, so that flyctl finds it."""
    batch = await Recorded(journal).begin(["docs", "works", "waits"], shards=3)
    await batch.over(0, execution_result("docs", app="my-app-2"))
    point = {"machine_id": "m3", "attempt": 1, "app": "my-app-3", "began_at": {}}
    await journal.write("b1", batch.holder.owner, [CheckpointNote(1, "agent", point)])
    assert await status("last") == 0
    lines, _ = output()
    assert lines[0].startswith("Batch b1 on my-app and 2 shards from batch.yaml, begun 0 s ago: ")
    assert [line.split()[:5] for line in lines[2:]] == [
        ["#", "tag", "state", "app", "machine"],
        ["0", "docs", "ok", "my-app-2", "m1"],
        ["1", "works", "agent", "my-app-3", "m3"],
        ["2", "waits", "queued"],
    ]
    assert await status("last", json=True) == 0
    head, *runs = map(json.loads, output()[0])
    assert (head["shards"], [run["app"] for run in runs]) == (3, ["my-app-2", "my-app-3", ""])


async def test_status_as_json(journal: SqliteJournal, output: Output) -> None:
    """`--json` prints the batch, then each run, one object a line, in ASCII."""
    batch = await Recorded(journal).begin([HOSTILE, "waits"])
    await batch.over(0, failed(HOSTILE, HOSTILE, cost_usd=0.5))
    assert await status("b", json=True) == 0
    lines, talk = output()
    assert all(map(str.isascii, lines)) and talk == []
    head, first, second = map(json.loads, lines)
    assert (head["batch"], head["state"], head["failed"], head["open"]) == ("b1", "running", 1, 1)
    assert first["failure"] == {"kind": "deadline", "phase": "agent", "message": HOSTILE}
    assert (first["index"], first["tag"], first["success"], first["seconds"]) == (0, HOSTILE, False, 75.0)
    assert (second["index"], second["success"], second["failure"], second["phase"]) == (1, None, None, "queued")


# --- logs ---


async def test_logs(journal: SqliteJournal, output: Output) -> None:
    """What the agent printed, as people read it, and what flaude did in between; unknown events are passed over."""
    batch = await Recorded(journal).begin(["docs", "other"])
    failure = Failure(kind=FailureKind.CAPACITY, phase=Phase.CREATE, message="no room")
    await batch.tell(
        of(Retried, 1, failure, 2.5),
        of(Created, "iad"),
        of(Started),
        of(AssistantText, f"first\n  - {HOSTILE}"),
        of(AssistantText, "not of this run", index=1),
        of(ToolUse, "t1", "Write", {"file_path": "a.txt"}),
        of(OtherOutput, {"type": "system"}),
        of(OtherOutput, "plain"),
        of(StderrOutput, "oh"),
        of(StopRequested, "SIGINT", False),
        of(Collecting),
        of(Destroyed, False),
    )
    later = {"event": "of_a_later_flaude", "batch": "b1", "text": "?"}
    await journal.write("b1", batch.holder.owner, [EventNote(0, datetime.now(UTC), "of_a_later_flaude", later)])
    assert await logs("last", "docs") == 0
    said = [
        "[flaude] attempt 1 failed, again in 2 s: capacity: no room",
        "[flaude] machine m1 boots in iad",
        "[flaude] agent started on m1",
        "first",
        r"  - red [bold]x[/] \u202eevil\ud83d",
        "[Write] a.txt",
        "plain",
        "oh",
        "[flaude] stops, its work is collected: SIGINT",
        "[flaude] agent ended, collecting its work",
        "[flaude] machine m1 is not confirmed gone",
    ]
    assert output() == (said, [])
    await batch.over(0, failed("docs", "late\nvery", stdout_tail=("never shown",)))
    assert await logs("last", "0") == 0
    assert output() == ([*said, FLY_LINE, "[flaude] failed: deadline: late very"], [])


async def test_logs_of_a_run_whose_output_is_not_in_the_journal(journal: SqliteJournal, output: Output) -> None:
    """Then there is the end of it, from its result: as people read it, and not as Claude Code writes it."""
    batch = await Recorded(journal).begin(["docs"])
    said = {"type": "assistant", "message": {"content": [{"type": "text", "text": f"hello\n{HOSTILE}"}]}}
    tail = (json.dumps(said), '{"type": "result", "result": "x"}', "plain")
    await batch.tell(of(Started))
    await batch.over(0, execution_result("docs", stdout_tail=tail, stderr_tail=("oh",)))
    assert await logs("last", "docs") == 0
    begins, *lines = output()[0]
    assert begins == "[flaude] agent started on m1"
    assert lines == ["hello", r"red [bold]x[/] \u202eevil\ud83d", "plain", "oh", FLY_LINE, "[flaude] succeeded"]


async def test_logs_follow_a_run_to_its_end(
    journal: SqliteJournal, output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`-f` prints what comes, each line once, and ends with the run, however many events come at once."""
    monkeypatch.setattr("flaude.cli.commands.logs._POLL_S", 0.01)
    batch = await Recorded(journal).begin(["docs", "other"])
    await batch.tell(of(AssistantText, "before"))
    seen = list[str]()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:

            async def follow() -> None:
                assert await logs("b1", "docs", follow=True) == 0

            async def until(line: str) -> None:
                while line not in seen:
                    await anyio.lowlevel.checkpoint()
                    seen.extend(output()[0])

            tasks.start_soon(follow)
            await until("before")
            await batch.tell(*(of(AssistantText, f"many {number}") for number in range(1200)))
            await until("many 1199")
            await batch.over(1, execution_result("other"))
            await batch.tell(of(AssistantText, "last words"))
            await batch.over(0, execution_result("docs"))
    seen.extend(output()[0])
    assert seen == [
        "before",
        *(f"many {number}" for number in range(1200)),
        "last words",
        FLY_LINE,
        "[flaude] succeeded",
    ]
    assert await logs("b1", "docs") == 0
    assert output()[0] == seen


@pytest.mark.parametrize(("detached", "why"), [(False, "has been left"), (True, "works alone")])
async def test_logs_follow_nobody(journal: SqliteJournal, output: Output, detached: bool, why: str) -> None:
    """Who follows a run that nobody carries out gets what there is, a hint, and exit code 1."""
    batch = await Recorded(journal).begin(["docs"], detached=detached)
    await batch.tell(of(AssistantText, "said"))
    await batch.left()
    assert await logs("b1", "docs", follow=True) == 1
    assert output() == (["said"], [f"flaude: the batch {why}: flaude resume b1"])
    assert await logs("b1", "docs") == 0


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\tas it is: größe 漢字 👩\u200d💻 \u00a0", "\tas it is: größe 漢字 👩\u200d💻 \u00a0"),
        ("\x1b[1;31mred\x1b[0m\x1b]8;;http://x\x1b\\link\x1b]8;;\x07", "redlink"),
        ("\x1b[2J\x1bc\x07\x9b1m\u2028\ufeff", r"\x1bc\x07\x9b1m\u2028\ufeff"),
        ("a\r\nb\rc\0", "a\nb\\x0dc\\x00"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    """Colours are left out, what a terminal obeys is shown by its number, and everything else stays."""
    assert printable(text) == shown


# --- results and patches ---


async def test_results(journal: SqliteJournal, output: Output) -> None:
    """For each run what it came to, what its agent answered and what it changed; open ones are counted on stderr."""
    batch = await Recorded(journal).begin(["docs", "slow", "two", "waits"])
    await batch.over(
        0, execution_result("docs", text=f"done:\n\n  - {HOSTILE}", cost_usd=0.5, num_turns=1, patches=(left_in("a"),))
    )
    await batch.over(1, failed("slow", "late", machine_seconds=0.0))
    renamed = FileChange(path="new\n.py", status="R", old_path="old.py", added=None, removed=None)
    two = (
        left_in("a", b""),
        left_in("b", error="too large", pushed_branch="flaude/two").model_copy(update={"changes": (renamed,)}),
    )
    await batch.over(2, execution_result("two", patches=two))
    assert await results("last") == 0
    lines, talk = output()
    assert lines == [
        "#0 docs  succeeded  ($0.5000, 1:15, 1 turn)",
        "  done:",
        "",
        r"    - red [bold]x[/] \u202eevil\ud83d",
        "  A a.txt +1 -0",
        "",
        "#1 slow  failed: deadline: late",
        "",
        "#2 two  succeeded  (1:15)",
        "  in /workspace/b:",
        "  R old.py → new .py",
        "  not whole: too large",
        "  pushed to flaude/two",
        "",
        "#3 waits  not over: queued",
    ]
    assert talk == ["1 run of 4 not over yet."]
    assert await results("last", "slow") == 0
    assert output() == (["#1 slow  failed: deadline: late"], [])


async def test_results_as_json(journal: SqliteJournal, output: Output) -> None:
    """`--json` prints the whole results that are there, one object a line, in the order of the requests."""
    batch = await Recorded(journal).begin(["a", "waits", HOSTILE])
    last = failed(HOSTILE, HOSTILE, structured_output={"pi": float("nan")})
    first = execution_result("a", text=HOSTILE, patches=(left_in("a"),))
    await batch.over(2, last)
    await batch.over(0, first)
    assert await results("last", json=True) == 0
    lines, talk = output()
    assert all(map(str.isascii, lines)) and "NaN" not in lines[1] and talk == ["1 run of 3 not over yet."]
    told = [json.loads(line) for line in lines]
    assert told[0] == {"batch": "b1", "index": 0, **json.loads(json.dumps(dump_result(first)))}
    assert (told[1]["index"], told[1]["tag"], told[1]["success"]) == (2, HOSTILE, False)
    assert await results("last", "#2", json=True) == 0
    assert output() == ([lines[1]], [])


@pytest.mark.parametrize(
    ("patches", "word", "found"),
    [
        ((left_in("a"),), None, DIFF),
        ((left_in("a"),), "a", DIFF),
        ((left_in("a", b""), left_in("b")), None, DIFF),
        ((left_in("a", b"1"), left_in("b", b"2")), "b", b"2"),
        ((left_in("a", b"1"), left_in("b", b"2")), "0", b"1"),
        ((left_in("1", b"1"), left_in("b", b"2")), "1", b"1"),
        ((left_in("a", b"1"), left_in("b", b"2")), "https://github.com/org/b", b"2"),
        ((left_in("a", b""),), None, "run #0 (docs) has changed nothing"),
        ((), None, "run #0 (docs) has changed nothing"),
        ((left_in("a", b""), left_in("b")), "a", "run #0 (docs) has changed nothing in a"),
    ],
)
async def test_patch(
    journal: SqliteJournal,
    capfdbinary: pytest.CaptureFixture[bytes],
    patches: Sequence[RepoResult],
    word: str | None,
    found: bytes | str,
) -> None:
    """The patch is printed byte for byte; where nothing has changed stderr says so, with exit code 1."""
    batch = await Recorded(journal).begin(["docs"])
    await batch.over(0, execution_result("docs", patches=tuple(patches)))
    code = await patch("last", "docs", repo=word)
    captured = capfdbinary.readouterr()
    if isinstance(found, bytes):
        assert (code, captured.out, captured.err) == (0, found, b"")
    else:
        assert (code, captured.out, captured.err) == (1, b"", f"flaude: {found}\n".encode())


@pytest.mark.parametrize(
    ("word", "told"),
    [
        (None, r"--repo: several repositories have changed, give one: 0 \(a\), 2 \(c\)"),
        ("d", r"--repo 'd': no such repository; there is 0 \(a\), 1 \(b\), 2 \(c\)"),
        ("3", "no such repository"),
    ],
)
async def test_patch_of_which_repository(journal: SqliteJournal, word: str | None, told: str) -> None:
    """With several repositories the one that is meant must be named, and be there."""
    batch = await Recorded(journal).begin(["docs"])
    await batch.over(0, execution_result("docs", patches=(left_in("a"), left_in("b", b""), left_in("c"))))
    with pytest.raises(ConfigError, match=told):
        await patch("last", "docs", repo=word)


async def test_patch_that_is_not_there_yet(journal: SqliteJournal, output: Output) -> None:
    """A run that goes on has no patch, and what is not in a patch is said."""
    batch = await Recorded(journal).begin(["docs", "big"])
    assert await patch("last", "docs") == 1
    assert output() == ([], ["flaude: run #0 (docs) is not over yet; its patch comes with its end"])
    big = left_in("a", b"1", error="cut", omitted=({"path": "x\x1b[1m.bin", "reason": "too large"},))
    await batch.over(1, execution_result("big", patches=(big,)))
    assert await patch("last", "big") == 0
    out, err = output()
    assert out == ["1"] and err == [
        "flaude: run #1 (big): the patch is not whole: cut",
        "flaude: run #1 (big): 1 file not in the patch: x.bin (too large)",
    ]


# --- as processes ---


async def test_from_a_batch_to_git(
    local: LocalFly, repo: Path, tmp_path: Path, git: Callable[..., str], output: Output
) -> None:
    """What a real batch has left in the journal is shown, and `flaude patch … | git apply` takes it."""
    config = MachineConfig(
        claude_code_oauth_token=TOKEN, prompt="::write a.txt gr\u00f6\u00dfe\n::say done", repos=[f"file://{repo}"]
    )
    executor = ConcurrentExecutor("my-app", fly=local, journal=SqliteJournal(), output_dir=tmp_path / "out")
    assert (await executor.run_batch([ExecutionRequest(config, tag="docs")])).all_succeeded
    assert await logs("last", "docs") == 0
    said, _ = output()
    assert {"[Write] /workspace/sample/a.txt", "done", "[flaude] succeeded"} <= set(said)
    assert await results("last") == 0
    (_, answer, changed), _ = output()
    assert (answer, changed) == ("  done", "  A a.txt +1 -0")
    git(tmp_path, "clone", "--quiet", str(repo), "clone")
    command = f"{sys.executable} -m flaude patch last docs | git -C {tmp_path / 'clone'} apply"
    done = await anyio.run_process(command, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert await anyio.Path(tmp_path / "clone/a.txt").read_text() == "gr\u00f6\u00dfe\n"


async def test_nobody_reads_on(journal: SqliteJournal) -> None:
    """When the reader of its output goes, a command ends in silence."""
    await Recorded(journal).begin([f"tag-{number}" for number in range(3000)])
    done = await anyio.run_process(f"{sys.executable} -m flaude status last --json | head -1", check=False)
    assert done.stdout.count(b"\n") == 1 and done.stderr == b""
