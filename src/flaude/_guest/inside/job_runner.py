"""The work: one job, from its clones to the account of what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from . import reserve, verdict
from .agent.agent import Agent
from .agent.install import InstallFailed, ensure_program, search_path
from .agent.processes import end_all
from .agent.user import User, agent_user
from .files.files import Session, collect_files
from .git import collect
from .git.clone import CloneFailed, clone_all
from .job import Job
from .layout import Layout
from .memory import oom_kills
from .outgoing_files import OutgoingFiles
from .redact import Redactor
from .spool import Spool

_INLINE_RESULT_BYTES = 256 * 1024
# An orphan ends within a minute, whatever grace and collecting are allowed: nobody may be there to take what it did.
_ORPHAN_GRACE_S = 15.0
_ORPHAN_COLLECT_S = 30.0
# A machine that Fly stops: of the 240 s (`Limits.stop_hold_s`) a part is left to pull what was collected.
_STOP_GRACE_S = 30.0
_STOP_COLLECT_S = 90.0
# Seconds for the agent's end, and for collecting.
_HURRIES = {"orphan": (_ORPHAN_GRACE_S, _ORPHAN_COLLECT_S), "stopped": (_STOP_GRACE_S, _STOP_COLLECT_S)}

T = TypeVar("T")


class Stopped(Exception):
    """The run is to end before it is done."""


class JobRunner:
    """Does one job; it is begun with `run`, and may be stopped at any time.

    Args:
        job: What is to be done.
        layout: Where everything is.
        spool: Takes every event.
        outbox: Takes the files that the controller fetches.
        on_done: Called when the result is there.
    """

    def __init__(
        self, job: Job, layout: Layout, spool: Spool, outbox: OutgoingFiles, on_done: Callable[[], None]
    ) -> None:
        self.job = job
        self.state = "waiting"
        self.result: dict[str, Any] | None = None
        self.exit_code = verdict.EX_SOFTWARE
        self.ready_at: int | None = None
        self._layout = layout
        self._spool = spool
        self._outbox = outbox
        self._on_done = on_done
        self._agent: Agent | None = None
        self._heads: dict[str, str] = {}
        self._times: dict[str, float] = {"waiting": time.time()}
        self._stop = asyncio.Event()
        self._stopped_by = ("", "")
        self._grace_s = job.limits.grace_s
        self._told_ready = asyncio.Event()
        self._returncode: int | None = None
        self._oom_kills = 0
        self._transient = False
        spool.redact = Redactor(job.secret_values)
        spool.max_bytes = job.limits.max_spool_bytes

    @property
    def running_agent(self) -> Agent | None:
        """The agent, while it runs."""
        return self._agent if self.state == "running" else None

    def stop(self, ended_by: str, message: str, grace_s: float | None = None) -> None:
        """End whatever runs, and collect what there is; the first reason counts.

        Args:
            ended_by: Why, in one word.
            message: Why, in a sentence.
            grace_s: Seconds from the first signal to the agent until it is killed; the job's without it.
        """
        if self._stop.is_set() or self.state in ("collecting", "done"):
            return
        self._stopped_by = (ended_by, message)
        if grace_s is not None:
            self._grace_s = grace_s
        if ended_by in _HURRIES:
            self._grace_s = min(self._grace_s, _HURRIES[ended_by][0])
        self._stop.set()

    def pulled(self, offset: int) -> None:
        """The controller has everything up to an offset."""
        if self.ready_at is not None and offset >= self.ready_at:
            self._told_ready.set()

    async def run(self) -> None:
        """Do it. No error may leave the machine without a result: nobody would ever end it."""
        try:
            await self._run()
        except Exception as error:  # noqa: BLE001  # a full disk, a read-only /etc, a bug of ours
            told = "".join(traceback.format_exception_only(type(error), error)).strip()
            agent = self._agent or Agent(self._spool, self.job.limits.max_line_bytes)
            self._outbox.clear()
            self._finish(User("", self._layout.home), agent, "internal", told, [], {})

    async def _run(self) -> None:
        job, ended_by, message = self.job, "exit", ""
        user = agent_user(self._layout)
        agent = self._agent = Agent(self._spool, job.limits.max_line_bytes)
        environment = self._environment(user)
        try:
            await self._prepare(user, environment)
            await self._until_controller_knows()
            self._oom_kills = oom_kills(self._layout.root)
            self._enter("running")
            run = agent.run(
                job.argv,
                job.prompt,
                cwd=str(self._workdir),
                environment={**environment, **job.env, **job.secrets},
                user=user,
            )
            self._returncode = await self._until_stopped(run, self._end_agent)
        except CloneFailed as error:
            ended_by, message, self._transient = "clone", str(error), error.transient
        except InstallFailed as error:
            ended_by, message, self._transient = "image", str(error), error.transient
        except Stopped:
            ended_by, message = self._stopped_by
        except Exception as error:  # noqa: BLE001  # whatever it is, the controller is to hear of it
            ended_by, message = "internal", "".join(traceback.format_exception_only(type(error), error)).strip()
        if "running" in self._times:
            self._times["agent_ended"] = time.time()
        began = time.monotonic()
        reserve.release(self._layout.reserve)
        self._spool.tell_dropped()
        self._enter("collecting")
        limits = job.limits
        if ended_by in _HURRIES:
            most_s = _HURRIES[ended_by][1]
            limits = replace(limits, collect_s=min(limits.collect_s or most_s, most_s))
        repos = await collect.collect_all(
            replace(job, limits=limits), self._heads, self._layout, user, environment, self._outbox
        )
        files: dict[str, Any] = {}
        if "running" in self._times:
            spent_s = time.monotonic() - began
            session = Session(
                self._workdir,
                user.home,
                user.number,
                {**environment, **job.env, **job.secrets},
                agent.session_id,
            )
            left_s = limits.collect_s - spent_s if limits.collect_s else None
            files = await collect_files(job, session, self._layout, self._outbox, self._spool.redact, left_s)
        self._finish(user, agent, ended_by, message, repos, files)

    async def _prepare(self, user: User, environment: dict[str, str]) -> None:
        job = self.job
        for folder in (user.home, self._layout.workspace):
            user.owns(folder)
        self._enter("installing")
        tell = self._spool.log
        if job.repos and not shutil.which("git", path=environment["PATH"]):
            raise InstallFailed(
                "the image needs git to clone the repositories; install git in it, or use another image"
            )
        await self._until_stopped(
            ensure_program(job.argv[0], job.install, self._layout, user, environment, job.limits.install_s, tell)
        )
        if job.repos:
            self._enter("cloning")
            clones = clone_all(job.repos, job.git, self._layout, user, environment, job.limits.clone_s, tell)
            self._heads = await self._until_stopped(clones)
        # A filter of the image's may have left a process behind that has the token in its environment, and a `claude`
        # that was asked for its version may have left anything.
        await end_all(os.getpid(), user.number)
        reserve.hold(self._layout.reserve, int(job.limits.reserve_bytes))

    async def _until_controller_knows(self) -> None:
        """Wait for a pull that has seen `ready`.

        From here on the run costs money, and may do what cannot be done twice: the controller must know it before, so
        that it never gives the prompt to another machine because it lost this one too early.
        """
        if not self._enter("ready"):
            raise OSError("there is no room on the disk to say that all is ready")
        self.ready_at = self._spool.size
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

    @property
    def _workdir(self) -> Path:
        repos = self.job.repos
        return self._layout.workspace / repos[0].target_dir if len(repos) == 1 else self._layout.workspace

    async def _until_stopped(
        self, work: Awaitable[T], end: Callable[[asyncio.Future[T]], Awaitable[None]] | None = None
    ) -> T:
        """The work's result, unless it is stopped before; `end` ends it gently, else it is cancelled."""
        task = asyncio.ensure_future(work)
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                if end is not None:
                    await end(task)
                raise Stopped
            return task.result()
        finally:
            stop.cancel()
            task.cancel()
            await asyncio.gather(task, stop, return_exceptions=True)

    async def _end_agent(self, task: asyncio.Future[int]) -> None:
        """SIGINT, SIGTERM, SIGKILL to the agent's group, within the grace time."""
        half_s = self._grace_s / 2
        for number, wait_s in ((signal.SIGINT, half_s), (signal.SIGTERM, half_s), (signal.SIGKILL, None)):
            if self._agent is not None:
                self._agent.signal(number)
            done, _ = await asyncio.wait([task], timeout=wait_s)
            if done:
                break
        self._returncode = task.result()

    def _finish(
        self,
        user: User,
        agent: Agent,
        ended_by: str,
        message: str,
        repos: list[dict[str, Any]],
        files: dict[str, Any],
    ) -> None:
        returncode = self._returncode
        code = verdict.exit_code(returncode, ended_by, agent.result_line)
        if ended_by == "hung":  # it had said its last word and did not go
            ended_by, message = "exit", ""
            code = 1 if agent.result_line and agent.result_line.get("is_error") else 0
        self._enter("done")
        result: dict[str, Any] = {
            "job_id": self.job.job_id,
            "exit_code": code,
            "agent": {
                "exit_code": returncode if returncode is not None and returncode >= 0 else None,
                "signal": -returncode if returncode is not None and returncode < 0 else None,
            },
            "ended_by": ended_by,
            "oom": ended_by == "exit" and code == verdict.KILLED and oom_kills(self._layout.root) > self._oom_kills,
            "transient": self._transient,
            "message": self._spool.redact(message),
            "session_id": agent.session_id,
            "result_line": agent.result_line,
            "rate_limit": agent.rate_limit,
            "stdout_tail": list(agent.tails["stdout"]),
            "stderr_tail": list(agent.tails["stderr"]),
            "lines": {**self._spool.counts, "dropped": self._spool.dropped},
            "times": self._times,
            "agent_user": user.name,
            "workdir": str(self._workdir),
            "repos": self._spool.redact.told(repos),
            **files,
            "files": self._outbox.files,
        }
        self.result = result
        self.exit_code = verdict.process_exit_code(code, ended_by)
        self._on_done()

    def told_result(self, characters: int) -> dict[str, Any] | None:
        """The result for an answer that has room for so many characters: itself, or as a file to be fetched."""
        if self.result is None:
            return None
        content = json.dumps(self.result).encode()
        if len(content) > min(characters, _INLINE_RESULT_BYTES):
            with contextlib.suppress(OSError):  # no room on the disk: told inline, however long
                return {"file": self._outbox.keep("result.json", content)}
        return self.result

    def _enter(self, state: str) -> bool:
        self.state = state
        self._times[state] = time.time()
        return self._spool.state(state)
