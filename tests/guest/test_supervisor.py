"""The supervisor as a real process, driven through real `ctl` processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.guest.conftest import SECRET, Guest

from flaude._guest.inside.packing import pack_request
from flaude._guest.messages import PROTOCOL, unpack

Script = Callable[[str], list[str]]
Boot = Callable[..., Guest]


def lines(records: list[dict[str, Any]], stream: str = "stdout") -> list[str]:
    """The agent's lines."""
    return [record["line"] for record in records if record["type"] == stream]


def test_a_run_from_start_to_ack(guest: Guest, script: Script) -> None:
    """The job is accepted once, its output and result are pulled, and ack ends the guest with the agent's code."""
    agent = script("print('hi ' + sys.stdin.read()); result('done')")
    assert guest.start(agent) == {"accepted": True, "job_id": "job-1"}
    result, records = guest.finish()
    assert lines(records)[0] == "hi do it"
    assert result["exit_code"] == 0 and result["ended_by"] == "exit" and result["message"] == ""
    assert result["result_line"]["result"] == "done"
    states = [record["state"] for record in records if record["type"] == "state"]
    assert states == ["installing", "ready", "running", "collecting", "done"]
    assert guest.call("ack") == {"ok": True}
    assert guest.wait() == 0


def test_start_again_starts_nothing_twice(guest: Guest, script: Script) -> None:
    """The same job again is accepted and changes nothing; another job is refused."""
    agent = script("print(os.getpid(), flush=True); sys.stdin.read(); result()")
    for _ in range(3):
        assert guest.start(agent)["accepted"]
    answer = guest.call("start", protocol=PROTOCOL, job_id="other", prompt="x", argv=agent)
    assert not answer["accepted"] and "job-1" in answer["error"]
    _, records = guest.finish()
    assert len(lines(records)) == 2
    assert guest.start(agent)["accepted"]


def test_the_first_news_come_with_the_job(guest: Guest, script: Script, repo: Path) -> None:
    """Who hands over the job and asks for news hears that the agent may start, so that the next call starts it."""
    agent, repos = script("sys.stdin.read(); result()"), [{"url": f"file://{repo}", "target_dir": "api"}]
    answer = guest.start(agent, repos=repos, pull={"offset": 0, "wait_s": 10, "max_bytes": 65536})
    assert answer["accepted"] and answer["pull"]["state"] == "ready" and answer["pull"]["next"] > 0
    assert guest.call("pull", offset=answer["pull"]["next"], wait_s=10)["state"] not in ("waiting", "ready")
    assert guest.finish()[0]["exit_code"] == 0


def test_a_job_waits_for_the_supervisor(tmp_path: Path, boot: Boot, script: Script) -> None:
    """A job that comes before the supervisor is there is kept until it is; nobody has to call again."""
    early = boot(prefix=["sh", "-c", 'read -r go <"$0" && exec "$@"', str(_fifo(tmp_path))])
    job = {"protocol": PROTOCOL, "job_id": "job-1", "prompt": "x", "argv": script("result()")}
    with subprocess.Popen(
        early.ctl_command("start", pack_request(job)), stdout=subprocess.PIPE, env=early.env
    ) as start:
        # A whole call in between: this one has surely looked for the supervisor by then.
        assert early.ctl("status", {}).returncode == 75
        (tmp_path / "go").write_text("\n")
        assert start.stdout is not None and json.loads(start.stdout.read())["accepted"]
        assert start.wait() == 0


def _fifo(folder: Path) -> Path:
    os.mkfifo(folder / "go")
    return folder / "go"


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ({"protocol": 99}, "protocol"),
        ({"argv": []}, "argv"),
        ({"prompt": ""}, "prompt"),
        ({"repos": [{"url": "https://x/y", "target_dir": "../z"}]}, "target_dir"),
        ({"repos": [{"url": "--evil", "target_dir": "z"}]}, "repos"),
        ({"limits": {"run_s": -1}}, "limits.run_s"),
        ({"env": {"A": 1}}, "env"),
    ],
)
def test_a_bad_job_names_the_field(guest: Guest, script: Script, job: dict[str, Any], words: str) -> None:
    """A job that cannot be run is refused with the field's name, and a good one may follow."""
    agent = script("result()")
    answer = guest.start(agent, **job) if "argv" not in job else guest.start([])
    assert not answer["accepted"] and words in answer["error"]
    assert guest.start(agent)["accepted"]


