"""Claude Code: its command line from a config, and its stream-json lines as typed values.

Facts about the CLI (flags, line types, what an error looks like) were measured with version 2.1.197. Line types that
are not known here are kept as `OtherLine`: new versions bring new ones, and none may end a run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flaude._model.config import MachineConfig, reveal
from flaude._model.errors import NoCredentialsError


def arguments(config: MachineConfig) -> list[str]:
    """The argv of `claude` for a config; the prompt is not in it, it goes to stdin."""
    argv = ["claude", "-p", "--dangerously-skip-permissions", "--output-format", "stream-json", "--verbose"]
    for flag, value in (
        ("--model", config.model),
        ("--fallback-model", config.fallback_model),
        ("--max-turns", config.max_turns),
        ("--max-budget-usd", config.max_budget_usd),
        ("--append-system-prompt", config.append_system_prompt),
        ("--allowedTools", ",".join(config.allowed_tools) or None),
        ("--disallowedTools", ",".join(config.disallowed_tools) or None),
        ("--mcp-config", _json(config.mcp_config)),
        ("--json-schema", _json(config.json_schema)),
    ):
        if value is not None:
            # One word each: some of these flags take several values and would swallow what follows.
            argv.append(f"{flag}={value}")
    return [*argv, *config.claude_args]


def credentials(config: MachineConfig, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment variable that lets Claude Code in: from the config, else from `environ`.

    Raises:
        NoCredentialsError: There is none in either.
    """
    found = {
        "CLAUDE_CODE_OAUTH_TOKEN": reveal(config.claude_code_oauth_token),
        "ANTHROPIC_API_KEY": reveal(config.anthropic_api_key),
    }
    if not any(found.values()):
        # One only: with both set, Claude Code would prefer the API key, and bill it.
        name = next((name for name in found if environ.get(name)), None)
        found = {name: environ[name]} if name else {}
    found = {name: value for name, value in found.items() if value}
    if not found:
        raise NoCredentialsError
    return found


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value, separators=(",", ":"))
