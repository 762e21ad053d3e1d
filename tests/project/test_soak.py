"""The soak of `benchmarks/`, short."""

from __future__ import annotations

import pytest
from benchmarks.soak import soak


@pytest.mark.timeout(180)
async def test_a_short_soak() -> None:
    """Runs of a second with 2 % faults on every call leave nothing behind and all come out right."""
    done = await soak(24, apps=4, at_once_and_app=3, seed=2)
    assert done.wrong == []
    assert done.struck.total() > 0, "nothing went wrong, so nothing was shown"