def test_bad_calls_are_told(guest: Guest, script: Script) -> None:
    """Unknown verbs, broken JSON, another job's id and unknown files are errors, never crashes."""
    assert guest.call("pull") == {"error": "no job has been started"}
    assert guest.ctl("dance", {}).returncode == 64
    for words in (["pull", "{nonsense"], ["pull", "e30="], ["pull"], ["part", "x:0", "y"], ["part", "0" * 32, "y"]):
        done = guest.said(*words)
        assert done.returncode == 64 and json.loads(done.stdout)["error"], words
    guest.start(script("result()"))
    assert "job-1" in guest.call("pull", job_id="other")["error"]
    for name in ("../../../etc/passwd", "spool.ndjson", ""):
        assert "no such file" in guest.call("fetch", name=name)["error"]
    guest.finish()


def test_no_supervisor_is_not_yet(guest: Guest) -> None:
    """`ctl` without a supervisor says 75: try again."""
    guest.call("pull")
    guest.process.kill()
    guest.process.wait()
    assert guest.ctl("pull", {}).returncode == 75


def test_any_offset_may_be_asked_again(guest: Guest, script: Script) -> None:
    """The spool's bytes are the same however they are asked for, so a lost answer loses nothing."""
    guest.start(script("for n in range(300): print('line', n)\nresult()"))
    guest.finish()
    whole = unpack(guest.call("pull", offset=0)["data"])
    for offset, most in ((0, 1), (1, 7), (100, 1000), (len(whole) - 3, 50), (len(whole), 9), (0, len(whole))):
        for _ in range(2):
            reply = guest.call("pull", offset=offset, max_bytes=most)
            piece = unpack(reply["data"])
            assert whole[offset : offset + most].startswith(piece) and bool(piece) == (offset < len(whole))
            assert len(piece) == 1 or len(reply["data"]) <= most, "the answer has to fit"
            assert reply["next"] == offset + len(piece)
            assert (reply["result"] is not None) == (reply["next"] == len(whole))


def test_a_megabyte_prompt_arrives_whole(guest: Guest, script: Script) -> None:
    """A prompt of 1 MB arrives whole though the agent prints before it reads."""
    prompt = "é" * 500_000
    guest.start(
        script("print('x' * 300000, flush=True)\ndata = sys.stdin.read()\nresult(str(len(data)))"), prompt=prompt
    )
    assert guest.finish()[0]["result_line"]["result"] == "500000"


def test_an_agent_need_not_read_its_prompt(guest: Guest, script: Script) -> None:
    """An agent that exits without reading 1 MB of prompt has simply ended."""
    guest.start(script("result()"), prompt="x" * 1_000_000)
    assert guest.finish()[0]["exit_code"] == 0


def test_a_line_of_5_mb_arrives_whole(guest: Guest, script: Script) -> None:
    """A line of 5 MB arrives whole, in several pulls."""
    guest.start(script("print('y' * 5_000_000)\nresult()"))
    _, records = guest.finish()
    assert lines(records)[0] == "y" * 5_000_000


def test_longer_lines_are_cut_loudly(guest: Guest, script: Script) -> None:
    """A line over the limit comes with its beginning and its true length."""
    guest.start(script("print('z' * 200_000)\nresult()"), limits={"max_line_bytes": 100_000})
    result, records = guest.finish()
    record = next(record for record in records if "cut_bytes" in record)
    assert record["cut_bytes"] == 200_000 and record["line"] == "z" * 65536
    assert result["lines"]["cut"] == 1 and result["exit_code"] == 0


def test_too_much_output_is_dropped_loudly_and_the_result_is_kept(guest: Guest, script: Script) -> None:
    """Over the spool's limit lines are dropped and counted, and the result line still counts."""
    guest.start(script("for n in range(2000): print('n' * 100)\nresult('last')"), limits={"max_spool_bytes": 20_000})
    result, records = guest.finish()
    assert result["lines"]["dropped"] > 1000
    assert any("dropped" in record.get("message", "") for record in records)
    assert result["result_line"]["result"] == "last" and result["exit_code"] == 0


