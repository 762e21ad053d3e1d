from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.providers.registry.pushing import config, encoded, manifest

from flaude._providers.registry.challenge import Basic, Bearer, read_challenge, read_token
from flaude._providers.registry.manifests import Config, NotAManifestError, read_config, read_manifest

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.binary(max_size=64) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_answer(content: bytes) -> None:
    """Whatever a registry answers is understood or told, and nothing else is raised."""
    for read in (read_manifest, read_config):
        with suppress(NotAManifestError):
            read(content)


@given(st.sampled_from(["config", "layers", "manifests", "schemaVersion"]), JSON)
def test_any_field(field: str, value: Any) -> None:
    """A manifest with any value in one of its fields is understood or told."""
    with suppress(NotAManifestError):
        read_manifest(encoded({**manifest(config()), field: value}))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[" * 100_000, "not a JSON object"),
        (b'{"schemaVersion": ' + b"1" * 10_000 + b"}", "not a JSON object"),
        (b'{"schemaVersion": 1, "fsLayers": []}', "of the first version"),
        (b'{"schemaVersion": 2}', "not the manifest of an image"),
        (encoded({**manifest(config()), "manifests": []}), "not the manifest of an image"),
        (
            encoded({**manifest(config()), "config": {"digest": "../../x", "size": 1}}),
            "look at its field config.digest",
        ),
        (encoded({"manifests": [{"digest": f"sha256:{'0' * 64}\n", "size": 1}]}), "field manifests.0.digest"),
        (encoded({"manifests": [{"digest": f"sha256:{'0' * 64}", "size": -1}]}), "field manifests.0.size"),
    ],
)
def test_what_is_no_manifest(content: bytes, told: str) -> None:
    """What is wrong with an answer is told, and a digest leads to no other path."""
    with pytest.raises(NotAManifestError, match=told):
        read_manifest(content)


@pytest.mark.parametrize(
    ("user", "root"),
    [
        *((user, True) for user in ("", "root", "0", "0:0", "root:root", "0:1000", "00", None)),
        *((user, False) for user in ("node", "1000", "1000:0", "root2", "10", "claude:root", "ROOT")),
    ],
)
def test_who_is_root(user: str | None, root: bool) -> None:
    """User 0 is root, by name and by number, in whatever group."""
    found = read_config(encoded(config(User=user)))
    assert isinstance(found, Config) and found.runs_as_root is root


def test_a_layer_twice_is_downloaded_once() -> None:
    """What a machine downloads counts each layer once."""
    found = read_manifest(encoded(manifest(config(), layers=[100, 100])))
    blob = len(encoded(config()))
    assert getattr(found, "compressed_bytes", None) == blob + 100


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("", None),
        ("Negotiate", None),
        ("Bearer", None),
        ("Bearer service=x", None),
        ('Basic realm="x"', Basic()),
        ("basic", Basic()),
        (
            'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/node:pull"',
            Bearer("https://auth.docker.io/token?scope=repository%3Alibrary%2Fnode%3Apull&service=registry.docker.io"),
        ),
        (
            "bearer Realm=https://x.y/t?a=b, service=s",
            Bearer("https://x.y/t?a=b&scope=repository%3Aa%2Fb%3Apull&service=s"),
        ),
        (
            'Bearer realm="https://x.y/t",service="a&b=c#d"',
            Bearer("https://x.y/t?scope=repository%3Aa%2Fb%3Apull&service=a%26b%3Dc%23d"),
        ),
    ],
)
def test_challenges(header: str, wanted: Basic | Bearer | None) -> None:
    """Where to ask for a token is understood, and what a registry says goes into the query as data."""
    assert read_challenge(header, repository="a/b") == wanted


@given(st.text(max_size=80) | st.text('Bearer m="a,', max_size=80))
def test_any_challenge(header: str) -> None:
    """Any header is a challenge or none."""
    read_challenge(f"Bearer {header}", repository="a")


@pytest.mark.parametrize(
    ("content", "token"),
    [
        (b'{"token": "abc.def"}', "abc.def"),
        (b'{"access_token": "abc"}', "abc"),
        *(
            (content, None)
            for content in (b"", b"[]", b'{"token": 1}', b'{"token": "a\\nb"}', b'{"token": ""}', b"[" * 99_999)
        ),
    ],
)
def test_tokens(content: bytes, token: str | None) -> None:
    """A token is one that a header can hold."""
    assert read_token(content) == token
