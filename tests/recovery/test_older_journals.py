"""A journal that an older flaude has written is read by this one, and its batches are gone on with.

`tests/fixtures/older/README.md` says what is in it. What is compared is what it means: fields may be added.
"""

from __future__ import annotations

import base64
import html
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TOKEN, Machines

from flaude import ExecutionResult, FailureKind, Phase
from flaude._model.codec import load_request
from flaude._model.config import reveal
from flaude._model.run_result import Attempt
from flaude._providers.fly.exec_limits import ExecLimits
from flaude._providers.fly.probe.saved import measured_limits
from flaude._recovery.records import read_batch
from flaude._recovery.resume import load_progress
from flaude.cli.commands.logs import logs
from flaude.cli.commands.patch import patch
from flaude.cli.commands.ps import ps
from flaude.cli.commands.report import report
from flaude.cli.commands.results import results
from flaude.cli.commands.resume import resume
from flaude.cli.commands.retry import retry
from flaude.cli.commands.status import status
from flaude.events import Created, Retried
from flaude.events.codec import load_event
from flaude.journal import SqliteJournal
from flaude.local import LocalFly

OLDER = Path(__file__).parents[1] / "fixtures/older/journal-1"
PRINTED = OLDER / "printed"
IDS: dict[str, str] = json.loads((PRINTED / "batches.json").read_text())
NPM_TOKEN = "npm-canary-71c2e0"

Json = dict[str, Any]


def lines(text: str) -> list[Json]:
    """One JSON object a line."""
    return [json.loads(line) for line in text.splitlines()]


def printed(batch: str, command: str) -> list[Json]:
    """What a command of the older flaude printed with `--json`."""
    return lines((PRINTED / IDS[batch] / f"{command}.jsonl").read_text())


RUNS = [(batch, line["tag"]) for batch in IDS for line in printed(batch, "status")[1:]]
PATCHES = [(batch, tag) for batch, tag in RUNS if (PRINTED / IDS[batch] / f"{tag}.patch").exists()]


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A copy of the older flaude's folder, which the commands read and write."""
    folder = tmp_path / "older"
    shutil.copytree(OLDER / "home", folder)
    monkeypatch.setenv("FLAUDE_HOME", str(folder))
    monkeypatch.setenv("CLAUDE_CODE_OAUTH_TOKEN", TOKEN)
    monkeypatch.setenv("NPM_TOKEN", NPM_TOKEN)
    return folder


Told = Callable[[], list[Json]]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """What a command has printed with `--json`."""
    return lambda: lines(capsys.readouterr().out)


def only(found: Iterable[Json], fields: Sequence[str]) -> list[Json]:
    """Of each object these fields, which it must have."""
    return [{name: one[name] for name in fields} for one in found]


# --- read ---

OF_A_BATCH = (
    *("batch", "app", "shards", "source", "began", "ended", "state", "stopped_by"),
    *("total", "succeeded", "failed", "open", "cost_usd"),
)
OF_A_RUN = (
    *("batch", "index", "tag", "phase", "success", "failure", "exit_code", "app", "machine_id"),
    *("num_turns", "changed", "cost_usd", "updated"),
)


async def test_its_batches_are_listed(told: Told) -> None:
    """`flaude ps` lists each with the state, the counts and the costs that it had."""
    assert await ps(all=True, json=True) == 0
    assert only(told(), OF_A_BATCH) == only(lines((PRINTED / "ps.jsonl").read_text()), OF_A_BATCH)


@pytest.mark.parametrize("batch", IDS)
async def test_its_runs_are_as_they_were(batch: str, told: Told) -> None:
    """`flaude status` has each run where it was: over with its outcome, on its machine in its app, or queued."""
    assert await status(IDS[batch], json=True) == 0
    now, before = told(), printed(batch, "status")
    assert only(now[:1], OF_A_BATCH) == only(before[:1], OF_A_BATCH)
    assert only(now[1:], OF_A_RUN) == only(before[1:], OF_A_RUN)
    finished = [index for index, run in enumerate(before) if index and run["success"] is not None]
    assert [now[index]["seconds"] for index in finished] == [before[index]["seconds"] for index in finished]


