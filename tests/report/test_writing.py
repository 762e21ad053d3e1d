from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from benchmarks.sample_batch import BATCH, sample_batch
from tests.conftest import TOKEN
from tests.report.parsed import Page

from flaude import BatchResult, ConfigError, ExecutionRequest, MachineConfig, RepoSpec
from flaude.report import report_of, write_page, write_report

DATA = sample_batch(3, steps=2)
RUNS = [*DATA.runs]
BATCH_RESULT = BatchResult([run.result for run in RUNS if run.result is not None], seconds=1234.0)
REQUESTS = [
    ExecutionRequest(
        MachineConfig(
            claude_code_oauth_token=TOKEN,
            github_token=TOKEN + "-git",
            env={"MODE": "fast", "API_KEY": TOKEN + "-env"},
            prompt=f"prompt number {run.index}, with {TOKEN}-git",
            repos=[RepoSpec("https://github.com/your-org/api", branch="next")],
            model="opus",
            vm_size="shared-cpu-1x",
        ),
        tag=run.tag,
    )
    for run in RUNS
]


async def test_a_batch_that_was_run_here(tmp_path: Path) -> None:
    """A result, its requests and its events make the same page as a journal does, without a secret."""
    path = tmp_path / "report.html"
    await write_report(
        BATCH_RESULT,
        path,
        requests=REQUESTS,
        events=(event for run in reversed(RUNS) for event in run.events),
        app="my-app",
    )
    content = path.read_text(encoding="utf-8")
    assert TOKEN not in content
    page = Page(content)
    told = " ".join(page.one("article", id="run-1").text.split())
    for words in (
        "prompt number 1, with [redacted]",
        "https://github.com/your-org/api at next",
        "Modelopus",
        "shared-cpu-1x, 1 CPU, 256 MB",
        "Transcript",
        "the agent begins",
    ):
        assert words in told
    assert f"batch {BATCH} app my-app" in " ".join(page.one("p", class_="eyebrow").text.split())
    assert "20:34 min" in page.one("dl", class_="tiles").text


def test_results_alone_are_enough() -> None:
    """Without requests and events there are the results."""
    data = report_of(BATCH_RESULT)
    assert [(run.index, run.tag, run.prompt, run.machine) for run in data.runs] == [
        (run.index, run.tag, "", "") for run in RUNS
    ]
    assert data.id == "" and not data.in_journal and data.began == DATA.began


def test_a_batch_that_was_broken_off() -> None:
    """Where there are fewer results than requests, each result has the prompt of its own tag, or none."""
    broken = replace(BATCH_RESULT, results=BATCH_RESULT.results[1:])
    twice = [*REQUESTS, replace(REQUESTS[2], config=REQUESTS[0].config)]
    assert [run.prompt for run in report_of(broken, requests=twice).runs] == ["prompt number 1, with [redacted]", ""]


def test_events_of_several_batches_are_refused() -> None:
    """Runs of two batches have the same numbers: their events cannot be told apart."""
    events = [RUNS[0].events[0], replace(RUNS[1].events[0], batch="another")]
    with pytest.raises(ConfigError, match="events: are of 2 batches"):
        report_of(BATCH_RESULT, events=events)


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """When it breaks off in the middle, what was there before is there still, and nothing else."""
    path = tmp_path / "report.html"
    path.write_text("old")

    def pieces() -> Iterator[str]:
        yield "new"
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        write_page(pieces(), path)
    assert [path.read_text()] == ["old"] and [*tmp_path.iterdir()] == [path]
    write_page(["new", " page\n"], path)
    assert path.read_bytes() == b"new page\n" and [*tmp_path.iterdir()] == [path]


def test_a_report_is_readable_as_other_files_are(tmp_path: Path) -> None:
    """It has the permissions that the user gives to new files."""
    before = os.umask(0o027)
    try:
        write_page(["page"], tmp_path / "report.html")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "report.html").stat().st_mode) == 0o640


async def test_a_pipe_stays_a_pipe(tmp_path: Path) -> None:
    """What is no plain file is written to, not replaced."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, lambda: read.append(pipe.read_text()))
        await anyio.to_thread.run_sync(write_page, ["through ", "it"], pipe)
    assert read == ["through it"] and pipe.is_fifo()


def test_a_link_is_followed(tmp_path: Path) -> None:
    """A link to the report stays one."""
    (tmp_path / "link.html").symlink_to(tmp_path / "real.html")
    write_page(["page"], tmp_path / "link.html")
    assert (tmp_path / "link.html").is_symlink() and (tmp_path / "real.html").read_text() == "page"
