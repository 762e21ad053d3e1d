"""What a section's fields stand for: secrets from the environment, prompts from files, repositories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flaude._model.errors import ConfigError
from flaude._model.repos import RepoSpec
from flaude._model.secrets import EnvSecret
from flaude.batch_file.files import Folder, UnreadableError
from flaude.batch_file.nodes import Node
from flaude.batch_file.placeholders import variables_in
from flaude.batch_file.problems import BatchFileError, Problems, shown
from flaude.batch_file.shapes import BROKEN, Reference, Section


@dataclass(frozen=True)
class Resolving:
    """Where values are looked up, and where problems go."""

    environ: Mapping[str, str]
    folder: Folder
    problems: Problems

    def resolve(self, section: Section) -> Section:
        """The section, with values of `MachineConfig` in place of what stands for them; what is not there is broken."""
        for name, value in list(section.values.items()):
            if isinstance(value, Reference):
                self._set(section, name, self._secret(value, section.path_of(name)))
            elif name == "env":
                self._set(section, name, self._env(value, section.path_of(name)))
            elif name == "repos":
                self._set(section, name, self.repos(value, section.node.value[name], section.path_of(name)))
            elif name == "prompt_file":
                del section.values[name]
                if "prompt" not in section.node.value:
                    self._set(section, "prompt", self._prompt(value, section))
        # Who corrects what is broken already is to hear of the rest now, not then.
        if env := section.partly.get("env"):
            self._env(env, section.path_of("env"))
        if repos := section.partly.get("repos"):
            self.repos(repos, section.node.value["repos"], section.path_of("repos"))
        if "prompt_file" in section.broken:
            section.broken.add("prompt")
        return section

    def _set(self, section: Section, name: str, value: Any) -> None:
        if value is BROKEN:
            section.values.pop(name, None)
            section.broken.add(name)
        else:
            section.values[name] = value

    def _secret(self, reference: Reference, path: str) -> Any:
        try:
            return EnvSecret(reference.variable, self.environ)
        except ConfigError as error:
            self.problems.add(reference.place, path, str(error))
            return BROKEN

    def _env(self, env: Mapping[str, Any], path: str) -> Any:
        found = {
            name: self._secret(value, f"{path}.{name}") if isinstance(value, Reference) else value
            for name, value in env.items()
        }
        return BROKEN if any(value is BROKEN for value in found.values()) else found

    def _prompt(self, name: str, section: Section) -> Any:
        place, path = section.place_of("prompt_file"), section.path_of("prompt_file")
        try:
            text = self.folder.text(name)
        except UnreadableError as error:
            self.problems.add(place, path, f"{shown(self.folder.shown(name))}: {error}")
        except BatchFileError as error:
            self.problems.add_all(error)
        else:
            if text.strip():
                return text
            self.problems.add(place, path, f"{shown(self.folder.shown(name))} is empty; say what the agent is to do")
        return BROKEN

    def repos(self, entries: Sequence[Any], nodes: Node, path: str) -> Any:
        """Repositories, or `BROKEN` when one of them is."""
        repos = [
            self.repo(entry, node, f"{path}[{index}]" if path else "")
            for index, (entry, node) in enumerate(zip(entries, nodes.value, strict=True))
        ]
        return BROKEN if any(repo is BROKEN for repo in repos) else repos

    def repo(self, entry: Any, node: Node, path: str) -> Any:
        """A repository, or `BROKEN`; one with a `{column}` in it stays as it is, until there is a row."""
        if isinstance(entry, Section):
            entry = BROKEN if entry.broken else entry.values
        if entry is BROKEN or variables_in(entry):
            return entry
        try:
            return RepoSpec(**entry) if isinstance(entry, Mapping) else RepoSpec(entry)
        except ConfigError as error:
            for field, message in error.wrong:
                name = field.removeprefix("repos.")
                if isinstance(node.value, dict):
                    self.problems.add(node.value.get(name, node), f"{path}.{name}", message)
                else:
                    self.problems.add(node, path, message)
            return BROKEN
