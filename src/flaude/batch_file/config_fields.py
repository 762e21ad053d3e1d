"""The fields of `MachineConfig` as a batch file has them, made of the model itself: its types, limits and docstring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from flaude._model.config import MachineConfig
from flaude._model.machine_sizes import PRESETS
from flaude._model.regions import WANTED
from flaude.batch_file.docstrings import attributes
from flaude.batch_file.shapes import (
    Either,
    Field,
    Fields,
    Flag,
    JsonObject,
    ListOf,
    MapOf,
    Nullable,
    Number,
    OrColumn,
    Secret,
    Shape,
    Text,
)
from flaude.batch_file.templates import AS_IT_IS

REPO = Either(
    (
        Text("a repository's address", least=1, quotes=False),
        Fields(
            "repo",
            {
                "url": Field(Text("a repository's address", least=1, quotes=False), "Address of the repository."),
                "branch": Field(Text(), "Branch, tag or commit; the default branch without it."),
                "target_dir": Field(Text(), "Folder below the workspace; the repository's name without it."),
            },
            description="A repository to clone, at a branch, into a folder.",
            required=("url",),
        ),
    ),
    wanted="a repository's address, or {url, branch, target_dir}",
)

PROMPT_FILE = Field(
    Text("a file's path", least=1), "File that has the prompt, in UTF-8; relative to the batch file. Instead of prompt."
)

_OTHERS: dict[str, Shape] = {
    "region": Either(
        (
            Text(pattern=r"^([a-z]{2,6}( *, *[a-z]{2,6})*)?$", hint=WANTED.removeprefix("give "), quotes=False),
            ListOf(Text("a region's code", least=1, quotes=False), wanted="a list of regions"),
        ),
        wanted="a region's code such as iad, or a list of them: [iad, ewr]",
    ),
    "vm_size": Text("one of Fly's presets", choices=tuple(PRESETS), quotes=False),
    "repos": ListOf(REPO, wanted="a list of repositories: [https://github.com/org/repo]"),
    "env": MapOf(
        Either((Text("a text"), Secret()), wanted="a text, or {env: NAME} for a secret"),
        wanted="a mapping of variables to texts",
    ),
    "mcp_config": Either((JsonObject(), Text("JSON", least=1, quotes=False)), wanted="a mapping, or JSON as a text"),
    "json_schema": Either((JsonObject(), Text("JSON", least=1, quotes=False)), wanted="a mapping, or JSON as a text"),
}

_DESCRIPTIONS = {
    "prompt": "What the agent is asked; any length. Or prompt_file.",
    "claude_code_oauth_token": "Claude Code token (`claude setup-token`), by the name of an environment variable; "
    "without it CLAUDE_CODE_OAUTH_TOKEN.",
    "anthropic_api_key": "API key instead of a token, likewise; without it ANTHROPIC_API_KEY.",
    "repos": "Repositories to clone. With exactly one, the agent works in it, else in the workspace that holds them.",
    "github_token": "Token for cloning private repositories, by the name of an environment variable; it goes to git "
    "alone, never to the agent.",
    "env": "Environment of the agent: texts, and secrets as {env: NAME}, which are replaced wherever they turn up in "
    "the output.",
    "mcp_config": "Claude Code's `--mcp-config`, as a mapping or JSON text.",
    "json_schema": "Claude Code's `--json-schema`, likewise; the answer is in `structured_output`.",
}


@cache
def config_fields() -> dict[str, Field]:
    """Every field of `MachineConfig`, none of them required."""
    said = {**attributes(MachineConfig), **_DESCRIPTIONS}
    return {
        name: Field(_shape(name, info, said.get(name, "")), said.get(name, ""), _default(info))
        for name, info in MachineConfig.model_fields.items()
    }


def with_columns(fields: Mapping[str, Field]) -> dict[str, Field]:
    """The fields as a template has them: a number, say, may also be a text with a `{column}` in it."""
    return {
        name: one if name in AS_IT_IS else Field(_or_column(one.shape), one.description, one.default)
        for name, one in fields.items()
    }


def _or_column(shape: Shape) -> Shape:
    plain = isinstance(shape, Text) and not (shape.pattern or shape.choices)
    if plain or isinstance(shape, ListOf | MapOf):
        return shape
    return Nullable(OrColumn(shape.shape)) if isinstance(shape, Nullable) else OrColumn(shape)


def _shape(name: str, info: FieldInfo, description: str) -> Shape:
    if name in _OTHERS:
        return Nullable(_OTHERS[name]) if info.default is None else _OTHERS[name]
    annotation: Any = info.annotation
    limits = {
        limit: getattr(one, limit)
        for one in info.metadata
        for limit in ("ge", "gt", "min_length", "pattern")
        if getattr(one, limit, None) is not None
    }
    shapes: dict[Any, Shape] = {
        str: Text(pattern=limits.get("pattern", ""), least=limits.get("min_length", 0), hint=description),
        int: Number(whole=True, least=limits.get("ge"), above=limits.get("gt")),
        float: Number(least=limits.get("ge"), above=limits.get("gt")),
        bool: Flag(),
        SecretStr: Secret(),
        Sequence[str]: ListOf(Text("a text", least=1), wanted="a list of texts"),
        Mapping[str, str]: MapOf(Text()),
    }
    for type_, shape in shapes.items():
        if annotation == type_:
            return shape
        if annotation == type_ | None:
            return Nullable(shape)
    raise TypeError(f"{name}: batch files cannot write a {annotation}; say how in config_fields.py")


def _default(info: FieldInfo) -> Any:
    default = info.default
    return default if isinstance(default, str | int | float) and default != "" else None
