"""Every block of the README and the guides is run, or says why it is not; what they name is there."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import commands as reference
import fields
import jsonschema_rs
import names
import pytest
from anyio.from_thread import start_blocking_portal
from ruamel.yaml import YAML
from tests.conftest import TOKEN
from tests.support import claude_of_the_docs
from tests.support.snippets import PAGES, ROOT, Command, Snippet, all_snippets, commands, pattern, snippets

from flaude import ConcurrentExecutor, ExecutionRequest, MachineConfig
from flaude.batch_file import BatchFileError, json_schema, load
from flaude.cli import application
from flaude.local import LocalFly, LocalImage, scripted_claude

ORG = "https://github.com/your-org"
BLOCKS = all_snippets()
WORKFLOW = ".github/workflows/"


@dataclass(frozen=True)
class World:
    """What the docs take for granted: an organisation with repositories, an app on Fly, credentials."""

    fly: LocalFly
    repos: Path

    @property
    def environ(self) -> dict[str, str]:
        """What a reader has exported."""
        return {
            "FLY_FLAPS_BASE_URL": self.fly.base_url,
            "FLY_API_TOKEN": self.fly.token,
            "CLAUDE_CODE_OAUTH_TOKEN": TOKEN,
        }

    def here(self, text: str) -> str:
        """The text with repositories that there are."""
        return text.replace(ORG, self.repos.as_uri())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One stand-in for all blocks; its agents have something to do whatever they are asked."""
    folder = tmp_path_factory.mktemp("docs")
    repos, programs = folder / "your-org", folder / "image" / "bin"
    _make_repo(repos / "your-repo")
    for name in ("api", "web"):
        subprocess.run(["git", "clone", "--quiet", repos / "your-repo", repos / name], check=True)
    programs.mkdir(parents=True)
    for module in (claude_of_the_docs, scripted_claude):
        (programs.parent / Path(inspect.getfile(module)).name).write_text(inspect.getsource(module))
    (programs / "claude").write_text(f'#!/bin/sh\nexec python3 {programs.parent}/claude_of_the_docs.py "$@"\n')
    (programs / "claude").chmod(0o755)
    image = LocalImage.host(extra=[programs])
    with start_blocking_portal() as portal:
        stand_in = LocalFly(apps=["my-app"], image=image, share=[repos])
        with portal.wrap_async_context_manager(stand_in) as fly:
            yield World(fly, repos)
            assert fly.alive == 0, "a machine outlived the docs"


