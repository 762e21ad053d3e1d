"""A client of Fly's Machines API."""

from flaude.fly.client import FlyClient
from flaude.fly.models import App, ExecResult, ExitEvent, Machine, MachineEvent

__all__ = ["App", "ExecResult", "ExitEvent", "FlyClient", "Machine", "MachineEvent"]