def test_strange_output_is_kept(guest: Guest, script: Script) -> None:
    """Bytes that are not UTF-8, NULs, no last newline: everything arrives, nothing breaks."""
    guest.start(script("sys.stdout.buffer.write(b'a\\xff\\x00b\\nlast without end')"))
    result, records = guest.finish()
    assert lines(records) == ["a\ufffd\0b", "last without end"]
    assert result["exit_code"] == 70


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("result()", 0),
        ("pass", 70),
        ("result(is_error=True)", 70),
        ("result(is_error=True); sys.exit(1)", 1),
        ("result(); sys.exit(3)", 3),
        ("result(); os.kill(os.getpid(), signal.SIGKILL)", 137),
        ("print(json.dumps({'type': 'result', 'is_error': False}), file=sys.stderr)", 70),
        ("print(json.dumps({'text': json.dumps({'type': 'result'})}))", 70),
        ('print(\' not {"type":"result"}\')', 70),
        ("result(); result(is_error=True)", 70),
    ],
)
def test_exit_codes(guest: Guest, script: Script, body: str, code: int) -> None:
    """Exit 0 counts only with a last line, on the agent's own stdout, of type result and without an error."""
    guest.start(script(body))
    result, _ = guest.finish()
    assert result["exit_code"] == code
    guest.call("ack")
    assert guest.wait() == code


@pytest.mark.parametrize(("kills", "oom"), [(3, True), (2, False)])
def test_an_agent_that_the_kernel_killed(guest: Guest, script: Script, kills: int, oom: bool) -> None:
    """An agent that was killed while the count of the kernel's own kills rose ran out of memory."""
    vmstat = guest.root / "proc/vmstat"
    vmstat.parent.mkdir()
    vmstat.write_text("pgfault 12\noom_kill 2\n")
    guest.start(script(f"open({str(vmstat)!r}, 'w').write('oom_kill {kills}'); os.kill(os.getpid(), signal.SIGKILL)"))
    result, _ = guest.finish()
    assert (result["exit_code"], result["oom"]) == (137, oom)


def test_children_left_behind_are_ended(guest: Guest, script: Script, tmp_path: Any) -> None:
    """What the agent leaves behind is ended before collecting, also when it left the process group."""
    pids = tmp_path / "pids"
    guest.start(
        script(
            f"""
            for new_session in (False, True):
                child = subprocess.Popen(["sleep", "300"], start_new_session=new_session)
                open({str(pids)!r}, "a").write(f"{{child.pid}}\\n")
            result()
            """
        )
    )
    result, _ = guest.finish()
    assert result["exit_code"] == 0
    for pid in map(int, pids.read_text().split()):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_run_deadline_and_an_agent_that_ignores_signals(guest: Guest, script: Script) -> None:
    """The run deadline stops an agent, with SIGKILL when it ignores the others."""
    agent = script(
        "signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('up', flush=True); time.sleep(300)"
    )
    guest.start(agent, limits={"run_s": 5, "grace_s": 0.4})
    result, _ = guest.finish()
    assert (result["ended_by"], result["exit_code"]) == ("deadline", 137)
    assert result["agent"] == {"exit_code": None, "signal": 9}


def test_a_stopped_agent_that_exits_0_has_not_succeeded(guest: Guest, script: Script) -> None:
    """Claude Code exits 0 on SIGINT: after a deadline that is 124."""
    guest.start(
        script("signal.signal(signal.SIGINT, lambda *_: os._exit(0)); print('up', flush=True); time.sleep(300)"),
        limits={"run_s": 5},
    )
    result, _ = guest.finish()
    assert (result["ended_by"], result["exit_code"]) == ("deadline", 124)


def test_idle_clock(guest: Guest, script: Script) -> None:
    """An agent that prints nothing for the idle time is stopped."""
    guest.start(script("print('up', flush=True); time.sleep(300)"), limits={"idle_s": 0.5, "grace_s": 1})
    result, _ = guest.finish()
    assert result["ended_by"] == "idle" and "0.5 s" in result["message"]


def test_a_result_without_an_exit(guest: Guest, script: Script) -> None:
    """An agent that has said its last word and does not exit is stopped, and its result counts."""
    guest.start(script("result('said'); time.sleep(300)"), limits={"exit_grace_s": 0.5, "grace_s": 1})
    result, _ = guest.finish()
    assert (result["ended_by"], result["exit_code"], result["result_line"]["result"]) == ("exit", 0, "said")


