"""A request as JSON without its secrets, and back: secrets are named by their environment variable, never shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from flaude.config import MachineConfig
from flaude.env_secret import EnvSecret
from flaude.errors import ConfigError
from flaude.repos import RepoSpec
from flaude.request import ExecutionRequest

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
