"""What the filter takes out, and what it leaves."""

from __future__ import annotations

import pytest

from flaude._guest.inside.redact import Redactor

CREDENTIALS = """apiVersion: v1
kind: Config
-----
token: "eyJhbGciOiJSUzI1NiIs"
"""


def test_a_secret_that_begins_like_another_leaves_no_rest() -> None:
    """Longer values are looked for first."""
    assert Redactor(["canary", "canary-and-more"])("x canary-and-more y") == "x [redacted] y"


def test_keys_are_told_too() -> None:
    """A secret is found in a JSON object's keys."""
    assert Redactor(["canary-77"]).json({"a canary-77": [{"canary-77": 1}]}) == {"a [redacted]": [{"[redacted]": 1}]}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("the token is eyJhbGciOiJSUzI1NiIs", "the token is [redacted]"),
        ("kind: ConfigMap", "kind: ConfigMap"),
        ("apiVersion: v1", "apiVersion: v1"),
        ("----------", "----------"),
        (CREDENTIALS, "[redacted]"),
    ],
    ids=["a long word", "a short one", "a line", "a mark", "the whole"],
)
def test_a_file_of_credentials(told: str, expected: str) -> None:
    """Of a value of several lines the long words are secret, not what every such file has."""
    assert Redactor([CREDENTIALS])(told) == expected
