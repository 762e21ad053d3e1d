"""The JSON Schema: it is one, it knows the examples, and it refuses what the check refuses."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.batch_file.test_tasks import MATRIX, ROWS, SMALLEST
from tests.batch_file.test_yaml import plain

from flaude import MachineConfig
from flaude._model.retries import Retries
from flaude._model.timeouts import Timeouts
from flaude.batch_file import json_schema
from flaude.batch_file.config_fields import config_fields
from flaude.batch_file.form import form
from flaude.batch_file.json_nodes import read_json
from flaude.batch_file.nodes import Lines
from flaude.batch_file.problems import Problems
from flaude.batch_file.schema import DIALECT

SCHEMA = json_schema()
VALIDATOR = jsonschema_rs.validator_for(SCHEMA)


def structure(value: Any) -> list[str]:
    """What the check finds in the structure of a batch, before it looks at it as a whole."""
    text, found = json.dumps(value), Problems()
    node = read_json(text, Lines(text, "b.json"), found)
    form().read(node, "", found)
    return [] if not found else [str(found)]


RICH: dict[str, Any] = {
    "$schema": "./flaude.schema.json",
    "app": "my-app",
    "max_concurrency": None,
    "budget": 5,
    "max_machine_seconds": "2h",
    "wait_timeout": 90.5,
    "retries": {"more": 1, "kinds": ["oom"], "after_start": True, "wait": "1s"},
    "timeouts": {"boot": "1m30s", "idle": 0},
    "max_auth_failures": 3,
    "output_dir": "out",
    "defaults": {
        "github_token": {"env": "GITHUB_TOKEN"},
        "env": {"A": "b", "C": {"env": "D"}},
        "repos": ["https://h/o/x", {"url": "https://h/o/y", "branch": "b", "target_dir": "z"}],
        "vm_size": "shared-cpu-2x",
        "json_schema": {"type": "object"},
        "mcp_config": "{}",
        "metadata": {"k": "v"},
    },
    "tasks": [{"tag": "a", "name": "m", "prompt": "x", "max_turns": 3, "model": None}, {"prompt_file": "x.md"}],
    "matrix": {"prompts": ["x", {"tag": "t", "prompt": "y"}], "repos": ["https://h/o/x"], "models": ["opus"]},
    "template": {"prompt": "Do {x}", "max_turns": "{n}", "transcript": True, "image": "i-{x}", "vm_cpus": None},
    "rows": [{"x": "a", "n": 5}],
}


def test_the_schema_is_one() -> None:
    """It is a schema of draft 2020-12, and every part that it refers to is there."""
    assert SCHEMA["$schema"] == DIALECT
    jsonschema_rs.meta.validate(SCHEMA)
    text = json.dumps(SCHEMA)
    assert {f"#/$defs/{name}" for name in SCHEMA["$defs"]} >= {
        part.split('"')[0] for part in text.split('"$ref": "')[1:]
    }


@pytest.mark.parametrize("value", [RICH, plain(SMALLEST), plain(MATRIX), plain(ROWS)])
def test_the_examples_are_right(value: Any) -> None:
    """What is right for the check is right for the schema."""
    assert VALIDATOR.is_valid(value) and not structure(value)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside of one."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(one for key, item in inside for one in paths(item, (*path, key)))]


_PATHS = paths(RICH)[1:]
_OTHER: list[Any] = [
    *(None, True, False, 0, 1, -1, 5, 5.0, 1.5, 10**17, [], {}, [1], ["x"], [None], [{}], [[]], ["oom"], ["x", ""]),
    *(
        "",
        "x",
        "10m",
        "1m10h",
        "My App",
        "a b",
        "x\n",
        "{n}",
        "{{n}}",
        "-",
        "shared-cpu-1x",
        "é" * 250,
        "performance-2x",
    ),
    *({"a": 1}, {"env": "X"}, {"env": "$X"}, {"env": "X", "b": 1}, {"url": "x"}, {"tag": "x"}),
    {"prompt": "x", "prompt_file": "y"},
]
_NAMES = ["prompt", "prompt_file", "tag", "name", "tasks", "app", "nonsense", "env", "url", "more", "boot", "max_turn"]


def put(value: Any, path: tuple[Any, ...], change: str, other: Any, name: str) -> Any:
    """A copy with one change at a path: another value, a value more, or one less."""
    changed = copy.deepcopy(value)
    *way, last = path
    parent = changed
    for step in way:
        parent = parent[step]
    if change == "replace":
        parent[last] = other
    elif change == "remove":
        del parent[last]
    elif isinstance(parent, dict):
        parent[name] = other
    else:
        parent.append(other)
    return changed


@settings(max_examples=250)
@given(
    st.sampled_from(_PATHS),
    st.sampled_from(["replace", "remove", "add"]),
    st.sampled_from(_OTHER),
    st.sampled_from(_NAMES),
)
@example(("max_concurrency",), "replace", 5.0, "")
@example(("max_auth_failures",), "replace", 1.5, "")
@example(("app",), "replace", "x\n", "")
@example(("template", "max_turns"), "replace", "{{n}}", "")
def test_check_and_schema_agree(path: tuple[Any, ...], change: str, other: Any, name: str) -> None:
    """Of any change to a batch's structure both say the same: it is right, or it is wrong."""
    changed = put(RICH, path, change, other, name)
    assert VALIDATOR.is_valid(changed) == (not structure(changed)), (structure(changed), changed)


def test_the_pairs_that_the_property_is_made_of_find_mistakes() -> None:
    """About half of all changes are mistakes: a property that is always true of nothing would be worth nothing."""
    wrong = sum(bool(structure(put(RICH, path, "replace", other, ""))) for path in _PATHS[::2] for other in _OTHER[::8])
    assert 0.3 < wrong / (len(_PATHS[::2]) * len(_OTHER[::8])) < 0.95


def test_every_field_is_in_it_and_says_what_it_is_for() -> None:
    """All fields of `MachineConfig`, `Timeouts` and `Retries` are there, each with its description."""
    assert config_fields().keys() == MachineConfig.model_fields.keys()
    for part in ("task", "defaults", "template"):
        properties = SCHEMA["$defs"][part]["properties"]
        assert properties.keys() >= MachineConfig.model_fields.keys() | {"prompt_file"}
        assert all(one["description"] for one in properties.values())
    for part, of in (("timeouts", Timeouts), ("retries", Retries)):
        properties = SCHEMA["$defs"][part]["properties"]
        assert properties.keys() == of.__dataclass_fields__.keys()
        assert all(one["description"] for one in properties.values())
    assert SCHEMA["$defs"]["task"]["properties"]["max_turns"] == {
        "description": "Claude Code's `--max-turns`.",
        "anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}],
    }
    assert SCHEMA["$defs"]["defaults"]["properties"]["image"]["default"] == MachineConfig.model_fields["image"].default


def test_secrets_are_names_in_it() -> None:
    """A schema that took a literal secret would have editors offer to write one down."""
    task = SCHEMA["$defs"]["task"]["properties"]
    for name in ("claude_code_oauth_token", "anthropic_api_key", "github_token"):
        assert task[name]["$ref"] == "#/$defs/secret"
    assert not VALIDATOR.is_valid({"tasks": [{"prompt": "x", "github_token": "ghp_x"}]})
