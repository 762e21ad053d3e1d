"""The README's code runs as it stands."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from flaude.local import LocalFly

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


async def test_the_rows_of_the_readme() -> None:
    """The second block runs and its own assertion holds."""
    requests = (await execute(BLOCKS[1]))["requests"]
    assert requests[0].config.prompt.startswith("Replace `userId` by `user_id` in src/auth/login.py")


async def test_the_local_run_of_the_readme() -> None:
    """The third block runs and its own assertion holds."""
    assert len(BLOCKS) == 3
    assert (await execute(BLOCKS[2]))["result"].success


def test_every_command_of_the_readme_is_a_target() -> None:
    """Each `make` target that the README names is in the Makefile."""
    makefile = (Path(__file__).parent.parent / "Makefile").read_text()
    for target in set(re.findall(r"(?:^    |`)make ([a-z]+)", README, flags=re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