@pytest.mark.parametrize("batch", IDS)
async def test_its_results_are_printed(batch: str, told: Told) -> None:
    """`flaude results --json` prints each result that there was, with its answer, cost, patches and attempts."""

    def in_short(found: Iterable[Json]) -> list[Json]:
        return [
            {
                **only([result], ("batch", "index", "tag", "success", "error"))[0],
                "brought": only([result["run_result"]], ("text", "structured_output", "exit_code", "cost_usd")),
                "patches": only(result["run_result"]["patches"], ("url", "path", "changes", "diff")),
                "attempts": only(result["attempts"], ("number", "machine_id", "gone", "failure", "cost_usd")),
            }
            for result in found
        ]

    assert await results(IDS[batch], json=True) == 0
    assert in_short(told()) == in_short(printed(batch, "results"))


@pytest.mark.parametrize("batch", IDS)
async def test_its_results_are_values_again(batch: str) -> None:
    """As a program has them, they are what they were: answers, costs, patches, files and every attempt."""
    before = {result["index"]: result for result in printed(batch, "results")}
    async with SqliteJournal() as journal:
        record = await read_batch(journal, IDS[batch])
        for run in record.runs:
            result = await record.result(run.index)
            if run.index in before:
                assert result is not None
                check_result(result, before[run.index])
            else:
                assert result is None and not run.is_over


def check_result(result: ExecutionResult, kept: Json) -> None:
    """It is the one that was printed."""
    run, was = result.run_result, kept["run_result"]
    assert run is not None
    assert (result.tag, result.success, run.app) == (kept["tag"], kept["success"], was["app"])
    assert ("" if result.error is None else str(result.error)) == (kept["error"] or {"message": ""})["message"]
    for name in ("machine_id", "exit_code", "text", "structured_output", "session_id", "num_turns", "cost_usd"):
        assert getattr(run, name) == was[name], name
    for name in ("destroyed", "region", "machine_seconds", "machine_cost_usd", "workspace_files", "stdout_tail"):
        assert json.loads(json.dumps(getattr(run, name))) == was[name], name
    assert (run.usage.input_tokens, run.usage.output_tokens) == (
        was["usage"]["input_tokens"],
        was["usage"]["output_tokens"],
    )
    assert {model: usage.cost_usd for model, usage in run.model_usage.items()} == {
        model: usage["cost_usd"] for model, usage in was["model_usage"].items()
    }
    for left, one in zip(run.patches, was["patches"], strict=True):
        assert (left.url, left.path, left.head, left.error) == (one["url"], one["path"], one["head"], one["error"])
        assert left.diff == base64.b64decode(one["diff"])
        assert [change.path for change in left.changes] == [change["path"] for change in one["changes"]]
    files = [*run.artifacts, *([run.transcript] if run.transcript else [])]
    were = [*was["artifacts"], *([was["transcript"]] if was["transcript"] else [])]
    assert [(file.path, file.size, str(file.file)) for file in files] == [
        (file["path"], file["size"], file["file"]) for file in were
    ]
    check_failure(result, kept)
    for attempt, one in zip(result.attempts, kept["attempts"], strict=True):
        check_attempt(attempt, one)


def check_failure(result: ExecutionResult, kept: Json) -> None:
    """It has failed for the same reason."""
    was = kept["run_result"]["failure"]
    failure = result.failure
    assert (failure is None) == (was is None)
    if failure is not None:
        assert (failure.kind, failure.phase, failure.message) == (was["kind"], was["phase"], was["message"])


def check_attempt(attempt: Attempt, was: Json) -> None:
    """It is the one that was printed, with its machine, its times and what the provider has shown of it."""
    for name in ("number", "name", "machine_id", "region", "state", "gone", "agent_started", "cost_usd", "app"):
        assert getattr(attempt, name) == was[name], name
    assert (attempt.machine_seconds, attempt.machine_cost_usd) == (was["machine_seconds"], was["machine_cost_usd"])
    assert (attempt.failure.kind if attempt.failure else None) == (was["failure"]["kind"] if was["failure"] else None)
    assert attempt.times.create == datetime.fromisoformat(was["times"]["create"])
    assert [(one.id, one.status) for one in attempt.requests] == [(one["id"], one["status"]) for one in was["requests"]]
    exited, event = attempt.exit_event, was["exit_event"]
    assert (exited.exit_code if exited else None) == (event["exit_code"] if event else None)