def test_start_deadline(boot: Boot) -> None:
    """A machine that is never given a job exits, with 0: Fly may keep what fails for hours."""
    assert boot(env={"FLAUDE_START_DEADLINE_S": "0.3"}).wait() == 0


def test_a_part_of_a_job_is_a_sign_of_life(boot: Boot) -> None:
    """To who asks how long the machine has waited in vain, and to its start deadline, a part that arrives counts."""
    waiting = boot(env={"FLAUDE_START_DEADLINE_S": "60"})
    while (before := waiting.call("status")["waited_s"]) < 0.5:
        pass
    assert waiting.said("part", f"{'0' * 32}:0", "abc").returncode == 0
    while waiting.call("status")["waited_s"] >= before:
        pass


def test_no_part_of_a_job_stays_behind(guest: Guest, script: Script) -> None:
    """The parts of a job are removed when it is used, and one that comes once more later too."""
    filling = os.urandom(100_000).hex()
    assert guest.start(script("time.sleep(300)"), prompt=filling)["accepted"]
    parts = guest.root / "run/flaude/parts"
    assert parts.parent.is_dir() and not parts.exists()
    assert guest.said("part", f"{'0' * 32}:0", "abc").returncode == 0
    while parts.exists():
        assert guest.call("status")["job_id"] == "job-1"


def test_orphan_clock_stops_the_agent_and_exits(guest: Guest, script: Script, tmp_path: Any) -> None:
    """When nobody pulls, the agent is stopped and the guest exits by itself."""
    pid_file = tmp_path / "pid"
    guest.start(
        script(f"open({str(pid_file)!r}, 'w').write(str(os.getpid())); print('up', flush=True); time.sleep(300)"),
        limits={"orphan_s": 2, "grace_s": 0.5},
    )
    guest.pull_until(lambda records: lines(records) == ["up"])
    assert guest.wait() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_the_agent_starts_when_the_controller_knows(guest: Guest, script: Script, tmp_path: Any) -> None:
    """No agent starts before a pull has shown that the controller has seen `ready`, however often it asks before."""
    began = tmp_path / "began"
    guest.start(script(f"open({str(began)!r}, 'w'); result()"))
    ready = guest.call("pull", offset=0, wait_s=10)
    while ready["state"] != "ready":
        ready = guest.call("pull", offset=0, wait_s=10)
    for _ in range(3):  # the answer was lost, say
        assert guest.call("pull", offset=0, wait_s=0.1)["state"] == "ready"
    assert not began.exists()
    guest.call("pull", offset=ready["next"], wait_s=10)
    guest.finish()
    assert began.exists()


def test_an_orphan_ends_within_its_minute(guest: Guest, script: Script) -> None:
    """However long a grace the run was given, an agent that ignores signals does not keep an orphan alive."""
    guest.start(
        script(
            """
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            print('up', flush=True)
            time.sleep(300)
            """
        ),
        limits={"orphan_s": 2, "grace_s": 3000},
    )
    guest.pull_until(lambda records: lines(records) == ["up"])
    assert guest.wait(60) == 0


def test_an_orphan_that_was_stopping_ends_too(guest: Guest, script: Script) -> None:
    """A controller that goes while its agent has all the time to stop does not leave the machine alive."""
    guest.start(
        script("signal.signal(signal.SIGINT, signal.SIG_IGN); print('up', flush=True); time.sleep(300)"),
        limits={"orphan_s": 2, "orphan_end_s": 0.5, "grace_s": 3000},
    )
    guest.pull_until(lambda records: lines(records) == ["up"])
    guest.call("cancel", reason="enough")
    assert guest.wait(30) == 0


def test_an_orphan_whose_supervisor_hangs_ends_too(boot: Boot, script: Script, tmp_path: Path) -> None:
    """A supervisor whose event loop stands still, here in a write, is ended by the kernel at the end of its time."""
    spool = tmp_path / "root0/var/lib/flaude/spool.ndjson"
    spool.parent.mkdir(parents=True)
    os.mkfifo(spool)
    nobody_reads = os.open(spool, os.O_RDWR)
    guest = boot()
    guest.start(script("print('x' * 200_000); time.sleep(300)"), limits={"orphan_s": 5, "orphan_end_s": 0.5})
    while guest.call("status")["state"] != "ready":
        pass
    assert "error" in guest.call("pull", offset=1 << 30, wait_s=0), "a pipe cannot be read at an offset"
    assert guest.wait(30) == -signal.SIGALRM
    os.close(nobody_reads)


