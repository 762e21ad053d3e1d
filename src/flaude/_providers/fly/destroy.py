"""Destroying a machine until it is gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio

from flaude._model.backoff import jitter
from flaude._model.errors import FlyError, NotFoundError, refuses_token
from flaude._providers.fly.diagnosis import GONE
from flaude._providers.fly.state_watcher import MachineStates

if TYPE_CHECKING:
    from flaude._providers.fly import FlyClient

_POLL_S = 15


async def destroy(
    fly: FlyClient,
    app: str,
    machine_id: str,
    *,
    states: MachineStates,
    within_s: float,
    known_from: float,
    notice: Callable[[str], None],
    failed: Callable[[FlyError], None] | None = None,
    leaves_token: bool = False,
) -> str:
    """Delete a machine by force and wait until it is gone: "accepted" is not "gone".

    Args:
        fly: The client.
        app: The machine's app.
        machine_id: The machine.
        states: Sees when it is gone.
        within_s: Seconds after which it is left to others.
        known_from: From when on, by the event loop's clock, a 404 means that it is gone: a new machine may be unknown
            to the node that answers (Fly staff, flyctl PR 4618).
        notice: Takes what goes wrong on the way, as text; the same text once.
        failed: Takes each call that failed.
        leaves_token: Whether the caller waits for a token that works, and comes back then.

    Returns:
        The state that was last seen: `destroyed` when Fly has confirmed that it is gone, empty when it was never seen.

    Raises:
        TokenExpiredError: Fly refuses the token that has worked; only with `leaves_token`.
    """
    state = said = ""
    with anyio.move_on_after(within_s):
        while True:
            try:
                await fly.delete_machine(app, machine_id, force=True)
                if anyio.current_time() < known_from:
                    # A delete that met a node which does not know the machine has done nothing.
                    state = (await fly.get_machine(app, machine_id)).state
                if state == GONE or await states.wait(machine_id, GONE, timeout_s=_POLL_S):
                    return GONE
                state = (await fly.get_machine(app, machine_id)).state
                if state == GONE:
                    return GONE
            except NotFoundError:
                if state or anyio.current_time() >= known_from:
                    return GONE
                await anyio.sleep(jitter(1.0))
            except FlyError as error:
                if failed is not None:
                    failed(error)
                if leaves_token and refuses_token(error):
                    raise
                if said != (said := str(error)):
                    notice(f"destroying machine {machine_id}: {said}")
                await anyio.sleep(jitter(1.0))
    notice(f"machine {machine_id} could not be confirmed as gone (last seen: {state or 'unknown'})")
    return state
