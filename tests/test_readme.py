"""The README's code runs as it stands."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flaude import ConcurrentExecutor, ExecutionRequest, MachineConfig
from flaude.local import LocalFly
from tests.conftest import TOKEN

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


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


async def test_the_report_of_a_batch_as_in_the_readme(
    served: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The sixth block writes the report of a batch."""
    monkeypatch.chdir(tmp_path)
    config = MachineConfig(prompt="::say hello\n::shell true")
    await (await execute(BLOCKS[5]))["run_and_report"]("my-app", [ExecutionRequest(config, tag="greeting")])
    content = (tmp_path / "report.html").read_text()
    assert "The run succeeded" in content and "greeting" in content and "<b>Bash</b>" in content


async def test_the_local_run_of_the_readme() -> None:
    """The last block runs and its own assertion holds."""
    assert len(BLOCKS) == 7
    assert (await execute(BLOCKS[6]))["result"].success


def test_every_command_of_the_readme_is_a_target() -> None:
    """Each `make` target that the README names is in the Makefile."""
    makefile = (Path(__file__).parent.parent / "Makefile").read_text()
    for target in set(re.findall(r"(?:^    |`)make ([a-z]+)", README, flags=re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