def test_an_orphan_that_was_ready_never_starts_its_agent(guest: Guest, script: Script, tmp_path: Any) -> None:
    """A controller that is gone before it knew of `ready` pays for nothing."""
    began = tmp_path / "began"
    guest.start(script(f"open({str(began)!r}, 'w'); result()"), limits={"orphan_s": 0.5})
    assert guest.wait() == 0
    assert not began.exists()


def test_linger_clock(guest: Guest, script: Script) -> None:
    """A result that is never acknowledged does not keep the machine, which ends with 0 also when its agent failed."""
    guest.start(script("result(is_error=True)"), limits={"linger_s": 0.5})
    guest.finish()
    assert guest.wait() == 0


def test_pulls_keep_the_orphan_clock_away(guest: Guest, script: Script) -> None:
    """A controller that pulls keeps its run alive beyond the orphan time."""
    guest.start(script("time.sleep(4); result()"), limits={"orphan_s": 2})
    offset = 0
    while not (reply := guest.call("pull", offset=offset, wait_s=0.3))["result"]:
        offset = reply["next"]
    assert reply["result"]["exit_code"] == 0


def test_cancel_stops_collects_and_is_idempotent(guest: Guest, script: Script) -> None:
    """Cancel ends the agent; the result says so; asking again changes nothing."""
    guest.start(script("print('up', flush=True); time.sleep(300)"))
    guest.pull_until(lambda records: lines(records) == ["up"])
    for _ in range(2):
        assert guest.call("cancel", reason="enough", grace_s=2) == {"ok": True}
    result, _ = guest.finish()
    assert (result["ended_by"], result["message"]) == ("cancelled", "enough")
    assert result["exit_code"] == 130


def test_a_machine_that_fly_stops_keeps_its_work_until_it_is_taken(guest: Guest, script: Script, repo: Path) -> None:
    """At the signal the agent ends, its work is collected, and the guest waits for its ack."""
    guest.start(
        script("open('new', 'w').write('1'); print('up', flush=True); time.sleep(300)"),
        repos=[{"url": f"file://{repo}", "target_dir": "api"}],
    )
    guest.pull_until(lambda records: lines(records) == ["up"])
    guest.process.send_signal(signal.SIGTERM)
    result, _ = guest.finish()
    assert result["ended_by"] == "stopped" and result["exit_code"] != 0
    assert "the machine was stopped" in result["message"] and "the work so far was collected" in result["message"]
    assert [change["path"] for change in result["repos"][0]["changes"]] == ["new"]
    with pytest.raises(subprocess.TimeoutExpired):
        guest.process.wait(1)
    assert guest.call("ack") == {"ok": True}
    assert guest.wait() == result["exit_code"]


def test_a_stopped_agent_that_ignores_signals_leaves_time_to_take_its_work(guest: Guest, script: Script) -> None:
    """However long a grace the run was given: the machine is killed in 300 s."""
    guest.start(script(STUBBORN), limits={"grace_s": 3000})
    guest.pull_until(lambda records: lines(records) == ["up"])
    began = time.monotonic()
    guest.process.send_signal(signal.SIGTERM)
    assert guest.finish()[0]["agent"]["signal"] == 9
    assert time.monotonic() - began < 60


def test_a_second_signal_changes_nothing(guest: Guest, script: Script, tmp_path: Path) -> None:
    """The reason, the agent's last words and the time to take its work stay as the first one left them."""
    body = f"""
        def last(*_):
            while not os.path.exists({str(tmp_path / "go")!r}): time.sleep(0.01)
            result("last words")
            os._exit(0)
        signal.signal(signal.SIGINT, last)
        print('up', flush=True)
        time.sleep(300)
        """
    guest.start(script(body), limits={"grace_s": 20})
    guest.pull_until(lambda records: lines(records) == ["up"])
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
        guest.process.send_signal(number)
        assert guest.call("status")["state"] == "running"
    (tmp_path / "go").touch()
    result, _ = guest.finish()
    assert (result["ended_by"], result["exit_code"], result["result_line"]["result"]) == ("stopped", 143, "last words")
    guest.process.send_signal(signal.SIGTERM)
    assert guest.call("status")["state"] == "done"
    guest.call("ack")
    assert guest.wait() == 143


