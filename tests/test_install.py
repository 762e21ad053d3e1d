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

from flaude import ConcurrentExecutor, FailureKind, MachineConfig
from flaude.local import LocalImage
from tests.conftest import TOKEN, Machines, needs
from tests.messages_api import served

PACKAGE = "@anthropic-ai/claude-code"
VERSION = "9.8.7"
CLAUDE = """#!/bin/sh
cat > prompt.txt
echo '{"type":"result","subtype":"success","is_error":false,"result":"installed","num_turns":1}'
"""


def tarball() -> bytes:
    """The package: its manifest and a `claude`."""
    buffer = io.BytesIO()
    manifest = json.dumps({"name": PACKAGE, "version": VERSION, "bin": {"claude": "claude"}})
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text, mode in (("package.json", manifest, 0o644), ("claude", CLAUDE, 0o755)):
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size, entry.mode = len(text), mode
            archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


@asynccontextmanager
async def registry() -> AsyncIterator[str]:
    """Serves the package; yields the registry's address."""
    content = tarball()

    async def metadata(request: Request) -> Response:
        distribution = {"tarball": f"{request.base_url}package.tgz", "shasum": hashlib.sha1(content).hexdigest()}  # noqa: S324  # npm's own field
        version = {"name": PACKAGE, "version": VERSION, "bin": {"claude": "claude"}, "dist": distribution}
        return JSONResponse({"name": PACKAGE, "dist-tags": {"latest": VERSION}, "versions": {VERSION: version}})

    async def package(_: Request) -> Response:
        return Response(content)

    routes = [Route("/package.tgz", package), Route("/{name:path}", metadata)]
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


async def test_a_version_that_does_not_exist_is_told(machines: Machines) -> None:
    """When npm cannot install it, the error names the package, the version and npm's reason."""
    needs("npm", "install Node.js", there=shutil.which("npm") is not None)
    async with registry() as url, machines(image=LocalImage.host(env={"npm_config_registry": url})) as fly:
        config = MachineConfig(claude_code_oauth_token=TOKEN, prompt="x", claude_code_version="1.2.3")
        result = await ConcurrentExecutor("my-app", fly=fly).run_one(config)
    assert result.failure is not None and result.failure.kind is FailureKind.IMAGE
    assert f"npm install {PACKAGE}@1.2.3 failed" in result.failure.message
