"""Claude Code's stream-json lines as typed values.

Line types and what an error looks like were measured with version 2.1.197. Line types that are not known here are kept
as `OtherLine`: new versions bring new ones, and none may end a run.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from flaude._model.json_values import is_object
from flaude._model.run_result import ModelUsage, PermissionDenial, Usage


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
        return {name: _model_usage(used) for name, used in self.model_usage.items() if is_object(used)}

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
            if is_object(denial)
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
            return ToolUseBlock(str(item.get("id", "")), str(item.get("name", "")), used if is_object(used) else {})
        case "tool_result":
            failed = item.get("is_error") is True
            return ToolResultBlock(str(item.get("tool_use_id", "")), _text(item.get("content")), failed)
        case _:
            return None


def _text(content: object) -> str:
    """The text of a tool's answer: a string, or blocks of which some are text."""
    if isinstance(content, list):
        return "\n".join(str(item.get("text", "")) for item in content if is_object(item) and "text" in item)
    return content if isinstance(content, str) else ""
