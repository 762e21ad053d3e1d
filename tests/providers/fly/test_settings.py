from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flaude import ConfigError, NoTokenError
from flaude._providers.fly import FlyClient
from flaude._providers.fly.connection import authorization, base_url, find_token


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
    "url",
    [
        "https://user:hunter2@api.example.com",
        "https://user@api.example.com",
        "user:hunter2@api.example.com",
        "https://user:hunter2@api.example.com:port",
        "https://user:hunter2/@api.example.com",
        "https://user:hunter2#@api.example.com",
        "ftp://user:hunter2@api.example.com",
        "https://",
        "http://:4280",
        "https://api.example.com:port",
        "https://api.example.com:99999",
        "https://api.example.com:-1",
        "ftp://api.example.com",
        "file:///etc/passwd",
        "https://api.\nexample.com",
    ],
)
@pytest.mark.parametrize("place", ["argument", "FLY_FLAPS_BASE_URL", "FLY_API_HOSTNAME"])
def test_a_base_url_that_is_none(url: str, place: str) -> None:
    """What requests cannot go to is refused at once with the field's name, and no password in it is shown."""
    with pytest.raises(ConfigError, match=r"^base_url: ") as caught:
        base_url(url if place == "argument" else None, {place: url})
    assert "hunter2" not in str(caught.value) + repr(caught.value.__cause__)


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


@pytest.mark.parametrize("blank", ["", " ", "\n", "Bearer", "FlyV1 ", "Bearer FlyV1 ", ",", "FlyV1 , ,"])
def test_a_blank_token_is_none(tmp_path: Path, blank: str) -> None:
    """What has no token in it counts as absent, and the next place is asked."""
    (tmp_path / "config.yml").write_text("access_token: from-flyctl\n")
    folder = {"FLY_CONFIG_DIR": str(tmp_path)}
    assert find_token(blank, {**folder, "FLY_API_TOKEN": "api"}) == "api"
    assert find_token(blank, {**folder, "FLY_API_TOKEN": blank, "FLY_ACCESS_TOKEN": "access"}) == "access"
    assert find_token(blank, {**folder, "FLY_API_TOKEN": blank, "FLY_ACCESS_TOKEN": blank}) == "from-flyctl"
    (tmp_path / "config.yml").write_text(json.dumps({"access_token": blank}))
    with pytest.raises(NoTokenError):
        find_token(blank, folder)


@pytest.mark.parametrize("token", ["fm2_canary x", "fm2_canary\nx", "fm2_can\x00ary", "fm2_canaryä", "a,fm2_canary\tx"])
@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("argument", "token="),
        ("FLY_API_TOKEN", "FLY_API_TOKEN"),
        ("FLY_ACCESS_TOKEN", "FLY_ACCESS_TOKEN"),
        ("config.yml", "flyctl's config.yml"),
    ],
)
def test_a_token_that_no_header_can_carry(tmp_path: Path, token: str, place: str, words: str) -> None:
    """A token with blanks, line breaks or foreign letters is refused with the place where it was found, unshown."""
    (tmp_path / "config.yml").write_text(json.dumps({"access_token": token if place == "config.yml" else "good"}))
    environ = {"FLY_CONFIG_DIR": str(tmp_path), place: token}
    with pytest.raises(ConfigError, match=words) as caught:
        find_token(token if place == "argument" else None, environ)
    assert "can" not in str(caught.value).replace("cannot", "")


def test_blanks_around_a_token_do_no_harm() -> None:
    """A line break that came along from a file is taken off."""
    assert find_token(" FlyV1 fm2_a, fm2_b\n", {}) == "FlyV1 fm2_a, fm2_b"
    assert authorization(find_token("fo1_a\n", {})) == "Bearer fo1_a"


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
