"""What the provider has shown of one attempt: the ids of its requests, and how the machine ended. For its support."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flaude._model.errors import FlyError
from flaude._model.run_result import ExitEvent, FlyRequest

if TYPE_CHECKING:
    from flaude._providers.fly import Machine
    from flaude._providers.fly.calls import Call

_MOST_CREATES = 4
_MOST_FAILED = 16


class ProviderRecord:
    """Takes what is worth keeping: the creates, the last calls that failed, and the exit event.

    Args:
        requests: Those that are known already, where another controller has begun the attempt.
        exit_event: How the machine ended, if an earlier process has seen it.
    """

    def __init__(self, requests: Sequence[FlyRequest] = (), exit_event: ExitEvent | None = None) -> None:
        self._creates = [one for one in requests if _is_create(one)][:_MOST_CREATES]
        self._failed = deque((one for one in requests if not _is_create(one)), _MOST_FAILED)
        self.exit_event = exit_event

    @property
    def requests(self) -> tuple[FlyRequest, ...]:
        """The creates, then the calls that failed, each in their order."""
        return (*self._creates, *self._failed)

    def heard(self, call: Call, status: int, request_id: str) -> None:
        """A create was answered."""
        self._take(FlyRequest(id=request_id, method=call.method, path=call.where, status=status))

    def failed(self, error: FlyError) -> None:
        """A call has failed."""
        if error.request_id:
            self._take(FlyRequest(id=error.request_id, method=error.method, path=error.path, status=error.status))

    def ended(self, machine: Machine) -> None:
        """Fly has shown the machine at its end."""
        event = machine.exit_event
        if event is not None:
            self.exit_event = ExitEvent(
                exit_code=event.exit_code,
                signal=event.signal,
                oom_killed=event.oom_killed,
                requested_stop=event.requested_stop,
                exited_at=event.exited_at,
            )

    def _take(self, request: FlyRequest) -> None:
        if not request.id or any(one.id == request.id for one in self.requests):
            return
        if not _is_create(request):
            self._failed.append(request)
        elif len(self._creates) < _MOST_CREATES:
            self._creates.append(request)
        else:
            self._creates[-1] = request  # the last one is the one that counts


def _is_create(request: FlyRequest) -> bool:
    return request.method == "POST" and request.path.endswith("/machines")
