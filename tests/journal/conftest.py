from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.journal_helpers import WallClock, make_journal

from flaude.journal import Journal


@pytest.fixture
def clock() -> WallClock:
    """A wall clock that stands until the test moves it."""
    return WallClock()


@pytest.fixture(params=["memory", "sqlite"])
async def journal(request: pytest.FixtureRequest, tmp_path: Path, clock: WallClock) -> AsyncIterator[Journal]:
    """Each kind of journal, open and empty."""
    async with make_journal(request.param, tmp_path / "journal", clock) as opened:
        yield opened
