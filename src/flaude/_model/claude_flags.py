"""Which flags of Claude Code's command line are fields of `MachineConfig`, and which are flaude's own."""

from __future__ import annotations

from collections.abc import Mapping

FLAGS: Mapping[str, tuple[str, ...]] = {
    "model": ("--model",),
    "fallback_model": ("--fallback-model",),
    "max_turns": ("--max-turns",),
    "max_budget_usd": ("--max-budget-usd",),
    "append_system_prompt": ("--append-system-prompt",),
    "allowed_tools": ("--allowedTools", "--allowed-tools"),
    "disallowed_tools": ("--disallowedTools", "--disallowed-tools"),
    "mcp_config": ("--mcp-config",),
    "json_schema": ("--json-schema",),
}
"""By field; of several spellings flaude uses the first."""

FIELD_OF: Mapping[str, str] = {flag: field for field, flags in FLAGS.items() for flag in flags}
"""By flag, in any spelling."""

OWN = frozenset({"-p", "--print", "--output-format", "--input-format", "--verbose", "--dangerously-skip-permissions"})
"""Those that flaude sets, and nobody else."""
