"""Secrets, which are never written down: only the name of the environment variable that holds them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from flaude.batch_file.nodes import Node, Place
from flaude.batch_file.problems import Problems
from flaude.batch_file.shapes.fields import Field, Fields
from flaude.batch_file.shapes.scalars import Text
from flaude.batch_file.shapes.shape import BROKEN, Schema


@dataclass(frozen=True)
class Reference:
    """A secret that is in an environment variable."""

    variable: str
    place: Place


@dataclass(frozen=True)
class Secret:
    """The name of an environment variable: `{env: GITHUB_TOKEN}`; read as a `Reference`."""

    wanted: str = "the name of an environment variable, such as {env: GITHUB_TOKEN}"

    def takes(self, node: Node) -> bool:
        return isinstance(node.value, dict)

    def read(self, node: Node, path: str, problems: Problems) -> Any:
        if not isinstance(node.value, dict):
            # A text such as $GITHUB_TOKEN is no secret, and says what was meant; no other text is shown.
            meant = _MEANT.fullmatch(node.value) if isinstance(node.value, str) else None
            name = meant[1] if meant else _VARIABLES.get(path.rpartition(".")[2], "MY_SECRET")
            problems.add(
                node,
                path,
                "a secret is not written into a file; put it into an environment variable, and write its name: "
                f"{problems.reference(name)}",
            )
            return BROKEN
        section = _REFERENCE.read(node, path, problems)
        return BROKEN if section.broken else Reference(section.values["env"], node.place)

    def schema(self, defs: dict[str, Schema]) -> Schema:
        return _REFERENCE.schema(defs)


_MEANT = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?")
_VARIABLES = {
    "claude_code_oauth_token": "CLAUDE_CODE_OAUTH_TOKEN",
    "anthropic_api_key": "ANTHROPIC_API_KEY",
    "github_token": "GITHUB_TOKEN",
}


_REFERENCE = Fields(
    "secret",
    {
        "env": Field(
            Text("a variable's name, such as GITHUB_TOKEN (without $)", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"),
            "Name of the environment variable.",
        )
    },
    wanted="the name of an environment variable, such as {env: GITHUB_TOKEN}",
    description="A secret, by the name of the environment variable that holds it.",
    required=("env",),
)
