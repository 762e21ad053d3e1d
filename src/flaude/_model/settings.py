"""`ExecutorSettings`: what a batch keeps to, as a batch file, a command line and a journal write it down."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from flaude._model.errors import ConfigError
from flaude._model.placement import Shards, check_app_name, check_shards
from flaude._model.retries import Retries
from flaude._model.timeouts import Timeouts, check_seconds


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
    shards: int = 1
    keep_shards: bool = True
    rate_limits: float | None = 1.0

    @property
    def apps(self) -> Shards:
        """The apps that the machines are in."""
        return Shards(self.app, self.shards)

    def dump(self) -> dict[str, Any]:
        """As JSON."""
        retries = {**asdict(self.retries), "kinds": sorted(self.retries.kinds)}
        return {**asdict(self), "retries": retries, "output_dir": str(self.output_dir.absolute())}

    def check(self) -> ExecutorSettings:
        """The same settings with an absolute `output_dir`, whoever has written them.

        Raises:
            ConfigError: A value is of no use; the message names it.
        """
        check_app_name(self.app)
        most = self.max_concurrency
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 0):
            raise ConfigError(f"max_concurrency: give a number above 0, or None or 0 for no limit; not {most}")
        check_seconds("wait_timeout", self.wait_timeout)
        failures = self.max_auth_failures
        if isinstance(failures, bool) or not isinstance(failures, int) or failures < 0:
            raise ConfigError(f"max_auth_failures: give a number from 0, not {failures!r}")
        if not isinstance(self.retries, Retries):
            raise ConfigError(f"retries: give a number or a Retries, not {type(self.retries).__name__}")
        if not isinstance(self.timeouts, Timeouts):
            raise ConfigError(f"timeouts: give a Timeouts, not {type(self.timeouts).__name__}")
        check_shards(self.app, self.shards, self.keep_shards)
        for name in ("budget_usd", "max_machine_seconds", "rate_limits"):
            _check_amount(name, getattr(self, name))
        return replace(self, output_dir=_checked_folder(self.output_dir))

    @classmethod
    def load(cls, kept: Mapping[str, Any]) -> ExecutorSettings:
        """From JSON; what it does not know is left out, so that settings may carry more than these.

        Raises:
            ConfigError: A value is of no use; the message names it.
        """
        known = {name: kept[name] for name in cls.__dataclass_fields__ if name in kept}
        settings = cls(**{**known, "timeouts": Timeouts(**kept["timeouts"]), "retries": Retries(**kept["retries"])})
        return replace(settings, output_dir=Path(kept["output_dir"]))


def _check_amount(name: str, value: object) -> None:
    """A limit that may be left out.

    Raises:
        ConfigError: It is no number above 0; the message has its name.
    """
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigError(f"{name}: give a number above 0, or None for no limit, not {value!r}")


def _checked_folder(output_dir: object) -> Path:
    """Where files may go, wherever the program goes meanwhile."""
    if not isinstance(output_dir, str | Path):
        raise ConfigError(f"output_dir: give a folder's path, not {type(output_dir).__name__}")
    folder = Path(output_dir).absolute()
    try:
        odd = b"\0" in os.fsencode(folder)
    except ValueError:
        odd = True
    if odd:
        raise ConfigError(f"output_dir: {str(output_dir)!r} is no path")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"output_dir: {folder} is a file; give a folder, which is made when it is not there")
    return folder