def _make_repo(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("# your-repo\n")
    (folder / "app.py").write_text("print('hello')\n")
    identity = ["-c", "user.name=Docs", "-c", "user.email=docs@example.com"]
    for words in (["init", "--quiet", "--initial-branch=main"], ["add", "."], ["commit", "--quiet", "-m", "first"]):
        subprocess.run(["git", "-C", folder, *identity, *words], check=True)


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    """A block of another language would stand there untested."""
    tested = {"python", "sh", "console", "yaml", "toml", "json", "jsonl", "csv", "text"}
    assert [f"{block}: {block.language!r}" for block in BLOCKS if block.language not in tested] == []
    bare = [str(block) for block in BLOCKS if block.language not in ("python", "sh", "console") and not block.rest]
    assert bare == [], "give it a file's name, or say that it is the output of the block before"
    in_text = re.compile(r"^(    |\t)(flaude|make|git|fly|pip|docker) ", re.MULTILINE)
    texts = [page.name for page in PAGES if in_text.search(page.read_text())]
    assert texts == [], "commands belong into fences, where they are run"


def test_what_is_not_run() -> None:
    """What a test cannot have: other people's accounts."""
    not_run = {block.code.partition("\n")[0].partition("  ")[0]: block.notest for block in BLOCKS if block.notest}
    assert not_run == {
        "make demo": "these are the tests, and the demo has its own",
        "pip install .": "installs into the environment of whoever runs it",
        "fly auth login": "needs accounts at Fly and Anthropic",
        "export FLY_API_TOKEN=$(fly tokens create deploy -a my-app -x 24h)": "needs a Fly account",
        "flaude doctor --live --app my-app": "needs a Fly account",
        "claude setup-token": "needs a Claude account",
        "docker build --platform linux/amd64 -t registry.fly.io/my-app:claude .": "needs docker and a Fly account",
    }


# Of blocks that are the same, the first: that of the README, which says what it prints.
PYTHON = list({block.code: block for block in reversed(BLOCKS) if block.language == "python"}.values())[::-1]


@pytest.mark.parametrize("block", PYTHON, ids=str)
async def test_python(
    block: Snippet,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A block runs as it stands, and its functions do; it prints what the page says that it prints."""
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "batch.yaml").write_text("tasks: [{prompt: Tell a joke}]")
    config = MachineConfig(prompt="::cost 0.25\n::shell true\n::say hello")
    given = {
        "app_name": "my-app",
        "config": config,
        "requests": [ExecutionRequest(config, tag="t")],
        "executor": ConcurrentExecutor("my-app"),
    }
    defined = await execute(world.here(block.code))
    for function in defined.values():
        if inspect.iscoroutinefunction(function) and function.__code__.co_filename == "block":
            await function(**{one: given[one] for one in inspect.signature(function).parameters})
    if (expected := _output_of(block)) is not None:
        printed = capsys.readouterr().out
        assert pattern(expected).fullmatch(printed), f"{block} prints\n{printed}\nand not\n{expected}"


async def execute(code: str) -> dict[str, Any]:
    """Run a block, with `await` at its top level, and return its names."""
    defined: dict[str, Any] = {}
    result = eval(compile(code, "block", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), defined)  # noqa: S307  # ours
    if inspect.isawaitable(result):
        await result
    return defined


def _output_of(block: Snippet) -> str | None:
    """What the next block says that this one prints."""
    after = [one for one in BLOCKS if one.page == block.page and one.line > block.line][:1]
    return after[0].code if after and (after[0].language, after[0].rest) == ("text", "output") else None


FILES = [block for block in BLOCKS if block.language in ("yaml", "toml", "json", "jsonl") and block.file]


@pytest.mark.parametrize("block", [one for one in FILES if not one.file.startswith(".")], ids=str)
async def test_batch_files(block: Snippet, world: World, tmp_path: Path) -> None:
    """A batch file is one, for an editor with the schema too; files that it needs are on its page."""
    for other in BLOCKS:
        if other.page == block.page and other.file:
            (tmp_path / other.file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / other.file).write_text(world.here(other.code))
    environ = {**world.environ, "FLY_APP": "my-app", "GITHUB_TOKEN": TOKEN, "NPM_TOKEN": TOKEN}
    schema = jsonschema_rs.validator_for(json_schema())
    if block.file.startswith("broken"):
        with pytest.raises(BatchFileError):
            await load(tmp_path / block.file, environ=environ)
        assert not schema.is_valid(_plain(block))
    else:
        assert (await load(tmp_path / block.file, environ=environ)).requests
        if block.language != "jsonl":
            schema.validate(_plain(block))


def _plain(block: Snippet) -> Any:
    return tomllib.loads(block.code) if block.language == "toml" else YAML(typ="safe").load(block.code)


def test_settings_for_editors() -> None:
    """They are JSON, and name the file that the commands on their page write."""
    (block,) = [block for block in FILES if block.file == ".vscode/settings.json"]
    (schema,) = json.loads(block.code)["yaml.schemas"]
    assert any(f"> {Path(schema).name}\n" in other.code for other in BLOCKS if other.page == block.page)


@contextmanager
def flaude_on_path(folder: Path) -> Iterator[Path]:
    """A folder with a `flaude` that starts at once; see `tests.support.fork_server`."""
    folder.mkdir()
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    argv = [sys.executable, "-m", "tests.support.fork_server", str(folder)]
    with subprocess.Popen(argv, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as forking:
        assert forking.stdout is not None
        assert forking.stdout.readline() == "ready\n"
        (folder / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        (folder / "python").chmod(0o755)
        yield folder


@pytest.mark.timeout(300)
def test_commands(world: World, tmp_path: Path, subtests: pytest.Subtests) -> None:
    """The commands of the pages work, one after the other, by one reader who copies the pages' files too."""
    pages = {page.name: [block for block in snippets(page) if not block.notest] for page in PAGES}
    order = ["README.md", "results.md"]  # who reads about results has run the batch of the README
    with flaude_on_path(tmp_path / "bin") as programs:
        for page in sorted(pages, key=lambda page: (order.index(page) if page in order else len(order), page)):
            if any(block.language in ("sh", "console") for block in pages[page]):
                with subtests.test(page):
                    _follow(pages[page], world, tmp_path, programs)


def _follow(steps: list[Snippet], world: World, folder: Path, programs: Path) -> None:
    """Do what a page says, in a shell and a folder of its own; home and journal are those of all pages."""
    home, files = folder / "home", folder / f"{steps[0].page}.files"
    files.mkdir()
    work = folder / f"{steps[0].page}.work"
    work.mkdir()
    environ = {
        **world.environ,
        **{name: value for name, value in os.environ.items() if name.startswith("GIT_CONFIG_")},
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "HOME": str(home),
        "COLUMNS": "120",
        "LANG": "C.UTF-8",
    }
    script, given = ["exec 2>&1"], list[Command]()
    for number, block in enumerate(steps):
        if block.language in ("sh", "console"):
            for command in commands(block):
                # The exit code goes to the next command, which may want to see it.
                script += ["(exit ${code:-0})", world.here(command.line), "code=$?", 'printf "\\0%d\\0" $code']
                given.append(command)
        elif block.file:
            (files / str(number)).write_text(world.here(block.code))
            script.append(f"mkdir -p {Path(block.file).parent} && cp {files}/{number} {block.file}")
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        check=False,
        cwd=work,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    told = done.stdout.split("\0")
    assert len(told) == 2 * len(given) + 1, f"the shell ended early:\n{done.stdout}"
    after = [command.line for command in given[1:]] + [""]
    for command, output, code, next_ in zip(given, told[::2], told[1::2], after, strict=False):
        where = f"{command.snippet}: {command.line}"
        assert code == "0" or next_ == "echo $?", f"{where}\nends with {code}\n{output}"
        if command.output is not None:
            expected = pattern(world.here(command.output))
            assert expected.fullmatch(output), f"{where}\nprints\n{output}\nand not\n{command.output}"


def test_workflows() -> None:
    """A GitHub Actions workflow is YAML, and its steps run commands that there are."""
    workflows = [block for block in FILES if block.file.startswith(WORKFLOW)]
    assert len(workflows) == 1
    for block in workflows:
        workflow = YAML(typ="safe").load(block.code)
        steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
        lines = [line for step in steps for line in step.get("run", "").splitlines()]
        assert any("flaude run" in line for line in lines)
        for line in lines:
            _check_command(line, str(block))
        for word in re.findall(r"\$\{\{ (\w+)\.", block.code):
            assert word in ("secrets", "github", "runner", "vars"), f"{block}: {word}"


def test_commands_in_text() -> None:
    """What stands between backticks as a command of flaude's is one, with options that it has."""
    checked = 0
    for page in PAGES:
        for span in re.findall(r"(?<!`)`((?:flaude|make) [^`]+)`(?!`)", page.read_text()):
            _check_command(span, page.name)
            checked += 1
    for line in re.findall(r"^    (.*\bflaude .*)", reference.markdown(), flags=re.MULTILINE):
        _check_command(line, "the help of the command line")
        checked += 1
    assert checked > 30


def _check_command(line: str, where: str) -> None:
    """Whether the command that is called here has what it is called with."""
    for part in re.split(r"[|;]|&&|>", line):
        words = shlex.split(part.removeprefix("exec "), comments=True)
        if words[:1] == ["make"]:
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE), f"{where}: {part}"
        if words[:1] != ["flaude"] or words[1:] in ([], ["--help"], ["COMMAND", "--help"]):
            continue
        rest, node = words[1:], application()
        while rest and rest[0] in node and not rest[0].startswith("-"):
            node = node[rest.pop(0)]
        assert node.name != ("flaude",), f"{where}: there is no {part}"
        known = (
            {name for argument in reference.arguments(node) for name in argument.names}
            if node.default_command
            else set()
        )
        odd = {word.partition("=")[0] for word in rest if word.startswith("-") and word != "-"} - known
        assert not odd, f"{where}: {part} has no {', '.join(odd)}"


def test_every_command_and_option_is_in_the_reference() -> None:
    """The reference is made of the command itself; each command and each option has a help text, and stands there."""
    told = reference.markdown()
    found = list(reference.commands())
    assert len(found) > 12
    for path, command in found:
        section = told.partition(f"## {' '.join(path)}\n")[2].partition("\n## ")[0]
        assert command.help.strip() and section, path
        for argument in reference.arguments(command):
            assert (argument.parameter.help or "").strip(), f"{' '.join(path)} {argument.names[0]} has no help"
            assert argument.index is not None or f"`{argument.names[0]}`" in section, argument.names


@pytest.mark.parametrize("module", names.MODULES)
def test_every_public_name_is_in_the_reference(module: str) -> None:
    """Each name that a public module offers is on its page, once."""
    page = ROOT / "docs" / "reference" / f"{module.removeprefix('flaude.')}.md"
    told = re.findall(rf"^```{{public}} {re.escape(module)}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    assert sorted("".join(told).split()) == sorted(names.public_names(module))


def test_fields_of_batch_files() -> None:
    """Each part of a batch file that has fields is in the guide, and each field says what it is for."""
    guide = (ROOT / "docs" / "batch-files.md").read_text()
    told_elsewhere = {"defaults", "template", "matrix_prompt", "secret"}
    assert set(fields.parts()) == set(re.findall(r"<!-- fields (\w+) -->", guide)) | told_elsewhere
    for part in fields.parts():
        assert re.findall(r"^: *$", fields.markdown(part), re.MULTILINE) == []


def test_what_an_output_must_match() -> None:
    """Ids, times and what is left out may be anything, all else is as it is shown."""
    shown = "batch 3f2a91c04b on my-app: 2 runs\n…\n12:00:04  auth  done  0:04, $0.1200\n"
    told = "batch 0123456abc on my-app: 2 runs\nany\nline\n23:59:59  auth  done  1:02, $0.1200\n"
    assert pattern(shown).fullmatch(told)
    assert pattern(shown).fullmatch(told.replace("any\nline\n", ""))
    for wrong in ("2 runs", "auth", "$0.1200"):
        assert not pattern(shown).fullmatch(told.replace(wrong, "else"))


def test_links_of_the_readme() -> None:
    """A link of the README's leads to a file that there is; the site's own are checked when it is built."""
    links = re.findall(r"\]\((?!https?:)([^)#]*)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
