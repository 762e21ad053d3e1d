"""The README's code runs as it stands."""

from __future__ import annotations

import ast
import csv
import inspect
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from flaude import ConcurrentExecutor, ExecutionRequest, MachineConfig
from flaude.batch_file import BatchFileError, json_schema, load
from flaude.batch_file.formats import Format, read_node
from flaude.batch_file.problems import Problems
from flaude.local import LocalFly
from tests.conftest import TOKEN

README = (Path(__file__).parent.parent / "README.md").read_text()
_FENCED = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    """All blocks in a language."""
    return [block for name, block in _FENCED if name == language]


BLOCKS = blocks("python")


async def execute(code: str) -> dict[str, Any]:
    """Run a block, with `await` at its top level, and return its names."""
    names: dict[str, Any] = {}
    result = eval(compile(code, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)  # noqa: S307  # ours
    if inspect.isawaitable(result):
        await result
    return names


async def test_the_batch_of_the_readme(
    local: LocalFly, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first block runs; without its repository at hand it says why each run failed."""
    monkeypatch.setenv("FLY_FLAPS_BASE_URL", local.base_url)
    monkeypatch.setenv("FLY_API_TOKEN", local.token)
    code = BLOCKS[0].replace("https://github.com/your-org/your-repo", "file:///nowhere/your-repo")
    await (await execute(code))["run_parallel_reviews"]("my-app")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("]")[0] for line in lines] == ["[auth-review", "[billing-review", "[API-review"]
    assert all("clone: " in line for line in lines)


@pytest.fixture
def served(local: LocalFly, repo: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """Prepares a block: its API is the stand-in's, its repository is a real one, its prompt is the scripted agent's."""
    monkeypatch.setenv("FLY_FLAPS_BASE_URL", local.base_url)
    monkeypatch.setenv("FLY_API_TOKEN", local.token)
    monkeypatch.setenv("CLAUDE_CODE_OAUTH_TOKEN", TOKEN)

    def prepare(block: str, prompt: str) -> str:
        block = re.sub('prompt="[^"]*"', lambda _: f"prompt={prompt!r}", block)
        return block.replace("https://github.com/your-org/your-repo", f"file://{repo}")

    return prepare


async def test_the_report_of_the_readme(
    served: Callable[[str, str], str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The second block brings the files that it collects into the folder that it names."""
    monkeypatch.chdir(tmp_path)
    code = served(BLOCKS[1], "::write report/index.html <p>all</p>\n::write run.log ran\n::say done")
    await (await execute(code))["write_report"]("my-app")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["report/index.html", "11"], ["run.log", "4"]]
    assert (tmp_path / lines[0].split()[2]).read_text() == "<p>all</p>\n"
    folder = (tmp_path / lines[0].split()[2]).parent.parent.parent
    assert folder.name == "000-coverage" and (folder / "transcript.jsonl").exists()


async def test_watching_as_in_the_readme(local: LocalFly, capsys: pytest.CaptureFixture[str]) -> None:
    """The third block tells what happens to a batch, as it happens."""
    config = MachineConfig(claude_code_oauth_token=TOKEN, prompt="::say hello\n::shell true\n::fail no")
    executor = ConcurrentExecutor("my-app", fly=local)
    await (await execute(BLOCKS[2]))["watch"](executor, [ExecutionRequest(config, tag="t")])
    begins, *rest = capsys.readouterr().out.splitlines()
    assert begins.startswith("[t] begins on machine ")
    assert rest == ["[t] hello", "[t] Bash: {'command': 'true', 'description': 'scripted'}", "[t] Claude Code: no"]


async def test_the_lines_of_the_readme(served: object, capsys: pytest.CaptureFixture[str]) -> None:
    """The fourth block prints what the agent says, and what it did cost."""
    config = MachineConfig(prompt="::cost 0.25\n::say hello")
    await (await execute(BLOCKS[3]))["tail"]("my-app", config)
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("[flaude]")]
    assert lines == ["hello", "0.25"]


async def test_the_rows_of_the_readme() -> None:
    """The fifth block runs and its own assertion holds."""
    requests = (await execute(BLOCKS[4]))["requests"]
    assert requests[0].config.prompt.startswith("Replace `userId` by `user_id` in src/auth/login.py")


