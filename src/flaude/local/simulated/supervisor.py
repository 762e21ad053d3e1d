"""The supervisor of a simulated machine: takes one job, keeps the clocks, and answers the controller."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import anyio

from flaude.local.simulated.agent import WORKDIR, SimulatedAgent
from flaude.local.simulated.requests import unmasked
from flaude.local.simulated.spool import Spool, pack

EX_TEMPFAIL = 75
_EX_SOFTWARE = 70
_PROTOCOL = 2
_LONGEST_WAIT_S = 45.0
_SETTLE_S = 0.4
_SETTLE_AT_REST_S = 0.05
_AT_REST_S = 0.5
_HURRY_S = 10.0
_DEFAULT_PIECE = 1024 * 1024
_START_DEADLINE_S = 300.0
_LOOKS_EVERY_S = 0.1
_LIMITS = {"orphan_s": 600.0, "linger_s": 600.0, "run_s": 3600.0, "idle_s": 1800.0, "stop_hold_s": 240.0}
_STOPPED = {"deadline": 124, "idle": 124, "orphan": 124, "cancelled": 130, "stopped": 143}
_STOPPED_BY_FLY = "the machine was stopped: by Fly (trial accounts after 5 minutes; host maintenance), or by hand"


@dataclass
class _Job:
    """The parts of a job that matter here, and how far it is."""

    job_id: str
    prompt: str
    argv: list[str]
    env: Mapping[str, str]
    repos: list[dict[str, Any]]
    limits: Mapping[str, float]
    accepted: float = field(default_factory=time.monotonic)
    state: str = "waiting"
    times: dict[str, float] = field(default_factory=lambda: {"waiting": time.time()})
    ready_at: int | None = None
    told_ready: anyio.Event = field(default_factory=anyio.Event)
    stop: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ended_by: str = "exit"
    message: str = ""
    agent: SimulatedAgent | None = None
    returncode: int | None = None
    result: dict[str, Any] | None = None
    exit_code: int = _EX_SOFTWARE
    done: float = math.inf


class Supervisor:
    """Waits for a job, one at most, and lives until it is acknowledged, or nobody wants it any more.

    Args:
        env: The machine's environment.
        pad: What hides the secrets of its job.
    """

    def __init__(self, env: Mapping[str, str], pad: bytes) -> None:
        self._pad = pad
        self._hurry_until = 0.0
        self._start_deadline_s = float(env.get("FLAUDE_START_DEADLINE_S") or _START_DEADLINE_S)
        self._sign_of_job = self._pulled = time.monotonic()
        self._pulling = 0
        self._answered = 0.0
        self._spool = Spool()
        self._job: _Job | None = None
        self._began = anyio.Event()
        self._wound = anyio.Event()
        self._exit = anyio.Event()
        self._code = 0
        self._stopped_at = math.inf
        self._orphaned = False

    async def run(self) -> int:
        """Live; returns the exit code."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch)
            tasks.start_soon(self._work)
            await self._exit.wait()
            await anyio.sleep(0.05)  # the answer to `ack` leaves first
            tasks.cancel_scope.cancel()
        return self._code

    def stop(self) -> None:
        """The machine is being stopped: end the agent, and hold its result for as long as that allows."""
        self._stopped_at = min(self._stopped_at, time.monotonic())
        if self._job is None:
            self._exit.set()
            return
        when = ": the work so far was collected" if self._job.state == "running" else " before the agent had started"
        self._stop(self._job, "stopped", _STOPPED_BY_FLY + when)
        self._wind()

    def arriving(self) -> None:
        """A part of its job has arrived."""
        self._sign_of_job = time.monotonic()

    def hurry(self) -> None:
        """Answer the pull that waits, or the next one, at once."""
        self._hurry_until = time.monotonic() + _HURRY_S
        self._spool.wake()

    def _is_hurried(self) -> bool:
        hurried = time.monotonic() < self._hurry_until
        if hurried:
            self._hurry_until = 0.0
        return hurried

    # --- the verbs ---

    async def answer(self, verb: str, request: dict[str, Any]) -> dict[str, Any]:
        """What the guest says."""
        if verb == "start":
            return await self._on_start(request)
        if verb == "status":
            return self._on_status()
        job = self._job
        if job is None:
            return {"error": "no job has been started"}
        self._pulled = time.monotonic()
        if verb != "pull":
            self._hurry_until = 0.0
        if verb == "fetch":
            return {"error": f"no such file: {request.get('name')}"}
        if request.get("job_id") != job.job_id:
            return {"error": f"the job here is {job.job_id}"}
        if verb == "pull":
            return await self._on_pull(job, request)
        if verb == "cancel":
            self._stop(job, "cancelled", str(request.get("reason") or "cancelled"))
        elif job.result is None:
            return {"error": "the run is not done yet"}
        else:
            self._code = job.exit_code
            self._exit.set()
        return {"ok": True}

    async def _on_start(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            request = unmasked(request, self._pad)
        except ValueError:
            return {"accepted": False, "error": "masked: it is not under this machine's pad"}
        if request.get("protocol") != _PROTOCOL:
            told = f"protocol: this guest speaks {_PROTOCOL}, not {request.get('protocol')!r}"
            return {"accepted": False, "error": told}
        for name, kind in (("argv", list), ("job_id", str), ("prompt", str)):
            if not isinstance(request.get(name), kind) or not request[name]:
                return {"accepted": False, "error": f"{name}: missing, or not a {kind.__name__}"}
        if self._job is None:
            self._pulled = time.monotonic()
            self._job = _Job(
                request["job_id"],
                request["prompt"],
                request["argv"],
                {**(request.get("env") or {}), **(request.get("secrets") or {})},
                request.get("repos") or [],
                {**_LIMITS, **(request.get("limits") or {})},
            )
            self._began.set()
            self._wind()
        elif self._job.job_id != request["job_id"]:
            return {"accepted": False, "error": f"this machine has the job {self._job.job_id} already"}
        answer: dict[str, Any] = {"accepted": True, "job_id": self._job.job_id}
        pull = request.get("pull")
        if isinstance(pull, dict):
            answer["pull"] = await self._on_pull(self._job, pull, start=True)
        return answer

    def _on_status(self) -> dict[str, Any]:
        now, job = time.monotonic(), self._job
        return {
            "state": job.state if job else "waiting",
            "waited_s": now - self._sign_of_job,
            "job_id": job.job_id if job else None,
            "pulled_s_ago": self._pulled_s_ago(now) if job else None,
        }

    async def _on_pull(self, job: _Job, request: dict[str, Any], *, start: bool = False) -> dict[str, Any]:
        self._orphaned = False
        offset = max(0, int(request.get("offset") or 0))
        if job.ready_at is not None and offset >= job.ready_at:
            job.told_ready.set()
        if job.result is None:
            self._pulling += 1
            wait_s = min(float(request.get("wait_s") or 0), _LONGEST_WAIT_S)
            try:
                await (self._preparation(job, wait_s) if start else self._news(job, offset, wait_s))
            finally:
                self._pulling -= 1
                self._pulled = time.monotonic()
        self._answered = time.monotonic()
        data = self._spool.read(offset, int(request.get("max_bytes") or _DEFAULT_PIECE))
        told = offset + len(data)
        return {
            "state": job.state,
            "offset": offset,
            "next": told,
            "data": pack(data),
            "result": job.result if told >= self._spool.size else None,
        }

    async def _news(self, job: _Job, offset: int, seconds: float) -> None:
        until = time.monotonic() + seconds
        if self._is_hurried():
            return
        await self._spool.wait(offset, seconds)
        now = time.monotonic()
        settled = min(until, now + (_SETTLE_AT_REST_S if now - self._answered > _AT_REST_S else _SETTLE_S))
        while job.result is None and job.state != "ready" and (left := settled - time.monotonic()) > 0:
            if self._is_hurried():
                return
            await self._spool.wait(self._spool.size, left)

    async def _preparation(self, job: _Job, seconds: float) -> None:
        until = time.monotonic() + seconds
        while job.result is None and job.state != "ready" and (left := until - time.monotonic()) > 0:
            if self._is_hurried():
                return
            await self._spool.wait(self._spool.size, left)

    # --- the work ---

    async def _work(self) -> None:
        await self._began.wait()
        job = self._job
        if job is None:
            return
        with job.stop:
            self._enter(job, "installing")
            if job.repos:
                self._enter(job, "cloning")
            self._enter(job, "ready")
            job.ready_at = self._spool.size
            await job.told_ready.wait()
            self._enter(job, "running")
            job.returncode = 0  # what Claude Code ends with when it is stopped
            job.agent = SimulatedAgent(job.argv[1:], job.env, self._spool.take)
            job.returncode = await job.agent.run(job.prompt)
        if job.agent:
            job.times["agent_ended"] = time.time()
        self._enter(job, "collecting")
        self._finish(job)

    def _finish(self, job: _Job) -> None:
        self._enter(job, "done")
        code = _exit_code(job)
        job.result = _result(job, code, self._spool)
        job.exit_code = _EX_SOFTWARE if code is None else code
        job.done = time.monotonic()
        self._spool.wake()
        self._wind()
        if self._orphaned:
            self._exit.set()

    def _enter(self, job: _Job, state: str) -> None:
        job.state = state
        job.times[state] = time.time()
        self._spool.state(state)

    @staticmethod
    def _stop(job: _Job, ended_by: str, message: str) -> None:
        if not job.stop.cancel_called and job.state not in ("collecting", "done"):
            job.ended_by, job.message = ended_by, message
            job.stop.cancel()

    # --- the clocks ---

    def _pulled_s_ago(self, now: float) -> float:
        return 0.0 if self._pulling else now - self._pulled

    def _wind(self) -> None:
        """There are other clocks now."""
        wound, self._wound = self._wound, anyio.Event()
        wound.set()

    async def _watch(self) -> None:
        """Look at the clocks when one of them can have run out, at the earliest."""
        while not self._exit.is_set():
            now, job = time.monotonic(), self._job
            ended_by, message, left_s = min(self._clocks(now), key=lambda clock: clock[2])
            if left_s <= 0:
                if job is None or ended_by in ("linger", "hold") or (ended_by == "orphan" and job.result is not None):
                    self._exit.set()
                else:
                    self._orphaned = self._orphaned or ended_by == "orphan"
                    self._stop(job, ended_by, message)
            with suppress(TimeoutError), anyio.fail_after(max(_LOOKS_EVERY_S, left_s)):
                await self._wound.wait()

    def _clocks(self, now: float) -> list[tuple[str, str, float]]:
        """Each clock: what ends by it, why, and how many seconds are left."""
        job = self._job
        if job is None:
            limit_s = self._start_deadline_s
            return [("start", f"no job within {limit_s:g} s", self._sign_of_job + limit_s - now)]
        limit = {name: job.limits[name] or math.inf for name in _LIMITS}
        orphan_s = limit["orphan_s"] - self._pulled_s_ago(now)
        clocks = [
            ("orphan", f"nobody has pulled for {limit['orphan_s']:g} s", orphan_s),
            ("hold", "the machine is killed soon", self._stopped_at + limit["stop_hold_s"] - now),
        ]
        if job.result is not None:
            since = now if self._pulling else max(job.done, self._pulled)
            left_s = since + limit["linger_s"] - now
            return [*clocks, ("linger", f"not acknowledged for {limit['linger_s']:g} s", left_s)]
        left_s = job.accepted + limit["run_s"] - now
        clocks.append(("deadline", f"the run took longer than {limit['run_s']:g} s", left_s))
        if job.state == "running":
            left_s = self._spool.last_output + limit["idle_s"] - now
            clocks.append(("idle", f"the agent printed nothing for {limit['idle_s']:g} s", left_s))
        return clocks


def _exit_code(job: _Job) -> int | None:
    if job.returncode is None or job.returncode:
        return job.returncode
    if job.ended_by in _STOPPED:
        return _STOPPED[job.ended_by]
    line = job.agent.result_line if job.agent else None
    return _EX_SOFTWARE if line is None or line.get("is_error") else 0


def _result(job: _Job, code: int | None, spool: Spool) -> dict[str, Any]:
    agent = job.agent
    listed = {"workspace_files": [], "workspace_files_left_out": 0, "artifacts_error": ""} if agent else {}
    repos = [{"url": repo.get("url", ""), "path": f"{WORKDIR}/{repo.get('target_dir', '')}"} for repo in job.repos]
    return {
        "job_id": job.job_id,
        "exit_code": code,
        "agent": {"exit_code": job.returncode, "signal": None},
        "ended_by": job.ended_by,
        "oom": False,
        "transient": False,
        "message": job.message,
        "session_id": agent.session if agent else "",
        "result_line": agent.result_line if agent else None,
        "rate_limit": agent.rate_limit if agent else None,
        "stdout_tail": list(spool.tail),
        "stderr_tail": [],
        "lines": {"stdout": spool.lines, "stderr": 0, "cut": 0, "dropped": 0},
        "times": job.times,
        "agent_user": "claude",
        "workdir": WORKDIR,
        "repos": repos,
        **listed,
        "files": [],
    }
