from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from flaude._model.data_folder import home_folder
from flaude._model.errors import JournalError
from flaude.journal.holder import is_dead, this_process

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc to tell processes apart by")


def _other_process() -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    stat = Path(f"/proc/{process.pid}/stat").read_text("utf-8")
    return process, stat.rpartition(")")[2].split()[19]


def test_no_two_holders_are_one() -> None:
    """Each holder has a word of its own, also within a process."""
    one, other = this_process(), this_process()
    assert one.owner != other.owner and (one.host, one.pid) == (other.host, other.pid)
    assert one.pid == os.getpid() and not is_dead(one)


@linux
def test_a_process_that_has_ended_is_dead() -> None:
    """A process is dead when it has ended, even before its parent has heard so, and from then on."""
    process, began = _other_process()
    boot, pids, _ = this_process().process_began.split(":")
    holder = replace(this_process(), pid=process.pid, process_began=f"{boot}:{pids}:{began}")
    assert not is_dead(holder)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert Path(f"/proc/{process.pid}").exists() and is_dead(holder)
    process.communicate()
    assert is_dead(holder)


@linux
def test_a_number_that_another_process_has_now() -> None:
    """A process of the same number that began at another time is not the holder, which is dead then."""
    me = this_process()
    boot, pids, began = me.process_began.split(":")
    assert is_dead(replace(me, process_began=f"{boot}:{pids}:{int(began) - 1}"))
    assert is_dead(replace(me, process_began=f"another-boot:{pids}1:{began}"))


@linux
def test_what_cannot_be_seen_from_here_may_live() -> None:
    """Of a process on another computer, or in another container, nobody can know that it is dead."""
    me = replace(this_process(), pid=2**22 + 1)
    boot, pids, began = me.process_began.split(":")
    assert is_dead(me)
    assert not is_dead(replace(me, host="elsewhere"))
    assert not is_dead(replace(me, process_began=f"{boot}:{pids}1:{began}"))


def test_without_a_beginning_the_number_counts() -> None:
    """Where nothing tells processes apart, one is dead when there is none of its number."""
    me = replace(this_process(), process_began="")
    assert not is_dead(me)
    with subprocess.Popen([sys.executable, "-Sc", ""]) as process:
        process.wait()
    assert is_dead(replace(me, pid=process.pid))


def test_where_the_journal_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FLAUDE_HOME, else the user's state folder as XDG has it, else ~/.local/state."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home_folder({"FLAUDE_HOME": "/a/b", "XDG_STATE_HOME": "/c"}) == Path("/a/b")
    monkeypatch.chdir(tmp_path)
    assert home_folder({"FLAUDE_HOME": "here"}) == tmp_path / "here"
    assert home_folder({"FLAUDE_HOME": "", "XDG_STATE_HOME": "/c"}) == Path("/c/flaude")
    assert home_folder({"XDG_STATE_HOME": "relative"}) == tmp_path / ".local/state/flaude"
    assert home_folder({}) == tmp_path / ".local/state/flaude"


def test_nowhere_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home folder is told which variable helps."""
    monkeypatch.setenv("HOME", "~")
    with pytest.raises(JournalError, match="set FLAUDE_HOME"):
        home_folder({})
