from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flaude import ConfigError
from flaude._providers.registry.image_name import ImageName

SHA = f"sha256:{'0123456789abcdef' * 4}"


@pytest.mark.parametrize(
    ("text", "base_url", "repository", "reference"),
    [
        ("node", "https://registry-1.docker.io", "library/node", "latest"),
        ("node:22-bookworm", "https://registry-1.docker.io", "library/node", "22-bookworm"),
        ("docker.io/node:22", "https://registry-1.docker.io", "library/node", "22"),
        ("index.docker.io/library/node", "https://registry-1.docker.io", "library/node", "latest"),
        ("team/tool", "https://registry-1.docker.io", "team/tool", "latest"),
        (f"node:22@{SHA}", "https://registry-1.docker.io", "library/node", SHA),
        ("registry.fly.io/my-app:claude", "https://registry.fly.io", "my-app", "claude"),
        (f"registry.fly.io/my-app@{SHA}", "https://registry.fly.io", "my-app", SHA),
        ("ghcr.io/your-org/a/b_c.d--e:v1", "https://ghcr.io", "your-org/a/b_c.d--e", "v1"),
        ("example.com:8443/a:b", "https://example.com:8443", "a", "b"),
        ("localhost/a", "http://localhost", "a", "latest"),
        ("127.0.0.1:5000/a/b", "http://127.0.0.1:5000", "a/b", "latest"),
        ("[::1]:5000/a", "http://[::1]:5000", "a", "latest"),
        ("[2001:db8::1]/a", "https://[2001:db8::1]", "a", "latest"),
    ],
)
def test_where_an_image_is(text: str, base_url: str, repository: str, reference: str) -> None:
    """Short names are Docker Hub's, and plain HTTP is for this computer alone."""
    name = ImageName.parse(text)
    assert (name.base_url, name.repository, name.reference) == (base_url, repository, reference)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "Node",
            "node:",
            "node:-x",
            "node:a b",
            "/node",
            "node/",
            "a//b",
            "a/../b",
            "node@",
            "node@sha256:ab",
        ),
        *(
            f"node@{SHA}0",
            f"@{SHA}",
            "host:0/a",
            "host:70000/a",
            "host:/a",
            "-host.x/a",
            "[::g]/a",
            "[1:2]/a",
            "[::1/a",
        ),
        *("https://registry.fly.io/my-app", "me:secret@host.x/a", "node\n", "node:22\n", "nödé", f"{'a' * 250}/bcdef"),
    ],
)
def test_what_is_no_name(text: str) -> None:
    """What docker would refuse as a name is refused, with an example of one."""
    with pytest.raises(ConfigError, match="not a valid image name; write it like node:22-bookworm"):
        ImageName.parse(text)


WORDS = st.text("az09", min_size=1, max_size=4)
COMPONENTS = st.builds(
    lambda one, between, other: one + between + other, WORDS, st.sampled_from(["-", ".", "__"]), WORDS
)
HOSTS = st.sampled_from(["localhost", "ghcr.io", "host:1", "127.0.0.1:65535", "[::1]:80", "Host.example:443"])


@given(
    host=st.none() | HOSTS,
    components=st.lists(WORDS | COMPONENTS, min_size=1, max_size=4),
    tag=st.none() | st.builds("_{}".format, st.text("aZ0_.-", max_size=127)),
    digest=st.none() | st.builds("sha256:{:064x}".format, st.integers(0, 2**256 - 1)),
)
def test_a_name_that_was_composed(host: str | None, components: list[str], tag: str | None, digest: str | None) -> None:
    """The parts of a name are those that it was composed of, and it is written as it was."""
    text = "/".join(components)
    # Without a host, a first part with a dot is taken for one: docker does the same.
    alone = host is None and not (len(components) > 1 and ("." in components[0] or components[0] == "localhost"))
    written = text if host is None else f"{host}/{text}"
    whole = written + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    name = ImageName.parse(whole)
    if alone:
        assert name.repository == (text if len(components) > 1 else f"library/{text}")
        assert name.registry == "docker.io"
    elif host is not None:
        assert (name.registry, name.repository) == (host, text)
    assert (name.tag, name.digest) == (tag or (None if digest else "latest"), digest)
    assert name.reference == (digest or tag or "latest")
    assert str(name) == (whole if tag or digest else f"{whole}:latest")
    pinned = ImageName.parse(name.pinned(SHA))
    assert (pinned.registry, pinned.repository, pinned.reference) == (name.registry, name.repository, SHA)


@given(st.text(max_size=60) | st.text("az09.:/@[]-_A ", max_size=40))
def test_any_text(text: str) -> None:
    """Any text is a name or refused; what is one has nothing in it that could lead to another path or host."""
    try:
        name = ImageName.parse(text)
    except ConfigError:
        return
    url = f"{name.base_url}/v2/{name.repository}/manifests/{name.reference}"
    assert url.isascii() and url.isprintable() and not set(url) & set(" ?#%\\@") and ".." not in name.repository
    assert ImageName.parse(str(name)).reference == name.reference
