"""Installing Claude Code with the real npm, from a registry on 127.0.0.1 that has one tiny package."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tests.conftest import TOKEN, Machines, needs
from tests.support.messages_api import served

from flaude import ConcurrentExecutor, FailureKind, MachineConfig
from flaude._model.config import TESTED_CLAUDE_CODE
from flaude.events import Event, Notice
from flaude.local import LocalImage

PACKAGE = "@anthropic-ai/claude-code"
VERSION = "9.8.7"
CLAUDE = """#!/bin/sh
[ "$1" = --version ] && echo "9.8.7 (Claude Code)" && exit
cat > prompt.txt
echo '{"type":"result","subtype":"success","is_error":false,"result":"installed","num_turns":1}'
"""


STUB = "#!/bin/sh\necho 'Error: claude native binary not installed.' >&2\nexit 1\n".ljust(500, "#")


def tarball(version: str, claude: str) -> bytes:
    """The package: its manifest and a `claude`."""
    buffer = io.BytesIO()
    manifest = json.dumps({"name": PACKAGE, "version": version, "bin": {"claude": "claude"}})
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text, mode in (("package.json", manifest, 0o644), ("claude", claude, 0o755)):
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size, entry.mode = len(text), mode
            archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


@asynccontextmanager
async def registry(*, stub: str = "", failures: int = 0) -> AsyncIterator[str]:
    """Serves the package; yields the registry's address.

    Args:
        stub: A version that is `latest`, and whose program was never published.
        failures: How many of the first requests are answered 503.
    """
    contents = {VERSION: tarball(VERSION, CLAUDE), TESTED_CLAUDE_CODE: tarball(TESTED_CLAUDE_CODE, CLAUDE)}
    if stub:
        contents[stub] = tarball(stub, STUB)
    left = failures

    async def metadata(request: Request) -> Response:
        nonlocal left
        left -= 1
        if left >= 0:
            return Response(status_code=503)
        versions = {
            version: {
                "name": PACKAGE,
                "version": version,
                "bin": {"claude": "claude"},
                "dist": {
                    "tarball": f"{request.base_url}package-{version}.tgz",
                    "shasum": hashlib.sha1(content).hexdigest(),  # noqa: S324  # npm's own field
                },
            }
            for version, content in contents.items()
        }
        return JSONResponse({"name": PACKAGE, "dist-tags": {"latest": stub or VERSION}, "versions": versions})

    async def package(request: Request) -> Response:
        return Response(contents[request.path_params["version"]])

    routes = [Route("/package-{version}.tgz", package), Route("/{name:path}", metadata)]
    async with served(Starlette(routes=routes)) as url:
        yield url


@pytest.mark.parametrize("version", ["latest", VERSION])
async def test_claude_is_installed_when_the_image_has_none(machines: Machines, version: str) -> None:
    """An image with npm and without Claude Code gets it at start, at the version that the config pins."""
    needs("npm", "install Node.js", there=shutil.which("npm") is not None)
    async with registry() as url, machines(image=LocalImage.host(env={"npm_config_registry": url})) as fly:
        config = MachineConfig(claude_code_oauth_token=TOKEN, prompt="x", claude_code_version=version)
        result = await ConcurrentExecutor("my-app", fly=fly).run_one(config)
    assert result.success, result
    assert result.run_result is not None and result.run_result.text == "installed"


@pytest.mark.timeout(120)
async def test_a_latest_that_was_never_published(machines: Machines) -> None:
    """Npm's tag names a version that is but a stub: the tested one does the work, and the run says so."""
    needs("npm", "install Node.js", there=shutil.which("npm") is not None)
    seen: list[Event] = []
    image = LocalImage.host
    async with registry(stub="9.9.9") as url, machines(image=image(env={"npm_config_registry": url})) as fly:
        config = MachineConfig(claude_code_oauth_token=TOKEN, prompt="x", claude_code_version="latest")
        result = await ConcurrentExecutor("my-app", fly=fly, on_event=seen.append).run_one(config)
    assert result.success, result
    told = [event.text for event in seen if isinstance(event, Notice)]
    assert any("@latest was installed and does not run" in line and TESTED_CLAUDE_CODE in line for line in told), told


@pytest.mark.timeout(120)
async def test_a_registry_that_fails_twice(machines: Machines) -> None:
    """The real npm gives up at its 503; it is called again."""
    needs("npm", "install Node.js", there=shutil.which("npm") is not None)
    async with registry(failures=2) as url:
        env = {"npm_config_registry": url, "npm_config_fetch_retries": "0"}
        async with machines(image=LocalImage.host(env=env)) as fly:
            result = await ConcurrentExecutor("my-app", fly=fly).run_one(
                MachineConfig(claude_code_oauth_token=TOKEN, prompt="x")
            )
    assert result.success and len(result.attempts) == 1, result


async def test_a_version_that_does_not_exist_is_told(machines: Machines) -> None:
    """When npm cannot install it, the error names the package, the version and npm's reason."""
    needs("npm", "install Node.js", there=shutil.which("npm") is not None)
    async with registry() as url, machines(image=LocalImage.host(env={"npm_config_registry": url})) as fly:
        config = MachineConfig(claude_code_oauth_token=TOKEN, prompt="x", claude_code_version="1.2.3")
        result = await ConcurrentExecutor("my-app", fly=fly).run_one(config)
    assert result.failure is not None and result.failure.kind is FailureKind.IMAGE
    assert f"npm install {PACKAGE}@1.2.3 failed" in result.failure.message
