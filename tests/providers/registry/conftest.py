from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import httpx2
import pytest
from tests.conftest import needs
from tests.providers.registry.pushing import Registry

ROOT = Path(__file__).parents[3]
USER, PASSWORD = "x", "fm2_canary"
_HTPASSWD = f"{USER}:$2b$04$rzwfS3hi2fUJPogC0RwXsexQq/Y7vpWQKy0rPokUc1wf8fIEd0xaW\n"  # of that password

_CONFIG = """\
version: 0.1
log: {{level: info, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {folder}/images}}}}
http: {{addr: "127.0.0.1:0"}}
"""


@pytest.fixture(scope="session")
def registry() -> Iterator[Registry]:
    """A real registry, which lets everybody in."""
    with _serving("") as registry:
        yield registry


@pytest.fixture(scope="session")
def locked_registry() -> Iterator[Registry]:
    """A real registry that wants a user name and a password."""
    with _serving("auth: {{htpasswd: {{realm: flaude, path: {folder}/htpasswd}}}}\n", (USER, PASSWORD)) as registry:
        yield registry


@contextmanager
def _serving(more: str, auth: tuple[str, str] | None = None) -> Iterator[Registry]:
    own = ROOT / ".cache" / "docker-registry" / "usr" / "bin" / "docker-registry"
    program = shutil.which("docker-registry") or (str(own) if own.exists() else None)
    needs("docker-registry", "run scripts/install-test-tools", there=program is not None)
    assert program is not None
    with tempfile.TemporaryDirectory(prefix="flaude-registry-") as folder:
        (Path(folder) / "htpasswd").write_text(_HTPASSWD)
        config = Path(folder) / "config.yml"
        config.write_text((_CONFIG + more).format(folder=folder))
        with subprocess.Popen([program, "serve", str(config)], stderr=subprocess.PIPE, text=True) as process:
            try:
                address = _address(process)
                with httpx2.Client(base_url=f"http://{address}", auth=auth, trust_env=False) as client:
                    yield Registry(address, client)
            finally:
                process.terminate()


def _address(process: subprocess.Popen[str]) -> str:
    """Where it listens, as it says itself; whatever it says later is read and thrown away."""
    assert process.stderr is not None
    for line in process.stderr:
        _, found, address = line.partition('msg="listening on ')
        if found:
            Thread(target=process.stderr.read, daemon=True).start()
            return address.partition('"')[0]
    raise AssertionError(f"the registry has ended with {process.wait()}")
