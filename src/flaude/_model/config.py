"""`MachineConfig`: everything that one run needs, checked when it is made."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    SecretStr,
    ValidationError,
    model_validator,
)

from flaude._model.claude_flags import FIELD_OF, OWN
from flaude._model.errors import ConfigError
from flaude._model.machine_sizes import DEFAULT_VM_SIZE, MachineSize, machine_size
from flaude._model.regions import as_regions
from flaude._model.repos import RepoSpec, as_repo_specs, is_branch

DEFAULT_IMAGE = "node:22-bookworm"
"""The stock image: Debian with python3, git and npm, so that nobody has to build one before the first run."""

TESTED_CLAUDE_CODE = "2.1.197"
"""The version of Claude Code that is installed, that flaude's tests run, and that `scripts/install-test-tools` reads.

Not `latest`: that tag has named a version whose program for linux-x64 was never published
(anthropics/claude-code#88103).
"""

DEFAULT_REGION = "iad,ewr,ord"
"""Several, so that a region that is full stops no batch; a list and not an alias, so that what a machine costs at most
is known. All are in the same country: work does not go abroad unasked."""

_OWN_ENV = frozenset(
    {
        "CLAUDE_CODE_OAUTH_TOKEN",
        "ANTHROPIC_API_KEY",
        "DISABLE_AUTOUPDATER",
        "HOME",
        "IS_SANDBOX",
        "LOGNAME",
        "PATH",
        "USER",
    }
)


if TYPE_CHECKING:  # a plain string is accepted and becomes a secret value
    Secret: TypeAlias = SecretStr | str
else:
    Secret = SecretStr


def reveal(secret: SecretStr | str) -> str:
    """The plain text of a secret value: call it only where the value leaves for the machine."""
    return secret.get_secret_value() if isinstance(secret, SecretStr) else secret


def _no_empty(values: Sequence[str]) -> Sequence[str]:
    if isinstance(values, str) or any(not isinstance(value, str) or not value for value in values):
        raise ValueError("give a list of non-empty strings")
    return tuple(values)


def _as_json_text(value: object) -> object:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"not valid JSON: {error}") from None
    if not isinstance(value, Mapping):
        raise ValueError("give a JSON object (a dict, or its text)")  # noqa: TRY004  # pydantic wants ValueError
    return dict(value)


def _inside(globs: Sequence[str]) -> Sequence[str]:
    for glob in _no_empty(globs):
        if glob.startswith(("/", "~")) or ".." in glob.split("/") or "\0" in glob:
            raise ValueError(f"{glob!r} leads out of the working folder; give globs relative to it")
    return tuple(globs)


Words = Annotated[Sequence[str], AfterValidator(_no_empty)]
Globs = Annotated[Sequence[str], AfterValidator(_inside)]
JsonObject = Annotated[Mapping[str, Any], BeforeValidator(_as_json_text)]


_Wrong: TypeAlias = tuple[str, str]
"""A field, and what is wrong with it."""


class MachineConfig(BaseModel):
    """One run: a prompt, the repositories it works on, and the machine and agent that do it.

    Attributes:
        prompt: What the agent is asked; any length.
        claude_code_oauth_token: Claude Code token (`claude setup-token`); from the environment's
            `CLAUDE_CODE_OAUTH_TOKEN` when neither this nor `anthropic_api_key` is given.
        anthropic_api_key: API key instead of a token; likewise from `ANTHROPIC_API_KEY`.
        repos: Repositories to clone, as URLs or `RepoSpec`s. With exactly one, the agent works in it, else in the
            workspace that holds them.
        image: Container image with python3 and git; `claude` is installed with npm when it is not in it.
        claude_code_version: npm version or tag of Claude Code to install when the image has none: the version that
            flaude is tested with, `latest` if you ask for it.
        region: Fly region such as `iad`; several of them, as a list or with commas (`iad,ewr,ord`); or one of Fly's
            aliases: apac, eu, na, sa, us, usa, any. Fly takes one that has room; the result has which. Empty for Fly's
            choice.
        vm_size: Fly's preset, such as `shared-cpu-2x` or `performance-2x`.
        vm_cpus: CPUs instead of the preset's number.
        vm_memory_mb: Memory in MB instead of the preset's; without it `shared-cpu-2x` has 4096.
        rootfs_gb: Size of the machine's disk in GB, from 1; Fly's own is 8 (image, Claude Code and repositories share
            it), and Fly does not publish the largest.
        github_username: User name that goes with `github_token`.
        github_token: Token for cloning private repositories; it goes to git alone, never to the agent.
        github_host: The host that the token is for.
        env: Environment of the agent; it reaches the agent alone. A value given as `pydantic.SecretStr` is also
            replaced wherever it turns up in the output.
        metadata: Metadata of the Fly machine, beside flaude's own.
        model: Claude Code's `--model`.
        fallback_model: Claude Code's `--fallback-model`.
        max_turns: Claude Code's `--max-turns`.
        max_budget_usd: Claude Code's `--max-budget-usd`, US dollars.
        append_system_prompt: Claude Code's `--append-system-prompt`.
        allowed_tools: Claude Code's `--allowedTools`.
        disallowed_tools: Claude Code's `--disallowedTools`.
        mcp_config: Claude Code's `--mcp-config`, as a dict or JSON text.
        json_schema: Claude Code's `--json-schema`, as a dict or JSON text; the answer is in `structured_output`.
        claude_args: Further arguments for `claude`, for what flaude does not know.
        collect: Files to bring back, as globs relative to the working folder: `reports/*.html`, `**/*.log`, or a folder
            with all that is in it. No link is followed, and nothing outside of the folder comes back.
        transcript: Whether to bring back Claude Code's own record of the session.
        push_branch: Branch to push the work to, in every repository, with `github_token`; `{tag}` in it is the
            request's tag. Never by force: when it is refused, that is in `RepoResult.push_error`.
        max_patch_mb: How much all patches of the run may have together, in MB; what is beyond is left out, and said.
        max_artifacts_mb: The same for what `collect` finds.

    Raises:
        ConfigError: A field is wrong; the message names every such field. Values are never shown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    prompt: str
    claude_code_oauth_token: Secret = SecretStr("")
    anthropic_api_key: Secret = SecretStr("")
    repos: Annotated[Sequence[str | RepoSpec], BeforeValidator(as_repo_specs)] = ()

    image: str = Field(DEFAULT_IMAGE, pattern=r"^[^\s]+$")
    claude_code_version: str = Field(TESTED_CLAUDE_CODE, pattern=r"^[0-9A-Za-z][0-9A-Za-z.+-]*$")
    region: Annotated[str | Sequence[str], BeforeValidator(as_regions)] = DEFAULT_REGION
    vm_size: str = DEFAULT_VM_SIZE
    vm_cpus: int | None = None
    vm_memory_mb: int | None = None
    rootfs_gb: int | None = Field(None, ge=1)

    github_username: str = Field("", pattern=r"^[^\s\x00]*$")
    github_token: Secret = SecretStr("")
    github_host: str = Field("github.com", pattern=r"^[A-Za-z0-9.-]+(:[0-9]{1,5})?$")
    env: Mapping[str, str | SecretStr] = Field(default_factory=dict, repr=False)
    metadata: Mapping[str, str] = Field(default_factory=dict)

    model: str | None = Field(None, min_length=1)
    fallback_model: str | None = Field(None, min_length=1)
    max_turns: int | None = Field(None, ge=1)
    max_budget_usd: float | None = Field(None, gt=0, allow_inf_nan=False)
    append_system_prompt: str | None = Field(None, min_length=1)
    allowed_tools: Words = ()
    disallowed_tools: Words = ()
    mcp_config: JsonObject | None = Field(None, repr=False)
    json_schema: JsonObject | None = Field(None, repr=False)
    claude_args: Words = ()

    collect: Globs = ()
    transcript: bool = False
    push_branch: str = ""
    max_patch_mb: int = Field(50, ge=1)
    max_artifacts_mb: int = Field(200, ge=1)

    @model_validator(mode="wrap")
    @classmethod
    def _name_the_field(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            config = handler(data)
        except ValidationError as error:
            # `from None`: pydantic's own error would carry the input, and with it the secrets.
            raise _refusal([_sentence(item["loc"], item["msg"]) for item in error.errors()]) from None
        wrong = list(config._wrong())  # noqa: SLF001  # our own
        if wrong:
            raise _refusal(wrong)
        return config

    @property
    def repo_specs(self) -> tuple[RepoSpec, ...]:
        """`repos`, each as a `RepoSpec`."""
        return as_repo_specs(self.repos)

    @property
    def regions(self) -> tuple[str, ...]:
        """The words of `region`; none for Fly's choice."""
        return tuple(word for word in as_regions(self.region).split(",") if word)

    @property
    def size(self) -> MachineSize:
        """CPU kind, CPUs and memory that `vm_size` and its overrides mean."""
        return machine_size(self.vm_size, self.vm_cpus, self.vm_memory_mb)

    def _wrong(self) -> Iterator[_Wrong]:
        """All that is wrong with the fields' values, and with one beside another."""
        if not self.prompt.strip():
            yield "prompt", "empty; say what the agent is to do"
        if "\0" in self.prompt:
            yield "prompt", "holds a NUL character"
        try:
            machine_size(self.vm_size, self.vm_cpus, self.vm_memory_mb)
        except ConfigError as error:
            yield from error.wrong
        yield from self._wrong_env()
        yield from self._wrong_push()
        for key in self.metadata:
            if not re.fullmatch(r"[A-Za-z0-9_.-]{1,63}", key):
                yield "metadata", f"{key!r} is no name; use letters, digits, '_', '-' and '.'"
            if key == "managed_by" or key.startswith(("flaude_", "fly_")):
                yield "metadata", f"{key} is set by flaude or Fly; choose another name"
        for argument in self.claude_args:
            flag = argument.split("=", 1)[0]
            if flag in OWN:
                yield "claude_args", f"{flag} is set by flaude; leave it out"
            if flag in FIELD_OF:
                yield "claude_args", f"for {flag} use the field {FIELD_OF[flag]}"

    def _wrong_push(self) -> Iterator[_Wrong]:
        if not self.push_branch:
            return
        if not is_branch(self.push_branch.replace("{tag}", "tag")):
            yield "push_branch", f"{self.push_branch!r} is no branch's name; in braces only {{tag}} may be"
        if not self.repos:
            yield "push_branch", "there is nothing to push; give repos"
        over_tls = [repo.url for repo in self.repo_specs if not repo.url.startswith(("file://", "http://"))]
        if over_tls and not reveal(self.github_token):
            yield "push_branch", f"to push to {over_tls[0]} give github_token"

    def _wrong_env(self) -> Iterator[_Wrong]:
        for name, value in self.env.items():
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                yield "env", f"{name!r} is no name of an environment variable"
            if name in _OWN_ENV or name.startswith(("FLAUDE_", "FLY_")):
                yield "env", f"{name} is set by flaude and may not be overridden{_instead(name)}"
            if "\0" in reveal(value):
                yield "env", f"the value of {name} holds a NUL character"


def _refusal(wrong: Sequence[_Wrong]) -> ConfigError:
    return ConfigError("; ".join(f"{field}: {sentence}" for field, sentence in wrong), wrong)


def _instead(name: str) -> str:
    field = name.lower()
    return f"; use the field {field}" if field in MachineConfig.model_fields else "; leave it out"


def _sentence(location: tuple[int | str, ...], message: str) -> _Wrong:
    field = ".".join(map(str, location)) or "config"
    text = message.removeprefix("Value error, ")
    if text == "Extra inputs are not permitted":
        text = "MachineConfig has no such field"
    elif text == "Field required":
        text = "missing"
    return field, text
