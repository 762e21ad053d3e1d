"""Requests and results as JSON, and back. Secrets are named by their environment variable, never shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from flaude._model.config import MachineConfig
from flaude._model.errors import ConfigError, FlaudeError, RunFailedError
from flaude._model.repos import RepoSpec
from flaude._model.request import ExecutionRequest
from flaude._model.results import ExecutionResult
from flaude._model.run_result import Attempt, Failure, RunResult
from flaude._model.secrets import EnvSecret

_ENV = "env."
_SHORTEST_SECRET = 8  # shorter ones are words, and stand in many a text


def dump_request(request: ExecutionRequest) -> dict[str, Any]:
    """What is to be kept of a request.

    Returns:
        `config`: the fields that are not their defaults and hold no secret; `secrets`: for each field that holds one
        (`github_token`, `env.NAME`) the name of its environment variable, or `None` when it came from elsewhere;
        `name` and `tag`.
    """
    return _dumped(request)[0]


def kept_request(request: ExecutionRequest) -> dict[str, Any]:
    """The same, for where it stays.

    Raises:
        ConfigError: The value of a secret stands in another field as well.
    """
    dumped, values = _dumped(request)
    _refuse_secrets(dumped["config"], values)
    return dumped


def _dumped(request: ExecutionRequest) -> tuple[dict[str, Any], dict[str, str]]:
    """What is to be kept, and the secrets that are not, by their fields."""
    config, secrets, values = dict[str, Any](), dict[str, str | None](), dict[str, str]()
    for field in request.config.model_fields_set:
        value = getattr(request.config, field)
        if isinstance(value, SecretStr):
            if value.get_secret_value():
                secrets[field], values[field] = _variable(value), value.get_secret_value()
        elif field == "env":
            config[field] = {name: one for name, one in value.items() if isinstance(one, str)}
            hidden = {f"{_ENV}{name}": one for name, one in value.items() if not isinstance(one, str)}
            secrets |= {name: _variable(one) for name, one in hidden.items()}
            values |= {name: one.get_secret_value() for name, one in hidden.items()}
        elif field == "repos":
            config[field] = [
                {"url": repo.url, "branch": repo.branch, "target_dir": repo.target_dir}
                for repo in request.config.repo_specs
            ]
        else:
            config[field] = list(value) if isinstance(value, tuple) else value
    return {"config": config, "secrets": secrets, "name": request.name, "tag": request.tag}, values


def _refuse_secrets(config: Mapping[str, Any], values: Mapping[str, str]) -> None:
    for field, value in config.items():
        text = repr(value)
        for secret, hidden in values.items():
            if len(hidden) >= _SHORTEST_SECRET and hidden in text:
                raise ConfigError(
                    f"{field}: the value of {secret} stands in it, and a journal would keep it; give it in env as a "
                    "SecretStr or EnvSecret, and name the variable here"
                )


def load_request(kept: Mapping[str, Any], environ: Mapping[str, str]) -> ExecutionRequest:
    """The request again, with its secrets from the environment.

    Raises:
        ConfigError: A variable is not set, or a secret was not given by one: the message names the field.
    """
    config = dict(kept["config"])
    for field, variable in kept["secrets"].items():
        if variable is None:
            raise ConfigError(
                f"{field}: was given as a value, which is not kept; give it as EnvSecret(…), or pass the requests again"
            )
        try:
            secret = EnvSecret(variable, environ)
        except ConfigError as error:
            raise ConfigError(f"{field}: {error}") from None
        if field.startswith(_ENV):
            config["env"] = {**config.get("env", {}), field.removeprefix(_ENV): secret}
        else:
            config[field] = secret
    if "repos" in config:
        config["repos"] = [RepoSpec(**repo) for repo in config["repos"]]
    return ExecutionRequest(config=MachineConfig(**config), name=kept["name"], tag=kept["tag"])


def _variable(secret: SecretStr) -> str | None:
    return secret.variable if isinstance(secret, EnvSecret) else None


def dump_result(result: ExecutionResult) -> dict[str, Any]:
    """All of it, as `json.dumps` takes it; bytes are base64."""
    error, failure = result.error, getattr(result.error, "failure", None)
    return {
        "tag": result.tag,
        "success": result.success,
        "run_result": result.run_result.model_dump(mode="json") if result.run_result else None,
        "error": None
        if error is None
        else {
            "type": type(error).__name__,
            "message": str(error),
            "failure": failure.model_dump(mode="json") if isinstance(failure, Failure) else None,
        },
        "attempts": [attempt.model_dump(mode="json") for attempt in result.attempts],
        "superseded": [run.model_dump(mode="json") for run in result.superseded],
    }


def load_result(kept: Mapping[str, Any]) -> ExecutionResult:
    """The result again. An error comes back as what a caller decides by: its failure, or its sentence."""
    run = kept["run_result"]
    return ExecutionResult(
        tag=kept["tag"],
        run_result=RunResult.model_validate(run) if run else None,
        error=_error(kept["error"]) if kept["error"] else None,
        attempts=tuple(Attempt.model_validate(attempt) for attempt in kept["attempts"]),
        superseded=tuple(RunResult.model_validate(run) for run in kept["superseded"]),
    )


def _error(kept: Mapping[str, Any]) -> FlaudeError:
    if kept["type"] == ConfigError.__name__:
        return ConfigError(kept["message"])
    if kept["failure"]:
        return RunFailedError(Failure.model_validate(kept["failure"]))
    return FlaudeError(kept["message"])
