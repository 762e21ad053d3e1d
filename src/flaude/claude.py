"""Claude Code: its command line from a config, and its stream-json lines as typed values.

Facts about the CLI (flags, line types, what an error looks like) were measured with version 2.1.197. Line types that
are not known here are kept as `OtherLine`: new versions bring new ones, and none may end a run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from flaude.config import MachineConfig, reveal
from flaude.errors import NoCredentialsError
from flaude.results import FailureKind, Usage

_LATEST_TIME = 253_402_300_800
"""The year 10000, in seconds since the epoch: what is not before it is no time."""


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


class ResultLine(BaseModel):
    """Claude Code's last line. `subtype` `success` alone proves nothing: `is_error` decides."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @field_validator("*", mode="wrap")
    @classmethod
    def _odd_is_missing(cls, value: Any, read: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        # One field that a newer version writes otherwise must not cost the others: they are cost and answer.
        try:
            return read(value)
        except ValidationError:
            return cls.model_fields[info.field_name or ""].get_default(call_default_factory=True)

    subtype: str = ""
    is_error: bool = False
    api_error_status: int | None = None
    result: str = ""
    structured_output: Any = None
    session_id: str = ""
    num_turns: int | None = None
    total_cost_usd: float | None = None
    usage: dict[str, Any] = Field(default_factory=dict)
    model_usage: dict[str, Any] = Field(default_factory=dict, alias="modelUsage")
    errors: tuple[Any, ...] = ()

    @property
    def tokens(self) -> Usage:
        """The token counts of `usage`; what is missing or no number counts as 0."""
        counts = {name: self.usage.get(name) for name in Usage.model_fields}
        return Usage(**{name: count for name, count in counts.items() if isinstance(count, int)})


@dataclass(frozen=True)
class AssistantLine:
    """A message of the model: its text and the names and inputs of the tools that it uses."""

    text: str
    tool_uses: tuple[tuple[str, dict[str, Any]], ...]


@dataclass(frozen=True)
class RateLimitLine:
    """A `rate_limit_event`; `info` is its `rate_limit_info` as it stands."""

    info: dict[str, Any]


@dataclass(frozen=True)
class OtherLine:
    """Any other line that is a JSON object, as it stands: `system`, `user`, and what newer versions print."""

    value: dict[str, Any]


@dataclass(frozen=True)
class TextLine:
    """A line that is no JSON object."""

    text: str


Line = AssistantLine | ResultLine | RateLimitLine | OtherLine | TextLine


def parse_line(line: str) -> Line:
    """One line of `--output-format stream-json`; never raises, whatever the line holds."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return TextLine(line)
    if not isinstance(value, dict):
        return TextLine(line)
    match value.get("type"):
        case "assistant":
            return _assistant(value)
        case "result":
            return parse_result(value) or OtherLine(value)
        case "rate_limit_event" if isinstance(value.get("rate_limit_info"), dict):
            return RateLimitLine(value["rate_limit_info"])
        case _:
            return OtherLine(value)


def parse_result(value: object) -> ResultLine | None:
    """The `result` object as a `ResultLine`; `None` when it is no object, and a field that is odd has its default."""
    try:
        return ResultLine.model_validate(value)
    except ValidationError:
        return None


def _assistant(value: dict[str, Any]) -> Line:
    message = value.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return OtherLine(value)
    blocks = [block for block in content if isinstance(block, dict)]
    return AssistantLine(
        text="\n".join(str(block.get("text", "")) for block in blocks if block.get("type") == "text"),
        tool_uses=tuple(
            (str(block.get("name", "")), block["input"] if isinstance(block.get("input"), dict) else {})
            for block in blocks
            if block.get("type") == "tool_use"
        ),
    )


def failure_kind(result: ResultLine | None, rate_limit: Mapping[str, Any] | None) -> FailureKind:
    """Why an agent that ended badly did so, from its `result` line and its last `rate_limit_info`."""
    if result is None:
        return FailureKind.AGENT_ERROR
    match result.subtype, result.api_error_status:
        case "error_max_turns", _:
            return FailureKind.MAX_TURNS
        case "error_max_budget_usd", _:
            return FailureKind.BUDGET
        case _, 401 | 403:
            return FailureKind.AUTH
        case _, 429:
            return _limit(result.result, rate_limit or {})
        case _, 503 | 529:
            return FailureKind.OVERLOADED
        case _:
            return FailureKind.AUTH if "/login" in result.result and result.is_error else FailureKind.AGENT_ERROR


def _limit(text: str, rate_limit: Mapping[str, Any]) -> FailureKind:
    """A 429 is the account's usage limit when it names a reset, else only too many requests at once."""
    text = text.lower()
    if rate_limit.get("status") == "rejected" and rate_limit.get("resetsAt"):
        return FailureKind.USAGE_LIMIT
    named = "limit reached" in text or ("usage limit" in text and "not your usage limit" not in text)
    return FailureKind.USAGE_LIMIT if named else FailureKind.OVERLOADED


def lifted_at(rate_limit: Mapping[str, Any] | None) -> float | None:
    """When a limit that was met is lifted, in seconds since the epoch, from the agent's last `rate_limit_info`."""
    found = (rate_limit or {}).get("resetsAt")
    if (rate_limit or {}).get("status") != "rejected" or isinstance(found, bool):
        return None
    return float(found) if isinstance(found, int | float) and 0 < found < _LATEST_TIME else None


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value, separators=(",", ":"))
