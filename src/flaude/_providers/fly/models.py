"""Fly's answers as frozen values: unknown fields are left out, missing ones have Fly's zero value."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidatorFunctionWrapHandler, field_validator


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    @field_validator("*", mode="before")
    @classmethod
    def _null_is_missing(cls, value: Any, info: Any) -> Any:
        # Go writes null for an empty list or map.
        return cls.model_fields[info.field_name].get_default(call_default_factory=True) if value is None else value


class ExitEvent(_Answer):
    """Why a machine's process ended: `request.exit_event` of an event of type `exit`."""

    exit_code: int = 0
    oom_killed: bool = False
    requested_stop: bool = False
    signal: int = -1
    exited_at: datetime | None = None

    @field_validator("exited_at", mode="wrap")
    @classmethod
    def _either_form(cls, value: Any, as_datetime: ValidatorFunctionWrapHandler) -> datetime | None:
        """Milliseconds in Fly's documented example, RFC 3339 in Fly's Go client: both are taken, no other is missed."""
        try:
            if isinstance(value, (int, float)):
                return datetime.fromtimestamp(value / 1000, UTC)
            found: datetime | None = as_datetime(value)
        except (ValueError, OverflowError, OSError):
            return None
        return found


class MachineEvent(_Answer):
    """One entry of a machine's history; `timestamp` in milliseconds."""

    id: str = ""
    type: str = ""
    status: str = ""
    source: str = ""
    timestamp: int = 0
    request: dict[str, Any] = Field(default_factory=dict)


class Machine(_Answer):
    """A machine as Fly describes it; `state` is Fly's word, whatever it is; `events` are newest first."""

    id: str
    name: str = ""
    state: str = ""
    region: str = ""
    instance_id: str = ""
    private_ip: str = ""
    created_at: str = ""
    updated_at: str = ""
    host_status: str = ""
    config: dict[str, Any] = Field(default_factory=dict)
    incomplete_config: dict[str, Any] = Field(default_factory=dict)
    events: tuple[MachineEvent, ...] = ()

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of `config`, or of what Fly knows of it while the machine's host does not answer."""
        found = (self.config or self.incomplete_config).get("metadata")
        return found if isinstance(found, dict) else {}

    @property
    def exit_event(self) -> ExitEvent | None:
        """The newest exit that no start has followed."""
        for event in self.events:
            if event.type == "start":
                return None
            if event.type == "exit":
                inner = event.request.get("MonitorEvent")
                source = inner if isinstance(inner, dict) else event.request
                found = source.get("exit_event")
                return ExitEvent.model_validate(found) if isinstance(found, dict) else None
        return None


class MachineSummary(BaseModel):
    """The part of a machine in a summary that is read a thousand times: hence a model without anything."""

    model_config = ConfigDict(extra="ignore")

    id: str
    state: str = ""


class MachinesPage(_Answer):
    """A part of the machines of an organisation; `next_cursor` is empty at its end."""

    machines: tuple[MachineSummary, ...] = ()
    next_cursor: str = ""


class Organization(_Answer):
    """Whose an app is."""

    name: str = ""
    slug: str = ""


class App(_Answer):
    """An app as Fly describes it."""

    name: str
    id: str = ""
    status: str = ""
    network: str = ""
    machine_count: int = 0
    organization: Organization = Organization()


class AppsPage(_Answer):
    """A part of a list of apps; `next_cursor` is empty at its end."""

    apps: tuple[App, ...] = ()
    next_cursor: str = ""


class ExecResult(_Answer):
    """What a command that was run inside a machine did; zero values may be missing from Fly's answer."""

    exit_code: int = 0
    exit_signal: int = 0
    stdout: str = ""
    stderr: str = ""