@pytest.mark.parametrize(("batch", "tag"), RUNS)
async def test_its_logs_are_told(batch: str, tag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`flaude logs` prints what the agent printed, what happened in between, every id, and how it ended."""
    assert await logs(IDS[batch], tag) == 0
    now = capsys.readouterr().out.splitlines()
    before = (PRINTED / IDS[batch] / f"{tag}.log.txt").read_text().splitlines()
    assert [line for line in now if not ours(line)] == [line for line in before if not ours(line)]
    assert sum(map(ours, now)) >= sum(map(ours, before))
    assert ids_in(now) == ids_in(before)
    if before[-1].startswith(("[flaude] succeeded", "[flaude] failed")):
        assert now[-1] == before[-1]


def ours(line: str) -> bool:
    """Whether it is flaude's and not the agent's."""
    return line.startswith(("[flaude]", "[fly]"))


def ids_in(log: Iterable[str]) -> set[str]:
    """The ids of requests to Fly, which a log is kept for."""
    return {word.rstrip(":") for line in log if line.startswith("[fly] request") for word in line.split()[2:3]}


@pytest.mark.parametrize(("batch", "tag"), RUNS)
async def test_its_patches_are_printed(batch: str, tag: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """`flaude patch` prints byte for byte what it did, and nothing where there was none."""
    there = (batch, tag) in PATCHES
    assert await patch(IDS[batch], tag, repo="other" if tag == "both" else None) == (0 if there else 1)
    file = PRINTED / IDS[batch] / f"{tag}.patch"
    assert capfdbinary.readouterr().out == (file.read_bytes() if there else b"")


@pytest.mark.parametrize("batch", IDS)
async def test_its_report_is_made(batch: str, tmp_path: Path) -> None:
    """`flaude report` shows every run of it, and every answer."""
    page = tmp_path / "report.html"
    assert await report(IDS[batch], output=str(page)) == 0
    text = html.unescape(page.read_text())
    for line in printed(batch, "status")[1:]:
        assert line["tag"] in text and "result lost" not in text
    for result in printed(batch, "results"):
        assert result["run_result"]["structured_output"] or result["run_result"]["text"] in text


async def test_its_events_are_known() -> None:
    """Every kind of event in it is one of this flaude's: none is passed over for being unknown."""
    loaded = []
    async with SqliteJournal() as journal:
        for batch in IDS.values():
            for entry in await journal.events(batch):
                if entry.kind != "finished":  # it is kept without its result, which is a file
                    event = load_event(entry.data)
                    assert (event.batch, event.index, event.at) == (batch, entry.index, entry.at)
                    loaded.append(event)
    assert {event.region for event in loaded if isinstance(event, Created)} == {"iad"}
    assert [event.failure.kind for event in loaded if isinstance(event, Retried)] == [FailureKind.MACHINE_LOST] * 2


async def test_its_settings_and_requests_are_values_again() -> None:
    """What a batch keeps to and what it asks for come back, secrets from the environment."""
    async with SqliteJournal() as journal:
        ended, left, again = [await read_batch(journal, IDS[name]) for name in ("ended", "left", "again")]
    settings = ended.settings
    assert (settings.max_concurrency, settings.budget_usd, settings.wait_timeout) == (6, 20, 25)
    assert (settings.timeouts.grace, settings.retries.more, ended.source) == (2, 2, "ended.yaml")
    assert (left.settings.app, left.settings.shards, left.shards) == ("my-app", 2, 2)
    assert (again.settings.retries.more, again.settings.retries.after_start) == (3, True)
    environ = {"CLAUDE_CODE_OAUTH_TOKEN": TOKEN, "NPM_TOKEN": NPM_TOKEN}
    request = load_request(ended.run("patch").entry.request, environ)
    config = request.config
    assert (request.tag, config.model, config.transcript, config.max_budget_usd) == ("patch", "sonnet", True, 1)
    assert config.prompt.startswith("Review the module, and write down what you find.\n::say I begin\n")
    assert [repo.url for repo in config.repo_specs] == ["file:///tmp/flaude-before/origin/sample"]
    assert (config.collect, config.metadata) == (("*.txt",), {"team": "billing"})
    assert {name: reveal(value) for name, value in config.env.items()} == {"NPM_TOKEN": NPM_TOKEN, "LOG_LEVEL": "debug"}
    both = load_request(ended.run("both").entry.request, environ).config.repo_specs
    assert [(repo.url.rpartition("/")[2], repo.branch) for repo in both] == [("sample", ""), ("other", "next")]


def kept_checkpoints(batch: str) -> dict[int, Json]:
    """The last checkpoint of each open run that has one, as the older flaude has written it."""
    file = f"file:{OLDER / 'home/journal.sqlite3'}?mode=ro&immutable=1"
    sql = "SELECT place, checkpoint FROM runs WHERE batch = ? AND outcome IS NULL AND checkpoint IS NOT NULL"
    with closing(sqlite3.connect(file, uri=True)) as database:
        return {index: json.loads(text) for index, text in database.execute(sql, (IDS[batch],))}


@pytest.mark.parametrize(("batch", "count"), [("ended", 0), ("retried", 0), ("left", 3), ("again", 1), ("detached", 1)])
async def test_its_checkpoints_are_values_again(batch: str, count: int) -> None:
    """Where a run was left is where it is taken up: its machine, the app and pad of that, its times and attempts."""
    async with SqliteJournal() as journal:
        progress, requests = await load_progress(journal, IDS[batch], {"NPM_TOKEN": NPM_TOKEN})
    kept = kept_checkpoints(batch)
    assert set(progress.left) == set(kept) <= set(requests) and len(kept) == count
    for index, was in kept.items():
        left = progress.left[index]
        assert left.under_way and (left.attempt, left.app, left.pad.hex()) == (was["attempt"], was["app"], was["pad"])
        for name in ("machine_id", "region", "machine_state", "phase", "offset", "agent_started", "destroyed"):
            assert getattr(left.state, name) == was[name], name
        assert {phase: at.isoformat() for phase, at in left.began_at.items()} == was["began_at"]
        assert [(one.id, one.status) for one in left.requests] == [
            (one["id"], one["status"]) for one in was["requests"]
        ]
        for attempt, one in zip(left.earlier, was["earlier"], strict=True):
            check_attempt(attempt, one)
    if batch == "left":
        result = progress.left[1].state.result
        assert result is not None and result.exit_code == 0, "what had arrived is there"
        assert [file.path for file in progress.left[1].downloaded.artifacts] == ["found.txt"]
        assert (progress.left[2].state.step, progress.left[2].state.result) == (kept[2]["step"], None)
    if batch == "again":
        assert [run.machine_id for run in progress.left[0].superseded] == [kept[0]["earlier"][0]["machine_id"]]
    unknown = 3 if batch == "ended" else 0  # each counts as all that it might have been: $1
    assert progress.spent_usd == pytest.approx(printed(batch, "status")[0]["cost_usd"] + unknown)


def test_its_measurements_are_used() -> None:
    """What `flaude doctor --live --save` has measured is what execs go by."""
    assert measured_limits("http://127.0.0.1:48280") == ExecLimits(
        body_bytes=14_488, answer_bytes=1024 * 1024, stdin=False, longest_wait_s=45.0
    )


# --- gone on with ---


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[[LocalFly], None]:
    """Has the commands use a stand-in, which knows none of the older flaude's machines."""

    def use(fly: LocalFly) -> None:
        monkeypatch.setenv("FLY_FLAPS_BASE_URL", fly.base_url)
        monkeypatch.setenv("FLY_API_TOKEN", fly.token)

    return use


async def by_tag(batch: str) -> dict[str, ExecutionResult]:
    """The results of a batch by their tags; none is missing."""
    async with SqliteJournal() as journal:
        record = await read_batch(journal, batch)
        found = [await record.result(run.index) for run in record.runs]
    return {result.tag: result for result in found if result is not None}


def kinds(found: dict[str, ExecutionResult]) -> dict[str, str | None]:
    """How each run went wrong."""
    return {tag: str(result.failure.kind) if result.failure else None for tag, result in found.items()}


async def test_a_batch_that_was_killed_is_brought_to_its_end(
    machines: Machines, on: Callable[[LocalFly], None], home: Path, tmp_path: Path
) -> None:
    """What was over stays, what had arrived is the result, a machine that is gone is lost, and what waited runs."""
    out = tmp_path / "out"
    async with machines() as fly:
        on(fly)
        assert await resume(IDS["left"], json=True, output_dir=out) == 1
        assert len(fly.created) == 2
    found = await by_tag(IDS["left"])
    assert kinds(found) == {
        "over": None,
        "collected": None,
        "works": "machine_lost",
        "works-too": "machine_lost",
        "waits": None,
        "waits-too": "agent_error",
    }
    check_result(found["over"], printed("left", "results")[0])
    collected, waits = found["collected"].run_result, found["waits"].run_result
    assert collected is not None and waits is not None
    assert (collected.text, collected.cost_usd) == ("Collected before the kill.", 0.375)
    assert [change.path for change in collected.patches[0].changes] == ["NOTES.md", "found.txt"]
    assert b"+all of it had arrived\n" in collected.patches[0].diff
    assert [(file.path, file.size) for file in collected.artifacts] == [("found.txt", 10)]
    assert (waits.text, waits.cost_usd) == ("Done by another.", 0.0625)
    assert [file.file.read_text() for file in waits.artifacts] == ["done after all\n"]
    lost = {line["tag"]: line for line in printed("left", "status")[1:]}
    for tag in ("collected", "works", "works-too"):
        (attempt,) = found[tag].attempts
        assert (attempt.machine_id, attempt.app) == (lost[tag]["machine_id"], lost[tag]["app"])
        assert attempt.gone and attempt.agent_started
    failure = found["works"].failure
    assert failure is not None and failure.phase is Phase.AGENT
    assert not list((home / "batches" / IDS["left"]).rglob("harvest-*")), "it is kept until the run is over"


async def test_a_run_that_was_in_its_second_attempt_gets_a_third(
    machines: Machines, on: Callable[[LocalFly], None], tmp_path: Path
) -> None:
    """The attempts before count, and what they brought stays with the result."""
    async with machines() as fly:
        on(fly)
        assert await resume(IDS["again"], json=True, output_dir=tmp_path / "out") == 0
        assert len(fly.created) == 1
    result = (await by_tag(IDS["again"]))["again"]
    assert result.run_result is not None and result.run_result.text == "At last."
    (older,) = [line for line in printed("again", "status")[1:] if line["tag"] == "again"]
    first, second, third = result.attempts
    assert [attempt.failure.kind if attempt.failure else None for attempt in result.attempts] == [
        *[FailureKind.MACHINE_LOST] * 2,
        None,
    ]
    assert (first.exit_event.exit_code if first.exit_event else None) == 137
    assert second.machine_id == older["machine_id"] and second.app == third.app == "my-app"
    assert [run.machine_id for run in result.superseded] == [first.machine_id, second.machine_id]


async def test_a_detached_batch_whose_machine_is_gone_ends(machines: Machines, on: Callable[[LocalFly], None]) -> None:
    """It is told as lost, and no other machine is made for it: its agent had started."""
    async with machines() as fly:
        on(fly)
        assert await resume(IDS["detached"], json=True) == 1
        assert not fly.created
    assert kinds(await by_tag(IDS["detached"])) == {"alone": "machine_lost"}


async def test_its_requests_are_run_once_more(
    machines: Machines, on: Callable[[LocalFly], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`flaude retry` makes a new batch of them, and leaves the old one as it is."""
    monkeypatch.chdir(tmp_path)
    async with machines() as fly:
        on(fly)
        assert await retry(IDS["ended"], "lost-once", "exits", json=True) == 1
    found = await by_tag("last")
    assert kinds(found) == {"lost-once": None, "exits": "agent_error"}
    brought = found["lost-once"].run_result
    assert brought is not None and brought.structured_output == {"verdict": "größer als 1", "points": [1, 2.5, None]}
    async with SqliteJournal() as journal:
        newest = await read_batch(journal, "last")
        assert newest.id not in IDS.values() and newest.source == f"retry of {IDS['ended']}"
    for kept in printed("ended", "results"):
        check_result((await by_tag(IDS["ended"]))[kept["tag"]], kept)
