"""One syntax of durations, in files and on the command line."""

from __future__ import annotations

import json

import pytest
from cyclopts import App, CycloptsError
from hypothesis import given
from hypothesis import strategies as st
from tests.batch_file.reading import read

from flaude._model.durations import duration, seconds_of
from flaude.batch_file import BatchFileError
from flaude.cli.options import Duration

RIGHT = {"90s": 90, "10m": 600, "2h": 7200, "1d": 86400, "1h30m": 5400, "1.5h": 5400}
WRONG = ("10M", "1w", "2y", "5x", "90", "", "m", "-5m", "1m1h", "10 m", "1h\n", "٣s", "1e3s")


def by_command(text: str) -> float | None:
    """What the command takes it for."""
    app, taken = App(), list[float]()

    @app.default
    def take(*, wait: Duration) -> None:
        taken.append(wait.total_seconds())

    try:
        app([f"--wait={text}"], exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError:
        return None
    return taken[0]


def in_a_file(text: str) -> float | None:
    """What a batch file takes it for."""
    try:
        batch = json.dumps({"wait_timeout": text, "tasks": [{"prompt": "x"}]})
        return read(batch, "b.json").settings.wait_timeout
    except BatchFileError:
        return None


@pytest.mark.parametrize(("text", "seconds"), RIGHT.items())
def test_what_both_accept(text: str, seconds: float) -> None:
    """The command and a batch file read the same durations alike."""
    assert by_command(text) == in_a_file(text) == seconds


@pytest.mark.parametrize("text", WRONG)
def test_what_both_refuse(text: str) -> None:
    """Neither takes another unit, above all no `M`, which would be months to the one and nothing to the other."""
    assert by_command(text) is None
    assert in_a_file(text) is None


@given(st.floats(1, 1e7))
def test_what_is_written_is_read(seconds: float) -> None:
    """A duration that flaude prints is one that it reads, and no further off than its smaller unit."""
    read_again = seconds_of(duration(seconds))
    assert read_again is not None
    assert abs(read_again - seconds) <= max(1, seconds / 24)
