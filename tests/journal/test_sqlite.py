"""What the journal in a file does beyond the contract: other processes, sudden ends, damage, other versions."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from tests.conftest import needs
from tests.journal.writer import EVENTS_OF_A_WRITE
from tests.support.journal_helpers import BEGAN, ME, OTHER, WallClock, batch_entry, nobody_is_dead, run_entries

from flaude._model.errors import BatchHeldError, JournalError
from flaude.journal import CheckpointNote, EventNote, LeaseOwner, OutcomeNote, SqliteJournal
from flaude.journal.database import Database
from flaude.journal.holder import is_dead, this_process
from flaude.journal.migrating import known_steps
from flaude.journal.sql_files import blocks, statements

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the journal of a test is to be."""
    return tmp_path / "state" / "flaude"


async def fill(folder: Path, batches: int = 3, events: int = 200) -> None:
    """Batches `b0`, `b1`, …, of three runs and many events each, and everything closed in order."""
    async with SqliteJournal(folder) as journal:
        for number in range(batches):
            await journal.add(batch_entry(f"b{number}"), run_entries(), ME, 30)
            notes = [EventNote(0, BEGAN, "notice", {"text": f"{event:04} " + "x" * 300}) for event in range(events)]
            await journal.write(f"b{number}", "me", notes)
            await journal.write(f"b{number}", "me", [OutcomeNote(1, {"kind": None}, success=True, cost_usd=0.5)])


def put_aside(folder: Path) -> list[Path]:
    """The damaged files that were replaced."""
    return sorted(folder.glob("journal.sqlite3.damaged-*Z"))


def mode(path: Path) -> int:
    """The permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


async def test_it_stays_and_is_the_users_alone(folder: Path) -> None:
    """What one process has written the next one reads, and no other user may."""
    before = os.umask(0)
    try:
        async with SqliteJournal(folder) as journal:
            await journal.add(batch_entry(), run_entries(), ME, 30)
            await journal.put("b1", "runs/000/result.json", b"{}")
            files = [folder / "journal.sqlite3", folder / "journal.sqlite3-wal", folder / "journal.sqlite3-shm"]
            assert [mode(file) for file in files] == [0o600] * 3
    finally:
        os.umask(before)
    assert mode(folder) == mode(folder / "batches") == mode(folder / "batches" / "b1" / "runs") == 0o700
    assert mode(folder / "batches" / "b1" / "runs" / "000" / "result.json") == 0o600
    async with SqliteJournal(folder) as journal:
        assert (await journal.batch("b1")).counts.total == 3
        assert await journal.get("b1", "runs/000/result.json") == b"{}"
        assert journal.folder("b1") == folder / "batches" / "b1"


async def test_a_file_is_replaced_whole(folder: Path) -> None:
    """A file that cannot be written leaves the one before it, and nothing else, in its place."""
    async with SqliteJournal(folder) as journal:
        await journal.put("b1", "runs/a", b"before")
        with pytest.raises(JournalError, match="too long"):
            await journal.put("b1", "runs/" + "a" * 300, b"x")
        assert [file.name for file in (folder / "batches" / "b1" / "runs").iterdir()] == ["a"]


async def test_all_batches_without_a_single_request(folder: Path) -> None:
    """The list of batches counts runs from an index, and reads no run."""
    await fill(folder, batches=1, events=1)
    with closing(sqlite3.connect(folder / "journal.sqlite3")) as connection:
        plan = connection.execute("EXPLAIN QUERY PLAN " + _query("batches"), {"batch": None}).fetchall()
    runs = [detail for *_, detail in plan if "runs" in detail]
    assert len(runs) == 1 and "USING COVERING INDEX runs_counted" in runs[0]


@pytest.mark.parametrize(("name", "index"), [("events", "events_of_batch"), ("events_of_run", "events_of_run")])
async def test_new_events_are_found_by_an_index(folder: Path, name: str, index: str) -> None:
    """Who follows a run reads what is new, and not the journal."""
    await fill(folder, batches=1, events=1)
    values = {"batch": "b1", "place": 0, "after": 7, "limit": -1}
    with closing(sqlite3.connect(folder / "journal.sqlite3")) as connection:
        plan = connection.execute("EXPLAIN QUERY PLAN " + _query(name), values).fetchall()
    (search,) = [detail for *_, detail in plan]
    assert f"SEARCH events USING INDEX {index} " in search and "rowid>?" in search


def _query(name: str) -> str:
    (statement,) = statements(blocks("queries.sql", "name")[name].rstrip() + "\n")
    return statement


async def test_of_two_who_come_at_once_one_gets_it(folder: Path) -> None:
    """Two journals that take a batch in the same moment: one holds it, and the other hears so."""
    async with SqliteJournal(folder) as first, SqliteJournal(folder) as second:
        for number in range(20):
            id_ = f"b{number}"
            await first.add(batch_entry(id_), run_entries(1), LeaseOwner("dead", "here", 3), 3600)
            took = list[str]()

            async def take(journal: SqliteJournal, holder: LeaseOwner, id_: str, took: list[str]) -> None:
                try:
                    await journal.hold(id_, holder, 30, is_dead=lambda present: present.owner == "dead")
                    took.append(holder.owner)
                except BatchHeldError:
                    pass

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(take, first, ME, id_, took)
                tasks.start_soon(take, second, OTHER, id_, took)
            held = (await first.batch(id_)).holder
            assert held is not None and took == [held.owner]


async def test_the_one_who_came_between_is_not_taken_for_dead(folder: Path) -> None:
    """Who takes a batch because its holder is dead does not take it from somebody who was quicker."""
    async with SqliteJournal(folder) as first, SqliteJournal(folder) as second:
        await first.add(batch_entry(), run_entries(1), ME, 3600)

        def meanwhile(_: LeaseOwner) -> bool:
            anyio.run(lambda: _take(folder))
            return True

        with pytest.raises(BatchHeldError, match="process 2"):
            await second.hold("b1", LeaseOwner("slow", "here", 9), 30, is_dead=meanwhile)
        assert (await first.batch("b1")).holder == OTHER


async def _take(folder: Path) -> None:
    async with SqliteJournal(folder) as journal:
        await journal.hold("b1", OTHER, 30, is_dead=lambda _: True)


# --- sudden ends ---


@contextmanager
def writers(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The process that forks writers."""
    argv = [sys.executable, "-m", "tests.journal.writer", str(folder)]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


