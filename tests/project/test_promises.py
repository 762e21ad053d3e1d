"""The page of promises names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

from flaude import Timeouts

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "promises.md").read_text()


def test_every_promise_names_a_test_that_there_is() -> None:
    """A promise without its test is none."""
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), flags=re.MULTILINE)
    }
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 40
    assert named <= defined, named - defined
    promises = PAGE.partition("## Your own tests")[0]
    rows = [line for line in promises.splitlines() if line.startswith("| ") and "hown by |" not in line]
    bare = [row for row in rows if "`test_" not in row]
    assert all("Clock" in row or "min |" in row for row in bare), bare


def test_the_defaults_are_those_of_the_page() -> None:
    """The times that the page writes down are the defaults."""
    minutes = dict(re.findall(r"^\| `(\w+)` \| (\d+) min", PAGE, flags=re.MULTILINE))
    assert len(minutes) == 4
    for name, value in minutes.items():
        assert getattr(Timeouts(), name) == 60 * int(value), name
