"""What a batch does while Fly refuses the token that has worked: says so once and, in the end, is left for others."""

from __future__ import annotations

from flaude._model.errors import TokenExpiredError
from flaude._model.failures import FailureKind
from flaude._model.timeouts import Timeouts
from flaude._run.shutdown import Shutdown, Stage

_SAID_FOR_S = 60.0  # runs ask at least every ten seconds: who has not for so long was let in meanwhile


class RefusedToken:
    """Shared by the runs of a batch.

    Args:
        shutdown: The batch's.
        recorded: Whether a journal has the batch, so that `flaude resume` can go on with it.
    """

    def __init__(self, shutdown: Shutdown, *, recorded: bool) -> None:
        self._shutdown = shutdown
        self._recorded = recorded
        self._seen_at = float("-inf")
        self.left: TokenExpiredError | None = None
        self.patience_over = False

    def is_news(self, now: float) -> bool:
        """A run was refused, at this time in seconds; whether it is the first one that is."""
        news = now - self._seen_at > _SAID_FOR_S
        self._seen_at = now
        return news

    def can_be_left(self, shutdown: Shutdown) -> bool:
        """Whether a run is better left as it is than given up: somebody can go on with it, and nobody wants its end."""
        return self._recorded and shutdown.stage < Stage.AGENTS

    def give_up(self, error: TokenExpiredError, shutdown: Shutdown) -> bool:
        """A run has waited for as long as it may; whether it is left. Without a journal nothing more is launched.

        In a batch that has one, a run that somebody has stopped ends by itself alone: the others can still be left.

        Args:
            error: What it heard last.
            shutdown: The run's.
        """
        if not self.can_be_left(shutdown):
            if not self._recorded:
                self.patience_over = True
                self._shutdown.ask(Stage.LAUNCHES, str(error), FailureKind.API)
            return False
        self.left = self.left or error
        self._shutdown.ask(Stage.DETACH, str(error))
        return True


def batch_left(batch: str, error: TokenExpiredError, machines: int, timeouts: Timeouts) -> str:
    """How a batch was left, and what to do, for people.

    Args:
        batch: Its id.
        error: What it heard last.
        machines: How many of its machines may be alive.
        timeouts: The batch's.
    """
    which = "1 machine" if machines == 1 else f"{machines} machines"
    running = (
        f"{which} of the batch may be running, and will stop by {'itself' if machines == 1 else 'themselves'} in about "
        f"{timeouts.orphan - timeouts.patience:g} s"
        if machines
        else "No machine of the batch is running"
    )
    return (
        f"batch {batch} is interrupted: {error}\n"
        f"Fly has refused the token for {timeouts.patience:g} s. {running}. With a token that works, continue with: "
        f"flaude resume {batch}"
    )
