from __future__ import annotations

from flaude import FailureKind
from flaude._run.shutdown import Shutdown, Stage


def test_the_first_request_collects_whoever_stopped_before() -> None:
    """When a budget has stopped the agents already, the first Ctrl-C still collects; the second one does not."""
    shutdown = Shutdown()
    shutdown.ask(Stage.AGENTS, "the budget is used up", FailureKind.BUDGET)
    shutdown.next("Ctrl-C")
    assert (shutdown.stage, shutdown.kind, shutdown.reason) == (
        Stage.AGENTS,
        FailureKind.BUDGET,
        "the budget is used up",
    )
    shutdown.next("Ctrl-C")
    assert shutdown.stage is Stage.COLLECTING


def test_a_signal_and_the_cancellation_that_it_brings_are_one_request() -> None:
    """Both tell of the same wish: only what comes after them is the second one."""
    shutdown = Shutdown()
    shutdown.next("SIGINT")
    shutdown.request("the batch was cancelled")
    assert (shutdown.stage, shutdown.reason) == (Stage.AGENTS, "SIGINT")
    shutdown.next("SIGINT again")
    assert (shutdown.stage, shutdown.reason) == (Stage.COLLECTING, "SIGINT again")