async def test_the_local_run_of_the_readme() -> None:
    """The last block runs and its own assertion holds."""
    assert len(BLOCKS) == 6
    assert (await execute(BLOCKS[5]))["result"].success


def test_every_command_of_the_readme_is_a_target() -> None:
    """Each `make` target that the README names is in the Makefile."""
    makefile = (Path(__file__).parent.parent / "Makefile").read_text()
    for target in set(re.findall(r"(?:^    |`)make ([a-z]+)", README, flags=re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_every_block_is_run() -> None:
    """A block in a language that no test below runs would be a promise that nobody keeps."""
    assert {language for language, _ in _FENCED} == {"python", "yaml", "toml", "json", "sh"}
    assert [len(blocks(language)) for language in ("yaml", "toml", "json")] == [2, 1, 1]


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """A folder with what the batch files of the README name."""
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "docs.md").write_text("Write the docs\n")
    (tmp_path / "batch.yaml").write_text(blocks("yaml")[0])
    rows = io.StringIO()
    csv.writer(rows).writerows([["path", "old", "new"], ["src/a.py", "userId", "user_id"], ["b.ts", "x", "y, z"]])
    (tmp_path / "rows.csv").write_text(rows.getvalue())
    return tmp_path


_MATRIX = [
    f"{prompt}-{repo}-{model}"
    for prompt in ("Review-it-for-security-issues", "docs")
    for repo in ("api", "web")
    for model in ("opus", "sonnet")
]


@pytest.mark.parametrize(
    ("format_", "index", "tags"),
    [
        ("yaml", 0, ["auth-review", "docs"]),
        ("yaml", 1, [*_MATRIX, "api-src/auth/login.py", "web-src/cart.ts"]),
        ("toml", 0, ["auth-review"]),
    ],
)
async def test_the_batch_files_of_the_readme(beside: Path, format_: Format, index: int, tags: list[str]) -> None:
    """Each is a batch, and right for an editor too, which finds the schema by the first line of the two that say so."""
    block = blocks(format_)[index]
    file = beside / f"it.{format_}"
    file.write_text(block)
    spec = await load(file, environ={"GITHUB_TOKEN": TOKEN})
    assert spec.settings.app == "my-app"
    assert [request.tag for request in spec.requests] == tags
    node = read_node(block, file.name, format_, Problems())
    assert node is not None
    jsonschema_rs.validator_for(json_schema()).validate(node.plain())
    assert ("./flaude.schema.json" in block.splitlines()[0]) == (index == 0)


async def test_the_mistake_of_the_readme(beside: Path) -> None:
    """A field that there is not, put into the first task of the first file, is told as it is written there."""
    file = beside / "batch.yaml"
    text = file.read_text()
    file.write_text(text.replace("security issues\n", "security issues\n    max_turn: 5\n"))
    with pytest.raises(BatchFileError) as caught:
        await load(file, environ={"GITHUB_TOKEN": TOKEN})
    assert f"`{str(caught.value).removeprefix(f'{beside}/')}`" in README


def test_the_editor_settings_of_the_readme() -> None:
    """They are JSON, and name the file that the shell's lines write."""
    (block,) = blocks("json")
    (schema,) = json.loads(block)["yaml.schemas"]
    assert f"> {Path(schema).name}\n" in blocks("sh")[0]


def test_the_lines_for_the_shell_of_the_readme(beside: Path) -> None:
    """They run in a shell as they stand, where the files are that they name."""
    command = beside / "bin" / "flaude"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m flaude "$@"\n')
    command.chmod(0o755)
    environ = {**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}", "GITHUB_TOKEN": TOKEN}
    done = subprocess.run(
        ["/bin/sh", "-ec", "\n".join(blocks("sh"))],
        check=False,
        cwd=beside,
        env=environ,
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert done.returncode == 0, done.stderr
    assert "batch.yaml: 2 tasks for the app my-app" in done.stdout and "at most $4.00" in done.stdout
    assert "rows.csv: 2 tasks for the app my-app" in done.stdout and "Replace `x` by `y, z` in b.ts" in done.stdout
    assert TOKEN not in done.stdout + done.stderr
    assert json.loads((beside / "flaude.schema.json").read_text()) == json_schema()
