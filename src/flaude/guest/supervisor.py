"""The supervisor: takes one job, does it, keeps the clocks, and answers the controller."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
import traceback
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from . import collect, dead_man, verdict
from .agent import Agent
from .clocks import Clocks
from .clone import CloneFailed, clone_all
from .install import InstallFailed, ensure_program, search_path
from .job import BadJob, Job, Limits, parse
from .layout import Layout
from .memory import oom_kills
from .outbox import Outbox
from .processes import become_subreaper, end_all
from .redact import Redactor
from .server import pack, serve
from .spool import Spool
from .user import User, agent_user

_LONGEST_WAIT_S = 15.0
_SETTLE_S = 0.4
_DEFAULT_PIECE = 1024 * 1024
_INLINE_RESULT_BYTES = 256 * 1024
_START_DEADLINE_S = 300.0
# An orphan ends within a minute, whatever grace and collecting are allowed: nobody may be there to take what it did.
_ORPHAN_GRACE_S = 15.0
_ORPHAN_COLLECT_S = 30.0
_DEAD_MAN_MARGIN_S = 5.0
EX_TEMPFAIL = 75

T = TypeVar("T")


class Stopped(Exception):
    """The run is to end before it is done."""


def supervise(layout: Layout) -> int:
    """Run until the job is acknowledged or a clock runs out; returns the process's exit code."""
    os.umask(0o022)
    layout.make()
    become_subreaper()
    return asyncio.run(Supervisor(layout).run())


