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

    @classmethod
    def load(cls, kept: Mapping[str, Any]) -> ExecutorSettings:
        """From JSON; what it does not know is left out, so that settings may carry more than these.

        Raises:
            ConfigError: A value is of no use; the message names it.
        """
        known = {name: kept[name] for name in cls.__dataclass_fields__ if name in kept}
        settings = cls(**{**known, "timeouts": Timeouts(**kept["timeouts"]), "retries": Retries(**kept["retries"])})
        return replace(settings, output_dir=Path(kept["output_dir"]))


def checked_settings(
    app_name: str,
    *,
    max_concurrency: int | None,
    wait_timeout: float,
    timeouts: Timeouts | None,
    retries: Retries | int | None,
    max_auth_failures: int,
    output_dir: str | Path,
    budget_usd: float | None,
    max_machine_seconds: float | None,
    shards: int,
    keep_shards: bool,
    rate_limits: float | None,
) -> ExecutorSettings:
    """What a program gives an executor, whatever it is.

    Raises:
        ConfigError: An argument is of no use; the message names it.
    """
    check_app_name(app_name)
    if max_concurrency is not None and (
        isinstance(max_concurrency, bool) or not isinstance(max_concurrency, int) or max_concurrency < 0
    ):
        raise ConfigError(f"max_concurrency: give a number above 0, or None or 0 for no limit; not {max_concurrency}")
    check_seconds("wait_timeout", wait_timeout)
    if isinstance(max_auth_failures, bool) or not isinstance(max_auth_failures, int) or max_auth_failures < 0:
        raise ConfigError(f"max_auth_failures: give a number from 0, not {max_auth_failures!r}")
    if not isinstance(retries, Retries | int | None):
        raise ConfigError(f"retries: give a number or a Retries, not {type(retries).__name__}")
    if timeouts is not None and not isinstance(timeouts, Timeouts):
        raise ConfigError(f"timeouts: give a Timeouts, not {type(timeouts).__name__}")
    check_shards(app_name, shards, keep_shards)
    return ExecutorSettings(
        app=app_name,
        max_concurrency=max_concurrency,
        wait_timeout=wait_timeout,
        timeouts=timeouts or Timeouts(),
        retries=Retries(more=retries) if isinstance(retries, int) else retries or Retries(),
        max_auth_failures=max_auth_failures,
        output_dir=_checked_folder(output_dir),
        budget_usd=_checked_amount("budget_usd", budget_usd),
        max_machine_seconds=_checked_amount("max_machine_seconds", max_machine_seconds),
        shards=shards,
        keep_shards=keep_shards,
        rate_limits=_checked_amount("rate_limits", rate_limits),
    )


def _checked_amount(name: str, value: float | None) -> float | None:
    """A limit that may be left out.

    Raises:
        ConfigError: It is no number above 0; the message has its name.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigError(f"{name}: give a number above 0, or None for no limit, not {value!r}")
    return value


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
