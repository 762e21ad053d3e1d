"""The user's page, word for word: every snippet is cut out of `concurrent-execution.txt` and run as it stands."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TOKEN, Machines

import flaude
from flaude import BatchResult, ConcurrentExecutor, ExecutionRequest, MachineConfig, Phase
from flaude.local import LocalFly, LocalImage

PUBLIC = {name: getattr(flaude, name) for name in flaude.__all__}
PAGE = Path(__file__).parents[1] / "concurrent-execution.txt"
HEADINGS = {
    "Basic batch execution": "basic",
    "Concurrency limits": "limits",
    "Iterating batch results": "iterating",
    "Checking overall success": "overall",
    "Handling partial failures": "partial",
    "Single-execution convenience": "single",
}


def snippets() -> dict[str, str]:
    """The code below each heading: the longest run of lines that Python can compile."""
    found: dict[str, str] = {}
    parts = re.split(rf"^({'|'.join(map(re.escape, HEADINGS))})$", PAGE.read_text(), flags=re.MULTILINE)
    for heading, body in zip(parts[1::2], parts[2::2], strict=True):
        lines = body.splitlines()
        spans = [(a, b) for a in range(len(lines)) for b in range(len(lines), a, -1) if lines[a].strip()]
        spans.sort(key=lambda span: span[0] - span[1])
        found[HEADINGS[heading]] = next(code for a, b in spans if is_code(code := "\n".join(lines[a:b])))
    return found


def is_code(text: str) -> bool:
    """Whether Python compiles it and it does something."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return False
    # A heading of one word is an expression too: in code, a statement of its own is at least a call.
    words = [node for node in tree.body if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Call)]
    return bool(tree.body) and not words


async def run_snippet(name: str, names: dict[str, Any]) -> dict[str, Any]:
    """Compile a snippet as it stands, top-level `await` allowed as on the page, and run it with `names`."""
    code = compile(snippets()[name], str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, names)  # noqa: S307  # the page is ours
    if inspect.isawaitable(result):
        await result
    return names


@pytest.fixture
async def page(machines: Machines, repo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The page's world: its app, and its repository at the address that the page gives."""
    config = tmp_path / "origin" / "gitconfig"
    config.write_text(
        f'[url "file://{repo}"]\n\tinsteadOf = https://github.com/your-org/your-repo\n[safe]\n\tdirectory = *\n'
    )
    image = LocalImage.default(env={"GIT_CONFIG_SYSTEM": str(config)})
    async with machines(image=image) as fly:
        monkeypatch.setenv("FLY_FLAPS_BASE_URL", fly.base_url)
        monkeypatch.setenv("FLY_API_TOKEN", fly.token)
        yield fly


def test_every_snippet_is_found() -> None:
    """The page has six snippets and each is cut out whole."""
    found = snippets()
    assert set(found) == set(HEADINGS.values())
    assert found["basic"].startswith("from flaude import") and "reviews succeeded" in found["basic"]
    assert found["limits"].count("executor =") == 2
    assert found["partial"].rstrip().endswith('print(f"[{tag}] Non-zero exit: {result.run_result.exit_code}")')
    assert found["single"].rstrip().endswith('print(f"Generation failed: {result.error}")')


async def test_basic_batch(page: LocalFly, capsys: pytest.CaptureFixture[str]) -> None:
    """The first snippet runs three reviews on three machines and prints what the page says."""
    names = await run_snippet("basic", {})
    await names["run_parallel_reviews"]("my-app")
    assert capsys.readouterr().out == "3/3 reviews succeeded\n"
    assert len(page.created) == 3


async def test_limits() -> None:
    """The two executors of the second snippet are made as they stand."""
    names = await run_snippet("limits", {**PUBLIC, "app_name": "my-app"})
    assert isinstance(names["executor"], ConcurrentExecutor)


@pytest.fixture
async def mixed(page: LocalFly) -> dict[str, Any]:
    """An executor and three requests: one succeeds, one agent exits with 3, one repository does not exist."""

    def request(tag: str, prompt: str, url: str) -> ExecutionRequest:
        return ExecutionRequest(MachineConfig(claude_code_oauth_token=TOKEN, prompt=prompt, repos=[url]), tag=tag)

    url = "https://github.com/your-org/your-repo"
    requests = [
        request("good", "::say fine", url),
        request("bad", "::exit 3", url),
        request("none", "::say never", url + "/does-not-exist"),
    ]
    return {**PUBLIC, "executor": ConcurrentExecutor("my-app"), "requests": requests}


async def test_iterating(mixed: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Success, error and a non-zero exit take the page's three branches, in the order of the requests."""
    names = await run_snippet("iterating", mixed)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[good] OK (exit_code=0)"
    assert lines[1] == "[bad] FAILED (exit_code=3)"
    assert lines[2].startswith("[none] ERROR: clone (clone): ")
    await run_snippet("overall", names)
    assert "2 tasks failed out of 3" in capsys.readouterr().out
    await run_snippet("overall", {"batch": BatchResult(results=[])})
    assert capsys.readouterr().out == "All tasks completed successfully\n"


async def test_partial_failures(mixed: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """The page's handling of partial failures tells exceptions from exit codes."""
    await run_snippet("partial", mixed)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
    assert lines[0] == "[bad] Non-zero exit: 3"
    assert lines[1].startswith("[none] Exception: ")


async def test_single(page: LocalFly, capsys: pytest.CaptureFixture[str]) -> None:
    """The single-execution snippet returns a wrapped result and prints its success."""
    names = await run_snippet("single", {**PUBLIC, "executor": ConcurrentExecutor("my-app")})
    assert capsys.readouterr().out == "Tests generated successfully\n"
    assert names["result"].tag == "generate-tests"


def test_the_page_is_code_that_type_checkers_see() -> None:
    """The page's words for the results are attributes of ours."""
    for name in ("results", "total", "succeeded", "failed", "all_succeeded"):
        assert hasattr(BatchResult(results=[]), name)
    assert textwrap.dedent(snippets()["overall"]).startswith("if batch.all_succeeded:")
    assert Phase.QUEUED.value == "queued"