def test_a_stop_before_a_job_came(boot: Boot) -> None:
    """There is nothing to hold: it ends at once, and with 0."""
    guest = boot()
    guest.call("status")
    guest.process.send_signal(signal.SIGTERM)
    assert guest.wait() == 0


def test_a_stop_before_the_agent_has_started(guest: Guest, script: Script, tmp_path: Path) -> None:
    """The agent never starts, and the result says so."""
    began = tmp_path / "began"
    guest.start(script(f"open({str(began)!r}, 'w'); result()"))
    guest.call("pull", offset=0, wait_s=10)
    guest.process.send_signal(signal.SIGTERM)
    result, _ = guest.finish()
    assert (result["ended_by"], result["exit_code"]) == ("stopped", None)
    assert "before the agent had started" in result["message"] and not began.exists()


def test_a_stop_when_all_is_done(guest: Guest, script: Script) -> None:
    """A result that waits to be taken goes on waiting; it is the agent's own."""
    guest.start(script("result()"))
    guest.finish()
    guest.process.send_signal(signal.SIGTERM)
    assert guest.finish()[0]["ended_by"] == "exit"
    guest.call("ack")
    assert guest.wait() == 0


def test_what_was_collected_is_held_for_a_time(guest: Guest, script: Script) -> None:
    """A stopped machine whose controller goes on asking, and never acknowledges, ends before it is killed."""
    guest.start(script("print('up', flush=True); time.sleep(300)"), limits={"stop_hold_s": 2})
    guest.pull_until(lambda records: lines(records) == ["up"])
    guest.process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    offset = guest.finish()[1] and guest.call("pull", offset=0)["next"]
    while guest.process.poll() is None:
        guest.ctl("pull", {"job_id": "job-1", "offset": offset})
    assert guest.wait() == 0 and time.monotonic() - began > 1


def test_a_stopped_machine_that_nobody_wants_ends_sooner(guest: Guest, script: Script) -> None:
    """Its other clocks go on: an orphan is not held."""
    guest.start(script("print('up', flush=True); time.sleep(300)"), limits={"orphan_s": 2})
    guest.pull_until(lambda records: lines(records) == ["up"])
    guest.process.send_signal(signal.SIGTERM)
    assert guest.wait() == 0


def test_secrets_are_redacted_everywhere(guest: Guest, script: Script) -> None:
    """The agent gets its secrets, and none comes out: not in lines, tails, the result line or the spool."""
    guest.start(
        script("key = os.environ['CLAUDE_CODE_OAUTH_TOKEN']\nprint(key)\nprint(key, file=sys.stderr)\nresult(key)")
    )
    result, records = guest.finish()
    assert SECRET not in json.dumps([result, records])
    assert lines(records)[0] == "[redacted]" and lines(records, "stderr") == ["[redacted]"]
    assert result["result_line"]["result"] == "[redacted]"
    assert SECRET.encode() not in (guest.root / "var/lib/flaude/spool.ndjson").read_bytes()


def test_a_large_result_is_fetched(guest: Guest, script: Script) -> None:
    """A result too large for one answer is a file, fetched in pieces with its checksum."""
    guest.start(script("result('w' * 600_000)"))
    result, _ = guest.finish()
    assert result["result_line"]["result"] == "w" * 600_000


def test_an_agent_that_is_not_there(boot: Boot, tmp_path: Any) -> None:
    """Without the program, and without npm to install it, the result says so plainly, and nothing was paid."""
    (tmp_path / "bin").mkdir()
    guest = boot(env={"PATH": str(tmp_path / "bin")})
    guest.start(["claude", "-p"], install={"package": "@anthropic-ai/claude-code", "version": "1.0"})
    result, _ = guest.finish()
    assert (result["ended_by"], result["exit_code"]) == ("image", None)
    assert (
        "claude is not in the image, and neither is npm to install @anthropic-ai/claude-code@1.0" in result["message"]
    )
    guest.call("ack")
    assert guest.wait() == 69


