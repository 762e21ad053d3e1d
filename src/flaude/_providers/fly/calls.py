"""A call of Fly's API, before it is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

Heard = Callable[["Call", int, str], None]
"""Takes a call, the HTTP status of its answer, and Fly's id of the request, which may be empty."""


@dataclass(frozen=True)
class Call:
    """A call as Fly documents it; `action` and `identifier` are what Fly counts for its rate limits.

    `takes_s` is how long Fly may take before it answers, and `waits` says that it does so because it waits for
    something; `harmless` says that doing it twice is as good as once; `clean` takes what must not be told out of the
    text of an error; `heard` is called with Fly's ID of every answered request, and the answer's status.
    """

    action: str
    identifier: str
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    takes_s: float = 0.0
    waits: bool = False
    harmless: bool = True
    clean: Callable[[str], str] = str
    heard: Heard | None = None

    @property
    def app(self) -> str:
        """The app in the path; empty if there is none."""
        _, _, rest = self.path.partition("/apps/")
        return rest.partition("/")[0]

    @property
    def where(self) -> str:
        """Path with query."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path
