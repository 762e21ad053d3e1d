"""One way from what is written down to an executor."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path

import pytest

from flaude import ConcurrentExecutor, ConfigError, FailureKind, Retries, Timeouts
from flaude._model.settings import ExecutorSettings

OTHERS = ExecutorSettings(
    app="my-app",
    max_concurrency=7,
    wait_timeout=600.0,
    timeouts=Timeouts(idle=300.0),
    retries=Retries(more=4, kinds=frozenset({FailureKind.OOM})),
    max_auth_failures=2,
    output_dir=Path("/somewhere"),
    budget_usd=5.0,
    max_machine_seconds=900.0,
    shards=3,
    keep_shards=False,
    rate_limits=2.0,
)
"""A value for each setting that is not its default."""


def test_every_setting_arrives() -> None:
    """`from_settings` drops none of them: neither its own arguments nor the class's know fewer."""
    default = ExecutorSettings(app="")
    assert not [one.name for one in fields(OTHERS) if getattr(OTHERS, one.name) == getattr(default, one.name)]
    assert ConcurrentExecutor.from_settings(OTHERS).settings == OTHERS


def test_a_setting_is_an_argument() -> None:
    """The class takes every setting by its name, with the same default."""
    arguments = inspect.signature(ConcurrentExecutor).parameters
    default = ExecutorSettings(app="my-app")
    for setting in fields(default):
        if setting.name not in ("app", "timeouts", "retries", "output_dir"):
            assert arguments[setting.name].default == getattr(default, setting.name)
    made = ConcurrentExecutor("my-app").settings
    assert made == ExecutorSettings("my-app", output_dir=Path("flaude-output").absolute())


def test_a_setting_of_no_use() -> None:
    """Settings that somebody has made by hand are checked as arguments are; the message names the field."""
    with pytest.raises(ConfigError, match=r"^shards: "):
        ConcurrentExecutor.from_settings(ExecutorSettings("my-app", shards=0))
