from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from benchmarks.sample_batch import BATCH, sample_batch
from tests.report.parsed import Page
from tests.support.journal_helpers import ME

from flaude import ConfigError, NoSuchBatchError
from flaude._model.codec import dump_result
from flaude.cli.commands.report import report_from
from flaude.events import Finished
from flaude.events.codec import dump_event, kind_of
from flaude.journal import (
    BatchEntry,
    EndNote,
    EventNote,
    Journal,
    MemoryJournal,
    Note,
    OutcomeNote,
    RunEntry,
    SqliteJournal,
)

DATA = sample_batch(6, steps=2)
LOST, OPEN, BROKEN = 2, 3, 4


async def fill(journal: Journal) -> None:
    """The sample as a batch of a journal. One result is lost, one is broken, and one run is not over."""
    assert DATA.began is not None and DATA.ended is not None
    entries = [
        RunEntry(run.index, run.tag, {"config": {"prompt": run.prompt}, "secrets": {"env.KEY": None}}, phase="boot")
        for run in DATA.runs
    ]
    await journal.add(BatchEntry(BATCH, "my-app", DATA.began, {"max_concurrency": 3}), entries, ME, 30)
    for run in DATA.runs:
        assert run.result is not None
        for event in run.events:
            await journal.write(BATCH, ME.owner, [EventNote(run.index, event.at, kind_of(event), dump_event(event))])
        if run.index == OPEN:
            continue
        over = Finished(BATCH, run.index, run.tag, DATA.ended, "m", result=run.result)
        last = {name: value for name, value in dump_event(over).items() if name != "result"}
        newer = {"event": "teleported", "batch": BATCH, "index": run.index}
        notes: list[Note] = [
            EventNote(run.index, DATA.ended, "teleported", newer),
            EventNote(run.index, DATA.ended, "finished", last),
            OutcomeNote(run.index, {}, run.result.success, run.result.cost_usd),
        ]
        await journal.write(BATCH, ME.owner, notes)
        content = b"{" if run.index == BROKEN else json.dumps(dump_result(run.result)).encode()
        if run.index != LOST:
            await journal.put(BATCH, f"runs/{run.index:03}/result.json", content)
    await journal.write(BATCH, ME.owner, [EndNote(DATA.ended, "budget_usd: $5.00 of $5.00 are spent")])


@pytest.fixture
async def journal() -> AsyncIterator[Journal]:
    """A journal with the sample in it."""
    async with MemoryJournal() as journal:
        await fill(journal)
        yield journal


async def test_a_batch_of_the_journal(journal: Journal, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All that the journal has of a batch is in its report, and the path is printed."""
    path = tmp_path / "report.html"
    assert await report_from(journal, BATCH[:4], str(path)) == 0
    assert capsys.readouterr().out == f"{path}\n"
    page = Page(path.read_text(encoding="utf-8"))
    rows = [row.text for row in page.all("tr") if "data-run" in row.attributes]
    assert [run.tag in row for run, row in zip(DATA.runs, rows, strict=True)] == [True] * 6
    assert ["result lost" in row for row in rows] == [index in (LOST, BROKEN) for index in range(6)]
    assert "boot" in rows[OPEN]
    assert "budget_usd: $5.00 of $5.00 are spent" in page.all("p", class_="alert")[0].text
    assert "max_concurrency" in page.one("details", class_="settings").text
    for run in DATA.runs:
        article = page.one("article", id=f"run-{run.index}").text
        assert run.prompt in article and "the agent begins" in article


async def test_the_file_is_named_after_the_batch(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without `-o` it lies in the working folder; a report that is there is replaced."""
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        await report_from(journal, "last", None)
    assert os.listdir(tmp_path) == [f"flaude-{BATCH}.html"]  # noqa: PTH208  # names are enough
    assert capsys.readouterr().out == f"flaude-{BATCH}.html\n" * 2


async def test_what_cannot_be_written_or_found(journal: Journal, tmp_path: Path) -> None:
    """The error names the option, or the batch."""
    with pytest.raises(ConfigError, match=r"--output: .*no/report\.html cannot be written: No such file or directory"):
        await report_from(journal, BATCH, str(tmp_path / "no" / "report.html"))
    with pytest.raises(NoSuchBatchError):
        await report_from(journal, "feed", None)


async def test_the_command_itself(tmp_path: Path) -> None:
    """`flaude report -o -` prints the newest batch of the user's journal and nothing else, whatever the locale."""
    async with SqliteJournal(tmp_path / "state") as journal:
        await fill(journal)
    environment = {"PATH": os.environ["PATH"], "FLAUDE_HOME": str(tmp_path / "state"), "LC_ALL": "C"}
    environment |= {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
    argv = [sys.executable, "-m", "flaude", "report", "-o", "-"]
    done = subprocess.run(argv, capture_output=True, check=False, env=environment, cwd=tmp_path, timeout=50)  # noqa: ASYNC221  # nothing else goes on
    assert done.returncode == 0 and done.stderr == b"", done.stderr
    page = Page(done.stdout.decode())
    assert page.unbalanced == [] and len(page.all("article")) == 6
