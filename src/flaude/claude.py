"""Claude Code: its command line from a config, and its stream-json lines as typed values.

Facts about the CLI (flags, line types, what an error looks like) were measured with version 2.1.197. Line types that
are not known here are kept as `OtherLine`: new versions bring new ones, and none may end a run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeGuard

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
from flaude.failure import FailureKind
from flaude.run_result import ModelUsage, PermissionDenial, Usage

DEEPEST = 100
"""Levels of a JSON value that are kept: pydantic writes no more than 255, and Python reads fewer than a thousand."""

_MOST_LEVELS = 500
"""Those of a line that is read at all. Python 3.11 and 3.12 read somewhat more, 3.13 ten thousand."""

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
    total_cost_usd: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    usage: dict[str, Any] = Field(default_factory=dict)
    model_usage: dict[str, Any] = Field(default_factory=dict, alias="modelUsage")
    permission_denials: tuple[Any, ...] = ()
    errors: tuple[Any, ...] = ()

    @property
    def models(self) -> dict[str, ModelUsage]:
        """`modelUsage`, per model; what is missing or no number counts as 0."""
        return {name: _model_usage(used) for name, used in self.model_usage.items() if _is_object(used)}

    @property
    def tokens(self) -> Usage:
        """Tokens in all.

        The sum over all models where there is one: `usage` is the main model's alone, and empty when the CLI ended at
        its budget (measured with 2.1.197).
        """
        models = self.models.values()
        if models:
            return Usage(**{name: sum(getattr(used, name) for used in models) for name in Usage.model_fields})
        return Usage(**{name: _count(self.usage.get(name)) for name in Usage.model_fields})

    @property
    def denials(self) -> tuple[PermissionDenial, ...]:
        """`permission_denials`; what is no object among them is left out."""
        return tuple(
            PermissionDenial(
                tool_name=str(denial.get("tool_name", "")),
                tool_use_id=str(denial.get("tool_use_id", "")),
                tool_input=denial.get("tool_input"),
            )
            for denial in self.permission_denials
            if _is_object(denial)
        )


def _model_usage(used: Mapping[str, Any]) -> ModelUsage:
    return ModelUsage(
        input_tokens=_count(used.get("inputTokens")),
        output_tokens=_count(used.get("outputTokens")),
        cache_creation_input_tokens=_count(used.get("cacheCreationInputTokens")),
        cache_read_input_tokens=_count(used.get("cacheReadInputTokens")),
        web_search_requests=_count(used.get("webSearchRequests")),
        cost_usd=_usd(used.get("costUSD")),
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _usd(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if 0 <= value <= sys.float_info.max else None


@dataclass(frozen=True)
class TextBlock:
    """Text of the model."""

    text: str


@dataclass(frozen=True)
class ToolUseBlock:
    """A tool that the model uses."""

    id: str
    name: str
    input: dict[str, Any]


@dataclass(frozen=True)
class ToolResultBlock:
    """What a tool has answered; what is not text in it (images) is left out."""

    tool_use_id: str
    text: str
    is_error: bool


Block = TextBlock | ToolUseBlock | ToolResultBlock


@dataclass(frozen=True)
class MessageLine:
    """An `assistant` or `user` line: the blocks of its message, those of other kinds left out."""

    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class RateLimitLine:
    """A `rate_limit_event`; `info` is its `rate_limit_info` as it stands."""

    info: dict[str, Any]


@dataclass(frozen=True)
class OtherLine:
    """Any other line that is a JSON object, as it stands: `system`, and what newer versions print."""

    value: dict[str, Any]


Line = MessageLine | ResultLine | RateLimitLine | OtherLine


def as_object(line: str) -> dict[str, Any] | None:
    """The JSON object that a line is, with its nesting cut; `None` when it is none, or deeper than anybody reads."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not _is_object(value):
        return None
    brackets = line.count("[") + line.count("{")
    if brackets > _MOST_LEVELS and is_deep(value, _MOST_LEVELS):
        return None
    return dict(cut_nesting(value)) if brackets > DEEPEST else value


def is_deep(value: Any, levels: int = DEEPEST) -> bool:
    """Whether a JSON value has lists and objects inside of each other over more than so many levels."""
    level = [value]
    for _ in range(levels):
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, list | dict)]
        level = [one for values in inner for one in values]
        if not level:
            return False
    return any(isinstance(one, list | dict) for one in level)


def cut_nesting(value: Any, levels: int = DEEPEST) -> Any:
    """A JSON value with a mark in place of what is nested deeper: an agent can print what nothing can write again."""
    if not isinstance(value, list | dict):
        return value
    if levels == 0:
        return "[nested too deep]"
    if isinstance(value, list):
        return [cut_nesting(one, levels - 1) for one in value]
    return {name: cut_nesting(one, levels - 1) for name, one in value.items()}


def typed(value: dict[str, Any]) -> Line:
    """A line's object by its type."""
    match value.get("type"):
        case "assistant" | "user":
            return _message(value)
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


def _message(value: dict[str, Any]) -> Line:
    message = value.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return OtherLine(value)
    blocks = tuple(block for item in content if isinstance(item, dict) and (block := _block(item)))
    # A message of other kinds alone (images, thinking) is shown as it stands rather than as nothing.
    return MessageLine(blocks) if blocks else OtherLine(value)


def _block(item: dict[str, Any]) -> Block | None:
    match item.get("type"):
        case "text":
            return TextBlock(str(item.get("text", "")))
        case "tool_use":
            used = item.get("input")
            return ToolUseBlock(str(item.get("id", "")), str(item.get("name", "")), used if _is_object(used) else {})
        case "tool_result":
            failed = item.get("is_error") is True
            return ToolResultBlock(str(item.get("tool_use_id", "")), _text(item.get("content")), failed)
        case _:
            return None


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _text(content: object) -> str:
    """The text of a tool's answer: a string, or blocks of which some are text."""
    if isinstance(content, list):
        return "\n".join(str(item.get("text", "")) for item in content if _is_object(item) and "text" in item)
    return content if isinstance(content, str) else ""


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
    return resets_at(rate_limit) if rate_limit and rate_limit.get("status") == "rejected" else None


def resets_at(rate_limit: Mapping[str, Any]) -> float | None:
    """The time that a `rate_limit_info` names, in seconds since the epoch."""
    found = rate_limit.get("resetsAt")
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return float(found) if 0 < found < _LATEST_TIME else None


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value, separators=(",", ":"))