def test_ack_before_the_end_is_refused(guest: Guest, script: Script, tmp_path: Path) -> None:
    """Acknowledging a run that is not done neither ends it nor loses its work."""
    go = tmp_path / "go"
    guest.start(script(f"print('up', flush=True)\nwhile not os.path.exists({str(go)!r}): pass\nresult('late')"))
    guest.pull_until(lambda records: lines(records) == ["up"])
    assert "not done" in guest.call("ack")["error"]
    go.touch()
    assert guest.finish()[0]["result_line"]["result"] == "late"


def test_secrets_in_json_are_redacted_and_tiny_ones_ruin_nothing(guest: Guest, script: Script) -> None:
    """A secret with quotes or umlauts is found inside JSON too; one of a single character is left alone."""
    odd = 'pä"ss\\word-4711'
    guest.start(
        script(
            """
            for ascii in (True, False):
                print(json.dumps({"k": os.environ["ODD"]}, ensure_ascii=ascii))
            result(os.environ["ODD"])
            """
        ),
        secrets={"ODD": odd, "TINY": ":", "DIGIT": "1"},
    )
    result, records = guest.finish()
    assert result["exit_code"] == 0 and result["result_line"]["result"] == "[redacted]"
    assert lines(records)[:2] == ['{"k": "[redacted]"}'] * 2


def test_secrets_of_several_lines_are_redacted_line_by_line(guest: Guest, script: Script) -> None:
    """Of a private key no line gets out, and a secret that was read from a file is found without its line break."""
    key = "-----BEGIN KEY-----\nMIIEabcdefghijkl\nmnopqrstuvwxyz01\n-----END KEY-----\n"
    guest.start(
        script(
            """
            print(os.environ["KEY"])
            print("token", os.environ["TOKEN"].strip(), "end", file=sys.stderr)
            result(os.environ["KEY"].split()[2] + " " + os.environ["TOKEN"].strip())
            """
        ),
        secrets={"KEY": key, "TOKEN": "canary-of-a-file\n"},
    )
    result, records = guest.finish()
    told = json.dumps([result, records])
    for secret in ("MIIEabcdefghijkl", "mnopqrstuvwxyz01", "canary-of-a-file"):
        assert secret not in told
    assert "token [redacted] end" in told


def test_a_tail_keeps_what_only_looks_like_the_beginning_of_a_secret(guest: Guest, script: Script) -> None:
    """Only where a line was cut may its end be half a secret."""
    guest.start(script("print('the prefix is ' + os.environ['CLAUDE_CODE_OAUTH_TOKEN'][:6]); result()"))
    assert guest.finish()[0]["stdout_tail"][0] == f"the prefix is {SECRET[:6]}"


def test_a_result_that_nobody_can_read_is_none(guest: Guest, script: Script) -> None:
    """A line nested deeper than JSON readers go is no result line, and costs the run nothing but that."""
    guest.start(script("print('{\"type\":\"result\",\"x\":' + '[' * 300 + ']' * 300 + '}')"))
    result, records = guest.finish()
    assert (result["exit_code"], result["result_line"]) == (70, None)
    assert len(lines(records)) == 1


def test_bad_arguments_of_calls_are_answered(guest: Guest, script: Script) -> None:
    """Arguments of the wrong type are told as such, and the run goes on."""
    guest.start(script("sys.stdin.read(); time.sleep(0.5); result()"))
    assert "bad request" in guest.call("pull", offset="x")["error"]
    assert "bad request" in guest.call("cancel", reason="r", grace_s="soon")["error"]
    assert guest.finish()[0]["ended_by"] == "exit"


def test_zombies_do_not_pile_up(guest: Guest, script: Script) -> None:
    """Orphans of a running agent are reaped while it runs."""
    body = """
        for _ in range(20):
            subprocess.run(["sh", "-c", "sh -c 'exit 0' & "])
        print("forked", flush=True)
        sys.stdin.read(); time.sleep(300)
        """
    guest.start(script(body))
    guest.pull_until(lambda records: lines(records) == ["forked"])
    # Two watches later at most; each pull with nothing new waits a moment.
    offset = guest.call("pull", offset=0)["next"]
    guest.call("pull", offset=offset, wait_s=0.5)
    found = [zombie for zombie in Path("/proc").glob("[0-9]*/stat") if _is_zombie_of(zombie, guest.process.pid)]
    assert found == []
    guest.call("cancel", reason="enough", grace_s=0.2)
    guest.finish()