class Supervisor:
    """One job at most. Its state is one of waiting, installing, cloning, ready, running, collecting, done."""

    def __init__(self, layout: Layout) -> None:
        self.clocks = Clocks(float(os.environ.get("FLAUDE_START_DEADLINE_S") or _START_DEADLINE_S))
        self._job: Job | None = None
        self._hold()
        self._layout = layout
        self._spool = Spool(layout.spool)
        self._state = "waiting"
        self._times: dict[str, float] = {"waiting": time.time()}
        self._work: asyncio.Task[None] | None = None
        self._agent: Agent | None = None
        self._heads: dict[str, str] = {}
        self._result: dict[str, Any] | None = None
        self._outbox = Outbox(layout.out)
        self._exit: asyncio.Future[int]
        self._stop: asyncio.Event
        self._told_ready: asyncio.Event
        self._ready_at: int | None = None
        self._stopped_by = ("", "")
        self._grace_s: float | None = None
        self._leaving = False
        self._orphaned = False
        self._orphan_since: float | None = None
        self._returncode: int | None = None
        self._exit_code = EX_TEMPFAIL
        self._oom_kills = 0

    async def run(self) -> int:
        """Serve until it is time to exit."""
        loop = asyncio.get_running_loop()
        self._exit = loop.create_future()
        self._stop = asyncio.Event()
        self._told_ready = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        server = await serve(str(self._layout.run), self._handle)
        watch = asyncio.ensure_future(self._watch())
        try:
            code = await self._exit
            await asyncio.sleep(0.05)  # the answer to `ack` leaves first
            return code
        finally:
            watch.cancel()
            server.close()
            if self._work is not None:
                self._work.cancel()
                await asyncio.gather(self._work, return_exceptions=True)
            await end_all(os.getpid())

    # --- the verbs ---

    async def _handle(self, verb: str, request: dict[str, Any]) -> dict[str, Any]:
        if verb == "start":
            return self._on_start(request)
        if verb == "status":
            return self._on_status()
        if self._job is None:
            return {"error": "no job has been started"}
        self.clocks.pulled()
        if verb == "fetch":
            return self._outbox.fetch(request)
        if request.get("job_id") != self._job.job_id:
            return {"error": f"the job here is {self._job.job_id}"}
        if verb == "pull":
            return await self._on_pull(request)
        if verb == "cancel":
            grace_s = request.get("grace_s")
            self._ask_to_stop(
                "cancelled",
                str(request.get("reason") or "cancelled"),
                None if grace_s is None else max(0.0, float(grace_s)),
            )
        elif self._result is None:
            return {"error": "the run is not done yet"}
        else:
            self._leave()
        return {"ok": True}

    def _on_start(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            job = parse(request)
        except (BadJob, TypeError, AttributeError) as error:
            return {"accepted": False, "error": str(error)}
        if self._job is None:
            self._job = job
            self._spool.redact = Redactor(job.secret_values)
            self._spool.max_bytes = job.limits.max_spool_bytes
            self.clocks.accepted(job.limits)
            self._work = asyncio.ensure_future(self._do_surely(job))
        elif self._job.job_id != job.job_id:
            return {"accepted": False, "error": f"this machine has the job {self._job.job_id} already"}
        return {"accepted": True, "job_id": job.job_id}

    def _on_status(self) -> dict[str, Any]:
        """For somebody else than the controller: asking does not count as a pull."""
        return {
            "state": self._state,
            "booted_s_ago": self.clocks.booted_s_ago,
            "job_id": self._job.job_id if self._job else None,
            "pulled_s_ago": self.clocks.pulled_s_ago if self._job else None,
        }

    async def _on_pull(self, request: dict[str, Any]) -> dict[str, Any]:
        self._orphaned = False
        self.clocks.pulled()
        offset = max(0, int(request.get("offset") or 0))
        if self._ready_at is not None and offset >= self._ready_at:
            self._told_ready.set()
        if self._result is None:
            with self.clocks.pulling():
                await self._news(offset, min(float(request.get("wait_s") or 0), _LONGEST_WAIT_S))
        data = self._spool.read(offset, int(request.get("max_bytes") or _DEFAULT_PIECE))
        told = offset + len(data)
        return {
            "state": self._state,
            "offset": offset,
            "next": told,
            "data": pack(data),
            "result": self._result if told >= self._spool.size else None,
        }

    async def _news(self, offset: int, seconds: float) -> None:
        """Wait for news, and a moment more: what belongs together then takes one call, and calls are rationed."""
        until = time.monotonic() + seconds
        await self._spool.wait(offset, seconds)
        settled = min(until, time.monotonic() + _SETTLE_S)
        while self._result is None and self._state != "ready" and (left := settled - time.monotonic()) > 0:
            await self._spool.wait(self._spool.size, left)

    # --- the job ---

    async def _do_surely(self, job: Job) -> None:
        """No error may leave the machine without a result: nobody would ever end it."""
        try:
            await self._do(job)
        except Exception as error:  # noqa: BLE001  # a full disk, a read-only /etc, a bug of ours
            told = "".join(traceback.format_exception_only(type(error), error)).strip()
            agent = self._agent or Agent(self._spool, job.limits.max_line_bytes)
            user = User("", self._layout.home)
            code = verdict.exit_code(self._returncode, "internal", agent.result_line)
            self._outbox.clear()
            self._finish(job, user, agent, "internal", told, code, self._returncode, [])

    async def _do(self, job: Job) -> None:
        returncode, ended_by, message = None, "exit", ""
        user = agent_user(self._layout)
        agent = self._agent = Agent(self._spool, job.limits.max_line_bytes)
        environment = self._environment(user)
        try:
            await self._prepare(job, user, environment)
            await self._until_controller_knows()
            self._oom_kills = oom_kills(self._layout.root)
            self._enter("running")
            run = agent.run(
                job.argv,
                job.prompt,
                cwd=str(self._workdir(job)),
                environment={**environment, **job.env, **job.secrets},
                user=user,
            )
            returncode = self._returncode = await self._until_stopped(run, self._end_agent)
        except CloneFailed as error:
            ended_by, message = "clone", str(error)
        except InstallFailed as error:
            ended_by, message = "image", str(error)
        except Stopped:
            returncode = self._returncode
            ended_by, message = self._stopped_by
        except Exception as error:  # noqa: BLE001  # whatever it is, the controller is to hear of it
            ended_by, message = "internal", "".join(traceback.format_exception_only(type(error), error)).strip()
        if "running" in self._times:
            self._times["agent_ended"] = time.time()
        self._enter("collecting")
        limits = job.limits
        if ended_by == "orphan":
            limits = replace(limits, collect_s=min(limits.collect_s, _ORPHAN_COLLECT_S))
        repos = await collect.collect_all(
            replace(job, limits=limits), self._heads, self._layout, user, environment, self._outbox
        )
        code = verdict.exit_code(returncode, ended_by, agent.result_line)
        if ended_by == "hung":  # it had said its last word and did not go
            ended_by, message = "exit", ""
            code = 1 if agent.result_line and agent.result_line.get("is_error") else 0
        self._finish(job, user, agent, ended_by, message, code, returncode, repos)

    async def _prepare(self, job: Job, user: User, environment: dict[str, str]) -> None:
        for folder in (user.home, self._layout.workspace):
            user.owns(folder)
        self._enter("installing")
        install = ensure_program(job.argv[0], job.install, self._layout, environment, job.limits.install_s)
        done = await self._until_stopped(install)
        if done:
            self._spool.log(done)
        if job.repos:
            self._enter("cloning")
            clones = clone_all(job.repos, job.git, self._layout, user, environment, job.limits.clone_s)
            self._heads = await self._until_stopped(clones)

    async def _until_controller_knows(self) -> None:
        """Wait for a pull that has seen `ready`.

        From here on the run costs money, and may do what cannot be done twice: the controller must know it before, so
        that it never gives the prompt to another machine because it lost this one too early.
        """
        if not self._enter("ready"):
            raise OSError("there is no room on the disk to say that all is ready")
        self._ready_at = self._spool.size
        await self._until_stopped(self._told_ready.wait())

    def _environment(self, user: User) -> dict[str, str]:
        return {
            **os.environ,
            "PATH": search_path(self._layout, user.home, os.environ.get("PATH", os.defpath)),
            "HOME": str(user.home),
            "USER": user.name,
            "LOGNAME": user.name,
            "DISABLE_AUTOUPDATER": "1",
            **({"IS_SANDBOX": "1"} if user.sandbox else {}),
        }

    def _workdir(self, job: Job) -> Path:
        return self._layout.workspace / job.repos[0].target_dir if len(job.repos) == 1 else self._layout.workspace

    def _finish(
        self,
        job: Job,
        user: User,
        agent: Agent,
        ended_by: str,
        message: str,
        code: int | None,
        returncode: int | None,
        repos: list[dict[str, Any]],
    ) -> None:
        self._enter("done")
        result: dict[str, Any] = {
            "job_id": job.job_id,
            "exit_code": code,
            "agent": {
                "exit_code": returncode if returncode is not None and returncode >= 0 else None,
                "signal": -returncode if returncode is not None and returncode < 0 else None,
            },
            "ended_by": ended_by,
            "oom": ended_by == "exit" and code == verdict.KILLED and oom_kills(self._layout.root) > self._oom_kills,
            "message": self._spool.redact(message),
            "result_line": agent.result_line,
            "rate_limit": agent.rate_limit,
            "stdout_tail": list(agent.tails["stdout"]),
            "stderr_tail": list(agent.tails["stderr"]),
            "lines": {**self._spool.counts, "dropped": self._spool.dropped},
            "times": self._times,
            "agent_user": user.name,
            "workdir": str(self._workdir(job)),
            "repos": self._spool.redact.json(repos),
            "files": self._outbox.files,
        }
        content = json.dumps(result).encode()
        if len(content) > _INLINE_RESULT_BYTES:
            with contextlib.suppress(OSError):  # no room on the disk: told inline, however long
                result = {"file": self._outbox.keep("result.json", content)}
        self._result = result
        self._exit_code = verdict.process_exit_code(code, ended_by)
        self.clocks.done()
        self._spool.wake()
        if self._leaving or self._orphaned:  # a controller that has pulled since is back, and takes the result
            self._leave()

    # --- stopping ---

    def _ask_to_stop(self, ended_by: str, message: str, grace_s: float | None = None) -> None:
        """The first reason counts; whatever runs is ended, and what there is is collected."""
        if self._stop.is_set() or self._state in ("collecting", "done"):
            return
        self._stopped_by = (ended_by, message)
        self._grace_s = grace_s
        self._stop.set()

    async def _until_stopped(self, work: Awaitable[T], end: Any = None) -> T:
        """The work's result, unless it is stopped before; `end` ends it gently, else it is cancelled."""
        task = asyncio.ensure_future(work)
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                if end is not None:
                    self._returncode = await end(task)
                raise Stopped
            return task.result()
        finally:
            stop.cancel()
            task.cancel()
            await asyncio.gather(task, stop, return_exceptions=True)

    async def _end_agent(self, task: asyncio.Future[int]) -> int | None:
        """SIGINT, SIGTERM, SIGKILL to the agent's group, within the grace time."""
        if self._agent is None or self._job is None:
            return None
        grace = self._job.limits.grace_s if self._grace_s is None else self._grace_s
        for number, wait_s in ((signal.SIGINT, grace / 2), (signal.SIGTERM, grace / 2), (signal.SIGKILL, None)):
            self._agent.signal(number)
            done, _ = await asyncio.wait([task], timeout=wait_s)
            if done:
                break
        return task.result()

    def _on_signal(self) -> None:
        """The machine is being stopped: end the agent, collect, and exit without waiting to be asked."""
        self._leaving = True
        if self._job is None or self._state == "done":
            self._leave()
        else:
            self._ask_to_stop("cancelled", "the machine was stopped")

    def _leave(self) -> None:
        if not self._exit.done():
            self._exit.set_result(self._exit_code)

    async def _watch(self) -> None:
        """Look at the clocks, a few times a second, whatever happens."""
        told = ""
        while True:
            await asyncio.sleep(0.1)
            try:
                self._look_at_clocks()
            except Exception as error:  # noqa: BLE001  # without clocks the machine might never end
                if told != (told := repr(error)):
                    self._spool.log(f"a defect of the supervisor: {told}")

    def _look_at_clocks(self) -> None:
        self._hold()
        agent = self._agent if self._state == "running" else None
        last_output = agent.last_output if agent else None
        ring = self.clocks.ring(last_output, said_all=bool(agent and agent.result_line))
        self._watch_orphan(ring is not None and ring[0] == "orphan")
        if ring is not None:
            ended_by, message = ring
            if ended_by in ("start", "linger") or (ended_by == "orphan" and self._state == "done"):
                self._leave()
            else:
                orphan = ended_by == "orphan"
                self._orphaned = self._orphaned or orphan
                grace_s = min(self._job.limits.grace_s, _ORPHAN_GRACE_S) if orphan and self._job else None
                self._ask_to_stop(ended_by, message, grace_s)
        if agent:
            agent.reap_orphans()

    def _hold(self) -> None:
        """Stay alive as long as somebody may want this machine, and for the time that its end may take."""
        left_s = self.clocks.left_s
        end_s = self._job.limits.orphan_end_s if self._job else Limits.orphan_end_s
        dead_man.hold(None if left_s is None else left_s + end_s + _DEAD_MAN_MARGIN_S)

    def _watch_orphan(self, orphan: bool) -> None:
        """An orphan has so long for its end, however it was to end: no agent and no patch may take longer."""
        if not orphan:
            self._orphan_since = None
        elif self._orphan_since is None:
            self._orphan_since = time.monotonic()
        elif self._job and time.monotonic() - self._orphan_since > self._job.limits.orphan_end_s:
            self._leave()

    def _enter(self, state: str) -> bool:
        self._state = state
        self._times[state] = time.time()
        return self._spool.state(state)
