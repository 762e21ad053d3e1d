"""For how long failures are borne."""

from __future__ import annotations

from flaude._model.backoff import OutageBackoff


def test_only_failures_without_a_break_count() -> None:
    """Patience is over when nothing has been answered for its time, the failing calls' own time included."""
    patience = OutageBackoff(10)
    assert not patience.failed(began=0, now=6, counts=True)
    assert not patience.failed(began=7, now=10, counts=True)
    assert patience.failed(began=10, now=10.1, counts=True)
    assert patience.answered(now=12) == 12
    assert patience.failures == 0
    assert not patience.failed(began=12, now=20, counts=True)


def test_what_is_not_flys_fault_does_not_count() -> None:
    """A machine that is not ready yet tries nobody's patience, and the pauses grow all the same, up to a limit."""
    patience = OutageBackoff(1)
    pauses = []
    for second in range(12):
        assert not patience.failed(began=second, now=second + 1, counts=False)
        pauses.append(patience.pause_s)
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (0.2, 10.0)
    assert patience.answered(now=99) == 0.0
