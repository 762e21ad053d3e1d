"""A client of Fly's Machines API."""

from typing import TYPE_CHECKING

from flaude._lazy import names_of

if TYPE_CHECKING:
    from flaude._providers.fly.client import FlyClient
    from flaude._providers.fly.models import App, ExecResult, ExitEvent, Machine, MachineEvent

__all__ = ["App", "ExecResult", "ExitEvent", "FlyClient", "Machine", "MachineEvent"]

# A forecast needs the pace, and no client.
_MODULE_OF = {**dict.fromkeys(__all__, "flaude._providers.fly.models"), "FlyClient": "flaude._providers.fly.client"}

if not TYPE_CHECKING:
    __getattr__ = names_of(__name__, _MODULE_OF)
