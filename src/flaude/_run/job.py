"""The job that the guest is handed: everything that happens inside the machine, as one JSON object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flaude._agent.command import arguments
from flaude._guest.messages import PROTOCOL
from flaude._model.config import TESTED_CLAUDE_CODE, MachineConfig, reveal
from flaude._model.timeouts import Timeouts

_MB = 1024 * 1024


def build_job_message(
    config: MachineConfig,
    *,
    job_id: str,
    run_s: float,
    timeouts: Timeouts,
    credentials: Mapping[str, str],
    push_branch: str = "",
) -> dict[str, Any]:
    """The guest's `start` message. It holds secrets: it leaves this process by `job_calls.pack_job` alone."""
    token = reveal(config.github_token)
    return {
        "protocol": PROTOCOL,
        "job_id": job_id,
        "prompt": config.prompt,
        "argv": arguments(config),
        "env": {name: value for name, value in config.env.items() if isinstance(value, str)},
        "secrets": {**_secret_env(config), **credentials},
        "git": {
            # GitHub takes any user name with a token; this one is its documented choice for apps.
            "username": config.github_username or "x-access-token",
            "token": token,
            "host": config.github_host,
        }
        if token
        else None,
        "repos": [{"url": repo.url, "ref": repo.branch, "target_dir": repo.folder} for repo in config.repo_specs],
        "install": {
            "package": "@anthropic-ai/claude-code",
            "version": config.claude_code_version,
            "fallback": TESTED_CLAUDE_CODE,
        },
        "limits": {
            "run_s": run_s,
            "idle_s": timeouts.idle,
            "orphan_s": timeouts.orphan,
            "linger_s": timeouts.linger,
            "grace_s": timeouts.grace,
            "clone_s": timeouts.clone,
            "install_s": timeouts.install,
            "collect_s": timeouts.collect,
            "max_patch_bytes": config.max_patch_mb * _MB,
            "max_artifact_bytes": config.max_artifacts_mb * _MB,
            # For git's objects and the patch that is made of them, when the agent has filled the disk.
            "reserve_bytes": 3 * config.max_patch_mb * _MB,
        },
        "collect": {
            "patches": True,
            "artifacts": list(config.collect),
            "transcript": config.transcript,
            "push_branch": push_branch,
        },
    }


def secret_values(config: MachineConfig, credentials: Mapping[str, str]) -> list[str]:
    """What must never leave the machine that the job goes to."""
    token = reveal(config.github_token)
    return [*_secret_env(config).values(), *credentials.values(), *([token] if token else [])]


def _secret_env(config: MachineConfig) -> dict[str, str]:
    return {name: value.get_secret_value() for name, value in config.env.items() if not isinstance(value, str)}
