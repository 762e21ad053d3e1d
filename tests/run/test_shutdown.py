from __future__ import annotations

from flaude import FailureKind
from flaude._run.shutdown import Stop, Stopping


def test_the_first_request_collects_whoever_stopped_before() -> None:
    """When a budget has stopped the agents already, the first Ctrl-C still collects; the second one does not."""
    stopping = Stopping()
    stopping.ask(Stop.AGENTS, "the budget is used up", FailureKind.BUDGET)
    stopping.next("Ctrl-C")
    assert (stopping.stage, stopping.kind, stopping.reason) == (
        Stop.AGENTS,
        FailureKind.BUDGET,
        "the budget is used up",
    )
    stopping.next("Ctrl-C")
    assert stopping.stage is Stop.COLLECTING


def test_a_signal_and_the_cancellation_that_it_brings_are_one_request() -> None:
    """Both tell of the same wish: only what comes after them is the second one."""
    stopping = Stopping()
    stopping.next("SIGINT")
    stopping.request("the batch was cancelled")
    assert (stopping.stage, stopping.reason) == (Stop.AGENTS, "SIGINT")
    stopping.next("SIGINT again")
    assert (stopping.stage, stopping.reason) == (Stop.COLLECTING, "SIGINT again")
