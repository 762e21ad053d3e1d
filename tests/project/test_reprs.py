"""No repr shows a secret."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from tests.conftest import TOKEN

import flaude
from flaude import MachineConfig, Timeouts
from flaude._model.placement import Shards
from flaude._run.plan import AttemptPlan

SECRET = re.compile("credential|secret|token|password|(^|_)pad($|_)")


def dataclasses() -> Iterator[type]:
    """Those of flaude itself; the stand-in's secrets are made up, and what runs in a machine prints none."""
    for found in pkgutil.walk_packages(flaude.__path__, "flaude."):
        if re.search("_guest.inside|flaude.local|__main__|in_machine", found.name):
            continue
        for value in vars(import_module(found.name)).values():
            if isinstance(value, type) and is_dataclass(value) and value.__module__ == found.name:
                yield value


def test_fields_that_hold_secrets() -> None:
    """A dataclass has no field in its repr that is called like a secret and can hold one."""
    shown = {
        f"{kind.__name__}.{one.name}": str(one.type)
        for kind in dataclasses()
        for one in fields(kind)
        if one.repr and kind.__dataclass_params__.repr and SECRET.search(one.name)  # type: ignore[attr-defined]
    }
    assert {name: type_ for name, type_ in shown.items() if type_ not in ("bool", "int", "Usage")} == {}


def test_a_plan() -> None:
    """What an attempt is made of can be printed: the token is in it, and is not shown."""
    plan = AttemptPlan(
        shards=Shards("my-app"),
        config=MachineConfig(prompt="Hello", claude_code_oauth_token=TOKEN),
        batch="b",
        index=0,
        attempt=1,
        name="n",
        tag="t",
        run_s=1.0,
        timeouts=Timeouts(),
        credentials={"CLAUDE_CODE_OAUTH_TOKEN": TOKEN},
        queued=datetime.now(UTC),
        output_dir=Path(),
    )
    assert plan.credentials["CLAUDE_CODE_OAUTH_TOKEN"] == TOKEN
    assert TOKEN not in repr(plan) and repr(plan.pad) not in repr(plan)
