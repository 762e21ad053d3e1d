"""Whether an image is one that Fly's machines can run, by what its registry says; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Mapping

import anyio
import anyio.to_thread

from flaude._model.errors import ConfigError, NoTokenError
from flaude._providers.fly.connection import authorization, find_token
from flaude._providers.registry.image_name import ImageName
from flaude._providers.registry.manifests import FLY_PLATFORM, Config
from flaude._providers.registry.reading import Credentials, Image, NoSuchImageError, NotReadError, read_image
from flaude.cli.checks.this_computer import Check, Verdict

WITHIN_S = 20.0
FLY_REGISTRY = "registry.fly.io"
_MB, _GB = 10**6, 10**9
_ROOTFS_GB = 8
"""What a machine's root file system holds. Source: Fly's docs, machine-config; seen in logs as `Not enough space to
unpack image, possibly exceeds maximum of 8GB uncompressed`."""
_UNPACKED = 2.7
"""Unpacked, `node:22-bookworm` is about so many times as large; a manifest does not say what its image will be."""
_BUILD = "docker build --platform linux/amd64"


async def image(text: str, environ: Mapping[str, str]) -> list[Check]:
    """What the registry says about an image: its digest, platform, user and size."""
    try:
        name = ImageName.parse(text)
    except ConfigError as error:
        return [Check("image", Verdict.WRONG, str(error), "correct `--image`")]
    try:
        with anyio.fail_after(WITHIN_S):
            found = await read_image(name, await _credentials(name, environ))
    except NoSuchImageError as error:
        return [Check("image", Verdict.WRONG, f"{name}: {error}", "push it, or correct the name")]
    except (NotReadError, ConfigError) as error:
        return [_not_read(name, str(error), environ)]
    except TimeoutError:
        return [_not_read(name, f"{name.registry} has not answered within {WITHIN_S:g} s", environ)]
    return [_digest(name, found), _platform(found), _user(found.config), _size(found.compressed_bytes)]


async def _credentials(name: ImageName, environ: Mapping[str, str]) -> Credentials | None:
    """The Fly token, for Fly's registry alone.

    User and password are those of `fly auth docker`: `x`, and the macaroons without a scheme, or else the other tokens.
    Source: flyctl, internal/command/auth/docker.go; superfly/fly-go, tokens/tokens.go, `Docker`. FLY_REGISTRY_HOST is
    flyctl's variable. Two public clients of registry.fly.io read manifests so.
    """
    if not _is_flys(name, environ):
        return None
    try:
        token = await anyio.to_thread.run_sync(find_token, None, environ)
    except NoTokenError:
        return None
    return Credentials("x", authorization(token).partition(" ")[2])


def _is_flys(name: ImageName, environ: Mapping[str, str]) -> bool:
    return name.registry == (environ.get("FLY_REGISTRY_HOST") or FLY_REGISTRY)


def _not_read(name: ImageName, why: str, environ: Mapping[str, str]) -> Check:
    fix = "run one task with it before the batch, or look at it with `docker manifest inspect`"
    if _is_flys(name, environ):
        fix = f"see `fly token`: the registry takes a token of the app's; or {fix}"
    return Check("image", Verdict.NOTE, f"{name} could not be looked at: {why}", fix)


def _digest(name: ImageName, found: Image) -> Check:
    if name.digest:
        return Check("image", Verdict.RIGHT, f"{name}: its digest is named, and never moves")
    told = f"{name}: a tag may move while a batch runs"
    return Check("image", Verdict.NOTE, told, f"name it as it is now: `image: {name.pinned(found.digest)}`")


def _platform(found: Image) -> Check:
    # Of a list of images, its entry for Fly's platform; what that was built for, its config says.
    if found.config.platform == FLY_PLATFORM:
        return Check("image platform", Verdict.RIGHT, str(FLY_PLATFORM))
    told = f"for {', '.join(map(str, found.platforms))} and not for {FLY_PLATFORM}, which Fly's machines are"
    return Check("image platform", Verdict.WRONG, told, f"build it with `{_BUILD}` and push it again")


def _user(config: Config) -> Check:
    if config.runs_as_root:
        return Check("image user", Verdict.RIGHT, "root")
    told = f"its Dockerfile says USER {config.user}: flaude must be root in the machine, and starts the agent as a user"
    return Check(
        "image user", Verdict.WRONG, told, "take the USER line out of its Dockerfile, or end it with `USER root`"
    )


def _size(compressed: int) -> Check:
    told = f"{compressed / _GB:.1f} GB" if compressed >= _GB else f"{max(1, round(compressed / _MB))} MB"
    most, fix = _ROOTFS_GB * _GB, "make it smaller, or set `rootfs_gb`"
    disk = f"a machine's root file system has {_ROOTFS_GB} GB"
    if compressed > most:
        return Check("image size", Verdict.WRONG, f"{told} to download; {disk}", fix)
    if compressed * _UNPACKED > most:
        told += f" to download, perhaps {compressed * _UNPACKED / _GB:.0f} GB unpacked; {disk}"
        return Check("image size", Verdict.NOTE, told, fix)
    return Check("image size", Verdict.RIGHT, f"{told} to download")
