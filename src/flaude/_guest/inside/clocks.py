"""The machine's own clocks: no machine lives on because its controller is gone, or its agent hangs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from .job import Limits


class Clocks:
    """Counts seconds on the monotonic clock; `ring` says which clock has run out, and a sentence about it."""

    def __init__(self, start_deadline_s: float) -> None:
        self._start_deadline_s = start_deadline_s
        self._sign_of_job = self._pulled = self._accepted = time.monotonic()
        self._pulling = 0
        self._done: float | None = None
        self._stopped: float | None = None
        self._limits: Limits | None = None

    def accepted(self, limits: Limits) -> None:
        """The job is here."""
        self._limits = limits
        self._accepted = self._pulled = time.monotonic()

    def arriving(self) -> None:
        """A part of the job has arrived."""
        self._sign_of_job = time.monotonic()

    def pulled(self) -> None:
        """The controller is there."""
        self._pulled = time.monotonic()

    @property
    def waited_s(self) -> float:
        """Seconds since the machine came up, or a part of its job arrived."""
        return time.monotonic() - self._sign_of_job

    @property
    def pulled_s_ago(self) -> float:
        """Seconds since the controller was last there; 0 while it waits for an answer."""
        return 0.0 if self._pulling else time.monotonic() - self._pulled

    @property
    def left_s(self) -> float | None:
        """Seconds until nobody seems to want the machine: the start deadline, then the orphan clock.

        Below 0 since then; None when there is no such clock.
        """
        if self._limits is None:
            return self._start_deadline_s - self.waited_s if self._start_deadline_s else None
        return self._limits.orphan_s - self.pulled_s_ago if self._limits.orphan_s else None

    @contextmanager
    def pulling(self) -> Iterator[None]:
        """The controller waits for an answer."""
        self._pulling += 1
        try:
            yield
        finally:
            self._pulling -= 1
            self.pulled()

    def done(self) -> None:
        """The result waits to be taken."""
        self._done = time.monotonic()

    def stopping(self) -> None:
        """The machine is being stopped; the first time counts."""
        self._stopped = self._stopped or time.monotonic()

    @property
    def is_held_enough(self) -> bool:
        """Whether a machine that is being stopped has held what it has collected for as long as it may."""
        hold_s = self._limits.stop_hold_s if self._limits else 0.0
        return bool(hold_s) and self._stopped is not None and time.monotonic() - self._stopped > hold_s

    def ring(self, last_output: float | None, *, said_all: bool) -> tuple[str, str] | None:
        """The clock that has run out.

        Args:
            last_output: When the running agent last printed something; `None` when none runs.
            said_all: Whether it has printed its result line.
        """
        now, limits, left_s = time.monotonic(), self._limits, self.left_s
        alone = left_s is not None and left_s < 0
        if limits is None:
            return ("start", f"no job within {self._start_deadline_s:g} s") if alone else None
        if alone:
            return "orphan", f"nobody has pulled for {limits.orphan_s:g} s"
        if self._done is not None:
            late = limits.linger_s and not self._pulling and now - max(self._done, self._pulled) > limits.linger_s
            return ("linger", f"not acknowledged for {limits.linger_s:g} s") if late else None
        if limits.run_s and now - self._accepted > limits.run_s:
            return "deadline", f"the run took longer than {limits.run_s:g} s"
        if last_output is None:
            return None
        silent = now - last_output
        if said_all and limits.exit_grace_s and silent > limits.exit_grace_s:
            return "hung", f"the agent did not exit within {limits.exit_grace_s:g} s of its result"
        if limits.idle_s and silent > limits.idle_s:
            return "idle", f"the agent printed nothing for {limits.idle_s:g} s"
        return None
