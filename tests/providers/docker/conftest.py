from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import needs
from tests.support.docker_daemon import DockerDaemon, available, using_daemon


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this test session have."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def docker_daemon(session_folder: Path) -> Iterator[DockerDaemon]:
    """A real Docker daemon, the same for all tests, with its image."""
    reason = available()
    needs("a Docker daemon", reason, there=not reason)
    with using_daemon(session_folder) as daemon:
        daemon.image()
        yield daemon
