"""`flaude doctor --image`, against real registries."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest
from tests.providers.registry.conftest import PASSWORD
from tests.providers.registry.pushing import LAYER, Registry, config, encoded

from flaude.cli.checks import fly as fly_checks
from flaude.cli.checks import images as image_checks
from flaude.cli.checks import this_computer as checks
from flaude.cli.checks.images import image
from flaude.cli.checks.this_computer import Check, Verdict
from flaude.cli.commands.doctor import doctor

SHA = f"sha256:{'0' * 64}"


async def looked_at(text: str, **environ: str) -> dict[str, Check]:
    """What is said of an image, by its name."""
    found = await image(text, {"FLY_CONFIG_DIR": "/nonexistent", **environ})
    assert len({check.name for check in found}) == len(found)
    return {check.name: check for check in found}


async def test_an_image_that_fly_can_run(registry: Registry) -> None:
    """By its digest, for linux/amd64, as root and small: all is right; by a tag, the digest to name is told."""
    digest = registry.push("good", config(Entrypoint=["/odd"], Env=["A=b"]), tag="v1")["digest"]
    pinned = f"{registry.address}/good@{digest}"
    found = await looked_at(pinned)
    assert list(found) == ["image", "image platform", "image user", "image size"]
    assert {check.verdict for check in found.values()} == {Verdict.RIGHT} and not any(c.fix for c in found.values())
    tagged = (await looked_at(f"{registry.address}/good:v1"))["image"]
    assert tagged.verdict is Verdict.NOTE and f"`image: {pinned}`" in tagged.fix


@pytest.mark.parametrize(
    ("of", "name", "told", "fix"),
    [
        (config("arm64"), "image platform", "for linux/arm64 and not", "docker build --platform linux/amd64"),
        ({**config(), "os": "windows"}, "image platform", "for windows/amd64 and not", "--platform linux/amd64"),
        (config(User="node"), "image user", "USER node", "take the USER line out"),
    ],
)
async def test_an_image_that_it_cannot(registry: Registry, of: dict[str, Any], name: str, told: str, fix: str) -> None:
    """Another platform and a USER are wrong, each with what to do; all else about the image is right."""
    digest = registry.push("bad", of)["digest"]
    found = await looked_at(f"{registry.address}/bad@{digest}")
    wrong = found.pop(name)
    assert wrong.verdict is Verdict.WRONG and told in wrong.found and fix in wrong.fix
    assert {check.verdict for check in found.values()} == {Verdict.RIGHT}


@pytest.mark.parametrize(
    ("megabytes", "verdict", "told"),
    [
        (0, Verdict.RIGHT, "1 MB to download"),
        (400, Verdict.RIGHT, "400 MB to download"),
        (2_960, Verdict.RIGHT, "3.0 GB to download"),
        (3_500, Verdict.NOTE, "3.5 GB to download, perhaps 9 GB unpacked"),
        (8_100, Verdict.WRONG, "8.1 GB to download; a machine's root file system has 8 GB"),
    ],
)
async def test_how_large_it_is(registry: Registry, megabytes: int, verdict: Verdict, told: str) -> None:
    """What does not fit on a machine's disk is wrong, and what may not fit once unpacked is worth knowing."""
    of = config()
    # A registry takes the sizes in a manifest as they are told.
    layer = megabytes * 10**6 - len(encoded(of)) if megabytes else len(LAYER)
    pushed = registry.push("size", of, layers=[layer])
    found = await looked_at(f"{registry.address}/size@{pushed['digest']}")
    assert (found["image size"].verdict, told in found["image size"].found) == (verdict, True), found
    assert bool(found["image size"].fix) is (verdict is not Verdict.RIGHT)


async def test_what_is_not_there(registry: Registry) -> None:
    """An image that does not exist is wrong, and so is a name that is none."""
    registry.push("there", config(), tag="v1")
    for rest in ("there:v2", f"there@{SHA}"):
        (missing,) = (await looked_at(f"{registry.address}/{rest}")).values()
        assert missing.verdict is Verdict.WRONG and "has no such image" in missing.found and missing.fix
    (odd,) = (await looked_at("No Name")).values()
    assert odd.verdict is Verdict.WRONG and "not a valid image name" in odd.found


async def test_flys_registry_gets_the_fly_token(locked_registry: Registry) -> None:
    """Fly's registry is asked as user x with the macaroons of the Fly token, and another registry is asked without."""
    locked_registry.push("my-app", config(), tag="claude")
    name, token = f"{locked_registry.address}/my-app:claude", f"FlyV1 {PASSWORD},fo1_other"
    found = await looked_at(name, FLY_API_TOKEN=token, FLY_REGISTRY_HOST=locked_registry.address)
    assert found["image platform"].verdict is Verdict.RIGHT
    for environ in (
        {"FLY_API_TOKEN": token},  # not Fly's
        {"FLY_REGISTRY_HOST": locked_registry.address},  # no token
        {"FLY_REGISTRY_HOST": locked_registry.address, "FLY_API_TOKEN": "fm2_other"},
        {"FLY_REGISTRY_HOST": locked_registry.address, "FLY_API_TOKEN": "can not be sent"},
    ):
        (unread,) = (await looked_at(name, **environ)).values()
        assert unread.verdict is Verdict.NOTE and "could not be looked at" in unread.found
        assert "canary" not in f"{unread}" and "fm2_other" not in f"{unread}" and "can not" not in f"{unread}"
        assert ("see `fly token`" in unread.fix) is ("FLY_REGISTRY_HOST" in environ)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No token, and a Fly that is not there."""
    monkeypatch.setenv("FLY_FLAPS_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("FLY_CONFIG_DIR", str(tmp_path))


@pytest.mark.usefixtures("alone")
async def test_the_command(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    """With `--image` the command has its lines in place of the usual one, also as JSON."""
    digest = registry.push("commanded", config(User="node"), tag="v1")["digest"]
    assert await doctor(image=f"{registry.address}/commanded:v1", json=True) == 1
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    verdicts = {one["name"]: one["verdict"] for one in told if one["name"].startswith("image")}
    assert verdicts == {"image": "note", "image platform": "right", "image user": "wrong", "image size": "right"}
    await doctor(image=f"{registry.address}/commanded:v1")
    assert re.search(rf"^note +image .*\n +name it .*commanded@{digest}`$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.usefixtures("alone")
async def test_no_registry_is_asked_unasked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without `--image` nothing is read from a registry, and the line is the usual one."""

    async def read(*_: object) -> None:
        raise AssertionError("a registry was asked")

    monkeypatch.setattr(image_checks, "read_image", read)
    await doctor(json=True)
    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"image' in line]
    assert line["found"] == (await checks.image()).found


@pytest.mark.usefixtures("alone")
async def test_a_registry_that_drips(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A registry that never comes to an end is given up, which is no mistake of the image's."""
    monkeypatch.setattr(image_checks, "WITHIN_S", 0.5)
    monkeypatch.setattr(fly_checks, "WITHIN_S", 0.1)  # for whatever is asked once

    async def drip(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            await anyio.sleep_forever()

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, drip)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610  # anyio's, and nothing of Django
        with anyio.fail_after(20):
            await doctor(image=f"127.0.0.1:{port}/a", json=True)
        tasks.cancel_scope.cancel()
    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"image' in line]
    assert line["verdict"] == "note" and "has not answered within 0.5 s" in line["found"]