async def test_sigkill_at_any_moment(folder: Path) -> None:
    """What `write` has returned for is there after a SIGKILL, nothing is half there, and the next one takes over.

    Meanwhile another process reads: it sees whole writes alone, and all that it was told of.
    """
    kept = 0
    moments = random.Random(5)  # noqa: S311  # which moments is of no interest
    with writers(folder) as process:
        for _ in range(6):
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
            told = list[str]()
            pid, wanted = 0, moments.randrange(1, 40)
            while len(told) < wanted or not pid:
                # The number of the process is told by its parent, at any time among the child's.
                line = await anyio.to_thread.run_sync(_line, process)
                if not pid and int(line) != len(told):
                    pid = int(line)
                else:
                    told.append(line)
            async with SqliteJournal(folder) as journal:
                seen = len(await journal.events("b1"))
            assert seen >= kept + len(told) * EVENTS_OF_A_WRITE and seen % EVENTS_OF_A_WRITE == 0
            os.kill(pid, signal.SIGKILL)
            while (line := await anyio.to_thread.run_sync(_line, process)) != "ended":
                told.append(line)
            async with SqliteJournal(folder) as journal:
                events = [event.data for event in await journal.events("b1")]
                (run,) = await journal.runs("b1")
                holder = (await journal.batch("b1")).holder
            mine = [event["number"] for event in events if event["pid"] == pid]
            last = len(mine) // EVENTS_OF_A_WRITE - 1
            assert mine == [number for number in range(last + 1) for _ in range(EVENTS_OF_A_WRITE)]
            assert last + 1 >= len(told) and run.checkpoint == {"number": last}
            assert holder is not None and holder.pid == pid and is_dead(holder)
            kept = len(events)


async def test_a_log_that_is_cut_off_anywhere(folder: Path, tmp_path: Path) -> None:
    """Wherever the last bytes on the disk are: the writes before are there, whole, and in their order."""
    async with SqliteJournal(folder) as journal:
        await journal.add(batch_entry(), run_entries(1), ME, 30)
    async with SqliteJournal(folder) as journal:
        for number in range(12):
            data = {"number": number, "text": "x" * (number * 997 % 3000)}
            await journal.write(
                "b1", "me", [*[EventNote(0, BEGAN, "notice", data)] * 2, CheckpointNote(0, "agent", {"number": number})]
            )
        database, log = ((folder / f"journal.sqlite3{end}").read_bytes() for end in ("", "-wal"))
    moments = random.Random(7)  # noqa: S311  # which bytes is of no interest
    cuts = sorted({0, 1, 31, 32, 33, len(log) - 1, len(log), *(moments.randrange(len(log)) for _ in range(25))})
    seen = list[int]()
    for cut in cuts:
        torn = tmp_path / f"torn-{cut}"
        torn.mkdir()
        (torn / "journal.sqlite3").write_bytes(database)
        (torn / "journal.sqlite3-wal").write_bytes(log[:cut])
        async with SqliteJournal(torn) as journal:
            numbers = [event.data["number"] for event in await journal.events("b1")]
            (run,) = await journal.runs("b1")
            await journal.write("b1", "me", [EventNote(0, BEGAN, "notice", {})])
        writes = len(numbers) // 2
        assert numbers == [number for number in range(writes) for _ in range(2)]
        assert run.checkpoint == ({"number": writes - 1} if writes else None)
        seen.append(writes)
    assert seen == sorted(seen) and seen[0] == 0 and seen[-1] == 12
    assert not any(put_aside(tmp_path / f"torn-{cut}") for cut in cuts)


