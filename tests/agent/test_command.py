from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flaude import FailureKind, MachineConfig, ModelUsage, NoCredentialsError, PermissionDenial
from flaude._agent.command import arguments, credentials
from flaude._agent.limits import failure_kind
from flaude._agent.output import (
    Line,
    MessageLine,
    OtherLine,
    RateLimitLine,
    ResultLine,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
    parse_result,
    typed,
)
from flaude._model.json_values import as_object

SAMPLES = Path(__file__).parents[1] / "claude-samples"


def parse_line(line: str) -> Line | None:
    """A line by its type; None for one that is no object."""
    value = as_object(line)
    return None if value is None else typed(value)


def sample(name: str) -> list[str]:
    """Recorded output lines of the real CLI."""
    return (SAMPLES / f"{name}.ndjson").read_text().splitlines()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("auth-401", FailureKind.AUTH),
        ("not-logged-in", FailureKind.AUTH),
        ("max-budget", FailureKind.BUDGET),
        ("max-turns", FailureKind.MAX_TURNS),
        ("rate-limit-429", FailureKind.OVERLOADED),
    ],
)
def test_failure_kind_of_real_output(name: str, kind: FailureKind) -> None:
    """Each recorded failure of the real CLI is told apart by its result line."""
    lines = [parse_line(line) for line in sample(name)]
    result = lines[-1]
    assert isinstance(result, ResultLine)
    assert result.is_error
    limits = [line.info for line in lines if isinstance(line, RateLimitLine)]
    assert failure_kind(result, limits[-1] if limits else None) is kind


def test_success_is_read_whole() -> None:
    """Answer, cost, turns, session and tokens of a recorded success are read."""
    lines = [parse_line(line) for line in sample("write-file-success")]
    result = lines[-1]
    assert isinstance(result, ResultLine)
    assert (result.result, result.num_turns, result.is_error) == ("All done: file written", 2, False)
    assert result.total_cost_usd == pytest.approx(0.0012)
    assert (result.tokens.input_tokens, result.tokens.output_tokens) == (200, 40)
    used = result.models["claude-sonnet-5"]
    assert used.cost_usd == pytest.approx(0.0012) and (used.input_tokens, used.output_tokens) == (200, 40)
    blocks = [block for line in lines if isinstance(line, MessageLine) for block in line.blocks]
    use, answer, said = blocks
    assert isinstance(use, ToolUseBlock) and isinstance(answer, ToolResultBlock)
    assert (use.name, use.input) == ("Bash", {"command": "echo 'hello-world now' > out.txt", "description": "write"})
    assert answer.tool_use_id == use.id and not answer.is_error
    assert said == TextBlock("All done: file written")


def message(*content: Any) -> str:
    """A line with a message of these blocks."""
    return json.dumps({"type": "user", "message": {"content": list(content)}})


def test_what_is_no_text_in_a_message_is_left_out() -> None:
    """Images and thinking are left out beside text; a message of nothing else is shown as it stands."""
    image, text = {"type": "image", "source": {}}, {"type": "text", "text": "a"}
    assert parse_line(message(image, text, "odd")) == MessageLine((TextBlock("a"),))
    assert parse_line(message(image)) == OtherLine(json.loads(message(image)))
    answer = {"type": "tool_result", "tool_use_id": "t", "content": [text, image, text]}
    assert parse_line(message(answer)) == MessageLine((ToolResultBlock("t", "a\na", is_error=False),))


@pytest.mark.parametrize(("told", "failed"), [(True, True), (False, False), (None, False), ("false", False)])
def test_a_tool_failed_when_it_says_so(told: Any, failed: bool) -> None:
    """Only `true` is an error; what a newer version might write there is none."""
    answer = {"type": "tool_result", "tool_use_id": "t", "content": "x", "is_error": told}
    assert parse_line(message(answer)) == MessageLine((ToolResultBlock("t", "x", failed),))


def test_tokens_are_those_of_all_models() -> None:
    """At its budget the CLI prints no tokens in `usage`, and in `modelUsage` it does: they are counted there."""
    result = parse_line(sample("max-budget")[-1])
    assert isinstance(result, ResultLine)
    assert result.usage["output_tokens"] == 0 and result.tokens.output_tokens == 20


def test_what_a_model_used_is_read_whole() -> None:
    """Each of its numbers stands where it belongs, and the run's tokens are their sums."""
    keys = ["inputTokens", "outputTokens", "cacheCreationInputTokens", "cacheReadInputTokens", "webSearchRequests"]
    used = {key: 2**index for index, key in enumerate(keys)} | {"costUSD": 0.5}
    line = parse_result({"modelUsage": {"a": used, "b": used}})
    assert line is not None
    amounts = {"input_tokens": 1, "output_tokens": 2, "cache_creation_input_tokens": 4, "cache_read_input_tokens": 8}
    model = ModelUsage(**amounts, web_search_requests=16, cost_usd=0.5)
    assert line.models == {"a": model, "b": model}
    assert line.tokens.model_dump() == {name: 2 * amount for name, amount in amounts.items()}


def test_odd_amounts_are_missing() -> None:
    """An amount that is none (negative, infinite, not a number, a bool) is not told as one."""
    odd = {"costUSD": -1, "inputTokens": True, "outputTokens": "many", "cacheReadInputTokens": -5}
    line = parse_result({"modelUsage": {"m": odd, "n": {"costUSD": 10**400}, "o": 3}, "total_cost_usd": float("inf")})
    assert line is not None and line.total_cost_usd is None
    assert line.models == {"m": ModelUsage(), "n": ModelUsage()}
    line = parse_result({"modelUsage": {"m": {"costUSD": True}}})
    assert line is not None and line.models == {"m": ModelUsage()}


