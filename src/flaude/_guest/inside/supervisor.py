"""The supervisor: takes one job, keeps the clocks, and answers the controller; `JobRunner` does the job."""

from __future__ import annotations

import asyncio
import binascii
import contextlib
import os
import signal
import sys
import time
from typing import Any

from . import dead_man, parts
from .agent.processes import become_subreaper, end_all
from .clocks import Clocks
from .job import BadJob, Limits, parse
from .job_runner import JobRunner
from .layout import Layout
from .memory import protect
from .outgoing_files import OutgoingFiles
from .packing import decompressed
from .pad import masked
from .server import pack_within, serve
from .spool import Spool

_LONGEST_WAIT_S = 45.0  # no controller asks for more: `LONGEST_MEASURED_WAIT_S`
_SETTLE_S = 0.4
_SETTLE_AT_REST_S = 0.05
_AT_REST_S = 0.5  # Fly allows one exec a second and machine: whoever asked so long ago may soon ask again
_HURRY_S = 10.0
_DEFAULT_PIECE = 1024 * 1024
_START_DEADLINE_S = 300.0
_DEAD_MAN_MARGIN_S = 5.0
EX_NOPERM = 77

_STOPPED = "the machine was stopped: by Fly (trial accounts after 5 minutes; host maintenance), or by hand"


def supervise(layout: Layout) -> int:
    """Run until the job is acknowledged or a clock runs out; returns the process's exit code.

    It is 0 where a clock has ended the machine: Fly may let one that has failed stand for hours before it destroys it
    (`auto_destroy`; one client's report).
    """
    if layout.is_denied:
        sys.stderr.write(
            "flaude: the image has a USER line: flaude must be root in the machine, and runs the agent as an "
            "unprivileged user of its own; remove USER from the Dockerfile\n"
        )
        return EX_NOPERM
    os.umask(0o022)
    layout.make()
    become_subreaper()
    protect()
    return asyncio.run(Supervisor(layout).run())


