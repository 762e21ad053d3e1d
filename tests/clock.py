"""The clock by which flaude counts machine seconds, in the hands of a test."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

import pytest


class Clock:
    """Tells the time, and more once it was put forward.

    A limit on machine seconds then passes when the agent has come to a certain point, on however slow a computer.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ahead = timedelta()
        monkeypatch.setattr("flaude.run_driver.datetime", self)

    def put_forward(self, seconds: float) -> None:
        """So much of a machine's time passes at once."""
        self._ahead += timedelta(seconds=seconds)

    def now(self, zone: tzinfo = UTC) -> datetime:
        """The time, as `datetime.now` gives it."""
        return datetime.now(zone) + self._ahead
