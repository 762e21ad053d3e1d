from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flaude import NoTokenError
from flaude.fly import FlyClient
from flaude.fly.settings import authorization, base_url, find_token


@pytest.mark.parametrize(
    ("argument", "environ", "expected"),
    [
        (None, {}, "https://api.machines.dev"),
        ("http://a:1/", {"FLY_FLAPS_BASE_URL": "http://b"}, "http://a:1"),
        (None, {"FLY_FLAPS_BASE_URL": "http://b/v1", "FLY_API_HOSTNAME": "c"}, "http://b"),
        (None, {"FLY_FLAPS_BASE_URL": "", "FLY_API_HOSTNAME": "api.example.com"}, "https://api.example.com"),
        (None, {"FLY_API_HOSTNAME": "http://_api.internal:4280"}, "http://_api.internal:4280"),
    ],
)
def test_base_url(argument: str | None, environ: dict[str, str], expected: str) -> None:
    """The argument wins, then FLY_FLAPS_BASE_URL, then FLY_API_HOSTNAME, then Fly; empty counts as absent."""
    assert base_url(argument, environ) == expected


@pytest.mark.parametrize(
    ("argument", "environ", "expected"),
    [
        ("mine", {"FLY_API_TOKEN": "env"}, "mine"),
        (None, {"FLY_API_TOKEN": "api", "FLY_ACCESS_TOKEN": "access"}, "api"),
        (None, {"FLY_API_TOKEN": "", "FLY_ACCESS_TOKEN": "access"}, "access"),
        (None, {}, "from-flyctl"),
    ],
)
def test_token_order(tmp_path: Path, argument: str | None, environ: dict[str, str], expected: str) -> None:
    """The argument wins, then the two variables, then flyctl's own config file."""
    (tmp_path / "config.yml").write_text("access_token: from-flyctl\nlast_login: 2026-01-01T00:00:00Z\n")
    assert find_token(argument, {"FLY_CONFIG_DIR": str(tmp_path), **environ}) == expected


@pytest.mark.parametrize("content", [None, "", "access_token: [1]\n", "access_token: ''\n", ": not yaml [", "- 1\n"])
def test_no_token_is_a_clear_error(tmp_path: Path, content: str | None) -> None:
    """Without a token anywhere the error says what to do; a broken config file is no token."""
    if content is not None:
        (tmp_path / "config.yml").write_text(content)
    with pytest.raises(NoTokenError, match="FLY_API_TOKEN"):
        find_token(None, {"FLY_CONFIG_DIR": str(tmp_path)})


@pytest.mark.parametrize(
    ("token", "header"),
    [
        ("fo1_abc", "Bearer fo1_abc"),
        ("fm2_abc", "FlyV1 fm2_abc"),
        ("FlyV1 fm2_abc,fm2_def", "FlyV1 fm2_abc,fm2_def"),
        ("Bearer FlyV1 fm1r_abc", "FlyV1 fm1r_abc"),
        ("bearer fo1_abc", "Bearer fo1_abc"),
        ("fm2_abc, fo1_def ,fm1a_x", "FlyV1 fm2_abc,fm1a_x"),
    ],
)
def test_authorization(token: str, header: str) -> None:
    """Macaroons go as FlyV1, without the OAuth tokens beside them, all else as Bearer."""
    assert authorization(token) == header


@given(
    st.lists(st.sampled_from(["fm2_a", "fm1r_b", "fo1_c", "plain"]), min_size=1),
    st.sampled_from(["", "FlyV1 ", "Bearer "]),
)
def test_authorization_has_one_scheme(parts: list[str], scheme: str) -> None:
    """Whatever the token, the header has exactly one scheme and at least one token."""
    header = authorization(scheme + ",".join(parts))
    assert header.count(" ") == 1
    assert header.startswith(("FlyV1 fm", "Bearer ")) and not header.endswith(" ")


def test_the_client_does_not_show_its_token() -> None:
    """A client's repr has its address and not its token."""
    client = FlyClient(base_url="http://127.0.0.1:1", token="fm2_canary")
    assert "fm2_canary" not in repr(client) + str(vars(client))
    assert "127.0.0.1:1" in repr(client)
