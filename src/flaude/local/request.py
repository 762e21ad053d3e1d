"""One request on its way through the stand-in, and how its fields are read."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flaude.local import replies
from flaude.local.faults import Effect

if TYPE_CHECKING:
    from flaude.local.machine import App, Machine
    from flaude.local.state import State


@dataclass(frozen=True)
class Call:
    """A request that has been let in.

    Attributes:
        world: The apps and machines.
        params: Variables of the path: `app`, `machine`, `key`.
        query: Query parameters, each with all its values.
        body: The JSON body, or None without one.
        effect: What is to go wrong with it.
        size: Bytes of the body.
    """

    world: State
    params: Mapping[str, str]
    query: Mapping[str, Sequence[str]]
    body: Any
    effect: Effect | None = None
    size: int = 0

    @property
    def app(self) -> App:
        """The app of the path; refuses with 404."""
        return self.world.app(self.params["app"])

    @property
    def grown_app(self) -> App:
        """The same for what is done in it; refuses with 404 also while it is young."""
        return self.world.grown_app(self.params["app"])

    @property
    def machine(self) -> Machine:
        """The machine of the path; refuses with 404."""
        return self.world.machine(self.params["app"], self.params["machine"])

    @property
    def reachable_machine(self) -> Machine:
        """The same for what needs the machine's host; refuses with 408 when that does not answer."""
        if self.machine.host_gone:
            raise replies.host_unreachable()
        return self.machine

    @property
    def fields(self) -> dict[str, Any]:
        """The body, which must be a JSON object; no body counts as an empty one."""
        if self.body is None:
            return {}
        if not isinstance(self.body, dict):
            raise replies.invalid("invalid_argument: request body is not a JSON object")
        return self.body

    def words(self, name: str) -> list[str]:
        """A query parameter that may be repeated and may hold a comma list."""
        return [word.strip() for value in self.query.get(name, ()) for word in value.split(",") if word.strip()]

    def flag(self, name: str) -> bool:
        """A query parameter that is a boolean."""
        return self.query.get(name, ("",))[-1].lower() in ("true", "1", "t")


Handler = Callable[[Call], Awaitable[replies.Reply]]


def parse_body(content: bytes) -> Any:
    """The JSON of a request body, None for an empty one; refuses with 400."""
    if not content.strip():
        return None
    try:
        return json.loads(content)
    except ValueError as error:
        raise replies.invalid(f"invalid_argument: request body is not JSON: {error}") from error


_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_NANOSECONDS_FROM = 1_000_000


def seconds(value: Any, default: float) -> float:
    """A duration as Fly takes it: `1m30s`, seconds, or (large numbers) nanoseconds; nothing or zero is the default.

    Fly's OpenAPI document has strings, its docs have both kinds of numbers.
    """
    if isinstance(value, str):
        parts = re.findall(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)", value)
        if parts and "".join(number + unit for number, unit in parts) == value:
            return sum(float(number) * _UNITS[unit] for number, unit in parts) or default
        if value and not value.isdigit():
            raise replies.invalid(f"invalid_argument: invalid duration {value!r}")
        value = int(value or 0)
    if isinstance(value, bool) or not isinstance(value, int | float | None):
        raise replies.invalid(f"invalid_argument: invalid duration {value!r}")
    if value is not None and value >= _NANOSECONDS_FROM:
        value = value / 1e9
    return float(value or default)