# --- damage ---


def _overwrite(file: Path, first: int, last: int) -> None:
    """Destroy these bytes of a file."""
    with file.open("r+b") as out:
        out.seek(first)
        out.write(b"\xa5" * (last - first))


async def _readable(folder: Path) -> tuple[int, int, int]:
    """How many batches, runs and events can be read."""
    async with SqliteJournal(folder) as journal:
        batches = await journal.batches()
        runs = [await journal.runs(batch.id) for batch in batches]
        events = [await journal.events(batch.id) for batch in batches]
        await journal.add(batch_entry("after"), run_entries(), ME, 30)
        await journal.write("after", "me", [EventNote(0, BEGAN, "notice", {})])
    return len(batches), sum(map(len, runs)), sum(map(len, events))


@pytest.mark.parametrize("what", ["no database", "cut off", "holes"])
async def test_a_damaged_file_is_mended(folder: Path, caplog: pytest.LogCaptureFixture, what: str) -> None:
    """A file that SQLite cannot read is put aside, loudly, and what can be read of it is in a new one."""
    await fill(folder)
    file = folder / "journal.sqlite3"
    size = file.stat().st_size
    match what:
        case "no database":
            _overwrite(file, 0, size)
        case "cut off":
            os.truncate(file, size * 3 // 4)
        case "holes":
            for page in range(20, size // 4096, 9):
                _overwrite(file, page * 4096, page * 4096 + 200)
    damaged = file.read_bytes()
    if what == "holes":  # nobody looks at every page of a file that was closed in order: the first who meets it tells
        with pytest.raises(JournalError, match="mended when it is next opened"):
            await _readable(folder)
    found = await _readable(folder)
    if what == "no database":
        assert found == (0, 0, 0)
    else:
        assert found[0] == 3 and found[1] == 9 and 200 < found[2] < 600
    (aside,) = put_aside(folder)
    if what != "holes":
        assert aside.read_bytes() == damaged
    assert mode(aside) == mode(file) == 0o600
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("flaude.journal", "WARNING")
    assert aside.name in record.getMessage() and "was damaged" in record.getMessage()
    caplog.clear()
    assert (await _readable_again(folder))[0] == found[0] + 1 and not caplog.records


async def _readable_again(folder: Path) -> tuple[int, int]:
    async with SqliteJournal(folder) as journal:
        batches = await journal.batches()
        return len(batches), sum([len(await journal.events(batch.id)) for batch in batches])


async def test_nobody_mends_what_others_use(folder: Path) -> None:
    """A damaged file stays where it is as long as another process has it open."""
    await fill(folder)
    async with SqliteJournal(folder):
        _overwrite(folder / "journal.sqlite3", 0, 100)
        with pytest.raises(JournalError, match="no other process uses it"):
            async with SqliteJournal(folder):
                pass
        assert not put_aside(folder)
        with pytest.raises(JournalError):
            async with SqliteJournal(folder) as journal:
                await journal.batches()


async def test_after_a_sudden_end_every_page_is_looked_at(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that nobody has closed in order is looked through before it is used."""
    await fill(folder)
    file = folder / "journal.sqlite3"
    _overwrite(file, 30 * 4096, 31 * 4096)
    (folder / "journal.sqlite3-wal").write_bytes(b"")
    assert (await _readable(folder))[0] == 3
    assert "was damaged" in caplog.text


# --- other versions ---


async def test_a_newer_journal_is_refused(folder: Path) -> None:
    """A journal of a newer flaude is left as it is, and the message says what to do; also when it looks damaged."""
    await fill(folder, events=1)
    file = folder / "journal.sqlite3"
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA user_version = 7")
    sentence = (
        rf"{file} was written by a newer flaude \(journal version 7, this one knows {len(known_steps())}\): "
        r"upgrade flaude, or set FLAUDE_HOME to another folder"
    )
    for where in ("in the log", "in the file", "in a damaged file"):
        match where:
            case "in the file":
                connection.close()
            case "in a damaged file":
                _overwrite(file, 100, 4096)
        before = file.read_bytes()
        with pytest.raises(JournalError, match=sentence):
            async with SqliteJournal(folder):
                pass
        assert file.read_bytes() == before and not put_aside(folder)


STEPS = (
    "CREATE TABLE notes (number INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;\nINSERT INTO notes VALUES (1, 'a;b');",
    "ALTER TABLE notes ADD COLUMN loud INTEGER NOT NULL DEFAULT 0;\nUPDATE notes SET loud = 2;",
    "CREATE TABLE more (text TEXT) STRICT;\nINSERT INTO more SELECT text || loud FROM notes;",
)


def _opened(folder: Path, steps: Sequence[str]) -> list[str]:
    database = Database(folder, steps)
    database.open()
    try:
        with database.reading() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            assert version == len(steps)
            names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
            return [name for (name,) in names]
    finally:
        database.close()


@pytest.mark.parametrize("older", [0, 1, 2])
def test_an_older_journal_is_brought_up(folder: Path, older: int) -> None:
    """From whatever version a journal comes, the steps from there on are taken, each once."""
    if older:
        _opened(folder, STEPS[:older])
    assert _opened(folder, STEPS) == ["more", "notes"]
    assert _opened(folder, STEPS) == ["more", "notes"]
    with closing(sqlite3.connect(folder / "journal.sqlite3")) as connection:
        assert connection.execute("SELECT * FROM more").fetchall() == [("a;b2",)]


def test_all_steps_or_none(folder: Path) -> None:
    """When a step fails the journal is what it was, of the version that it had."""
    _opened(folder, STEPS[:1])
    broken = (*STEPS[:2], STEPS[2] + "\nINSERT INTO nowhere VALUES (1);")
    with pytest.raises(JournalError, match="nowhere"):
        _opened(folder, broken)
    assert _opened(folder, STEPS[:1]) == ["notes"]
    with closing(sqlite3.connect(folder / "journal.sqlite3")) as connection:
        assert connection.execute("SELECT * FROM notes").fetchall() == [(1, "a;b")]


def test_nobody_brings_up_what_an_older_flaude_uses(folder: Path) -> None:
    """An older process that has the journal open does not find it changed."""
    older = Database(folder, STEPS[:1])
    older.open()
    with pytest.raises(JournalError, match="an older flaude uses it"):
        _opened(folder, STEPS)
    older.close()
    assert _opened(folder, STEPS) == ["more", "notes"]


def test_an_older_damaged_journal_is_mended_and_brought_up(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What can be read of a damaged journal of an older version is in the new one, in the present version."""
    fill_up = "WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 300)\n"
    fill_up += "INSERT INTO notes SELECT i, hex(zeroblob(400)) FROM n;"
    _opened(folder, (STEPS[0] + "\n" + fill_up,))
    file = folder / "journal.sqlite3"
    os.truncate(file, file.stat().st_size - 8 * 4096)
    assert _opened(folder, STEPS) == ["more", "notes"]
    assert "was damaged" in caplog.text
    with closing(sqlite3.connect(file)) as connection:
        ((count, loud),) = connection.execute("SELECT count(*), max(loud) FROM notes").fetchall()
    assert 200 < count < 300 and loud == 2


# --- no place to write ---


async def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """Where there can be no folder, the message says so, and which variable names another one."""
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="/file: File exists; set FLAUDE_HOME to a folder"):
        async with SqliteJournal(tmp_path / "file" / "flaude"):
            pass


def test_a_disk_that_cannot_be_written(folder: Path) -> None:
    """On a read-only disk the message says so, and the journal that is there stays as it is."""
    anyio.run(fill, folder, 1, 1)
    needs("bubblewrap", "run scripts/install-test-tools", there=shutil.which("bwrap") is not None)
    script = (
        "import anyio\nfrom flaude.journal import SqliteJournal\nasync def main():\n"
        f"    async with SqliteJournal({str(folder)!r}): pass\nanyio.run(main)\n"
    )
    argv = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", sys.executable, "-c", script]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=55)
    if done.stderr.startswith("bwrap:"):
        needs("a bubblewrap box", done.stderr, there=False)
    assert "JournalError: journal" in done.stderr and "Read-only file system; set FLAUDE_HOME to" in done.stderr


async def test_what_sqlite_refuses(folder: Path, clock: WallClock) -> None:
    """What SQLite says comes as a JournalError, and the journal goes on."""
    async with SqliteJournal(folder, clock=clock) as journal:
        await journal.add(batch_entry(), run_entries(), ME, 30)
        for note in (EventNote(2**70, BEGAN, "notice", {}), EventNote(0, BEGAN, "\ud83d", {})):
            with pytest.raises(JournalError, match=str(folder)):
                await journal.write("b1", "me", [note])
        await journal.hold("b1", this_process(), 30, is_dead=lambda _: True)
        with pytest.raises(BatchHeldError):
            await journal.hold("b1", OTHER, 30, is_dead=nobody_is_dead)