def _is_zombie_of(stat: Path, parent: int) -> bool:
    try:
        state, ppid = stat.read_text(errors="replace").rpartition(")")[2].split()[:2]
    except OSError:
        return False
    return state == "Z" and int(ppid) == parent


def test_a_failure_of_the_supervisor_itself_still_has_a_result(boot: Boot, script: Script) -> None:
    """When its own work fails, the run ends as `internal` with a result, and the machine can be acknowledged away."""
    guest = boot()
    guest.call("pull")
    (guest.root / "workspace").write_text("a file where the folder should be")
    guest.start(script("result()"), repos=[{"url": "file:///x/y", "target_dir": "y"}])
    result, _ = guest.finish()
    assert result["ended_by"] == "internal" and "workspace" in result["message"]
    guest.call("ack")
    assert guest.wait() == 70


STUBBORN = """
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
print('up', flush=True)
time.sleep(300)
"""


def test_a_controller_that_is_back_in_time_takes_the_result(guest: Guest, script: Script) -> None:
    """One that pulls again before the orphan's agent has ended finds the machine there until its ack."""
    guest.start(script(STUBBORN), limits={"orphan_s": 4, "grace_s": 6})
    guest.pull_until(lambda records: lines(records) == ["up"])
    while guest.call("status")["pulled_s_ago"] < 4.5:
        pass
    assert guest.finish()[0]["ended_by"] == "orphan"
    with pytest.raises(subprocess.TimeoutExpired):
        guest.process.wait(1)
    assert guest.call("ack") == {"ok": True}


def test_an_orphans_last_minute_begins_anew(guest: Guest, script: Script) -> None:
    """When its controller was back in between."""
    guest.start(script(STUBBORN), limits={"orphan_s": 1.5, "orphan_end_s": 3, "grace_s": 12})
    guest.pull_until(lambda records: lines(records) == ["up"])
    while guest.call("status")["pulled_s_ago"] < 2.5:
        pass
    guest.call("pull", offset=1 << 30, wait_s=5)
    while guest.call("status")["pulled_s_ago"] < 1.8:
        pass
    assert guest.call("status")["state"] == "running"


def test_a_pull_that_waits_is_no_silence(guest: Guest, script: Script) -> None:
    """However much longer than the orphan time it waits."""
    guest.start(script("time.sleep(5); result()"), limits={"orphan_s": 1.5})
    assert guest.finish()[0]["ended_by"] == "exit"


def test_a_controller_that_fetches_keeps_its_result(guest: Guest, script: Script) -> None:
    """A fetch of something large may take longer than the linger time."""
    guest.start(script("result()"), limits={"linger_s": 1.5})
    guest.finish()
    ends = time.monotonic() + 3
    while time.monotonic() < ends:
        assert "no such file" in guest.call("fetch", name="x")["error"]
    assert guest.call("ack") == {"ok": True}


def test_an_orphan_with_a_result_ends_at_once(guest: Guest, script: Script) -> None:
    """A result that nobody takes does not get the time that ending an agent may need."""
    guest.start(script("result()"), limits={"orphan_s": 2, "linger_s": 600})
    guest.finish()
    assert guest.wait(20) == 0


def test_the_first_reason_to_stop_is_told(guest: Guest, script: Script) -> None:
    """Whatever else asks it to stop later."""
    guest.start(script(STUBBORN), limits={"grace_s": 3})
    guest.pull_until(lambda records: lines(records) == ["up"])
    for reason in ("first", "second"):
        guest.call("cancel", reason=reason)
    assert guest.finish()[0]["message"] == "first"


def test_the_dead_mans_switch_of_who_ignores_alarms(boot: Boot) -> None:
    """It works also in a guest that was started with SIGALRM ignored."""
    before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    try:
        guest = boot()
    finally:
        signal.signal(signal.SIGALRM, before)
    guest.call("status")
    told = re.search(r"^SigIgn:\s*(\w+)$", Path(f"/proc/{guest.process.pid}/status").read_text(), re.MULTILINE)
    assert told and not int(told[1], 16) >> (signal.SIGALRM - 1) & 1