def test_permission_denials_are_read() -> None:
    """What the agent was not allowed to do is told, and what is no object among it is left out."""
    denied = {"tool_name": "Bash", "tool_use_id": "toolu_1", "tool_input": {"command": "rm -rf /"}}
    line = parse_result({"permission_denials": [denied, "odd"]})
    assert line is not None
    assert line.denials == (PermissionDenial(tool_name="Bash", tool_use_id="toolu_1", tool_input=denied["tool_input"]),)


def test_usage_limit_is_told_from_overload() -> None:
    """A 429 that names a reset time is the account's usage limit, any other one is overload."""
    line = ResultLine(is_error=True, api_error_status=429, result="Claude usage limit reached")
    assert failure_kind(line, None) is FailureKind.USAGE_LIMIT
    line = ResultLine(is_error=True, api_error_status=429, result="slow down")
    assert failure_kind(line, {"status": "rejected", "resetsAt": 1_800_000_000}) is FailureKind.USAGE_LIMIT
    assert failure_kind(line, {"status": "rejected"}) is FailureKind.OVERLOADED
    assert failure_kind(ResultLine(is_error=True, api_error_status=529), None) is FailureKind.OVERLOADED
    assert failure_kind(None, None) is FailureKind.AGENT_ERROR


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["type", "message", "content", "usage"]), inner),
    max_leaves=8,
)


@given(
    st.text()
    | json_values.map(json.dumps)
    | json_values.map(lambda value: json.dumps({"type": "result", "usage": value}))
)
def test_no_line_is_too_strange(line: str) -> None:
    """Whatever a newer or broken CLI prints, a line becomes a value and never an error."""
    assert isinstance(parse_line(line), (MessageLine, ResultLine, RateLimitLine, OtherLine, type(None)))


def test_unknown_types_are_kept() -> None:
    """A line of an unknown type is kept as it stands."""
    assert parse_line('{"type":"new_thing","x":1}') == OtherLine({"type": "new_thing", "x": 1})
    assert parse_line("plain") is None and parse_line("[1]") is None


def test_arguments_carry_every_field() -> None:
    """Every field that Claude Code has a flag for is in its argv, and the prompt is not."""
    config = MachineConfig(
        prompt="--help",
        model="opus",
        fallback_model="sonnet",
        max_turns=3,
        max_budget_usd=1.5,
        append_system_prompt="be brief",
        allowed_tools=["Bash(git log:*)", "Read"],
        disallowed_tools=["Write"],
        mcp_config={"mcpServers": {}},
        json_schema='{"type": "object"}',
        claude_args=["--effort", "low"],
    )
    argv = arguments(config)
    assert argv[:2] == ["claude", "-p"]
    assert argv[6:] == [
        "--model=opus",
        "--fallback-model=sonnet",
        "--max-turns=3",
        "--max-budget-usd=1.5",
        "--append-system-prompt=be brief",
        "--allowedTools=Bash(git log:*),Read",
        "--disallowedTools=Write",
        '--mcp-config={"mcpServers":{}}',
        '--json-schema={"type":"object"}',
        "--effort",
        "low",
    ]
    assert "--help" not in argv


def test_credentials_come_from_config_then_environment() -> None:
    """The config's credentials win; else one of the environment's; else a clear error."""
    environ = {"CLAUDE_CODE_OAUTH_TOKEN": "oat", "ANTHROPIC_API_KEY": "key"}
    own = MachineConfig(prompt="x", anthropic_api_key="mine")
    assert credentials(own, environ) == {"ANTHROPIC_API_KEY": "mine"}
    bare = MachineConfig(prompt="x")
    assert credentials(bare, environ) == {"CLAUDE_CODE_OAUTH_TOKEN": "oat"}
    assert credentials(bare, {"CLAUDE_CODE_OAUTH_TOKEN": "", "ANTHROPIC_API_KEY": "key"}) == {
        "ANTHROPIC_API_KEY": "key"
    }
    with pytest.raises(NoCredentialsError, match="claude setup-token"):
        credentials(bare, {})


@pytest.mark.parametrize(
    "odd",
    [{"result": None}, {"usage": None}, {"errors": "x"}, {"num_turns": "many"}, {"modelUsage": 3}, {"subtype": {}}],
    ids=lambda odd: next(iter(odd)),
)
def test_one_odd_field_does_not_cost_the_others(odd: dict[str, Any]) -> None:
    """A field that a newer version writes otherwise is missing; cost, session and what failed are still told."""
    line = parse_result({"type": "result", "is_error": True, "api_error_status": 529, "total_cost_usd": 1.5, **odd})
    assert line is not None and line.total_cost_usd == 1.5
    assert failure_kind(line, None) is FailureKind.OVERLOADED


def test_what_is_no_object_is_no_result() -> None:
    """A result is an object."""
    assert parse_result(None) is None and parse_result("result") is None


@pytest.mark.parametrize(("levels", "cut"), [(99, False), (400, True), (501, None), (5000, None), (200_000, None)])
def test_how_deep_a_line_is_read(levels: int, cut: bool | None) -> None:
    """A hundred levels are kept, the rest of five hundred is cut, and deeper ones are no line: on every Python."""
    value = as_object('{"x": ' + "[" * (levels - 1) + "]" * (levels - 1) + ', "y": "' + "[" * 1000 + '"}')
    assert (value is None) == (cut is None)
    if value is not None:
        assert ("nested too deep" in json.dumps(value)) == cut and value["y"] == "[" * 1000
