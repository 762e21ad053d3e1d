"""What flaude assumes of Fly, point by point with its source, and what follows from a measurement. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from flaude._model.timeouts import Timeouts
from flaude._providers.fly.diagnosis import UNKNOWN_S
from flaude._providers.fly.exec_limits import (
    EXEC_MARGIN_S,
    FIRST_ANSWER_BYTES,
    FIRST_BODY_BYTES,
    LONGEST_WAIT_S,
    NO_PROGRAM,
    NOT_READY_S,
    TOO_LARGE,
)
from flaude._providers.fly.machine_limit import LIMIT_IN_WORDS, SMALLEST_LIMIT
from flaude._providers.fly.pacing import EVERY_ACTION
from flaude._providers.fly.probe.measuring import Found

_LIMIT_SEEN_BYTES = 24_000
_CREATE_S = 30.0
_GONE_S = 30.0
_MOST_SKEW_S = 60.0
_SLOW_DISK_MB_S = 8.0
_AT_ONCE = 2  # machines that the probe itself has at the same time


class Verdict(StrEnum):
    """How Fly and what flaude assumes go together."""

    AGREES = "agrees"
    DIFFERS = "differs"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Judgement:
    """What a measurement means.

    Attributes:
        agrees: Whether Fly is as flaude assumes.
        saw: What was seen, for people.
        follows: What flaude does because of it, or which setting helps; empty when nothing.
    """

    agrees: bool
    saw: str
    follows: str = ""


@dataclass(frozen=True)
class Assumption:
    """One point.

    Attributes:
        name: Of the row.
        assumed: What flaude goes by.
        source: Who says so.
        judge: Reads a measurement.
    """

    name: str
    assumed: str
    source: str
    judge: Callable[[Found], Judgement]


@dataclass(frozen=True)
class Row:
    """One point as it was found.

    Attributes:
        name: Of the point.
        verdict: Whether it is as assumed.
        found: What was seen, or why nothing was.
        assumed: What flaude goes by.
        source: Who says so.
        follows: What flaude does because of it, or which setting helps.
        measured: The measurement as JSON.
    """

    name: str
    verdict: Verdict
    found: str
    assumed: str
    source: str
    follows: str
    measured: Found


def row(name: str, found: Found | None, error: str = "") -> Row:
    """The row of a point.

    Args:
        name: See `ASSUMPTIONS`.
        found: What was measured; None when it could not be.
        error: Why not.
    """
    known = ASSUMPTIONS[name]
    if found is None:
        return Row(name, Verdict.NOT_MEASURED, error, known.assumed, known.source, "", {})
    seen = known.judge(found)
    verdict = Verdict.AGREES if seen.agrees else Verdict.DIFFERS
    return Row(name, verdict, seen.saw, known.assumed, known.source, seen.follows, found)


def _create(found: Found) -> Judgement:
    saw = f"{found['body_bytes']:,} bytes accepted in {found['seconds']:.1f} s, state {found['state']!r}"
    if found.get("unknown_for_s"):
        saw += f"; the app was unknown for {found['unknown_for_s']:.1f} s"
    late = found["seconds"] > _CREATE_S
    return Judgement(not late, saw, "raise timeouts.request" if late else "")


def _visible(found: Found) -> Judgement:
    words = {"get_s": "GET", "list_s": "list", "filtered_s": "list by metadata with summary"}
    late = [name for name in words if found.get(name) is None or found[name] > UNKNOWN_S]
    saw = ", ".join(
        f"{told} after {found[name]:.1f} s" if found.get(name) is not None else f"{told} never"
        for name, told in words.items()
    )
    return Judgement(
        not late, saw, "flaude asks for a machine by itself when lists do not show it; this costs calls" if late else ""
    )


def _image(found: Found) -> Judgement:
    named = f"{found.get('registry', '')}/{found.get('repository', '')}:{found.get('tag', '')}"
    return Judgement(agrees=True, saw=f"pulled as {named}")


def _started(found: Found) -> Judgement:
    late = found["seconds"] > Timeouts.boot
    saw = f"after {found['seconds']:.1f} s"
    return Judgement(not late, saw, "raise timeouts.boot" if late else "")


def _first_exec(found: Found) -> Judgement:
    seconds, refused = found["seconds"], found.get("refused", [])
    saw = f"works {seconds:.1f} s after `started`" + (f"; before that: {refused[0]}" if refused else ", at once")
    late = seconds > NOT_READY_S
    return Judgement(not late, saw, "runs on this image fail as `image`: report it" if late else "")


def _machine(found: Found) -> Judgement:
    odd = []
    if found.get("uid") != 0:
        odd.append("commands do not run as root: use an image without USER")
    if found.get("main_uid", 0) != 0:
        odd.append("the main program does not run as root: use an image without USER")
    odd += [f"the image needs {name}" for name in ("python3", "git") if not found.get(name)]
    if found.get("arch") not in ("x86_64", "amd64"):
        odd.append("build the image for linux/amd64")
    saw = ", ".join(
        f"{name} {found[name]}"
        for name in ("uid", "main_uid", "home", "cwd", "arch", "python3", "git", "main", "disk_mb", "free_mb")
        if name in found
    )
    return Judgement(not odd, saw, "; ".join(odd))


def _clock(found: Found) -> Judgement:
    skew_s = found["skew_s"]
    off = abs(skew_s) > _MOST_SKEW_S
    where = "ahead of" if skew_s > 0 else "behind"
    return Judgement(
        not off, f"{abs(skew_s):.1f} s {where} the API's", "times in results are the machine's" if off else ""
    )


def _stdin(found: Found) -> Judgement:
    arrived, sent = found["arrived"], found["sent"]
    if arrived == sent:
        follows = "with --save a request that fits into one call goes by standard input"
        return Judgement(agrees=False, saw=f"all {sent} bytes arrived", follows=follows)
    return Judgement(agrees=arrived == 0, saw=f"{arrived} of {sent} bytes arrived")


def _body(found: Found) -> Judgement:
    largest, refused, refusal = found["largest"], found.get("refused"), found.get("refusal") or {}
    saw = f"{largest:,} bytes work"
    if refused is None:
        follows = f"with --save requests of up to {largest:,} bytes go in one call"
        return Judgement(agrees=False, saw=f"{saw}, nothing was refused", follows=follows)
    where = f" on {refusal['stream']}" if refusal.get("stream") else ""
    saw += f", {refused:,} do not: {refusal.get('status', 0)}{where} {refusal.get('text', '')!r}"
    if not found["recognised"]:
        follows = "flaude does not know this refusal and would take it for an answer: report it"
        return Judgement(agrees=False, saw=saw, follows=follows)
    if largest < FIRST_BODY_BYTES:
        return Judgement(agrees=False, saw=saw, follows="flaude halves its parts at the first refusal; --save helps")
    if refused > _LIMIT_SEEN_BYTES:
        follows = f"with --save requests of up to {largest:,} bytes go in one call"
        return Judgement(agrees=False, saw=saw, follows=follows)
    return Judgement(agrees=True, saw=saw)


def _output(found: Found) -> Judgement:
    largest, cut = found["largest"], found.get("cut_at")
    saw = f"{largest:,} bytes arrive whole"
    if cut is not None:
        saw += f", longer ones are cut after {cut:,}"
    elif found.get("error"):
        saw += f", {found['asked']:,} do not: {found['error']}"
    small = max(largest, cut or 0) < FIRST_ANSWER_BYTES
    return Judgement(not small, saw, "flaude asks for less after the first; --save spares it that" if small else "")


def _bytes(found: Found) -> Judgement:
    told = {"no": "bytes that are no text are damaged", "latin-1": "every byte arrives", "base64": "as base64"}
    odd = found["kept"] == "base64"
    return Judgement(not odd, told[found["kept"]], "flaude would not understand an answer: report it" if odd else "")


def _codes(found: Found) -> Judgement:
    ended, killed = found["exit_75"], found["kill_9"]
    right = ended.get("exit_code") == 75  # it is its name
    saw = f"exit 75 is {_code(ended)}, kill -9 is {_code(killed)}"
    seen = bool(killed.get("exit_code") or killed.get("exit_signal")) or killed.get("status") != 200
    follows = "" if right and seen else "flaude cannot tell a guest that is not ready: report it"
    return Judgement(right and seen, saw, follows)


def _code(seen: Found) -> str:
    if seen.get("status") != 200:  # HTTP
        return f"{seen.get('status')} {seen.get('text', '')!r}"
    return f"exit_code {seen.get('exit_code', 'missing')}, exit_signal {seen.get('exit_signal', 'missing')}"


def _program(found: Found) -> Judgement:
    text, code = found.get("text", ""), found.get("exit_code", 0)
    saw = f"{found['status']}, exit code {code}, {found.get('stream', 'no text')} {text!r}"
    known = code in (126, 127) or NO_PROGRAM.search(text) is not None
    return Judgement(known, saw, "" if known else "flaude would not tell a missing python3 as such: report it")


def _parallel(found: Found) -> Judgement:
    serial = found["serial"]
    if serial:
        return Judgement(agrees=True, saw="one at a time")
    return Judgement(agrees=False, saw="both at once", follows="nothing has to wait: cancel and status are quicker")


def _longest(found: Found) -> Judgement:
    needed = LONGEST_WAIT_S + EXEC_MARGIN_S
    if found.get("works_s") is not None:
        saw = f"an exec of {found['works_s']:.0f} s works"
        if found["refused"]:
            saw += f"; a longer timeout is refused: {found['refused'][0]}"
            if found["works_s"] < needed:
                return Judgement(agrees=False, saw=saw, follows="with --save flaude waits shorter")
        follows = "with --save pulls wait longer than 15 s: fewer calls" if found["works_s"] > needed else ""
        return Judgement(agrees=True, saw=saw, follows=follows)
    saw = f"an exec of {found['asked_s']:.0f} s ended after {found['ended_s']:.1f} s: {found['answer']}"
    short = found["ended_s"] < needed
    return Judgement(not short, saw, "flaude halves its wait at each 408; --save spares it that" if short else "")


def _timeout(found: Found) -> Judgement:
    return Judgement(agrees=found["status"] == 400, saw=found["answer"])  # HTTP


def _burst(found: Found) -> Judgement:
    sent, ok, limited = found["sent"], found["ok"], found["limited"]
    saw = f"{ok} of {sent} calls at once work, {limited} are answered 429"
    if limited:
        saw += f" {found.get('text', '')!r}, headers {found.get('headers') or 'none'}"
    if found.get("others"):
        saw += f"; others: {found['others'][0]}"
    if not limited:
        return Judgement(agrees=False, saw=saw, follows="no limit was met: rate_limits may be raised")
    enough = ok >= EVERY_ACTION.capacity
    return Judgement(enough, saw, "" if enough else "flaude sends more than Fly takes: lower rate_limits")


def _duplicate(found: Found) -> Judgement:
    saw = found["answer"]
    if found["made_another"]:
        return Judgement(agrees=False, saw=saw, follows="names do not keep a create from being done twice: report it")
    if not found["recognised"]:
        return Judgement(agrees=False, saw=saw, follows="flaude does not know this text: report it")
    return Judgement(agrees=True, saw=saw)


def _egress(found: Found) -> Judgement:
    steps = [("dns_s", "name"), ("connect_s", "connection"), ("tls_s", "TLS")]
    saw = ", ".join(f"{told} after {found[name]:.2f} s" for name, told in steps if name in found)
    error = found.get("error", "")
    saw = f"{found.get('host', '')}, {found.get('after_boot_s', 0):.1f} s after the start: {saw or 'nothing'}"
    if error:
        return Judgement(agrees=False, saw=f"{saw}; {error}", follows="installing and cloning fail, or are tried again")
    return Judgement(agrees=True, saw=saw)


def _disk(found: Found) -> Judgement:
    speed = found["mb"] / max(found["seconds"], 0.001)
    slow = speed < _SLOW_DISK_MB_S
    follows = "an image that has Claude Code spares each run the writing of it" if slow else ""
    return Judgement(not slow, f"{found['mb']} MB in {found['seconds']:.1f} s, {speed:.0f} MB/s", follows)


def _stopping(found: Found) -> Judgement:
    works, asked_s, took_s = found["exec_works"], found["asked_s"], found.get("ended_s")
    saw = f"an exec {'works' if works else 'is refused (' + found['exec'] + ')'} while stopping"
    if took_s is None:
        saw += f"; not ended {found['watched_s']:.0f} s later"
        return Judgement(agrees=False, saw=saw, follows="a machine that Fly stops may live on: flaude destroys it")
    saw += f"; ended {took_s:.1f} s after the stop, stop_config says {asked_s:.0f} s"
    early = took_s < asked_s * 0.8
    odd = ["what is not collected within those seconds is lost"] if early else []
    if not works:
        odd.append("a run's work cannot be collected while its machine is being stopped")
    return Judgement(not odd, saw, "; ".join(odd))


def _exit_1(found: Found) -> Judgement:
    seconds = found.get("destroyed_s")
    if seconds is None:
        saw = f"still {found['state']!r} after {found['watched_s']:.0f} s"
        return Judgement(agrees=False, saw=saw, follows="flaude destroys its machines; what it cannot, `reap` does")
    return Judgement(seconds <= _GONE_S, f"destroyed {seconds:.1f} s after it was made")


def _delete(found: Found) -> Judgement:
    saw = f"gone after {found['gone_s']:.1f} s, then GET says {found['then']}"
    late = found["gone_s"] > Timeouts.destroy
    return Judgement(not late, saw, "raise timeouts.destroy" if late else "")


def _machines(found: Found) -> Judgement:
    saw = f"{found['count']} machines in the organisation"
    crowded = found["count"] + _AT_ONCE > SMALLEST_LIMIT
    return Judgement(
        not crowded, saw, "a batch may meet the organisation's machine limit: ask Fly to raise it" if crowded else ""
    )


def _limit(found: Found) -> Judgement:
    if found["refused"]:
        follows = "destroy what is not needed, ask Fly to raise the limit, or set max_concurrency"
        return Judgement(agrees=False, saw=f"Fly refused one more machine: {found['text']}", follows=follows)
    return Judgement(agrees=True, saw="Fly made two at once")


def _token(found: Found) -> Judgement:
    saw = f"{found['for_apps']} of {found['tokens']} for single apps, {found['of_people']} of a person"
    session = found["of_people"] > 0
    follows = "a person's session token may expire soon: `fly tokens create deploy -a APP -x 24h`" if session else ""
    return Judgement(not session, saw, follows)


_CODE, _DOCS, _LIVE, _NOWHERE = "Fly's code", "Fly's docs", "users of the live API", "no source"

ASSUMPTIONS = {
    known.name: known
    for known in (
        Assumption("org_machines", f"room for {_AT_ONCE} more: {LIMIT_IN_WORDS}", _LIVE, _machines),
        Assumption("token", "a token for the app that lives as long as the batch", _CODE, _token),
        Assumption("create", f"answered within {_CREATE_S:.0f} s with the guest in it", _LIVE, _create),
        Assumption("visible", f"seen by every call within {UNKNOWN_S:.0f} s", _CODE, _visible),
        Assumption("image_ref", "any registry; Docker Hub through Fly's mirror", _DOCS, _image),
        Assumption("started", f"within {Timeouts.boot:.0f} s", _DOCS, _started),
        Assumption("first_exec", f"within {NOT_READY_S:.0f} s of `started`", _LIVE, _first_exec),
        Assumption("machine", "root, amd64, python3 and git", _CODE, _machine),
        Assumption("clock", f"within {_MOST_SKEW_S:.0f} s of the API's", _NOWHERE, _clock),
        Assumption("egress", "DNS and HTTPS work in the first second", _NOWHERE, _egress),
        Assumption("exec_stdin", "dropped", _LIVE, _stdin),
        Assumption(
            "exec_body",
            f"{FIRST_BODY_BYTES:,} bytes work, over 16 KiB are answered 200 with `{TOO_LARGE}`",
            f"{_CODE}, {_LIVE}",
            _body,
        ),
        Assumption("exec_output", f"{FIRST_ANSWER_BYTES:,} bytes to begin with", _NOWHERE, _output),
        Assumption("exec_bytes", "text arrives as it is; flaude sends ASCII", _LIVE, _bytes),
        Assumption("exit_codes", "exit codes come through, zeros are left out", _CODE, _codes),
        Assumption("missing_program", "code 126 or 127, or 200 with `ExecError` and ENOENT", _CODE, _program),
        Assumption("parallel_execs", "one at a time", _CODE, _parallel),
        Assumption("exec_timeout", "more than 60 s is refused with 400", _LIVE, _timeout),
        Assumption("burst", "1 exec a second and machine, bursts of 3, then 429", _DOCS, _burst),
        Assumption("disk", f"{_SLOW_DISK_MB_S:.0f} MB/s or more", _NOWHERE, _disk),
        Assumption("duplicate_name", "409 or 422 for a taken name", _CODE, _duplicate),
        Assumption("machine_limit", "there is room for one more machine", _LIVE, _limit),
        Assumption("exit_1", f"auto_destroy within {_GONE_S:.0f} s, whatever the exit code", _LIVE, _exit_1),
        Assumption("longest_exec", f"{LONGEST_WAIT_S + EXEC_MARGIN_S:.0f} s; 60 s is Fly's limit", _LIVE, _longest),
        Assumption("stopping", "stop_config's time is given, execs work in it", _DOCS, _stopping),
        Assumption("delete", f"gone within {Timeouts.destroy:.0f} s", _LIVE, _delete),
    )
}
"""Every point by its name, in the order of the report."""
