"""Claude Code's command line and its credentials, from a config."""

from __future__ import annotations

import json
from collections.abc import Mapping

from flaude._model.claude_flags import FLAGS
from flaude._model.config import MachineConfig, reveal
from flaude._model.errors import NoCredentialsError


def arguments(config: MachineConfig) -> list[str]:
    """The argv of `claude` for a config; the prompt is not in it, it goes to stdin."""
    argv = ["claude", "-p", "--dangerously-skip-permissions", "--output-format", "stream-json", "--verbose"]
    for field, flags in FLAGS.items():
        word = _word(getattr(config, field))
        if word is not None:
            # One word each: some of these flags take several values and would swallow what follows.
            argv.append(f"{flags[0]}={word}")
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


def _word(value: object) -> str | None:
    """A field's value as Claude Code takes it: lists with commas, objects as JSON; `None` where it says nothing."""
    if isinstance(value, Mapping):
        return json.dumps(value, separators=(",", ":"))
    if isinstance(value, tuple):
        return ",".join(value) or None
    return None if value is None else str(value)
