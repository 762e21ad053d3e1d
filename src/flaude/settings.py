"""`ExecutorSettings`: what a batch keeps to, as a batch file, a command line and a journal write it down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from flaude.retries import Retries
from flaude.timeouts import Timeouts


@dataclass(frozen=True)
class ExecutorSettings:
    """The arguments of a `ConcurrentExecutor` that can be written down; see there."""

    app: str
    max_concurrency: int | None = None
    wait_timeout: float = 3600.0
    timeouts: Timeouts = field(default_factory=Timeouts)
    retries: Retries = field(default_factory=Retries)
    max_auth_failures: int = 5
    output_dir: Path = Path("flaude-output")
    budget_usd: float | None = None
    max_machine_seconds: float | None = None

    def dump(self) -> dict[str, Any]:
        """As JSON."""
        retries = {**asdict(self.retries), "kinds": sorted(self.retries.kinds)}
        return {**asdict(self), "retries": retries, "output_dir": str(self.output_dir.absolute())}

    @classmethod
    def load(cls, kept: Mapping[str, Any]) -> ExecutorSettings:
        """From JSON; what it does not know is left out, so that settings may carry more than these.

        Raises:
            ConfigError: A value is of no use; the message names it.
        """
        known = {name: kept[name] for name in cls.__dataclass_fields__ if name in kept}
        settings = cls(**{**known, "timeouts": Timeouts(**kept["timeouts"]), "retries": Retries(**kept["retries"])})
        return replace(settings, output_dir=Path(kept["output_dir"]))