class Supervisor:
    """Waits for a job, one at most, and lives until it is acknowledged, or nobody wants it any more."""

    def __init__(self, layout: Layout) -> None:
        self._clocks = Clocks(float(os.environ.get("FLAUDE_START_DEADLINE_S") or _START_DEADLINE_S))
        self._work: JobRunner | None = None
        self._hold()
        self._layout = layout
        self._pad = _take_pad(layout)
        self._used = ""
        self._newest_part = 0.0
        self._hurry_until = 0.0
        self._spool = Spool(layout.spool)
        self._outbox = OutgoingFiles(layout.out)
        self._task: asyncio.Task[None] | None = None
        self._exit: asyncio.Future[int]
        self._orphaned = False
        self._orphan_since: float | None = None
        self._answered = 0.0

    async def run(self) -> int:
        """Serve until it is time to exit."""
        loop = asyncio.get_running_loop()
        self._exit = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        loop.add_signal_handler(signal.SIGUSR1, self._on_hurry)
        server = await serve(str(self._layout.run), self._handle)
        watch = asyncio.ensure_future(self._watch())
        try:
            code = await self._exit
            await asyncio.sleep(0.05)  # the answer to `ack` leaves first
            return code
        finally:
            watch.cancel()
            server.close()
            if self._task is not None:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)
            await end_all(os.getpid())

    @property
    def _state(self) -> str:
        return self._work.state if self._work else "waiting"

    # --- the verbs ---

    async def _handle(self, message: dict[str, Any]) -> dict[str, Any]:
        verb, request, name = message["verb"], message["request"], message.get("name")
        if request is None:
            # Its parts are removed when it is used: who has not heard the answer asks again, and need not send them.
            return {"accepted": True} if name and name == self._used else {"missing": message["missing"]}
        answer = await self._answer(verb, request)
        if name and answer.get("accepted"):
            self._used = name
        if verb == "start":
            parts.sweep(str(self._layout.run))
        return answer

    async def _answer(self, verb: str, request: dict[str, Any]) -> dict[str, Any]:
        if verb == "start":
            return await self._on_start(request)
        if verb == "status":
            return self._on_status()
        work = self._work
        if work is None:
            return {"error": "no job has been started"}
        self._clocks.pulled()
        if verb != "pull":
            self._hurry_until = 0.0
        if verb == "fetch":
            return self._outbox.fetch(request)
        if request.get("job_id") != work.job.job_id:
            return {"error": f"the job here is {work.job.job_id}"}
        if verb == "pull":
            return await self._on_pull(work, request)
        if verb == "cancel":
            grace_s = request.get("grace_s")
            work.stop(
                "cancelled",
                str(request.get("reason") or "cancelled"),
                None if grace_s is None else max(0.0, float(grace_s)),
            )
        elif work.result is None:
            return {"error": "the run is not done yet"}
        else:
            self._leave(work.exit_code)
        return {"ok": True}

    async def _on_start(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            request = self._unmasked(request)
            job = parse(request)
        except (BadJob, TypeError, AttributeError) as error:
            return {"accepted": False, "error": str(error)}
        if self._work is None:
            self._work = JobRunner(job, self._layout, self._spool, self._outbox, self._on_done)
            self._clocks.accepted(job.limits)
            self._task = asyncio.ensure_future(self._work.run())
        elif self._work.job.job_id != job.job_id:
            return {"accepted": False, "error": f"this machine has the job {self._work.job.job_id} already"}
        answer: dict[str, Any] = {"accepted": True, "job_id": job.job_id}
        pull = request.get("pull")
        if isinstance(pull, dict):
            answer["pull"] = await self._on_pull(self._work, pull, start=True)
        return answer

    def _unmasked(self, request: dict[str, Any]) -> dict[str, Any]:
        """The request that came under the pad."""
        if "masked" not in request:
            return request
        if not self._pad:
            raise BadJob("masked: this machine has no pad")
        try:
            hidden = binascii.a2b_base64(request["masked"])
            return decompressed(masked(hidden, self._pad, bytes.fromhex(request["nonce"])))
        except (KeyError, ValueError):
            raise BadJob("masked: it is not under this machine's pad") from None

    def _on_status(self) -> dict[str, Any]:
        """For somebody else than the controller: asking does not count as a pull."""
        return {
            "state": self._state,
            "waited_s": self._clocks.waited_s,
            "job_id": self._work.job.job_id if self._work else None,
            "pulled_s_ago": self._clocks.pulled_s_ago if self._work else None,
        }

    async def _on_pull(self, work: JobRunner, request: dict[str, Any], *, start: bool = False) -> dict[str, Any]:
        self._orphaned = False
        offset = max(0, int(request.get("offset") or 0))
        work.pulled(offset)
        if work.result is None:
            wait_s = min(float(request.get("wait_s") or 0), _LONGEST_WAIT_S)
            with self._clocks.pulling():
                await (self._preparation(work, wait_s) if start else self._news(work, offset, wait_s))
        self._answered = time.monotonic()
        most = int(request.get("max_bytes") or _DEFAULT_PIECE)
        packed, taken = pack_within(self._spool.read(offset, most), most)
        told = offset + taken
        result = work.told_result(most - len(packed)) if told >= self._spool.size else None
        return {"state": work.state, "offset": offset, "next": told, "data": packed, "result": result}

    async def _news(self, work: JobRunner, offset: int, seconds: float) -> None:
        """Wait for news, and a moment more: what belongs together then takes one call, and calls are rationed.

        After a while without an answer the next call may follow soon, so news need not wait for long.
        """
        until = time.monotonic() + seconds
        if self._is_hurried():
            return
        await self._spool.wait(offset, seconds)
        now = time.monotonic()
        settled = min(until, now + (_SETTLE_AT_REST_S if now - self._answered > _AT_REST_S else _SETTLE_S))
        while work.result is None and work.state != "ready" and (left := settled - time.monotonic()) > 0:
            if self._is_hurried():
                return
            await self._spool.wait(self._spool.size, left)

    async def _preparation(self, work: JobRunner, seconds: float) -> None:
        """Wait until the agent may start: who knows that can let it start with the very next call."""
        until = time.monotonic() + seconds
        while work.result is None and work.state != "ready" and (left := until - time.monotonic()) > 0:
            if self._is_hurried():
                return
            await self._spool.wait(self._spool.size, left)

    # --- the end ---

    def _on_done(self) -> None:
        self._clocks.done()
        self._spool.wake()
        if self._orphaned:  # a controller that has pulled since is back, and takes the result
            self._leave()

    def _on_signal(self) -> None:
        """The machine is being stopped: end the agent, collect, and wait for the controller to take the harvest.

        As long as `Limits.stop_hold_s` allows: after that the machine is killed. A second signal changes nothing.
        """
        self._clocks.stopping()
        if self._work is None:
            self._leave()
        elif self._work.running_agent:
            self._work.stop("stopped", f"{_STOPPED}: the work so far was collected")
        else:
            self._work.stop("stopped", f"{_STOPPED} before the agent had started")

    def _on_hurry(self) -> None:
        """Somebody has another call to make, which may have to wait until the pull that waits here has its answer.

        That pull may also be on its way yet: then it will not wait either.
        """
        self._hurry_until = time.monotonic() + _HURRY_S
        self._spool.wake()

    def _is_hurried(self) -> bool:
        """Whether a pull is to be answered at once; that counts for one."""
        hurried = time.monotonic() < self._hurry_until
        if hurried:
            self._hurry_until = 0.0
        return hurried

    def _leave(self, code: int = 0) -> None:
        if not self._exit.done():
            self._exit.set_result(code)

    # --- the clocks ---

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
        if (newest := parts.newest(str(self._layout.run))) != self._newest_part:
            self._newest_part = newest
            self._clocks.arriving()
            if self._work is not None:  # a part that came twice, the second time too late
                parts.sweep(str(self._layout.run))
        self._hold()
        work = self._work
        agent = work.running_agent if work else None
        last_output = agent.last_output if agent else None
        if self._clocks.is_held_enough:
            self._leave()
        ring = self._clocks.ring(last_output, said_all=bool(agent and agent.result_line))
        self._watch_orphan(ring is not None and ring[0] == "orphan")
        if ring is not None:
            ended_by, message = ring
            if work is None or ended_by == "linger" or (ended_by == "orphan" and work.result is not None):
                self._leave()
            else:
                self._orphaned = self._orphaned or ended_by == "orphan"
                work.stop(ended_by, message)
        if agent:
            agent.reap_orphans()

    def _hold(self) -> None:
        """Stay alive as long as somebody may want this machine, and for the time that its end may take."""
        left_s = self._clocks.left_s
        end_s = self._work.job.limits.orphan_end_s if self._work else Limits.orphan_end_s
        dead_man.hold(None if left_s is None else left_s + end_s + _DEAD_MAN_MARGIN_S)

    def _watch_orphan(self, orphan: bool) -> None:
        """An orphan has so long for its end, however it was to end: no agent and no patch may take longer."""
        if not orphan:
            self._orphan_since = None
        elif self._orphan_since is None:
            self._orphan_since = time.monotonic()
        elif self._work and time.monotonic() - self._orphan_since > self._work.job.limits.orphan_end_s:
            self._leave()


def _take_pad(layout: Layout) -> bytes:
    """The machine's pad; from now on it is in our memory alone."""
    try:
        pad = layout.pad.read_bytes()
    except OSError:
        return b""
    with contextlib.suppress(OSError):  # a disk that is mounted to be read
        layout.pad.unlink()
    return pad
